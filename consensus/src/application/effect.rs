//! What to do: everything the application wants of the node, in the order in which it must be begun.
//!
//! What must be durable before something is said comes back as a [`super::input::Done`] first: the application says it
//! only then. So effects of one step may be carried out side by side, and a crash between any two is harmless.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledged, Acknowledgement, BatchPosition, CheckedBatch};
use lockstep_core::block::InvalidBlock;
use lockstep_core::certificate::{Certificate, Proposal};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::entry::Entry;
use lockstep_core::header::Header;
use lockstep_core::lane::BatchRange;
use lockstep_core::proposal::Payload;
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, Incarnation, Round, UnixMillis};
use lockstep_engine::{
    Evidence, FirstPart, ProposalTicket, ProposedBlock, StartHeight, SyncOutcome,
};

use super::proposals::Refusal;
use crate::ingress::Refused;
use crate::lanes::own::NextBatch;
use crate::ledger::DecidedBlock;
use crate::parts::InvalidPart;
use crate::store::Undecided;
use crate::tracker::{Change, EntryState};

/// Names a request whose answer somebody waits for. The node makes it; the application gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// To `Ready` and `Finalized`.
    Start(StartHeight),
    /// To `RoundStarted`.
    Blocks(Vec<ProposedBlock>),
    /// To `RedeliveryTaken`.
    Block(Option<ProposedBlock>),
    /// To `ValueRequested`.
    Value(BlockHash),
    /// To `Decided`.
    Committed,
    /// To `ValueSynced`.
    Synced(SyncOutcome),
    /// To `EntriesSubmitted`, in order: each entry's state, and whether it was known.
    Submitted(Vec<Result<(EntryState, bool), Refused>>),
}

/// A timer. Each runs at most once at a time; setting it again replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The peers' side of new connections has opened: consensus may start.
    Settle,
    /// The first entry of a batch has waited for others.
    Batch,
    /// The next group of batches may be written.
    Group,
    /// Look for gaps in the lanes.
    Repair,
    /// Acknowledge again what is undecided.
    Reminder,
    /// Ask the next peer for the decided block that this node lacks.
    Fetch,
}

/// Why batches are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckJob {
    /// A peer pushed them on the lanes.
    Lane(PeerId),
    /// They came with a proposal of this block, from a peer; from nobody, if they were read from the own store.
    Attached(BlockHash, Option<PeerId>),
    /// They belong to the value of this request, which is being synced.
    Synced(ReplyId),
    /// They belong to the decided block of this request, which was not held.
    Decided(ReplyId),
}

/// Why batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchesJob {
    /// They came on the lanes.
    Group,
    /// They came with a proposal of this block.
    Attached(BlockHash),
    /// They belong to the decided block of this request, which was not held.
    Decided(ReplyId),
}

/// Why a block is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockJob {
    /// It is proposed.
    Proposed(BlockHash),
    /// It is being synced, for this request.
    Synced(ReplyId),
    /// It is the decided one of this request, and was not held.
    Decided(ReplyId),
}

/// Why a block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistJob {
    /// This validator proposes it.
    Own(BlockHash),
    /// Consensus will be given this proposal of it.
    Proposed(Proposal),
    /// It was synced, for this request.
    Synced(ReplyId),
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Reply(ReplyId, Answer),
    /// Give a request no answer: while one is open, the engine asks nothing else.
    Dismiss(ReplyId),
    /// Let the timer fire after so long.
    SetTimer(Timer, Duration),

    /// Have the engine ask for this block; it is complete now.
    Redeliver(Height, BlockHash),
    /// Let the engine have a peer's signed proposal.
    PassProposal(ProposalTicket),
    /// Ask this peer for the decided value of a height.
    FetchValue(Height, PeerId),
    /// Send a proposal's parts to all.
    Publish {
        /// Its signed part. Its length is the payload's, whatever it says.
        first: FirstPart,
        /// What the parts hold.
        payload: Payload,
    },

    /// Recover who signed a proposal's first part, and decode its payload.
    OpenProposal {
        /// Who sent the parts.
        from: PeerId,
        /// When the first part came.
        arrived: UnixMillis,
        /// The first part.
        first: FirstPart,
        /// The payload's bytes.
        payload: Bytes,
    },
    /// Decode batches and check their signatures.
    CheckBatches(CheckJob, Vec<Bytes>),
    /// Recover who signed an acknowledgement.
    CheckAcknowledgement(PeerId, Acknowledgement),
    /// Check the signatures of submitted entries, and look for their earlier decisions.
    CheckEntries(ReplyId, Vec<Entry>),
    /// Verify the block after the newest one.
    VerifyBlock {
        /// For what.
        job: BlockJob,
        /// Its header.
        header: Header,
        /// Its cut.
        cut: Cut,
        /// The cut's batches.
        batches: Arc<Vec<CheckedBatch>>,
    },
    /// Build the block after the newest one.
    BuildBlock {
        /// Its height.
        height: Height,
        /// The round it is for.
        round: Round,
        /// Its time.
        timestamp: UnixMillis,
        /// Its cut.
        cut: Cut,
        /// The cut's batches.
        batches: Arc<Vec<CheckedBatch>>,
    },
    /// Sign a proposal through the guard, with its first part.
    SignProposal(Proposal),
    /// Make a batch of this validator's lane.
    SignBatch(NextBatch),
    /// Take an incarnation for this validator's lane above the decided one, and sync.
    TakeIncarnation(Incarnation),

    /// Write a block that consensus may vote for, with batches that may not be stored, and sync.
    PersistBlock {
        /// For what.
        job: PersistJob,
        /// The block, as it is proposed.
        block: Undecided,
        /// Batches.
        batches: Arc<Vec<CheckedBatch>>,
    },
    /// Write batches and sync.
    PersistBatches(BatchesJob, Vec<CheckedBatch>),
    /// Write a decided block and sync.
    CommitBlock(Box<DecidedBlock>),
    /// Keep the fuller certificate of a committed block and the evidence of its height.
    PersistCertificate(Certificate, Vec<Evidence>),
    /// Look for a decided block among those that were stored before they were decided.
    ReadUndecided {
        /// Its height.
        height: Height,
        /// Its hash.
        block: BlockHash,
        /// The lanes before it.
        lanes: Vec<LanePosition>,
    },

    /// Push an own batch to all.
    PushBatch(CheckedBatch),
    /// Sign and send what this node stores: to one peer, or to all.
    Acknowledge(Option<PeerId>, Vec<Acknowledged>),
    /// Ask a peer for batches.
    AskBatches(PeerId, BatchRange),
    /// Read batches and send them to the peer that asked.
    SendBatches(PeerId, BatchRange),
    /// Close a peer's connection: no honest validator sends what it sent.
    Disconnect(PeerId, Misdeed),

    /// States of submitted entries changed.
    TellStates(Vec<Change>),
    /// Note for the operator.
    Report(Report),
    /// End this run of the engine.
    Stop(Stop),
}

/// Why a peer is disconnected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misdeed {
    /// A batch that is malformed, or not signed by its owner.
    #[error("batch: {0}")]
    Batch(#[from] lockstep_core::batch::InvalidBatch),
    /// An acknowledgement of another network.
    #[error("acknowledgement of another network")]
    Network,
    /// An acknowledgement that the peer's validator did not sign.
    #[error("acknowledgement of {expected} is signed by {got}")]
    Signer {
        /// The peer's validator.
        expected: Address,
        /// Who signed.
        got: Address,
    },
    /// An acknowledgement that nobody signed.
    #[error("acknowledgement: {0}")]
    Signature(#[from] lockstep_core::signing::InvalidSignature),
    /// A proposal that no honest validator makes.
    #[error("proposal: {0}")]
    Proposal(Refusal),
}

/// Why a run of the engine ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// What this node abstained for is over.
    #[error("this node may vote")]
    MayVote,
    /// A quorum decided a block that breaks a rule of this node. Nothing this node could do would be right.
    #[error("decided block {block} of height {height} is invalid: {reason}")]
    InvalidDecided {
        /// The height.
        height: Height,
        /// The block.
        block: BlockHash,
        /// The rule.
        reason: InvalidBlock,
    },
}

/// What an operator may want to know.
#[derive(Clone, Debug)]
pub enum Report {
    /// Consensus starts.
    Started {
        /// The height.
        height: Height,
        /// Peers that are up.
        peers: usize,
    },
    /// A round began.
    Round {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
    },
    /// This validator proposes.
    Proposing {
        /// The height.
        height: Height,
        /// The block.
        block: BlockHash,
        /// Its batches.
        batches: usize,
    },
    /// A peer sent a part that breaks a rule.
    PartRefused {
        /// The peer.
        from: PeerId,
        /// The rule.
        reason: InvalidPart,
    },
    /// A proposal was dropped before any verdict.
    ProposalRefused {
        /// The peer.
        from: PeerId,
        /// What was proposed.
        proposal: Proposal,
        /// Why.
        reason: Refusal,
    },
    /// A fresh proposal whose time is too far from its arrival: not voted for unless others give it a polka.
    ProposalUntimely {
        /// What was proposed.
        proposal: Proposal,
        /// The block's time.
        timestamp: UnixMillis,
        /// When its first part came.
        arrived: UnixMillis,
    },
    /// A proposed block breaks a rule.
    BlockInvalid {
        /// The height.
        height: Height,
        /// The block.
        block: BlockHash,
        /// The rule.
        reason: InvalidBlock,
    },
    /// A proposed block's cut makes no chain.
    CutBroken {
        /// The block.
        block: BlockHash,
        /// Where.
        position: BatchPosition,
    },
    /// A proposed block waits for batches.
    BlockWaits {
        /// The block.
        block: BlockHash,
        /// For these; empty: for another batch at a position whose owner signed two.
        ranges: Vec<BatchRange>,
    },
    /// A lane's owner signed two batches at one position.
    LaneEquivocation(BatchPosition),
    /// A lane is too far ahead of the log; its batch was not kept.
    LaneTooFarAhead(BatchPosition),
    /// A batch of this validator could not be made; a bug. Its entries are lost.
    OwnBatchInvalid(lockstep_core::batch::InvalidBatch),
    /// A proposal carried an invalid batch.
    AttachedInvalid(BlockHash, lockstep_core::batch::InvalidBatch),
    /// A batch that came with a proposal is not kept: too many of its proposer's are that no lane holds.
    AttachedNotKept(BatchPosition),
    /// A validator signed two conflicting messages.
    Equivocation(Height, Evidence),
    /// A synced value is wrong: its sender is at fault.
    SyncedWrong(Height, super::syncing::ValueFault),
    /// A fetched value is not what its height decided: its sender is at fault.
    ValueWrong(PeerId, Height, super::syncing::ValueFault),
    /// A decided block is not held; it is looked for.
    DecidedNotHeld(Height, BlockHash),
    /// The guard refused to sign a proposal.
    ProposalNotSigned(Proposal),
    /// Proposals of a proposer were dropped for want of room.
    CandidatesFull(Proposal),
}

/// A signed first part of a proposal.
#[must_use]
pub(super) const fn first_part(
    proposal: Proposal,
    proposer: Address,
    signature: Signature,
) -> FirstPart {
    FirstPart { proposal, proposer, bytes_total: 0, signature }
}
