//! One atomic, synced write per height.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes};
use lockstep_core::batch::{BatchPosition, CheckedBatch};
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::{Cut, InvalidCut, LanePosition, LaneStep};
use lockstep_core::encoding::Canonical;
use lockstep_core::header::Header;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, ChainId, Height};

use super::body::{Body, TakenEntry};
use super::index::{Lookup, table_bytes};
use super::lanes::{Aside, Placed};
use super::log::{LogStore, StoredBlock, UNDECIDED_MAX, behind, lock, rlp_bytes};
use super::records::{RecordKind, put_records};
use super::schema::{self, META_STATE, Space};
use super::{Durability, Scan, StoreError, WriteBatch};

/// Pieces of evidence that one height may bring.
pub const EVIDENCE_PER_HEIGHT_MAX: usize = 256;

/// A decided height: everything that becomes durable together.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The block's header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// A certificate that was verified.
    pub certificate: Certificate,
    /// What assembly took, in order of index.
    pub taken: Vec<TakenEntry>,
    /// Under what the taken entries are found, in any order: see [`Lookup::of_entry`].
    pub lookups: Vec<Lookup>,
    /// Chains and kinds of the records among the taken entries.
    pub records: BTreeSet<(ChainId, RecordKind)>,
    /// The state after the block.
    pub state: State,
    /// Those of the cut's batches that may not be stored yet.
    pub batches: Vec<CheckedBatch>,
}

/// Why a height was not committed. Nothing was written; all but `Store` are faults of the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Not the height after the head.
    #[error("commit of height {got}, the head is {head}")]
    Height {
        /// Height of the newest block.
        head: Height,
        /// The header's height.
        got: Height,
    },
    /// The header does not follow the newest block.
    #[error("commit of height {height} has parent {got}, the head is {expected}")]
    Parent {
        /// The header's height.
        height: Height,
        /// Hash of the newest block.
        expected: BlockHash,
        /// The header's parent.
        got: BlockHash,
    },
    /// The height is decided, and it is another block.
    #[error("height {height} is decided as {decided}, not as {got}")]
    OtherBlock {
        /// The height.
        height: Height,
        /// The stored block.
        decided: BlockHash,
        /// The header's hash.
        got: BlockHash,
    },
    /// A part does not belong to the header, or to any block.
    #[error("commit of height {height}: its {part} is not the header's")]
    Mismatch {
        /// The header's height.
        height: Height,
        /// `certificate`, `cut`, `state` or `list of taken entries`.
        part: &'static str,
    },
    /// The cut does not follow the newest state's lanes.
    #[error("commit of height {height}: {error}")]
    Cut {
        /// The header's height.
        height: Height,
        /// Why.
        error: InvalidCut,
    },
    /// A decided batch is not stored.
    #[error("commit of height {height}: a batch of its cut is not stored, in the lane of {owner}")]
    BatchMissing {
        /// The header's height.
        height: Height,
        /// Whose lane.
        owner: Address,
    },
    /// The disk. The node must stop.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogStore {
    /// Writes a decided height: block, references, state, validator set, lookups, heights of records, all at
    /// once and synced.
    /// Undecided payloads up to it go away in the same write.
    ///
    /// Committing the newest block again does nothing, so it may be called once more after a restart.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let _order = lock(&self.commits);
        let before = self.state();
        let (height, hash) = (commit.header.height, commit.header.hash());
        if height == before.height && height != Height::GENESIS {
            let (decided, got) = (before.head, hash);
            let other = CommitError::OtherBlock { height, decided, got };
            return if decided == got { Ok(()) } else { Err(other) };
        }
        check(&before, &commit, hash)?;

        // No batch may be placed between looking at the positions and writing.
        let _batches = lock(&self.batches);
        let mut write = WriteBatch::new();
        let mut placed = self.place(&commit.batches, &mut write)?;
        let steps = self.put_lanes(&before, &commit, &placed, &mut write)?;
        put_block(&before, &commit, &mut write)?;
        self.end_undecided(height, &mut write)?;
        put_records(&commit, &mut write);
        let table = lookup_table(&commit, hash);
        write.put(Space::Lookup, schema::height(height), table_bytes(&table));
        let mut settled: Vec<Aside> = steps.iter().flat_map(|step| self.asides_to(step)).collect();
        settled.extend(placed.asides.extract_if(.., |aside| is_decided(&commit.cut, &aside.0)));
        for (position, digest) in &settled {
            write.delete(Space::Conflict, schema::conflict(position, *digest));
        }
        self.write(&write, Durability::Synced)?;

        let mut memory = self.memory_mut();
        for aside in &settled {
            memory.conflicts.remove(aside);
        }
        memory.conflicts.extend(placed.asides);
        memory.links.extend(placed.links);
        steps.iter().for_each(|step| Self::forget_links(&mut memory, step));
        memory.tail.push(height, table.into());
        memory.state = Arc::new(commit.state);
        Ok(())
    }

    /// Removes the undecided payloads of a height that is decided, and those of the one before that were written after it
    /// was. Key by key: with a range tombstone per height the first read after a commit costs more with each of them.
    fn end_undecided(&self, height: Height, write: &mut WriteBatch) -> Result<(), StoreError> {
        let first = Height(height.0.saturating_sub(1));
        let of_both = 2 * UNDECIDED_MAX;
        let scan = Scan::new(Space::Undecided, schema::height(first), behind(height), of_both);
        for (key, _) in self.store.scan(&scan)? {
            write.delete(Space::Undecided, key);
        }
        Ok(())
    }

    /// What the cut does to the lanes. `placed` is where the batches of this write go.
    fn put_lanes(
        &self,
        before: &State,
        commit: &Commit,
        placed: &Placed,
        write: &mut WriteBatch,
    ) -> Result<Vec<LaneStep>, CommitError> {
        let height = commit.header.height;
        let lanes = &before.committed.lanes;
        let steps = commit.cut.steps(lanes).map_err(|error| CommitError::Cut { height, error })?;
        for step in &steps {
            if !self.settle(step, &commit.batches, placed, write)? {
                return Err(CommitError::BatchMissing { height, owner: step.owner });
            }
            if let Some(from) = lanes.iter().find(|lane| lane.owner == step.owner) {
                self.note_passed(height, from, step, write)?;
            }
        }
        Ok(steps)
    }

    /// What is known only when a committed height is over: a certificate with more signatures, which replaces that of the
    /// block, and evidence of equivocation, of which [`EVIDENCE_PER_HEIGHT_MAX`] pieces are kept. Synced if there is
    /// evidence; a certificate alone is not, because after a crash the earlier one, a quorum too, may be back. The caller
    /// has verified both.
    ///
    /// # Errors
    /// [`CommitError::Mismatch`] if the certificate is not that block's; [`CommitError::Store`].
    pub fn finalize(
        &self,
        certificate: Certificate,
        evidence: &[Bytes],
    ) -> Result<(), CommitError> {
        let _order = lock(&self.commits);
        let height = certificate.height;
        let mismatch = CommitError::Mismatch { height, part: "certificate" };
        let Some(block) = self.block(height)? else { return Err(mismatch) };
        if certificate.block != block.certificate.block {
            return Err(mismatch);
        }
        let mut write = WriteBatch::new();
        if certificate.signatures.len() > block.certificate.signatures.len() {
            let block = StoredBlock { certificate, ..block };
            write.put(Space::Block, schema::height(height), rlp_bytes(&block));
        }
        for (number, evidence) in (0u32..).zip(evidence.iter().take(EVIDENCE_PER_HEIGHT_MAX)) {
            write.put(Space::Evidence, schema::evidence(height, number), Bytes::clone(evidence));
        }
        if write.is_empty() {
            return Ok(());
        }
        let durability =
            if evidence.is_empty() { Durability::Buffered } else { Durability::Synced };
        Ok(self.write(&write, durability)?)
    }
}

/// Checks that the parts of a commit belong together and follow the newest block.
fn check(before: &State, commit: &Commit, hash: BlockHash) -> Result<(), CommitError> {
    let Commit { header, cut, certificate, state, .. } = commit;
    let height = header.height;
    if height != before.height.next() {
        return Err(CommitError::Height { head: before.height, got: height });
    }
    if header.parent != before.head {
        let (expected, got) = (before.head, header.parent);
        return Err(CommitError::Parent { height, expected, got });
    }
    let is_certificate = certificate.height == height && certificate.block == hash;
    let is_state = state.network_id == before.network_id
        && state.height == height
        && state.head == hash
        && state.timestamp == header.timestamp_ms
        && state.committed.lanes == cut.lanes
        && state.committed.hash() == header.state_hash;
    let parts = [
        ("certificate", is_certificate),
        ("cut", cut.hash() == header.cut_hash),
        ("state", is_state),
    ];
    match parts.into_iter().find(|(_, belongs)| !belongs) {
        Some((part, _)) => Err(CommitError::Mismatch { height, part }),
        None => Ok(()),
    }
}

/// Whether a cut goes up to a position or past it.
fn is_decided(cut: &Cut, position: &BatchPosition) -> bool {
    let is_past = |lane: &LanePosition| {
        lane.owner == position.owner && !lane.is_start() && *position <= lane.batch()
    };
    cut.lanes.iter().any(is_past)
}

fn put_block(before: &State, commit: &Commit, write: &mut WriteBatch) -> Result<(), CommitError> {
    let height = commit.header.height;
    let key = schema::height(height);
    let block = StoredBlock {
        header: commit.header.clone(),
        cut: commit.cut.clone(),
        certificate: commit.certificate.clone(),
    };
    let mismatch = CommitError::Mismatch { height, part: "list of taken entries" };
    let body = Body::new(&commit.taken).ok_or(mismatch)?;
    write.put(Space::Block, key, rlp_bytes(&block));
    write.put(Space::Body, key, body.to_bytes());
    write.put(Space::Meta, META_STATE, commit.state.to_canonical());
    let next = &commit.state.committed.next_validators;
    if *next != before.committed.next_validators {
        write.put(Space::Validators, schema::height(height.next().next()), rlp_bytes(next));
    }
    Ok(())
}

fn lookup_table(commit: &Commit, hash: BlockHash) -> Vec<Lookup> {
    let mut table = commit.lookups.clone();
    table.push(Lookup::of_block(hash));
    table.sort_unstable();
    table.dedup();
    table
}
