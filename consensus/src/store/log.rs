//! The log as the node sees it: typed reads. Writes are in `write.rs` and `lanes.rs`, opening in `open.rs`.

use core::ops::RangeInclusive;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use alloy_primitives::{B256, Bytes, hex, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use lockstep_core::batch::BatchPosition;
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::Cut;
use lockstep_core::entry::{Body as EntryBody, Entry};
use lockstep_core::header::Header;
use lockstep_core::params::Genesis;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, ChainId, EntryId, Height, NetworkId, Round};
use lockstep_core::validator_set::ValidatorSet;

use super::body::{Body, TakenEntry};
use super::index::{self, BLOCK_INDEX, CANDIDATES_MAX, Located, Segment, Tail};
use super::lanes::{Aside, Link, split_entries};
use super::schema::{self, KEY_END, Space};
use super::{Durability, Scan, Store, StoreError, WriteBatch};

/// Blocks that one call of [`LogStore::blocks`] returns at most.
pub const BLOCKS_READ_MAX: u64 = 1_000;
/// Pieces of evidence that one call of [`LogStore::evidence`] returns at most.
pub const EVIDENCE_READ_MAX: usize = 1_000;
/// Payloads of one height that are read at most.
pub(super) const UNDECIDED_MAX: usize = 256;

/// A decided block without its body.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct StoredBlock {
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// A certificate of it: a quorum, perhaps more.
    pub certificate: Certificate,
}

/// A valid payload that is not decided yet. Its batches are stored apart, before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The round it was proposed in; not before the header's.
    pub round: Round,
    /// The round in which it had a polka, if it was proposed again.
    pub valid_round: Option<Round>,
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
}

/// What [`LogStore::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Whether a segment of lookups was built.
    pub has_segment: bool,
    /// Ranges of passed-over batches that were removed.
    pub ranges_pruned: usize,
}

/// The log in a store. Share it by `Arc`; every method may be called from any thread, and blocks it.
///
/// Locks: each write takes the lock of its kind first and the short `memory` lock last, after the write is durable;
/// readers take `memory` alone and never wait for the disk with it.
#[derive(Debug)]
pub struct LogStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) genesis: Genesis,
    pub(super) network: NetworkId,
    pub(super) memory: RwLock<Memory>,
    /// Orders commits and certificates.
    pub(super) commits: Mutex<()>,
    /// Orders batches: two batches at one position must see each other.
    pub(super) batches: Mutex<()>,
    /// Orders maintenance.
    pub(super) maintenance: Mutex<()>,
    /// Set by the first write that fails.
    pub(super) is_stopped: AtomicBool,
}

/// What is held in memory: it never says what is not durable.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) state: Arc<State>,
    pub(super) segments: Arc<Vec<Segment>>,
    pub(super) tail: Tail,
    /// Second batches at a position.
    pub(super) conflicts: BTreeSet<Aside>,
    /// What undecided positions hold, as far as it was written since the start: a part of what is durable.
    pub(super) links: BTreeMap<BatchPosition, Link>,
}

pub(super) fn damaged(what: &'static str, key: &[u8]) -> StoreError {
    StoreError::Damaged { what, key: hex::encode(key) }
}

pub(super) fn rlp_bytes(value: &impl Encodable) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.length());
    value.encode(&mut out);
    out
}

/// Reads a value that fills `bytes` exactly.
pub(super) fn from_rlp<T: Decodable>(
    what: &'static str,
    key: &[u8],
    mut bytes: &[u8],
) -> Result<T, StoreError> {
    match T::decode(&mut bytes) {
        Ok(value) if bytes.is_empty() => Ok(value),
        Ok(_) | Err(_) => Err(damaged(what, key)),
    }
}

pub(super) fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    pub(super) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and stops all writing after the first failure.
    pub(super) fn write(
        &self,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<(), StoreError> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(StoreError::Stopped);
        }
        self.store
            .write(batch, durability)
            .inspect_err(|_| self.is_stopped.store(true, Ordering::Release))
    }

    /// The genesis.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Hash of the genesis.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The state after the newest block: its height and head are the log's.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.memory().state)
    }

    /// Height of the newest block; 0 if there is none.
    #[must_use]
    pub fn head(&self) -> Height {
        self.memory().state.height
    }

    /// Height of the oldest block that is stored. Nothing is pruned in this version: 1.
    #[must_use]
    pub const fn earliest(&self) -> Height {
        Height(1)
    }

    /// Whether a write failed: nothing is written any more, and the node must stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Bytes that the store takes on its disk. For metrics.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.store.bytes_on_disk()
    }

    /// The block of a height; `None` above the head and for height 0.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        let key = schema::height(height);
        let value = self.store.get(Space::Block, &key)?;
        value.map(|value| from_rlp("block", &key, &value)).transpose()
    }

    /// The blocks of a range of heights, ascending: at most [`BLOCKS_READ_MAX`], fewer above the head.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn blocks(&self, heights: RangeInclusive<Height>) -> Result<Vec<StoredBlock>, StoreError> {
        let count = usize::try_from(BLOCKS_READ_MAX).unwrap_or(usize::MAX);
        let (from, to) = (schema::height(*heights.start()), behind(*heights.end()));
        self.store
            .scan(&Scan::new(Space::Block, from, to, count))?
            .iter()
            .map(|(key, value)| from_rlp("block", key, value))
            .collect()
    }

    /// References of a block's taken entries, in order of index; `None` if there is no such block.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn taken(&self, height: Height) -> Result<Option<Vec<TakenEntry>>, StoreError> {
        let taken =
            |body: Body| body.taken().ok_or_else(|| damaged("body", &schema::height(height)));
        self.body(height)?.map(taken).transpose()
    }

    /// A block's taken entries, in order of index; `None` if there is no such block. Their signatures were checked
    /// before they were decided and are not checked again.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn entries(&self, height: Height) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(taken) = self.taken(height)? else { return Ok(None) };
        let mut batches = BTreeMap::new();
        let mut entries = Vec::with_capacity(taken.len());
        for TakenEntry { batch, entry } in taken {
            let split = match batches.entry(batch) {
                Slot::Occupied(there) => there.into_mut(),
                Slot::Vacant(free) => free.insert(self.split(&batch)?),
            };
            entries.push(decode_entry(&batch, split, entry)?);
        }
        Ok(Some(entries))
    }

    /// The entry at a place of the log; `None` if there is no such place.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn entry_at(&self, height: Height, index: u32) -> Result<Option<Entry>, StoreError> {
        let Some(body) = self.body(height)? else { return Ok(None) };
        let Some(TakenEntry { batch, entry }) = body.at(index) else { return Ok(None) };
        decode_entry(&batch, &self.split(&batch)?, entry).map(Some)
    }

    /// The set that decides a height, with network addresses; `None` for height 0 and above head + 2.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn validators(&self, height: Height) -> Result<Option<ValidatorSet>, StoreError> {
        if height > self.head().next().next() {
            return Ok(None);
        }
        let from = schema::height(Height::GENESIS);
        let scan = Scan::new(Space::Validators, from, behind(height), 1).backward();
        let newest = self.store.scan(&scan)?.into_iter().next();
        newest.map(|(key, value)| from_rlp("validator set", &key, &value)).transpose()
    }

    /// Evidence of a range of heights, ascending, at most [`EVIDENCE_READ_MAX`] pieces.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn evidence(
        &self,
        heights: RangeInclusive<Height>,
    ) -> Result<Vec<(Height, Bytes)>, StoreError> {
        let (from, to) = (schema::height(*heights.start()), behind(*heights.end()));
        self.store
            .scan(&Scan::new(Space::Evidence, from, to, EVIDENCE_READ_MAX))?
            .into_iter()
            .map(|(key, value)| {
                let height = schema::height_of(&key).ok_or_else(|| damaged("evidence", &key))?;
                Ok((height, value))
            })
            .collect()
    }

    /// Payloads of a height that is not decided yet, in order of round; at most 256.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn undecided(&self, height: Height) -> Result<Vec<Undecided>, StoreError> {
        let (from, to) = (schema::height(height), behind(height));
        self.store
            .scan(&Scan::new(Space::Undecided, from, to, UNDECIDED_MAX))?
            .iter()
            .map(|(key, value)| Undecided::from_item(key, value))
            .collect()
    }

    /// Where a transaction is; the newest place, should it have been ordered again after the dedup window.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn find_transaction(
        &self,
        chain: ChainId,
        hash: B256,
    ) -> Result<Option<Located>, StoreError> {
        self.find(index::transaction_prefix(chain, hash), |place| {
            let entry = self.entry_at(place.height, place.index)?;
            Ok(entry.is_some_and(|entry| has_transaction(&entry, chain, hash)))
        })
    }

    /// Where an entry is; the newest place, should it have been ordered again after the dedup window.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn find_entry(&self, id: EntryId) -> Result<Option<Located>, StoreError> {
        self.find(index::entry_prefix(id), |place| {
            let entry = self.entry_at(place.height, place.index)?;
            Ok(entry.is_some_and(|entry| entry.id() == id))
        })
    }

    /// Height of the block with this hash.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn height_of(&self, hash: BlockHash) -> Result<Option<Height>, StoreError> {
        let found = self.find(index::block_prefix(hash), |place| {
            if place.index != BLOCK_INDEX {
                return Ok(false);
            }
            Ok(self.block(place.height)?.is_some_and(|block| block.header.hash() == hash))
        })?;
        Ok(found.map(|place| place.height))
    }

    /// The newest place under this prefix that `is_it` agrees to.
    fn find(
        &self,
        prefix: u64,
        is_it: impl Fn(Located) -> Result<bool, StoreError>,
    ) -> Result<Option<Located>, StoreError> {
        let (in_tail, segments) = {
            let memory = self.memory();
            (memory.tail.find(prefix), Arc::clone(&memory.segments))
        };
        let mut compared = 0usize;
        let mut search = |places: Vec<Located>| {
            for place in places {
                compared = compared.saturating_add(1);
                if compared > CANDIDATES_MAX {
                    break;
                }
                if is_it(place)? {
                    return Ok(Some(place));
                }
            }
            Ok::<_, StoreError>(None)
        };
        if let Some(place) = search(in_tail)? {
            return Ok(Some(place));
        }
        for segment in segments.iter().rev() {
            let key = schema::shard(segment.first, segment.shard_of(prefix));
            let Some(shard) = self.store.get(Space::Shard, &key)? else { continue };
            if let Some(place) = search(segment.find(&shard, prefix))? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn body(&self, height: Height) -> Result<Option<Body>, StoreError> {
        let key = schema::height(height);
        let value = self.store.get(Space::Body, &key)?;
        value.map(|value| Body::from_bytes(&value).ok_or_else(|| damaged("body", &key))).transpose()
    }

    fn split(&self, batch: &BatchPosition) -> Result<Vec<Bytes>, StoreError> {
        let wrong = || damaged("batch", &schema::batch(batch));
        split_entries(&self.batch(batch)?.ok_or_else(wrong)?).ok_or_else(wrong)
    }
}

/// The first key behind a height's.
pub(super) fn behind(height: Height) -> Vec<u8> {
    let next = height.next();
    if next == height { KEY_END.to_vec() } else { schema::height(next).to_vec() }
}

fn decode_entry(batch: &BatchPosition, split: &[Bytes], entry: u32) -> Result<Entry, StoreError> {
    let raw = usize::try_from(entry).ok().and_then(|place| split.get(place));
    raw.and_then(|raw| Entry::decode(raw.clone()).ok())
        .ok_or_else(|| damaged("batch", &schema::batch(batch)))
}

fn has_transaction(entry: &Entry, chain: ChainId, hash: B256) -> bool {
    match entry.body() {
        EntryBody::Transaction(one) => one.chain == chain && keccak256(&one.bytes) == hash,
        EntryBody::Bundle(bundle) => bundle
            .legs()
            .iter()
            .filter(|leg| leg.chain == chain)
            .flat_map(|leg| &leg.transactions)
            .any(|bytes| keccak256(bytes) == hash),
        EntryBody::Record(_) => false,
    }
}

/// The stored form of an [`Undecided`]; its round is in the key.
#[derive(RlpEncodable, RlpDecodable)]
struct StoredUndecided {
    /// 0 for none, else the round and one.
    valid_round: u64,
    header: Header,
    cut: Cut,
}

impl Undecided {
    pub(super) fn to_item(&self) -> (Vec<u8>, Vec<u8>) {
        let key = schema::undecided(self.header.height, self.round, self.header.hash());
        let value = StoredUndecided {
            valid_round: self.valid_round.map_or(0, |round| u64::from(round.0).saturating_add(1)),
            header: self.header.clone(),
            cut: self.cut.clone(),
        };
        (key, rlp_bytes(&value))
    }

    fn from_item(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        let wrong = || damaged("undecided payload", key);
        let StoredUndecided { valid_round, header, cut } =
            from_rlp("undecided payload", key, value)?;
        let round = key.get(8..).and_then(|rest| rest.first_chunk()).ok_or_else(wrong)?;
        let valid_round = match valid_round.checked_sub(1) {
            None => None,
            Some(round) => Some(Round(u32::try_from(round).map_err(|_| wrong())?)),
        };
        Ok(Self { round: Round(u32::from_be_bytes(*round)), valid_round, header, cut })
    }
}
