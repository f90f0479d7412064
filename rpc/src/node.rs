//! What the services need from the node, as two traits: the log to read, and the ingress to submit to.
//!
//! The node implements them over its store and its consensus; the tests over memory. Nothing in this crate knows how.
//!
//! Reads may block on a disk: the services call them on the runtime's blocking pool, at most
//! [`READS_MAX`](crate::limits::READS_MAX) at a time. Submissions are async, because the node checks signatures on a
//! pool of its own.

use std::sync::Arc;

use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::sync::watch;

use lockstep_core::certificate::CommitSignature;
use lockstep_core::entry::Entry;
use lockstep_core::light_client::Handover;
use lockstep_core::params::Genesis;
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::slice::{Item, Slice, SliceSummary};
use lockstep_core::types::{ChainId, EntryId, Height};
use lockstep_core::validator_set::ValidatorSet;

pub use lockstep_proto::convert::block::{Block, FullBlock};
pub use lockstep_proto::convert::ingress::{
    Decided, DropReason, Dropped, EntryState, LegState, LegStatus, Stage,
};
pub use lockstep_proto::convert::log::{BlockAt, RecordHeightsQuery, RecordKind, Registry};
pub use lockstep_proto::error::{ErrorCode, Refusal};

pub use crate::quota::Client;

/// The store cannot be read. The text is for the operator's log; clients are told that the node is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the log: {0}")]
pub struct ReadError(pub String);

/// What one decided block has of each chain, with all that a proof is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSlices {
    /// The block's header and certificate.
    pub block: CertifiedHeader,
    /// One summary per slice, in ascending order of chain.
    pub summaries: Vec<SliceSummary>,
    /// Slices of the chains that have one in this block, in ascending order of chain.
    pub slices: Vec<Slice>,
}

impl BlockSlices {
    /// The chain's slice; `None` if it has none in this block.
    #[must_use]
    pub fn of(&self, chain: ChainId) -> Option<&Slice> {
        self.slices.iter().find(|slice| slice.chain == chain)
    }

    /// About how many bytes all of it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let items = self.slices.iter().map(|slice| slice.items.len()).sum::<usize>();
        let content = self.summaries.iter().map(|summary| summary.bytes).sum::<u64>();
        let signatures = self.block.certificate.signatures.len();
        [
            (1, size_of::<Self>()),
            (self.slices.len(), size_of::<Slice>().saturating_add(size_of::<SliceSummary>())),
            (items, size_of::<Item>()),
            (usize::try_from(content).unwrap_or(usize::MAX), 1),
            (signatures, size_of::<CommitSignature>()),
        ]
        .iter()
        .fold(0, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)))
    }
}

/// Where the log has a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The entry that holds it.
    pub id: EntryId,
    /// Height, index, block, certificate; legs are not looked at.
    pub decided: Decided,
}

/// The decided log, to read. Every method may be called at any time, from any thread, and as often as one likes.
///
/// What was `Some` once stays the same: decided blocks do not change. All that is asked of heights up to the newest
/// one of [`Log::heads`] must be readable; a full node that joined late answers `None` for what it does not hold.
pub trait Log: Send + Sync + 'static {
    /// The newest decided height that can be read; 0 before the first. It never goes back.
    fn heads(&self) -> watch::Receiver<Height>;

    /// The oldest height that is held here; 1 where nothing is missing. All later ones up to the head are held, too.
    fn earliest(&self) -> Height;

    /// A decided block; `None` if there is no such block here.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn block(&self, at: BlockAt) -> Result<Option<Block>, ReadError>;

    /// What the block at `height` has of each chain; `None` if the height is not decided or not held here.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn slices(&self, height: Height) -> Result<Option<BlockSlices>, ReadError>;

    /// Synced value (header, cut, all batches) and certificate; `None` if the height is not decided or not held here.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError>;

    /// Where the transaction of `chain` with this hash (keccak256 of its bytes) is; `None` if no block here has it.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn locate(&self, chain: ChainId, transaction: B256) -> Result<Option<Located>, ReadError>;

    /// At which heights the chain has such records, descending.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn record_heights(&self, query: RecordHeightsQuery) -> Result<Vec<Height>, ReadError>;

    /// The set that decides `height`, at most two heights ahead of the head; `None` beyond.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError>;

    /// The first `count_max` hand-overs whose headers lie in `from..=to`, in ascending order.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn handovers(
        &self,
        from: Height,
        to: Height,
        count_max: usize,
    ) -> Result<Vec<Handover>, ReadError>;

    /// Registered chains and network parameters, as of the head.
    fn registry(&self) -> Registry;

    /// The genesis.
    fn genesis(&self) -> Arc<Genesis>;
}

/// An accepted submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The entry's id.
    pub id: EntryId,
    /// Its state now. For an entry that the log has already, that is `Decided`, not `Dropped`.
    pub state: EntryState,
    /// Whether the node knew the entry before: submitting twice is one submission.
    pub is_known: bool,
}

/// Takes entries and tells their states.
#[async_trait]
pub trait Ingress: Send + Sync + 'static {
    /// Checks the signatures of one client's entries and takes them; one answer per entry, in the same order.
    ///
    /// May be called twice with one entry. A refusal names no field: the caller knows how the entry was submitted.
    /// Dropping the future leaves each entry either taken or not.
    async fn submit(&self, client: Client, entries: Vec<Entry>)
    -> Vec<Result<Submission, Refusal>>;

    /// The state of an entry that this node holds, or that the log has; `None` if it knows nothing of it. May block.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError>;

    /// States of an entry as they come. The value is the present state from the start, `None` while the node knows
    /// nothing of it. States that follow fast on one another may be skipped, the last may not. A chain may take a state
    /// back. The sender may be dropped after a final state. May block.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] if too many entries are watched; [`ErrorCode::Internal`] if the store cannot be read.
    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal>;
}
