//! Log blocks: what a cut becomes.
//!
//! A block is a pure function of the state before it, its time, and the batches of its cut: [`assemble`] takes or leaves
//! out each entry, [`build_header`] commits to the result, [`verify`] does both again and compares, [`apply`] gives the
//! state for the next height. Nothing here waits, fetches or stores. Source: design section 2, "Exact rules".

mod assemble;
mod runs;
mod verify;

#[cfg(test)]
pub(crate) mod fixtures;

use alloy_primitives::{Address, B256};

pub use assemble::{assemble, slices_of};
pub(crate) use runs::first_lane;
pub use verify::{InvalidBlock, check_header, check_round, is_timely, proposal_timestamp, verify};

pub use crate::admission::LeaveOut;
use crate::batch::BatchPosition;
use crate::cut::{Cut, InvalidCut};
use crate::dedup::Key;
use crate::header::Header;
use crate::slice::{Slice, SliceSummary};
use crate::state::{Committed, State};
use crate::types::{BatchDigest, Round, UnixMillis};

/// An entry that the block takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its index in the block, counted from 0 in the order of the walk.
    pub index: u32,
    /// The batch it stands in.
    pub batch: BatchPosition,
    /// Its place in the batch, counted from 0.
    pub entry: u32,
}

/// An entry of the cut that the block does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The batch it stands in.
    pub batch: BatchPosition,
    /// Its place in the batch, counted from 0.
    pub entry: u32,
    /// Why.
    pub reason: LeaveOut,
}

/// What a cut becomes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// Entries the block takes, in ascending order of index.
    pub taken: Vec<Taken>,
    /// All other entries of the cut, in the order of the walk.
    pub left_out: Vec<LeftOut>,
    /// The keys of what was taken, with the index of their entry: what [`Dedup::extend`](crate::dedup::Dedup::extend)
    /// wants once the block is decided.
    pub keys: Vec<(Key, u32)>,
    /// The chains' slices, in ascending order of chain; a chain without items has none.
    pub slices: Vec<Slice>,
    /// One summary per slice.
    pub summaries: Vec<SliceSummary>,
    /// What the header commits to of the slices.
    pub slices_root: B256,
    /// The state after the block.
    pub committed: Committed,
}

/// Why there is no block for a cut and these batches.
///
/// Where [`CannotAssemble::is_objective`], no batches give a block: every honest validator refuses the cut. Else the
/// caller brought other batches than the cut names, which says nothing about the cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotAssemble {
    /// The cut breaks a rule.
    #[error("{0}")]
    Cut(#[from] InvalidCut),
    /// The chain of digests from the cut's tip holds a batch that stands elsewhere.
    #[error("the chain of the cut has batch {got:?} in the place of {expected:?}")]
    Position {
        /// The place.
        expected: BatchPosition,
        /// Where the batch stands.
        got: BatchPosition,
    },
    /// The chain of digests from the cut's tip does not begin where the lane was decided.
    #[error("the cut's first batch of the lane of {owner} has parent {got}, expected {expected}")]
    Parent {
        /// Whose lane.
        owner: Address,
        /// Digest of the last decided batch; zero where the cut begins a run.
        expected: BatchDigest,
        /// The first batch's parent.
        got: BatchDigest,
    },
    /// Not as many batches as the cut adds. Not objective.
    #[error("got {got} batches, the cut adds {expected}")]
    Count {
        /// How many the cut adds.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// Not the batch that the cut names. Not objective.
    #[error("batch {got} at {position:?}, the cut names {expected}")]
    Batch {
        /// The place.
        position: BatchPosition,
        /// The digest that the cut, or the batch behind, names.
        expected: BatchDigest,
        /// The batch's digest.
        got: BatchDigest,
    },
}

impl CannotAssemble {
    /// Whether it is the cut's fault, whatever batches one holds.
    #[must_use]
    pub const fn is_objective(&self) -> bool {
        match self {
            Self::Cut(_) | Self::Position { .. } | Self::Parent { .. } => true,
            Self::Count { .. } | Self::Batch { .. } => false,
        }
    }
}

/// The header of the block after `state`, built for `round`. `assembly` is that of `cut` at `timestamp`.
#[must_use]
pub fn build_header(
    state: &State,
    round: Round,
    timestamp: UnixMillis,
    cut: &Cut,
    assembly: &Assembly,
) -> Header {
    let (height, committed) = (state.height.next(), &state.committed);
    Header {
        network_id: state.network_id,
        height,
        round,
        parent: state.head,
        timestamp_ms: timestamp,
        proposer: committed.validators.proposer(height, round).address,
        validators_hash: committed.validators.hash(),
        next_validators_hash: committed.next_validators.hash(),
        set_since: committed.set_since,
        cut_hash: cut.hash(),
        slices_root: assembly.slices_root,
        state_hash: assembly.committed.hash(),
    }
}

/// The state after a decided block, of which `assembly` is [`verify`]'s.
#[must_use]
pub fn apply(state: &State, header: &Header, assembly: &Assembly) -> State {
    State {
        network_id: state.network_id,
        height: header.height,
        head: header.hash(),
        timestamp: header.timestamp_ms,
        committed: assembly.committed.clone(),
    }
}

#[cfg(test)]
mod tests;
