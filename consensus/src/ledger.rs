//! The decided log as this node has it: the newest state, the dedup window, and the store they live in.
//!
//! Every reader sees a block only after the store synced it. Assembly and verification are pure functions of core; the
//! ledger lends them state and window, and nothing else. It knows nothing of rounds, votes or lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lockstep_core::admission::LeaveOut;
use lockstep_core::batch::{BatchPosition, CheckedBatch};
use lockstep_core::block::{self, Assembly, CannotAssemble, InvalidBlock, LeftOut};
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::Cut;
use lockstep_core::dedup::{self, Decision, Dedup, Key};
use lockstep_core::entry::{Body, CheckedEntry};
use lockstep_core::header::Header;
use lockstep_core::limits::EXPIRES_MS_MAX;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::proposal::SyncedValue;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, Height, Round, UnixMillis};
use tokio::sync::watch;

use crate::settle::{Earlier, Place};
use crate::store::{Commit, CommitError, LogStore, Lookup, RecordKind, StoreError, TakenEntry};

/// A block that consensus decided, with all that its commit writes.
#[derive(Clone, Debug)]
pub struct DecidedBlock {
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// Precommits of a quorum.
    pub certificate: Certificate,
    /// What the cut gave.
    pub assembly: Arc<Assembly>,
    /// The cut's batches, lane after lane.
    pub batches: Arc<Vec<CheckedBatch>>,
}

/// The entries of a block's batches, found by their place.
#[derive(Debug)]
pub struct Entries<'a>(BTreeMap<BatchPosition, &'a CheckedBatch>);

impl DecidedBlock {
    /// The entries of the block's batches.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries(self.batches.iter().map(|batch| (batch.position(), batch)).collect())
    }
}

impl Entries<'_> {
    /// The entry at a place of the block's batches.
    #[must_use]
    pub fn at(&self, batch: &BatchPosition, entry: u32) -> Option<&CheckedEntry> {
        self.0.get(batch)?.entries().get(usize::try_from(entry).ok()?)
    }
}

/// State and dedup window after the newest block.
#[derive(Debug)]
struct Tip {
    state: Arc<State>,
    dedup: Dedup,
}

/// The decided log.
#[derive(Debug)]
pub struct Ledger {
    store: Arc<LogStore>,
    // A lock, because ingress, verification and streams read while one task commits; held for pure calls only.
    tip: RwLock<Tip>,
    heads: watch::Sender<Height>,
}

impl Ledger {
    /// The log in `store`; reads the blocks of the last dedup window. Blocks the thread.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn open(store: Arc<LogStore>) -> Result<Self, StoreError> {
        let state = store.state();
        let dedup = read_window(&store, &state)?;
        let heads = watch::Sender::new(state.height);
        Ok(Self { store, tip: RwLock::new(Tip { state, dedup }), heads })
    }

    fn tip(&self) -> RwLockReadGuard<'_, Tip> {
        self.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tip_mut(&self) -> RwLockWriteGuard<'_, Tip> {
        self.tip.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the log is kept.
    #[must_use]
    pub const fn store(&self) -> &Arc<LogStore> {
        &self.store
    }

    /// State after the newest block.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.tip().state.clone()
    }

    /// Height of the newest block, now and whenever it changes.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Height> {
        self.heads.subscribe()
    }

    /// Where a key was taken within the dedup window.
    #[must_use]
    pub fn decision(&self, key: &Key) -> Option<Decision> {
        let tip = self.tip();
        tip.dedup.get(key, tip.state.timestamp)
    }

    /// Where every key of the entry was taken, if one decision took them all.
    #[must_use]
    pub fn decision_of(&self, entry: &CheckedEntry) -> Option<Decision> {
        let mut decisions = dedup::keys(entry).map(|key| self.decision(&key));
        let first = decisions.next().flatten()?;
        decisions.all(|decision| decision == Some(first)).then_some(first)
    }

    /// Those of a lane's entries that nothing in the dedup window took, each once, in their order.
    #[must_use]
    pub fn undecided(&self, entries: Vec<CheckedEntry>) -> Vec<CheckedEntry> {
        let mut seen = BTreeSet::new();
        let mut is_new = |entry: &CheckedEntry| seen.insert(entry.entry().id());
        let is_taken =
            |entry: &CheckedEntry| dedup::keys(entry).any(|key| self.decision(&key).is_some());
        entries.into_iter().filter(|entry| !is_taken(entry) && is_new(entry)).collect()
    }

    /// Of a decided block's entries that it leaves out as duplicates: where the log, with this block, took all of each, if
    /// one decision took it all. Entries whose block can't be read are not among them. Blocks the thread.
    #[must_use]
    pub fn earlier(&self, decided: &DecidedBlock) -> BTreeMap<Place, Earlier> {
        let (entries, mut blocks) = (decided.entries(), BTreeMap::new());
        let mut read = |height| {
            let block = || Some(self.store.block(height).ok().flatten()?.header);
            let of = |header: Header| (header.hash(), header.timestamp_ms);
            *blocks.entry(height).or_insert_with(|| block().map(of))
        };
        let mut earlier = BTreeMap::new();
        for &LeftOut { batch, entry: index, reason } in &decided.assembly.left_out {
            let is_duplicate = matches!(reason, LeaveOut::Duplicate { .. });
            let entry = entries.at(&batch, index).filter(|_| is_duplicate);
            let decision = entry.and_then(|entry| self.decision_of(entry));
            let block = decision.and_then(|decision| read(decision.height));
            if let (Some(decision), Some((block, timestamp))) = (decision, block) {
                earlier.insert((batch, index), Earlier { decision, block, timestamp });
            }
        }
        earlier
    }

    /// Hash of a decided block; `None` if it is not held or can't be read.
    #[must_use]
    pub fn block_hash(&self, height: Height) -> Option<BlockHash> {
        self.store.block(height).ok().flatten().map(|block| block.header.hash())
    }

    /// A decided block as peers sync it, with its certificate. Blocks the thread.
    ///
    /// # Errors
    /// If the store can't be read, or holds a block without its batches.
    pub fn synced_value(
        &self,
        height: Height,
    ) -> Result<Option<(bytes::Bytes, Certificate)>, StoreError> {
        let Some(block) = self.store.block(height)? else { return Ok(None) };
        let before = match height.previous() {
            Some(Height::GENESIS) | None => Cut::start(&self.store.genesis().validators),
            Some(previous) => match self.store.block(previous)? {
                Some(before) => before.cut,
                None => return Err(damaged("block", previous)),
            },
        };
        let mut batches = Vec::new();
        let steps = block.cut.steps(&before.lanes).map_err(|_| damaged("cut", height))?;
        for step in steps {
            let held = self.store.batches(&step)?;
            if held.len() as u64 != step.batch_count() {
                return Err(damaged("cut", height));
            }
            batches.extend(held);
        }
        let value = SyncedValue { header: block.header, cut: block.cut, batches };
        Ok(Some((value.encode().into(), block.certificate)))
    }

    /// Assembles the next block from a cut. Pure; tens of milliseconds for the greatest cut.
    ///
    /// # Errors
    /// If the cut or the batches are not what assembly needs.
    pub fn assemble(
        &self,
        timestamp: UnixMillis,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Result<Assembly, CannotAssemble> {
        let tip = self.tip();
        block::assemble(&tip.state, &tip.dedup, timestamp, cut, batches)
    }

    /// Builds the block of a height from a cut; `None` if the newest block is not the one before it.
    ///
    /// # Errors
    /// As [`Ledger::assemble`].
    pub fn build(
        &self,
        (height, round): (Height, Round),
        timestamp: UnixMillis,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Result<Option<(Header, Assembly)>, CannotAssemble> {
        let tip = self.tip();
        if tip.state.height.next() != height {
            return Ok(None);
        }
        let assembly = block::assemble(&tip.state, &tip.dedup, timestamp, cut, batches)?;
        Ok(Some((block::build_header(&tip.state, round, timestamp, cut, &assembly), assembly)))
    }

    /// Verifies a block; `None` if the newest block is not of the height before it. Pure; tens of milliseconds for the
    /// greatest cut.
    pub fn verify(
        &self,
        header: &Header,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Option<Result<Assembly, InvalidBlock>> {
        let tip = self.tip();
        (tip.state.height.next() == header.height)
            .then(|| block::verify(&tip.state, &tip.dedup, header, cut, batches))
    }

    /// Writes a decided block, synced, and moves the tip. Twice the same block is one. Blocks the thread.
    ///
    /// # Errors
    /// If the store refuses or fails: the node must stop.
    ///
    /// # Panics
    /// If the block's assembly is not that of its batches.
    pub fn commit(&self, decided: &DecidedBlock) -> Result<(), CommitError> {
        let before = self.state();
        if decided.header.height <= before.height {
            return Ok(());
        }
        let state = block::apply(&before, &decided.header, &decided.assembly);
        let taken: Vec<TakenEntry> = decided
            .assembly
            .taken
            .iter()
            .map(|taken| TakenEntry { batch: taken.batch, entry: taken.entry })
            .collect();
        let entries = decided.entries();
        let (mut lookups, mut records) = (Vec::new(), BTreeSet::new());
        for (index, place) in (0u32..).zip(&taken) {
            let entry = entries.at(&place.batch, place.entry);
            let entry = entry.expect("an assembly names entries of its batches");
            Lookup::of_entry(index, entry, &mut lookups);
            if let Body::Record(record) = entry.entry().body() {
                records.insert((record.chain, RecordKind::of(&record.body)));
            }
        }
        self.store.commit(Commit {
            header: decided.header.clone(),
            cut: decided.cut.clone(),
            certificate: decided.certificate.clone(),
            taken,
            lookups,
            records,
            state: state.clone(),
            batches: Vec::new(),
        })?;
        let height = state.height;
        {
            let mut tip = self.tip_mut();
            let keys = decided.assembly.keys.iter().copied();
            tip.dedup.extend(height, state.timestamp, keys);
            tip.state = Arc::new(state);
        }
        self.heads.send_replace(height);
        Ok(())
    }
}

fn damaged(what: &'static str, height: Height) -> StoreError {
    StoreError::Damaged { what, key: format!("height {height}") }
}

/// Recomputes the dedup window from the blocks of the last minute, back to the genesis at most. A missing block is an
/// error: with a shorter window this node would disagree with the others about duplicates.
fn read_window(store: &LogStore, state: &State) -> Result<Dedup, StoreError> {
    let mut window = Vec::new();
    let mut next = Some(state.height).filter(|height| *height > Height::GENESIS);
    next = next.filter(|_| !planted(Bug::DedupNotRestored));
    while let Some(height) = next {
        let block = store.block(height)?.ok_or_else(|| damaged("block", height))?;
        if block.header.timestamp_ms.plus(EXPIRES_MS_MAX) <= state.timestamp {
            break;
        }
        let entries = store.entries(height)?.ok_or_else(|| damaged("block", height))?;
        window.push((height, block.header.timestamp_ms, entries));
        next = height.previous().filter(|height| *height > Height::GENESIS);
    }
    let mut dedup = Dedup::new();
    for (height, timestamp, entries) in window.into_iter().rev() {
        let keys = (0u32..).zip(&entries).flat_map(|(index, entry)| {
            dedup::keys_of_decided(entry).into_iter().map(move |key| (key, index))
        });
        dedup.extend(height, timestamp, keys);
    }
    Ok(dedup)
}

#[cfg(test)]
mod tests;
