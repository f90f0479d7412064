//! Batches in the store: writing them before they are acknowledged, reading runs of them, and cleaning up.
//!
//! A position holds one batch. Should its owner have signed two, the first one keeps the position and the others are
//! kept aside, because consensus may decide any of them; the commit then moves the decided one to the position.

use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Header as RlpHeader;
use lockstep_core::batch::{Batch, BatchPosition, CheckedBatch};
use lockstep_core::cut::{LanePosition, LaneStep};
use lockstep_core::encoding::VERSION;
use lockstep_core::limits::{BATCH_ENTRIES_MAX, CUT_BATCHES_MAX, LANE_AHEAD_BATCHES_MAX};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BatchDigest, Height, Incarnation, Sequence, UnixMillis};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::Segment;
use super::log::{LogStore, Maintenance, Memory, Undecided, damaged, lock, rlp_bytes};
use super::schema::{self, META_INCARNATION, Space};
use super::{Durability, Scan, StoreError, WriteBatch};

/// Ranges of passed-over batches that one call of [`LogStore::maintain`] removes at most.
const RANGES_PRUNED_MAX: usize = 256;
/// Passed-over ranges that a start looks at: each is a restart of some validator within the last blocks.
const RANGES_READ_MAX: usize = 4_096;
/// Bytes of shards that go into one write, so that others are not kept waiting.
const SHARDS_WRITE_BYTES: usize = 1 << 20;

/// Names a batch that is kept aside: its position, where another one stands, and its digest.
pub type Aside = (BatchPosition, BatchDigest);

/// What of the batch at a position is remembered until it is decided: so a commit sees without reading that the
/// positions hold what the cut names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    digest: BatchDigest,
    parent: BatchDigest,
}

impl Link {
    fn of(batch: &CheckedBatch) -> Self {
        Self { digest: batch.digest(), parent: batch.header().parent }
    }
}

/// Where the batches of one write go.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// These hold their positions, by this write or an earlier one.
    pub(super) links: BTreeMap<BatchPosition, Link>,
    /// Others hold the positions of these.
    pub(super) asides: Vec<Aside>,
}

/// A decided batch, and whether its position holds it.
struct Found {
    position: BatchPosition,
    raw: Bytes,
    is_in_place: bool,
}

impl LogStore {
    /// Writes batches and syncs once. Then they may be acknowledged. Writing one twice is no harm.
    ///
    /// Returns those at whose position another batch of the same owner stands already: the owner signed two. The new one is
    /// kept as well, in case it is decided, but must not be acknowledged.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn put_batches(&self, batches: &[CheckedBatch]) -> Result<Vec<Aside>, StoreError> {
        self.put_with_batches(WriteBatch::new(), batches)
    }

    /// Writes a valid payload and those of its batches that may not be stored yet, and syncs once. Then it may be
    /// given to consensus. Returns what [`LogStore::put_batches`] returns.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn put_undecided(
        &self,
        payload: &Undecided,
        batches: &[CheckedBatch],
    ) -> Result<Vec<Aside>, StoreError> {
        let mut write = WriteBatch::new();
        let (key, value) = payload.to_item();
        write.put(Space::Undecided, key, value);
        self.put_with_batches(write, batches)
    }

    fn put_with_batches(
        &self,
        mut write: WriteBatch,
        batches: &[CheckedBatch],
    ) -> Result<Vec<Aside>, StoreError> {
        let _order = lock(&self.batches);
        let Placed { links, asides } = self.place(batches, &mut write)?;
        if !write.is_empty() {
            let is_buffered = planted(Bug::StoreUnsynced);
            let durability = if is_buffered { Durability::Buffered } else { Durability::Synced };
            self.write(&write, durability)?;
        }
        let mut memory = self.memory_mut();
        memory.links.extend(links);
        memory.conflicts.extend(asides.iter().copied());
        Ok(asides)
    }

    /// Decides for each batch whether it takes its position, is there already, or goes aside. The caller holds the
    /// lock of the batches, and remembers what is returned once the write is done.
    pub(super) fn place(
        &self,
        batches: &[CheckedBatch],
        write: &mut WriteBatch,
    ) -> Result<Placed, StoreError> {
        let mut placed = Placed::default();
        for batch in batches {
            let (position, digest) = (batch.position(), batch.digest());
            let there = match placed.links.get(&position) {
                Some(link) => Some(link.digest),
                None => self.digest_at(&position, batch)?,
            };
            if there.is_none_or(|there| there == digest) {
                placed.links.insert(position, Link::of(batch));
            }
            match there {
                None => {
                    write.put(Space::Batch, schema::batch(&position), Bytes::clone(batch.raw()));
                }
                Some(there) if there == digest => {}
                Some(_) => {
                    let key = schema::conflict(&position, digest);
                    write.put(Space::Conflict, key, Bytes::clone(batch.raw()));
                    placed.asides.push((position, digest));
                }
            }
        }
        Ok(placed)
    }

    /// Digest of the batch that holds a position. Equal bytes need no decoding: the common case of a repeat.
    fn digest_at(
        &self,
        position: &BatchPosition,
        batch: &CheckedBatch,
    ) -> Result<Option<BatchDigest>, StoreError> {
        let Some(raw) = self.batch(position)? else { return Ok(None) };
        if raw == *batch.raw() {
            return Ok(Some(batch.digest()));
        }
        self.decode_batch(position, raw).map(|batch| Some(batch.digest()))
    }

    fn decode_batch(&self, position: &BatchPosition, raw: Bytes) -> Result<Batch, StoreError> {
        Batch::decode(self.network, raw).map_err(|_| damaged("batch", &schema::batch(position)))
    }

    /// Bytes of the batch that holds a position: of a decided position, the decided one.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batch(&self, position: &BatchPosition) -> Result<Option<Bytes>, StoreError> {
        self.store.get(Space::Batch, &schema::batch(position))
    }

    /// Bytes of the batch with this position and digest.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batch_with_digest(
        &self,
        position: &BatchPosition,
        digest: BatchDigest,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.stored(*position, digest)?.map(|found| found.raw))
    }

    /// Bytes of the batches that a step of a lane adds, in order, up to the first that is missing; empty if one
    /// behind it is missing and the owner signed two batches at one position of the step.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batches(&self, step: &LaneStep) -> Result<Vec<Bytes>, StoreError> {
        if self.has_conflict(step) {
            let found = self.walk(step, &[], &Placed::default())?.unwrap_or_default();
            return Ok(found.into_iter().map(|found| found.raw).collect());
        }
        let (from, last) = (position(step, step.first), position(step, step.last));
        let mut to = schema::batch(&last);
        to.push(0);
        let items = self.store.scan(&Scan::new(
            Space::Batch,
            schema::batch(&from),
            to,
            usize::try_from(step.batch_count()).unwrap_or(usize::MAX).min(LANE_AHEAD_BATCHES_MAX),
        ))?;
        let expected = (step.first.0..).map(|sequence| position(step, Sequence(sequence)));
        let is_next = |((key, _), expected): &((Vec<u8>, Bytes), BatchPosition)| {
            schema::position_of(key) == Some(*expected)
        };
        Ok(items.into_iter().zip(expected).take_while(is_next).map(|((_, raw), _)| raw).collect())
    }

    /// Bytes of the very batches that a step of a lane names, wherever they are kept; `None` if one is not stored.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batches_of(&self, step: &LaneStep) -> Result<Option<Vec<Bytes>>, StoreError> {
        let found = self.walk(step, &[], &Placed::default())?;
        Ok(found.map(|found| found.into_iter().map(|found| found.raw).collect()))
    }

    /// Bytes of a lane's stored batches behind a decided position, of all its later runs, in order of position: at
    /// most [`LANE_AHEAD_BATCHES_MAX`], and `bytes_max` bytes together. For a restart.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batches_after(
        &self,
        decided: &LanePosition,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let (from, to) = (schema::batch_after(decided), schema::batches_end(decided.owner));
        let scan = Scan::new(Space::Batch, from, to, LANE_AHEAD_BATCHES_MAX).bytes_max(bytes_max);
        Ok(self.store.scan(&scan)?.into_iter().map(|(_, raw)| raw).collect())
    }

    /// Bytes of an owner's batches that its lane passed over by jumping to later runs, in order of position, as long as they
    /// are kept: at most [`LANE_AHEAD_BATCHES_MAX`], and `bytes_max` bytes together. Their entries may be undecided still.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn batches_passed(
        &self,
        owner: Address,
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let (from, to) = (schema::height(Height::GENESIS), schema::height(Height(u64::MAX)));
        let passed = self.store.scan(&Scan::new(Space::Passed, from, to, RANGES_READ_MAX))?;
        let mut batches = Vec::new();
        let mut bytes_left = bytes_max;
        for (key, value) in passed.iter().filter(|(key, _)| key.ends_with(owner.as_slice())) {
            let Some((to, from)) = value.split_at_checked(PASSED_TO_BYTES) else {
                return Err(damaged("passed-over range", key));
            };
            let free = LANE_AHEAD_BATCHES_MAX.saturating_sub(batches.len());
            let scan = Scan::new(Space::Batch, from.to_vec(), to.to_vec(), free);
            for (_, raw) in self.store.scan(&scan.bytes_max(bytes_left))? {
                bytes_left = bytes_left.saturating_sub(raw.len());
                batches.push(raw);
            }
        }
        Ok(batches)
    }

    /// Takes a new incarnation for the own lane: `max(stored + 1, decided + 1, now)`. It is synced before this
    /// returns, so no two calls ever return the same one.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn next_incarnation(
        &self,
        decided: Incarnation,
        now: UnixMillis,
    ) -> Result<Incarnation, StoreError> {
        let _order = lock(&self.batches);
        let wrong = || damaged("incarnation", META_INCARNATION);
        let stored = match self.store.get(Space::Meta, META_INCARNATION)? {
            None => 0,
            Some(value) => u64::from_be_bytes(value.as_ref().try_into().map_err(|_| wrong())?)
                .saturating_add(1),
        };
        let next = stored.max(decided.0.saturating_add(1)).max(now.0);
        let next = if planted(Bug::SameRunAgain) { 1 } else { next };
        let mut write = WriteBatch::new();
        write.put(Space::Meta, META_INCARNATION, next.to_be_bytes().to_vec());
        self.write(&write, Durability::Synced)?;
        Ok(Incarnation(next))
    }

    /// Work that can wait, for a background thread: merges lookup tables into a segment when enough of them have
    /// come together, and removes batches that were passed over by jumps decided below `passed_before`.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn maintain(&self, passed_before: Height) -> Result<Maintenance, StoreError> {
        let _order = lock(&self.maintenance);
        let has_segment = self.memory().tail.is_due();
        if has_segment {
            self.merge_tail()?;
        }
        let ranges_pruned = self.prune_passed(passed_before)?;
        Ok(Maintenance { has_segment, ranges_pruned })
    }

    /// Makes a segment of the tail as it is now. Commits go on meanwhile.
    pub(super) fn merge_tail(&self) -> Result<(), StoreError> {
        let tail = self.memory().tail.clone();
        match tail.to_segment() {
            Some((segment, shards)) => self.write_segment(segment, shards),
            None => Ok(()),
        }
    }

    /// The shards are written first; nobody reads them before the segment's own key is there.
    fn write_segment(&self, segment: Segment, shards: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let mut write = WriteBatch::new();
        let mut bytes = 0usize;
        for (number, shard) in (0u16..).zip(shards) {
            bytes = bytes.saturating_add(shard.len());
            write.put(Space::Shard, schema::shard(segment.first, number), shard);
            if bytes >= SHARDS_WRITE_BYTES {
                self.write(&std::mem::take(&mut write), Durability::Buffered)?;
                bytes = 0;
            }
        }
        let key = schema::height(segment.first);
        write.put(Space::Segment, key, rlp_bytes(&segment));
        write.delete_range(Space::Lookup, key, schema::height(segment.last.next()));
        self.write(&write, Durability::Synced)?;
        let mut memory = self.memory_mut();
        Arc::make_mut(&mut memory.segments).push(segment);
        memory.tail.drop_to(segment.last);
        Ok(())
    }

    fn prune_passed(&self, before: Height) -> Result<usize, StoreError> {
        let (from, to) = (schema::height(Height::GENESIS), schema::height(before));
        let passed = self.store.scan(&Scan::new(Space::Passed, from, to, RANGES_PRUNED_MAX))?;
        let mut write = WriteBatch::new();
        for (key, value) in &passed {
            let Some((to, from)) = value.split_at_checked(PASSED_TO_BYTES) else {
                return Err(damaged("passed-over range", key));
            };
            write.delete_range(Space::Batch, from, to);
            write.delete(Space::Passed, key.clone());
        }
        if !write.is_empty() {
            self.write(&write, Durability::Buffered)?;
        }
        Ok(passed.len())
    }

    /// Notes which batches a lane passes over by jumping to another run, if any of them is stored.
    pub(super) fn note_passed(
        &self,
        at: Height,
        from: &LanePosition,
        step: &LaneStep,
        write: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        if step.incarnation == from.incarnation {
            return Ok(());
        }
        let (first, behind) =
            (schema::batch_after(from), schema::batch(&position(step, Sequence(0))));
        let scan = Scan::new(Space::Batch, first.clone(), behind.clone(), 1);
        if !self.store.scan(&scan)?.is_empty() {
            let mut value = behind;
            value.extend_from_slice(&first);
            write.put(Space::Passed, schema::passed(at, step.owner), value);
        }
        Ok(())
    }

    /// Makes sure that the positions of a decided step hold the decided batches: moves them there where others do.
    /// `fresh` are batches of the same write, which can't be read yet, and `placed` is where they go. False if a
    /// batch is missing.
    pub(super) fn settle(
        &self,
        step: &LaneStep,
        fresh: &[CheckedBatch],
        placed: &Placed,
        write: &mut WriteBatch,
    ) -> Result<bool, StoreError> {
        if self.is_in_place(step, placed) {
            return Ok(true);
        }
        let Some(decided) = self.walk(step, fresh, placed)? else { return Ok(false) };
        for Found { position, raw, .. } in decided.into_iter().filter(|found| !found.is_in_place) {
            write.put(Space::Batch, schema::batch(&position), raw);
        }
        Ok(true)
    }

    /// Whether what is remembered shows that all positions of a step hold its batches. False after a restart.
    fn is_in_place(&self, step: &LaneStep, placed: &Placed) -> bool {
        let memory = self.memory();
        let mut digest = step.tip;
        for sequence in (step.first.0..=step.last.0).rev() {
            let position = position(step, Sequence(sequence));
            let link = placed.links.get(&position).or_else(|| memory.links.get(&position));
            match link {
                Some(link) if link.digest == digest => digest = link.parent,
                Some(_) | None => return false,
            }
        }
        digest == step.parent
    }

    /// Batches of a step's lane that are kept aside, of all its runs up to the step's end.
    pub(super) fn asides_to(&self, step: &LaneStep) -> Vec<Aside> {
        let first = (first_position(step.owner), BatchDigest::ZERO);
        let last = (position(step, step.last), DIGEST_MAX);
        self.memory().conflicts.range(first..=last).copied().collect()
    }

    fn has_conflict(&self, step: &LaneStep) -> bool {
        let from = (position(step, step.first), BatchDigest::ZERO);
        let to = (position(step, step.last), DIGEST_MAX);
        self.memory().conflicts.range(from..=to).next().is_some()
    }

    /// The batches of a step, found from its tip by their parents; `None` if one is missing.
    fn walk(
        &self,
        step: &LaneStep,
        fresh: &[CheckedBatch],
        placed: &Placed,
    ) -> Result<Option<Vec<Found>>, StoreError> {
        if step.batch_count() > CUT_BATCHES_MAX as u64 {
            return Ok(None);
        }
        let mut batches = Vec::new();
        let mut digest = step.tip;
        for sequence in (step.first.0..=step.last.0).rev() {
            let position = position(step, Sequence(sequence));
            let found = match fresh.iter().find(|batch| batch.digest() == digest) {
                Some(batch) => {
                    let is_in_place =
                        placed.links.get(&position).is_some_and(|l| l.digest == digest);
                    Some(Found { position, raw: Bytes::clone(batch.raw()), is_in_place })
                }
                None => self.stored(position, digest)?,
            };
            let Some(found) = found else { return Ok(None) };
            digest = self.decode_batch(&position, Bytes::clone(&found.raw))?.header().parent;
            batches.push(found);
        }
        batches.reverse();
        Ok((digest == step.parent).then_some(batches))
    }

    fn stored(
        &self,
        position: BatchPosition,
        digest: BatchDigest,
    ) -> Result<Option<Found>, StoreError> {
        let key = schema::conflict(&position, digest);
        if let Some(raw) = self.store.get(Space::Conflict, &key)? {
            return Ok(Some(Found { position, raw, is_in_place: false }));
        }
        let Some(raw) = self.batch(&position)? else { return Ok(None) };
        let is_it = self.decode_batch(&position, Bytes::clone(&raw))?.digest() == digest;
        Ok(is_it.then_some(Found { position, raw, is_in_place: true }))
    }

    /// What is remembered of a lane up to the end of a decided step.
    pub(super) fn forget_links(memory: &mut Memory, step: &LaneStep) {
        let first = first_position(step.owner);
        let last = position(step, step.last);
        memory.links.extract_if(first..=last, |_, _| true).for_each(drop);
    }
}

/// Bytes of the key at which a passed-over range ends; it is in front of the key at which the range begins.
const PASSED_TO_BYTES: usize = 36;

/// The greatest digest.
const DIGEST_MAX: BatchDigest = BatchDigest(B256::repeat_byte(0xff));

const fn position(step: &LaneStep, sequence: Sequence) -> BatchPosition {
    BatchPosition { owner: step.owner, incarnation: step.incarnation, sequence }
}

const fn first_position(owner: Address) -> BatchPosition {
    BatchPosition { owner, incarnation: Incarnation(0), sequence: Sequence(0) }
}

/// The bytes of a batch's entries, without looking into them; `None` if they are not a batch's.
pub(super) fn split_entries(raw: &Bytes) -> Option<Vec<Bytes>> {
    let mut rest = raw.strip_prefix(&[VERSION])?;
    let mut payload = RlpHeader::decode_bytes(&mut rest, true).ok()?;
    // Network, owner, incarnation, sequence, parent.
    for _ in 0..5 {
        RlpHeader::decode_bytes(&mut payload, false).ok()?;
    }
    let mut entries = RlpHeader::decode_bytes(&mut payload, true).ok()?;
    let mut split = Vec::new();
    while !entries.is_empty() && split.len() < BATCH_ENTRIES_MAX {
        let item = entries;
        RlpHeader::decode_bytes(&mut entries, true).ok()?;
        let length = item.len().saturating_sub(entries.len());
        split.push(raw.slice_ref(item.get(..length)?));
    }
    Some(split)
}
