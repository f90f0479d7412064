//! This validator's turn: build a block of what the lanes hold, write it, sign it, and only then say it.
//!
//! Asked again for one (height, round), the answer is the same block.

use std::sync::Arc;

use lockstep_core::block;
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::proposal::Payload;
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, Round, UnixMillis};

use super::Application;
use super::candidates::{Candidate, Proposed, Verdict, Verified};
use super::effect::{Answer, Effect, PersistJob, ReplyId, Report, first_part};
use super::input::Built;
use crate::lanes::table::Attached;
use crate::store::Undecided;

/// What this validator is about to propose at the height under way.
#[derive(Debug, Default)]
pub(super) struct Proposing {
    /// Who asked for the block of a round, and the block as far as it is made.
    turn: Option<Turn>,
    /// A block that is proposed again, while its proposal is being signed.
    again: Option<Proposal>,
}

#[derive(Debug)]
struct Turn {
    round: Round,
    reply: ReplyId,
    built: Option<(Header, Cut, Verified)>,
}

impl Application {
    pub(super) fn on_value_requested(
        &mut self,
        now: UnixMillis,
        (height, round): (Height, Round),
        reply: ReplyId,
        effects: &mut Vec<Effect>,
    ) {
        if height != self.state.height.next() {
            return effects.push(Effect::Dismiss(reply));
        }
        if let Some(block) = self.candidates.own(round, self.me) {
            effects.push(Effect::Reply(reply, Answer::Value(block)));
            let proposal = Proposal { height, round, valid_round: None, block };
            return self.on_restream_requested(proposal, self.me, effects);
        }
        if let Some(turn) = self.proposing.turn.as_mut().filter(|turn| turn.round == round) {
            let before = core::mem::replace(&mut turn.reply, reply);
            return effects.push(Effect::Dismiss(before));
        }
        self.give_turn_up(effects);
        self.proposing.turn = Some(Turn { round, reply, built: None });
        let cut = self.lanes.table.cut(&self.state);
        let batches = self.lanes.table.batches(&self.steps(&cut), &Attached::new());
        let batches = Arc::new(batches.expect("a cut is made of batches that are held"));
        let timestamp = block::proposal_timestamp(self.state.timestamp, now);
        effects.push(Effect::BuildBlock { height, round, timestamp, cut, batches });
    }

    pub(super) fn on_block_built(&mut self, built: Built, effects: &mut Vec<Effect>) {
        let Built { round, header, cut, assembly, batches } = built;
        let is_next = header.height == self.state.height.next();
        let Some(turn) = self.proposing.turn.as_mut().filter(|t| is_next && t.round == round)
        else {
            return;
        };
        let block =
            Undecided { round, valid_round: None, header: header.clone(), cut: cut.clone() };
        let verified = Verified { assembly: Arc::new(assembly), batches };
        let job = PersistJob::Own(header.hash());
        turn.built = Some((header, cut, verified));
        if planted(Bug::OwnBlockNotWritten) {
            let block = block.header.hash();
            return self.on_own_persisted(block, effects);
        }
        effects.push(Effect::PersistBlock { job, block, batches: Arc::default() });
    }

    pub(super) fn on_own_persisted(&mut self, block: BlockHash, effects: &mut Vec<Effect>) {
        let Some(Turn { round, built: Some((header, ..)), .. }) = &self.proposing.turn else {
            return;
        };
        if header.hash() == block {
            let (height, round) = (header.height, *round);
            let proposal = Proposal { height, round, valid_round: None, block };
            effects.push(Effect::SignProposal(proposal));
        }
    }

    pub(super) fn on_proposal_signed(
        &mut self,
        proposal: Proposal,
        signature: Option<Signature>,
        effects: &mut Vec<Effect>,
    ) {
        if proposal.height != self.state.height.next() {
            return;
        }
        let Some(signature) = signature else {
            effects.push(Effect::Report(Report::ProposalNotSigned(proposal)));
            return self.give_turn_up(effects);
        };
        let first = first_part(proposal, self.me, signature);
        let proposed =
            Proposed { proposal, proposer: self.me, is_timely: true, first: Some(first) };
        if self.proposing.again.take_if(|again| *again == proposal).is_some() {
            let Some((candidate, _)) = self.candidates.verified(proposal.block) else { return };
            let candidate = candidate.clone();
            if !self.candidates.is_known(&proposal) {
                self.candidates.propose(proposed, candidate);
            }
            return self.publish(proposal.block, first, effects);
        }
        let is_it = |turn: &mut Turn| {
            let built = turn.built.as_ref();
            built.is_some_and(|(header, ..)| header.hash() == proposal.block)
        };
        let Some(Turn { reply, built: Some((header, cut, verified)), .. }) =
            self.proposing.turn.take_if(is_it)
        else {
            return;
        };
        let (height, block, batches) = (header.height, proposal.block, verified.batches.len());
        effects.push(Effect::Report(Report::Proposing { height, block, batches }));
        let (attached, verdict) = (Attached::new(), Verdict::Valid(verified));
        let candidate = Candidate { header, cut, from: None, attached, verdict, is_read: false };
        self.candidates.propose(proposed, candidate);
        effects.push(Effect::Reply(reply, Answer::Value(block)));
        self.publish(block, first, effects);
    }

    /// Nothing is proposed any more: the others pass this validator's turn over.
    pub(super) fn give_turn_up(&mut self, effects: &mut Vec<Effect>) {
        let Proposing { turn, .. } = core::mem::take(&mut self.proposing);
        let turn = turn.filter(|_| !planted(Bug::QuestionLeftOpen));
        effects.extend(turn.map(|turn| Effect::Dismiss(turn.reply)));
    }

    /// A block's parts once more: our own proposal, signed by the guard, or a locked block of another, as it came.
    pub(super) fn on_restream_requested(
        &mut self,
        proposal: Proposal,
        proposer: alloy_primitives::Address,
        effects: &mut Vec<Effect>,
    ) {
        if proposal.height != self.state.height.next() {
            return;
        }
        let bug = if proposer == self.me { Bug::OwnRestreamIgnored } else { Bug::RestreamIgnored };
        if planted(bug) {
            return;
        }
        if proposer == self.me {
            self.proposing.again = Some(proposal);
            effects.push(Effect::SignProposal(proposal));
        } else if let Some(first) = self.candidates.first_part(&proposal) {
            self.publish(proposal.block, first, effects);
        }
    }

    /// Sends a valid block's parts, with the batches that some validator that is up has not acknowledged.
    fn publish(
        &self,
        block: BlockHash,
        first: lockstep_engine::FirstPart,
        effects: &mut Vec<Effect>,
    ) {
        let Some((candidate, verified)) = self.candidates.verified(block) else { return };
        let up = self.peers.validators_up();
        let attached = self.lanes.table.unacknowledged(&verified.batches, &up);
        let batches = attached.into_iter().map(|batch| batch.raw().clone()).collect();
        let (header, cut) = (candidate.header.clone(), candidate.cut.clone());
        effects.push(Effect::Publish { first, payload: Payload { header, cut, batches } });
    }
}
