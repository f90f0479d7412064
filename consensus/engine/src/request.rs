//! What the engine asks the application, and in which words.
//!
//! Requests come one at a time: while one is not answered the next does not come, except behind
//! [`Request::Decided`] and [`Request::Finalized`]. So answer at once and do the work in tasks. Order of a height:
//! `StartedRound`, then `GetValue` (proposer) or `ReceivedPart`… (the others), then `Decided`, then `Finalized`.
//! [`Request::ReceivedProposal`] and [`Request::Fetched`] come at any time, before `Ready` too.
//!
//! **Consensus uses a value only under the proposal that was judged.** Malachite pairs values and proposals by the
//! value alone, so a proposer could have a block judged under one (round, valid round) and use it under another. So a
//! peer's signed proposal goes to the application first, which passes it on only after it judged that very (height,
//! round, valid round, block).

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate::{Certificate, Proposal, Vote};
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_core::validator_set::ValidatorSet;
use tokio::sync::oneshot;

use crate::inbox::ProposalTicket;
use crate::network::PeerId;

/// How long each step may last. A step's timeout in round r is `base + delta · r`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Propose step in round 0.
    pub propose: Duration,
    /// What it grows by per round.
    pub propose_delta: Duration,
    /// Prevote step in round 0.
    pub prevote: Duration,
    /// What it grows by per round.
    pub prevote_delta: Duration,
    /// Precommit step in round 0.
    pub precommit: Duration,
    /// What it grows by per round.
    pub precommit_delta: Duration,
    /// After so long in round 0 without progress a validator sends its last votes again.
    pub rebroadcast: Duration,
    /// Greatest timeout of any step in any round.
    pub max: Duration,
}

/// A height and what its consensus runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartHeight {
    /// The height: the one after the newest that is committed.
    pub height: Height,
    /// Who votes at it.
    pub validators: ValidatorSet,
    /// Timeouts of its steps.
    pub timeouts: Timeouts,
    /// `Finalized` comes no earlier than so long after the height's start; `None` for as fast as possible.
    pub target_time: Option<Duration>,
}

/// A block that the application has judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    /// Height it was proposed at.
    pub height: Height,
    /// Round it was proposed in.
    pub round: Round,
    /// The round in which it had a polka, if it was proposed again.
    pub valid_round: Option<Round>,
    /// Who proposed it.
    pub proposer: Address,
    /// The block.
    pub block: BlockHash,
    /// The verdict. `false` is for ever and benches this node if the others decide the block; for a block that can't
    /// be judged yet answer nothing, and [`crate::EngineHandle::redeliver`] it later.
    pub is_valid: bool,
}

/// Names a stream of parts within its sender, 1..=[`STREAM_ID_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub Bytes);

/// Bytes of a stream id: height, round, block hash, and some.
pub const STREAM_ID_BYTES_MAX: usize = 64;

/// One part of a proposal, in its stream. Parts of a stream may come in any order, the last one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartMessage {
    /// The stream. Key it together with the sender: two senders may use the same id.
    pub stream: StreamId,
    /// Position in the stream, 0..[`lockstep_core::limits::PARTS_MAX`].
    pub sequence: u64,
    /// What it carries.
    pub content: PartContent,
}

/// What a part carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartContent {
    /// What is proposed.
    First(FirstPart),
    /// Bytes of the proposal, at most [`lockstep_core::limits::PART_BYTES_MAX`].
    Data(Bytes),
    /// The stream has no part after this one.
    Fin,
}

/// What is proposed. Nothing of it is checked yet: the engine delivers it as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstPart {
    /// Height, round, valid round and block.
    pub proposal: Proposal,
    /// Who proposes.
    pub proposer: Address,
    /// Bytes of all data parts together, at most [`lockstep_core::limits::SYNCED_VALUE_BYTES_MAX`].
    pub bytes_total: u64,
    /// The proposer's signature over [`Proposal::part_digest`].
    pub signature: Signature,
}

/// What the application makes of a synced value, whose certificate the engine has verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// It is the block, and it is stored. With `is_valid` false this node stops at the height until it is restarted.
    Valid(ProposedBlock),
    /// The bytes are not the certified block's: the sender is at fault, ask another.
    PeerFault,
    /// It can't be judged now, through no fault of the sender: ask again, 100 ms to 1 s later.
    Retry,
}

/// Two signed messages of one validator that no honest one signs both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two votes of one kind for one (height, round).
    Votes {
        /// Who signed both.
        validator: Address,
        /// The first that was seen.
        first: (Vote, Signature),
        /// The one that conflicts with it.
        second: (Vote, Signature),
    },
    /// Two proposals for one (height, round).
    Proposals {
        /// Who signed both.
        validator: Address,
        /// The first that was seen.
        first: (Proposal, Signature),
        /// The one that conflicts with it.
        second: (Proposal, Signature),
    },
}

/// A question of the engine. Dropping `reply` is like never answering; each variant says what follows.
#[derive(Debug)]
pub enum Request {
    /// The engine is up: where to start? Once per [`crate::start`]. Wait here until enough peers are up
    /// ([`crate::EngineHandle::peers`]), or the first round is lost. Dropped: the engine never starts.
    Ready {
        /// The first height.
        reply: oneshot::Sender<StartHeight>,
    },
    /// A round begins. Answer with every block of this height that is complete by now, of whatever round; after a
    /// restart, and for proposals that came early, it is the only way. Dropped: like none.
    StartedRound {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// Whose turn it is.
        proposer: Address,
        /// The blocks.
        reply: oneshot::Sender<Vec<ProposedBlock>>,
    },
    /// It is our turn: which block? Persist it first, answer, then publish its parts. Asked again for one
    /// (height, round) the answer must be the same. Dropped or late: the others prevote nil.
    GetValue {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// How long the others wait for the proposal.
        timeout: Duration,
        /// The block.
        reply: oneshot::Sender<BlockHash>,
    },
    /// A part came. Answer `Some` once the proposal is complete, judged and persisted; else `None`. Comes for any
    /// height and from any peer that is up, whoever it says proposes. Dropped: like `None`.
    ReceivedPart {
        /// Who sent it.
        from: PeerId,
        /// The part.
        part: PartMessage,
        /// The block, if this completes it.
        reply: oneshot::Sender<Option<ProposedBlock>>,
    },
    /// A peer's signed proposal came. Consensus does not have it until [`crate::EngineHandle::pass_proposal`]. Comes for
    /// any height, before or after the parts, and from any peer that is up: a locked proposal is sent again by others
    /// than its proposer. At most a few of one peer wait; the engine drops the others. No answer is expected.
    ReceivedProposal {
        /// Who sent it.
        from: PeerId,
        /// What is proposed.
        proposal: Proposal,
        /// Who proposes, as the message says; the signature is not checked yet.
        proposer: Address,
        /// The message.
        ticket: ProposalTicket,
    },
    /// A peer answered [`crate::EngineHandle::fetch`]. No answer is expected.
    Fetched {
        /// Who answers; it is whom the application asked.
        from: PeerId,
        /// The height that was asked for.
        height: Height,
        /// The value, as the peer's application answered `GetDecided`, and its certificate, in ascending order of
        /// address. Neither is verified, but the certificate names this height. `None` if the peer does not have it, or
        /// answered something else.
        value: Option<(Bytes, Certificate)>,
    },
    /// The application asked for this by [`crate::EngineHandle::redeliver`]: a block became complete after its last
    /// part. It can't come from a peer. Handing a block over twice is harmless. Dropped: like `None`.
    Redelivered {
        /// The height.
        height: Height,
        /// The block.
        block: BlockHash,
        /// The block with its verdict.
        reply: oneshot::Sender<Option<ProposedBlock>>,
    },
    /// Decided. Commit block and certificate durably, then answer; only then peers may sync the height from this
    /// node. Dropped: they never may.
    Decided {
        /// Precommits of more than two thirds, in ascending order of address.
        certificate: Certificate,
        /// Answer when it is durable.
        reply: oneshot::Sender<()>,
    },
    /// The height is over: what next? Dropped: the engine stalls for good.
    Finalized {
        /// The certificate, with the precommits that came since `Decided`.
        certificate: Certificate,
        /// Who equivocated at this height; at most three pairs per validator and kind.
        evidence: Vec<Evidence>,
        /// The next height.
        reply: oneshot::Sender<StartHeight>,
    },
    /// A decided value came by sync. Its certificate is verified against the height's set. Persist it, then answer
    /// `Valid`. Dropped: like `Retry`.
    ProcessSynced {
        /// The height.
        height: Height,
        /// The certificate's round.
        round: Round,
        /// Whose turn that round was.
        proposer: Address,
        /// The value, as the sender's application answered `GetDecided`.
        bytes: Bytes,
        /// What it is.
        reply: oneshot::Sender<SyncOutcome>,
    },
    /// A peer syncs from us: the decided values of these heights, in order, as many as are held from the first on.
    /// At most [`crate::SYNC_HEIGHTS_MAX`] heights. Dropped: the peer waits for its timeout.
    GetDecided {
        /// First height.
        first: Height,
        /// Last height, not below the first.
        last: Height,
        /// Values and certificates.
        reply: oneshot::Sender<Vec<(Bytes, Certificate)>>,
    },
    /// The oldest height that `GetDecided` can answer. Dropped: no status is sent.
    HistoryMin {
        /// The height.
        reply: oneshot::Sender<Height>,
    },
    /// Publish all parts of this block again. Either we propose it again: sign a first part with these rounds. Or we
    /// locked another's block in a late round: send its own first part again. No answer is expected.
    Restream {
        /// The height.
        height: Height,
        /// The round it is proposed in now.
        round: Round,
        /// The round in which it had a polka.
        valid_round: Option<Round>,
        /// Who proposes it in `round`.
        proposer: Address,
        /// The block.
        block: BlockHash,
    },
}
