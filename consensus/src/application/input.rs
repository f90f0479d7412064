//! What happened: everything the application learns, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledgement, CheckedBatch, InvalidBatch};
use lockstep_core::block::{Assembly, InvalidBlock};
use lockstep_core::certificate::{Certificate, Proposal};
use lockstep_core::cut::Cut;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::{CheckedEntry, Entry, InvalidEntry};
use lockstep_core::header::Header;
use lockstep_core::proposal::{InvalidValue, Payload};
use lockstep_core::signing::{InvalidSignature, Signature};
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, Height, Incarnation, Round, Sequence};
use lockstep_engine::{Evidence, FirstPart, PartMessage, ProposalTicket};

use super::effect::{BatchesJob, BlockJob, CheckJob, PersistJob, ReplyId, Timer};
use crate::abstention::Abstention;
use crate::ingress::Submitter;
use crate::lanes::wire::LaneMessage;
use crate::ledger::DecidedBlock;
use crate::settle::{Earlier, Place};
use crate::store::{Aside, Undecided};

/// One thing that happened. Nothing in it is checked, unless its name says so.
#[derive(Debug)]
pub enum Input {
    /// A request of the consensus engine.
    Engine(EngineInput),
    /// A peer, or what it sent on the lanes.
    Mesh(MeshInput),
    /// Users submitted entries here.
    EntriesSubmitted {
        /// The client.
        from: Submitter,
        /// Where the answer goes.
        reply: ReplyId,
        /// The entries, decoded.
        entries: Vec<Entry>,
    },
    /// An effect was carried out.
    Done(Done),
    /// A timer that was set has run out.
    TimerFired(Timer),
}

/// A request of the engine, or an answer of a peer that it passed on.
#[derive(Debug)]
pub enum EngineInput {
    /// It was started anew, as a voter or not; it has forgotten everything but its log.
    Started {
        /// It does not vote until this is over.
        abstains: Option<Abstention>,
        /// Blocks of the next height that were handed to it before, as they are stored.
        undecided: Vec<Undecided>,
    },
    /// It asks where to start.
    Ready {
        /// Where the answer goes.
        reply: ReplyId,
    },
    /// A round begins.
    RoundStarted {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// Where the blocks go that are complete by now.
        reply: ReplyId,
    },
    /// It is this validator's turn.
    ValueRequested {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// Where the block's hash goes.
        reply: ReplyId,
    },
    /// A peer sent a part of a proposal.
    PartReceived {
        /// The peer.
        from: PeerId,
        /// The part.
        part: PartMessage,
    },
    /// A peer sent a signed proposal. Its signature is not checked.
    ProposalReceived {
        /// The peer.
        from: PeerId,
        /// What it says.
        proposal: Proposal,
        /// Who is said to propose.
        proposer: Address,
        /// Passes it to the engine.
        ticket: ProposalTicket,
    },
    /// It takes up a block that [`super::effect::Effect::Redeliver`] named.
    RedeliveryTaken {
        /// The block.
        block: BlockHash,
        /// Where the proposed block goes.
        reply: ReplyId,
    },
    /// A block is decided.
    Decided {
        /// Precommits of a quorum; verified.
        certificate: Certificate,
        /// Answered once the block is committed.
        reply: ReplyId,
    },
    /// The height is over.
    Finalized(Finalized),
    /// A decided value came by sync; its certificate is verified.
    ValueSynced {
        /// The height.
        height: Height,
        /// The certificate's round.
        round: Round,
        /// Whose turn that round was.
        proposer: Address,
        /// The value.
        bytes: Bytes,
        /// Where the verdict goes.
        reply: ReplyId,
    },
    /// It wants a block's parts published again.
    RestreamRequested {
        /// What is proposed now.
        proposal: Proposal,
        /// Who proposes it.
        proposer: Address,
    },
    /// A peer answered [`super::effect::Effect::FetchValue`].
    ValueFetched {
        /// The peer.
        from: PeerId,
        /// The height.
        height: Height,
        /// The value and its certificate, not verified; `None` if the peer does not hold them.
        value: Option<(Bytes, Certificate)>,
    },
}

/// What connected validators claim to have decided. Any of them may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The highest.
    pub highest: Height,
    /// They show the network to be at its genesis.
    pub is_genesis: bool,
}

/// What the mesh tells.
#[derive(Debug)]
pub enum MeshInput {
    /// A validator can be sent to.
    PeerUp(PeerId),
    /// It can't any more.
    PeerDown(PeerId),
    /// Connected validators claim other heights than before.
    Claimed(Claimed),
    /// A frame of the lanes.
    LaneMessageReceived {
        /// Who sent it; authenticated.
        from: PeerId,
        /// The message.
        message: LaneMessage,
    },
}

/// A proposal whose parts were all there.
#[derive(Debug)]
pub struct Opened {
    /// Who sent the parts.
    pub from: PeerId,
    /// Its signed part.
    pub first: FirstPart,
    /// When the first part came, in unix milliseconds of this node's clock.
    pub arrived: lockstep_core::types::UnixMillis,
    /// Who signed the first part.
    pub signer: Result<Address, InvalidSignature>,
    /// What the parts hold.
    pub payload: Result<Payload, InvalidValue>,
}

/// A submitted entry with valid signatures.
#[derive(Debug)]
pub struct Submitted {
    /// The entry.
    pub checked: CheckedEntry,
    /// Where it was decided before, if the dedup window knows.
    pub decided: Option<(Decision, BlockHash)>,
}

/// A block that was built.
#[derive(Debug)]
pub struct Built {
    /// The round it is for.
    pub round: Round,
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// What the cut gives.
    pub assembly: Assembly,
    /// The cut's batches.
    pub batches: Arc<Vec<CheckedBatch>>,
}

/// A decided block that was written.
#[derive(Debug)]
pub struct Committed {
    /// The state after it.
    pub state: Arc<State>,
    /// The block.
    pub decided: DecidedBlock,
    /// Where the log has the entries that it leaves out as duplicates.
    pub earlier: BTreeMap<Place, Earlier>,
}

/// A height that is over.
#[derive(Debug)]
pub struct Finalized {
    /// The certificate with later precommits.
    pub certificate: Certificate,
    /// Who equivocated.
    pub evidence: Vec<Evidence>,
    /// Where the next height's start goes.
    pub reply: ReplyId,
}

/// What verifying a block gave.
#[derive(Debug)]
pub enum Verification {
    /// It breaks no rule.
    Valid(Box<Assembly>),
    /// It breaks this rule.
    Invalid(InvalidBlock),
    /// Another block was committed meanwhile, so it was not verified.
    Outdated,
}

/// An effect that was carried out. One that could not be, because the disk failed, stops the node instead.
#[derive(Debug)]
pub enum Done {
    /// [`super::effect::Effect::OpenProposal`].
    ProposalOpened(Box<Opened>),
    /// [`super::effect::Effect::CheckBatches`].
    BatchesChecked {
        /// For what.
        job: CheckJob,
        /// In the order asked.
        batches: Vec<Result<CheckedBatch, InvalidBatch>>,
    },
    /// [`super::effect::Effect::CheckAcknowledgement`].
    AcknowledgementChecked {
        /// Who sent it.
        from: PeerId,
        /// What it says.
        acknowledgement: Acknowledgement,
        /// Who signed it.
        signer: Result<Address, InvalidSignature>,
    },
    /// [`super::effect::Effect::CheckEntries`].
    EntriesChecked {
        /// Whose submission.
        reply: ReplyId,
        /// In the order asked.
        entries: Vec<Result<Submitted, InvalidEntry>>,
    },
    /// [`super::effect::Effect::VerifyBlock`].
    BlockVerified {
        /// For what.
        job: BlockJob,
        /// The result.
        verification: Verification,
    },
    /// [`super::effect::Effect::BuildBlock`]; not told if another block was committed meanwhile.
    BlockBuilt(Box<Built>),
    /// [`super::effect::Effect::SignProposal`].
    ProposalSigned {
        /// The proposal.
        proposal: Proposal,
        /// The first part's signature; `None` if the guard refused.
        signature: Option<Signature>,
    },
    /// [`super::effect::Effect::PersistBlock`]: synced.
    BlockPersisted {
        /// For what.
        job: PersistJob,
    },
    /// [`super::effect::Effect::PersistBatches`]: synced.
    BatchesPersisted {
        /// For what.
        job: BatchesJob,
        /// The batches.
        batches: Vec<CheckedBatch>,
        /// Those among them at whose position the store holds another batch of the owner. The new one is kept aside, and must
        /// not be acknowledged: a word on the other one may be out already, also from before a restart.
        aside: Vec<Aside>,
    },
    /// [`super::effect::Effect::SignBatch`].
    BatchSigned {
        /// Its place.
        place: (Incarnation, Sequence),
        /// The batch; an error is a bug of ours, and its entries are lost.
        batch: Result<CheckedBatch, InvalidBatch>,
    },
    /// [`super::effect::Effect::ReadUndecided`].
    UndecidedRead {
        /// The block.
        block: BlockHash,
        /// Its header, its cut, and the bytes of all its batches in the cut's order; `None` if any of it is not stored.
        found: Option<Box<(Header, Cut, Vec<Bytes>)>>,
    },
    /// [`super::effect::Effect::SendBatches`]: as many as are held, or as the peer's queue takes.
    BatchesSent(PeerId),
    /// [`super::effect::Effect::TakeIncarnation`]: synced.
    IncarnationTaken(Incarnation),
    /// [`super::effect::Effect::CommitBlock`]: synced.
    BlockCommitted(Box<Committed>),
}
