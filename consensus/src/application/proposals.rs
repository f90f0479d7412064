//! Proposals of others: from their parts to consensus.
//!
//! ```text
//! first part ─► near? its proposer's turn? ─► all parts ─► signed by it? ─► header ─► attached batches ─► held?
//!     │                                                                                              │
//!     └─ its arrival is what "timely" is asked of              verified, written, handed over ◄──────┘
//! ```
//!
//! Nothing that a peer claims costs more than a look-up before the proposer's signature is found right. Only proposals
//! of the height under way are opened; a few of the next ones wait as they came.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::batch::{Batch, CheckedBatch, InvalidBatch};
use lockstep_core::block::{self, InvalidBlock};
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::LaneStep;
use lockstep_core::lane::Room;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::proposal::{InvalidValue, Payload};
use lockstep_core::signing::InvalidSignature;
use lockstep_core::types::{BlockHash, Height, Round, UnixMillis};
use lockstep_engine::{FirstPart, PartContent, PartMessage, ProposalTicket};

use super::Application;
use super::candidates::{Candidate, NotKept, Proposed, Verdict};
use super::effect::{Answer, BatchesJob, CheckJob, Effect, Misdeed, ReplyId, Report};
use super::input::Opened;
use crate::lanes::table::Attached;
use crate::parts::{Complete, Progress};
use crate::store::Aside;

/// Complete proposals of later heights that wait per peer.
pub const EARLY_PER_PEER_MAX: usize = 4;
/// Proposals of one peer that are being opened at a time, until the batches that came with them are checked.
pub const OPENING_PER_PEER_MAX: usize = 4;

/// Why a proposal was not opened. Its height's proposers lose nothing by it: this is no verdict on the block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It names another proposer than the one whose turn it is.
    #[error("proposer is {got}, expected {expected}")]
    Proposer {
        /// Whose turn it is.
        expected: Address,
        /// Who is named.
        got: Address,
    },
    /// The first part is signed by somebody else.
    #[error("first part is signed by {got}, expected {expected}")]
    Signer {
        /// Whose turn it is.
        expected: Address,
        /// Who signed.
        got: Address,
    },
    /// The first part's signature is wrong.
    #[error("first part: {0}")]
    Signature(InvalidSignature),
    /// The round is too far ahead.
    #[error("round {got} is too far ahead of round {round}")]
    TooFar {
        /// The round under way.
        round: Round,
        /// The proposal's.
        got: Round,
    },
    /// The payload is malformed.
    #[error("payload: {0}")]
    Payload(InvalidValue),
    /// The payload is another block's, or of another height.
    #[error("payload holds block {got} of height {height}, expected {expected}")]
    OtherBlock {
        /// The proposal's block.
        expected: BlockHash,
        /// The payload's.
        got: BlockHash,
        /// The payload's height.
        height: Height,
    },
    /// The payload's cut is not the header's. The proposer signed the header, not the cut that came with it.
    #[error("payload holds another cut than its header names")]
    OtherCut,
    /// The block was built for another round than it is proposed in.
    #[error("{0}")]
    Round(InvalidBlock),
    /// Too many of the peer's proposals are being opened.
    #[error("{OPENING_PER_PEER_MAX} proposals of the peer are being opened already")]
    Busy,
}

impl Refusal {
    /// Whether whoever sent such a proposal is at fault, whatever it and this node may not have heard of yet. Nobody relays
    /// proposals.
    #[must_use]
    pub const fn is_misdeed(&self) -> bool {
        match self {
            Self::Signer { .. }
            | Self::Signature(_)
            | Self::Payload(_)
            | Self::OtherBlock { .. }
            | Self::OtherCut
            | Self::Round(_) => true,
            Self::Proposer { .. } | Self::TooFar { .. } | Self::Busy => false,
        }
    }
}

/// The first part of a proposal, as it came.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    from: PeerId,
    at: UnixMillis,
    first: FirstPart,
}

/// Complete proposals of later heights, and how many are being opened.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) waiting: BTreeMap<PeerId, Vec<Complete>>,
    opening: BTreeMap<PeerId, usize>,
}

impl Early {
    /// One more of a peer's proposals is being opened; `false` if too many are.
    fn begin_opening(&mut self, from: PeerId) -> bool {
        let opening = self.opening.entry(from).or_default();
        let has_room = *opening < OPENING_PER_PEER_MAX;
        *opening = opening.saturating_add(usize::from(has_room));
        has_room
    }

    fn end_opening(&mut self, from: PeerId) {
        if let Some(opening) = self.opening.get_mut(&from) {
            *opening = opening.saturating_sub(1);
        }
    }

    /// Keeps a proposal until its height begins; of one peer's, the farthest gives way.
    fn keep(&mut self, from: PeerId, complete: Complete) {
        let waiting = self.waiting.entry(from).or_default();
        waiting.push(complete);
        waiting.sort_by_key(|c| (c.first.proposal.height, c.first.proposal.round));
        waiting.truncate(EARLY_PER_PEER_MAX);
    }

    /// Those of a height that begins; earlier ones are dropped.
    fn take(&mut self, height: Height) -> Vec<(PeerId, Complete)> {
        let mut taken = Vec::new();
        for (from, waiting) in &mut self.waiting {
            let due = waiting.extract_if(.., |c| c.first.proposal.height <= height);
            let of_height = due.filter(|c| c.first.proposal.height == height);
            taken.extend(of_height.map(|complete| (*from, complete)));
        }
        taken
    }

    /// How many wait, of all peers.
    pub(super) fn count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
    }
}

impl Application {
    pub(super) fn on_round_started(
        &mut self,
        height: Height,
        round: Round,
        reply: ReplyId,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Report(Report::Round { height, round }));
        let blocks = if height == self.state.height.next() {
            self.candidates.begin_round(round);
            self.candidates.complete()
        } else {
            Vec::new()
        };
        effects.push(Effect::Reply(reply, Answer::Blocks(blocks)));
    }

    /// Whether a copy of a proposal may bring anything: it is new, or its block waits for batches, which any copy may bring.
    fn is_of_use(&self, proposal: &Proposal) -> bool {
        let is_waiting = |c: &Candidate| matches!(c.verdict, Verdict::Waiting);
        !self.candidates.is_known(proposal)
            || self.candidates.get(proposal.block).is_some_and(is_waiting)
    }

    /// Whether a proposal's round is near and its proposer's turn. Of heights behind the next only the height is known.
    fn check_turn(&self, proposal: &Proposal, proposer: Address) -> Result<(), Refusal> {
        let Proposal { height, round, .. } = *proposal;
        let is_next = height == self.state.height.next();
        let under_way = if is_next { self.candidates.round() } else { Round(0) };
        if round.0 > under_way.0.saturating_add(super::candidates::ROUNDS_AHEAD_MAX) {
            return Err(Refusal::TooFar { round: under_way, got: round });
        }
        if is_next {
            let expected = self.state.committed.validators.proposer(height, round).address;
            if proposer != expected {
                return Err(Refusal::Proposer { expected, got: proposer });
            }
        }
        Ok(())
    }

    pub(super) fn on_proposal_received(
        &mut self,
        (from, proposer): (PeerId, Address),
        proposal: Proposal,
        ticket: ProposalTicket,
        effects: &mut Vec<Effect>,
    ) {
        let next = self.state.height.next();
        let is_wanted = proposal.height >= next
            && proposal.height.0 <= next.0.saturating_add(crate::parts::HEIGHTS_AHEAD_MAX);
        if !is_wanted {
            return;
        }
        if let Err(reason) = self.check_turn(&proposal, proposer) {
            let refused = Report::ProposalRefused { from, proposal, reason };
            return effects.push(Effect::Report(refused));
        }
        if self.candidates.is_handed(&proposal) {
            effects.push(Effect::PassProposal(ticket));
        } else {
            let under_way = (next, self.candidates.round());
            self.tickets.keep(from, proposal, ticket, under_way);
        }
    }

    pub(super) fn on_part_received(
        &mut self,
        now: UnixMillis,
        from: PeerId,
        part: PartMessage,
        effects: &mut Vec<Effect>,
    ) {
        if let PartContent::First(first) = &part.content {
            if !self.is_of_use(&first.proposal) {
                return;
            }
            if let Err(reason) = self.check_turn(&first.proposal, first.proposer) {
                let proposal = first.proposal;
                let refused = Report::ProposalRefused { from, proposal, reason };
                return effects.push(Effect::Report(refused));
            }
        }
        match self.parts.insert(now, from, part) {
            Ok(Progress::Complete(complete)) => self.on_complete(from, complete, effects),
            Ok(Progress::Pending | Progress::Stale) => {}
            Err(reason) => effects.push(Effect::Report(Report::PartRefused { from, reason })),
        }
    }

    fn on_complete(&mut self, from: PeerId, complete: Complete, effects: &mut Vec<Effect>) {
        let proposal = complete.first.proposal;
        let next = self.state.height.next();
        if proposal.height > next {
            if planted(Bug::EarlyDropped) {
                return;
            }
            return self.early.keep(from, complete);
        }
        if proposal.height < next || !self.is_of_use(&proposal) {
            return;
        }
        if !self.early.begin_opening(from) {
            let refused = Report::ProposalRefused { from, proposal, reason: Refusal::Busy };
            return effects.push(Effect::Report(refused));
        }
        let Complete { first, payload, arrived } = complete;
        effects.push(Effect::OpenProposal { from, arrived, first, payload });
    }

    /// A height begins: what came early is opened.
    pub(super) fn open_early(&mut self, effects: &mut Vec<Effect>) {
        for (from, complete) in self.early.take(self.state.height.next()) {
            match self.check_turn(&complete.first.proposal, complete.first.proposer) {
                Ok(()) => self.on_complete(from, complete, effects),
                Err(reason) => {
                    let proposal = complete.first.proposal;
                    effects.push(Effect::Report(Report::ProposalRefused {
                        from,
                        proposal,
                        reason,
                    }));
                }
            }
        }
    }

    pub(super) fn on_opened(&mut self, now: UnixMillis, opened: Opened, effects: &mut Vec<Effect>) {
        let (from, first, arrived) = (opened.from, opened.first, opened.arrived);
        self.early.end_opening(from);
        let proposal = first.proposal;
        if proposal.height != self.state.height.next() {
            return;
        }
        match self.check_opened(&first, opened) {
            Ok(payload) => self.keep(now, Arrival { from, at: arrived, first }, payload, effects),
            Err(reason) if reason.is_misdeed() => {
                effects.push(Effect::Disconnect(from, Misdeed::Proposal(reason)));
            }
            Err(reason) => {
                effects.push(Effect::Report(Report::ProposalRefused { from, proposal, reason }));
            }
        }
    }

    fn check_opened(&self, first: &FirstPart, opened: Opened) -> Result<Payload, Refusal> {
        let proposal = &first.proposal;
        self.check_turn(proposal, first.proposer)?;
        let got = opened.signer.map_err(Refusal::Signature)?;
        if got != first.proposer && !planted(Bug::PartUnsigned) {
            return Err(Refusal::Signer { expected: first.proposer, got });
        }
        let payload = opened.payload.map_err(Refusal::Payload)?;
        let (got, height) = (payload.header.hash(), payload.header.height);
        if (got != proposal.block || height != proposal.height) && !planted(Bug::OtherBlockOpened) {
            return Err(Refusal::OtherBlock { expected: proposal.block, got, height });
        }
        if payload.cut.hash() != payload.header.cut_hash {
            return Err(Refusal::OtherCut);
        }
        block::check_round(&payload.header, proposal.round, proposal.valid_round)
            .map_err(Refusal::Round)?;
        Ok(payload)
    }

    /// Keeps an opened proposal, and checks the batches that came with it.
    fn keep(
        &mut self,
        now: UnixMillis,
        arrival: Arrival,
        payload: Payload,
        effects: &mut Vec<Effect>,
    ) {
        let Arrival { from, at: arrived, first } = arrival;
        let Payload { header, cut, batches } = payload;
        let proposal = first.proposal;
        let timestamp = header.timestamp_ms;
        let params = &self.state.committed.params;
        // A proposal with a valid round is voted for only after a polka of that round, so of honest validators that
        // found it timely then.
        let is_timely = proposal.valid_round.is_some()
            || block::is_timely(params, proposal.round, timestamp, arrived);
        if !is_timely {
            effects.push(Effect::Report(Report::ProposalUntimely { proposal, timestamp, arrived }));
        }
        let proposed =
            Proposed { proposal, proposer: first.proposer, is_timely, first: Some(first) };
        let verdict = match block::check_header(&self.state, &header, &cut) {
            Ok(()) => Verdict::Waiting,
            Err(reason) => {
                let (height, block) = (proposal.height, proposal.block);
                effects.push(Effect::Report(Report::BlockInvalid { height, block, reason }));
                Verdict::Invalid
            }
        };
        let is_valid = matches!(verdict, Verdict::Waiting);
        let steps = if is_valid { self.steps(&cut) } else { Vec::new() };
        let candidate = Candidate {
            header,
            cut,
            from: Some(from),
            attached: Attached::new(),
            verdict,
            is_read: false,
        };
        match self.candidates.open(proposed, candidate) {
            Ok(()) | Err(NotKept::Known) => {}
            Err(NotKept::Full) => {
                return effects.push(Effect::Report(Report::CandidatesFull(proposal)));
            }
        }
        if !is_valid {
            return self.hand_over_invalid(proposal.block, effects);
        }
        self.candidates.came_from(proposal.block, from);
        let is_new = matches!(
            self.candidates.get(proposal.block).map(|c| &c.verdict),
            Some(Verdict::Waiting)
        );
        let wanted = if is_new { self.wanted(&steps, batches) } else { Vec::new() };
        if wanted.is_empty() {
            return self.judge(now, proposal.block, effects);
        }
        self.candidates.judge(proposal.block, Verdict::Checking);
        // Its place is free again since it was opened.
        self.early.begin_opening(from);
        let job = CheckJob::Attached(proposal.block, Some(from));
        effects.push(Effect::CheckBatches(job, wanted));
    }

    /// Of the batches that came with a proposal those that its cut adds and that are not held.
    fn wanted(
        &self,
        steps: &[LaneStep],
        batches: Vec<alloy_primitives::Bytes>,
    ) -> Vec<bytes::Bytes> {
        let is_wanted = |raw: &alloy_primitives::Bytes| {
            let Some(position) = Batch::position_of(raw) else { return false };
            let is_in = |step: &LaneStep| {
                (position.owner, position.incarnation) == (step.owner, step.incarnation)
                    && (step.first..=step.last).contains(&position.sequence)
            };
            steps.iter().any(is_in) && !self.lanes.table.holds_bytes(&position, raw)
        };
        batches.into_iter().filter(is_wanted).map(Into::into).collect()
    }

    /// The batches of a proposal were checked; a wrong one is passed over: then the cut stays incomplete, and who sent it is
    /// at fault, because an honest proposer attaches what it checked itself.
    pub(super) fn on_attached_checked(
        &mut self,
        now: UnixMillis,
        (block, from): (BlockHash, Option<PeerId>),
        batches: Vec<Result<CheckedBatch, InvalidBatch>>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(from) = from {
            self.early.end_opening(from);
        }
        let (mut valid, mut rooms) = (Vec::new(), BTreeMap::new());
        for batch in batches {
            match batch {
                Ok(batch) if self.may_write(from, &batch, &mut rooms) => valid.push(batch),
                Ok(batch) => {
                    effects.push(Effect::Report(Report::AttachedNotKept(batch.position())));
                }
                Err(reason) => {
                    effects.push(Effect::Report(Report::AttachedInvalid(block, reason.clone())));
                    let misdeed = |from| Effect::Disconnect(from, Misdeed::Batch(reason));
                    effects.extend(from.map(misdeed));
                }
            }
        }
        if valid.is_empty() {
            if self.candidates.attach(block, Attached::new()) {
                self.judge(now, block, effects);
            }
        } else {
            if planted(Bug::AttachedNotWritten) {
                return self.on_attached_persisted(now, block, (valid, &[]), effects);
            }
            effects.push(Effect::PersistBatches(BatchesJob::Attached(block), valid));
        }
    }

    /// A batch that its lane will not hold, as it holds another one or has no room beside those of `rooms`, is written within
    /// the bound of the proposer that brought it; what the own store had is there already.
    pub(super) fn may_write(
        &mut self,
        from: Option<PeerId>,
        batch: &CheckedBatch,
        rooms: &mut BTreeMap<Address, Room>,
    ) -> bool {
        let is_second = self.lanes.table.holds_other(&batch.position(), batch.digest());
        (!is_second && self.has_room(batch, rooms))
            || from.is_none_or(|from| self.lanes.forks.admit(from, batch))
    }

    pub(super) fn on_attached_persisted(
        &mut self,
        now: UnixMillis,
        block: BlockHash,
        (batches, aside): (Vec<CheckedBatch>, &[Aside]),
        effects: &mut Vec<Effect>,
    ) {
        let attached: Attached =
            batches.iter().map(|batch| (batch.digest(), batch.clone())).collect();
        self.insert(batches, aside, effects);
        self.acknowledge(None, effects);
        self.candidates.attach(block, attached);
        self.judge_waiting(now, effects);
    }
}
