//! Proposed blocks of others: judged once their batches are held, written, and handed to consensus.

use std::sync::Arc;

use lockstep_core::block;
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::{Cut, LaneStep};
use lockstep_core::lane::Unresolved;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BlockHash, UnixMillis};

use super::Application;
use super::candidates::{Candidate, Proposed, Verdict, Verified};
use super::effect::{BlockJob, Effect, PersistJob, Report};
use super::input::Verification;
use crate::lanes::table::Attached;
use crate::store::Undecided;

impl Application {
    /// Judges every block that waits.
    pub(super) fn judge_waiting(&mut self, now: UnixMillis, effects: &mut Vec<Effect>) {
        if planted(Bug::WaitingForgotten) {
            return;
        }
        for block in self.candidates.waiting() {
            self.judge(now, block, effects);
        }
    }

    /// Judges a block if its batches are held; else asks for them.
    pub(super) fn judge(&mut self, now: UnixMillis, block: BlockHash, effects: &mut Vec<Effect>) {
        let Some(candidate) = self.candidates.get(block) else { return };
        if !matches!(candidate.verdict, Verdict::Waiting) {
            return self.persist(block, effects);
        }
        let (header, cut, from) = (candidate.header.clone(), candidate.cut.clone(), candidate.from);
        match self.lanes.table.batches(&self.steps(&cut), &candidate.attached) {
            Ok(batches) => {
                let batches = Arc::new(batches);
                self.candidates.judge(block, Verdict::Judging(batches.clone()));
                let job = BlockJob::Proposed(block);
                effects.push(Effect::VerifyBlock { job, header, cut, batches });
            }
            Err(Unresolved::Missing { ranges }) => self.ask(now, (block, from), ranges, effects),
            Err(Unresolved::Broken { position }) => {
                effects.push(Effect::Report(Report::CutBroken { block, position }));
                self.candidates.judge(block, Verdict::Invalid);
                self.hand_over_invalid(block, effects);
            }
            Err(Unresolved::Fork { .. }) => self.read_fork(block, effects),
        }
    }

    /// The owner of a lane signed two batches, and the other one is held. This one may be kept aside: it was written before
    /// the block was handed over, perhaps before a restart. The store is asked once; else a copy of the proposal brings it,
    /// or sync does when the block is decided.
    fn read_fork(&mut self, block: BlockHash, effects: &mut Vec<Effect>) {
        effects.push(Effect::Report(Report::BlockWaits { block, ranges: Vec::new() }));
        if self.candidates.is_first_fork(block) && !planted(Bug::ForkNotRead) {
            let (height, lanes) = (self.state.height.next(), self.state.committed.lanes.clone());
            effects.push(Effect::ReadUndecided { height, block, lanes });
        }
    }

    /// The steps of a cut that was checked against the state.
    pub(super) fn steps(&self, cut: &Cut) -> Vec<LaneStep> {
        cut.steps(&self.state.committed.lanes).expect("cuts are checked before they are kept")
    }

    pub(super) fn on_proposed_verified(
        &mut self,
        block: BlockHash,
        verification: Verification,
        effects: &mut Vec<Effect>,
    ) {
        // Decided meanwhile, or dropped.
        let Some(candidate) = self.candidates.get(block) else { return };
        let Verdict::Judging(batches) = &candidate.verdict else { return };
        let (height, batches) = (candidate.header.height, batches.clone());
        match verification {
            Verification::Valid(assembly) => {
                let assembly = Arc::new(*assembly);
                self.candidates.judge(block, Verdict::Valid(Verified { assembly, batches }));
                self.commit_if_decided(block, effects);
                self.persist(block, effects);
            }
            Verification::Invalid(reason) => {
                assert!(reason.is_objective(), "lanes resolve a cut to its own batches: {reason}");
                effects.push(Effect::Report(Report::BlockInvalid { height, block, reason }));
                self.candidates.judge(block, Verdict::Invalid);
                self.hand_over_invalid(block, effects);
            }
            // The height was decided meanwhile: the block goes when that is known here.
            Verification::Outdated => {}
        }
    }

    /// Writes every proposal of a valid block that may be handed over.
    fn persist(&mut self, block: BlockHash, effects: &mut Vec<Effect>) {
        if matches!(self.candidates.get(block).map(|c| &c.verdict), Some(Verdict::Invalid)) {
            return self.hand_over_invalid(block, effects);
        }
        for proposal in self.candidates.take_to_persist(block) {
            let Some(candidate) = self.candidates.get(block) else { return };
            let block = Undecided {
                round: proposal.round,
                valid_round: proposal.valid_round,
                header: candidate.header.clone(),
                cut: candidate.cut.clone(),
            };
            if planted(Bug::BlockNotWritten) {
                self.on_proposed_persisted(proposal, effects);
                continue;
            }
            let (job, batches) = (PersistJob::Proposed(proposal), Default::default());
            effects.push(Effect::PersistBlock { job, block, batches });
        }
    }

    pub(super) fn on_proposed_persisted(&mut self, proposal: Proposal, effects: &mut Vec<Effect>) {
        if proposal.height == self.state.height.next() && self.candidates.hand_over(&proposal) {
            self.give(&proposal, effects);
        }
    }

    pub(super) fn hand_over_invalid(&mut self, block: BlockHash, effects: &mut Vec<Effect>) {
        let verdict = self.candidates.get(block).map(|candidate| &candidate.verdict);
        assert!(
            matches!(verdict, Some(Verdict::Invalid)),
            "only an invalid block is handed over so"
        );
        for proposal in self.candidates.hand_over_invalid(block) {
            self.give(&proposal, effects);
        }
    }

    /// Consensus gets the verdict first, then the signed proposal of exactly this round and valid round.
    fn give(&mut self, proposal: &Proposal, effects: &mut Vec<Effect>) {
        effects.push(Effect::Redeliver(proposal.height, proposal.block));
        effects.extend(self.tickets.take(proposal).into_iter().map(Effect::PassProposal));
    }

    /// Blocks that were written before a restart: only such that consensus was given, in these very rounds.
    pub(super) fn load_undecided(&mut self, undecided: Vec<Undecided>) {
        let height = self.state.height.next();
        // Near the newest round, as when they came: at the bound the oldest give way.
        let newest = undecided.iter().map(|block| block.round).max();
        self.candidates.begin_round(newest.unwrap_or_default());
        for Undecided { round, valid_round, header, cut } in undecided {
            if planted(Bug::UndecidedForgotten)
                || header.height != height
                || block::check_header(&self.state, &header, &cut).is_err()
            {
                continue;
            }
            let proposer = self.state.committed.validators.proposer(height, round).address;
            let proposal = Proposal { height, round, valid_round, block: header.hash() };
            let proposed = Proposed { proposal, proposer, is_timely: true, first: None };
            let (from, attached, verdict) = (None, Attached::new(), Verdict::Waiting);
            let candidate = Candidate { header, cut, from, attached, verdict, is_read: false };
            // Bounded like proposals that come: those that give way are read when they are decided.
            self.candidates.open(proposed, candidate).ok();
        }
    }
}
