//! Decided: find the block, commit it, answer, and begin the next height.
//!
//! What is decided and not held comes from this node's own store, where it was written before it was voted for, or else
//! from a peer, one after the other. Nothing else of the height matters until then; the node halts only if nobody has
//! it, and then by waiting, not by a wrong answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{CheckedBatch, InvalidBatch};
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BlockHash, UnixMillis};

use super::Application;
use super::candidates::Verified;
use super::effect::{Answer, BatchesJob, BlockJob, CheckJob, Effect, ReplyId, Report, Stop, Timer};
use super::input::{Committed, Finalized, Verification};
use super::syncing::{ValueFault, value_of};
use crate::ledger::DecidedBlock;

/// How long a peer's answer is waited for before the next one is asked, at first. A late answer counts, too.
const FETCH_PATIENCE: Duration = Duration::from_millis(500);
/// The same when each peer was asked before: a value of the greatest size takes so long on a slow link.
const FETCH_PATIENCE_MAX: Duration = Duration::from_secs(8);

/// A decided block that is not committed yet.
#[derive(Debug)]
pub(super) struct Deciding {
    certificate: Certificate,
    reply: ReplyId,
    stage: Stage,
    /// Peers that were asked for it so far.
    asked: usize,
}

#[derive(Debug)]
enum Stage {
    /// It is looked for.
    Missing,
    /// Its batches are being checked.
    Checking { header: Header, cut: Cut },
    /// It is being verified.
    Verifying { header: Header, cut: Cut, batches: Arc<Vec<CheckedBatch>> },
    /// Its batches are being written.
    Persisting { header: Header, cut: Cut, verified: Verified },
    /// It is being written.
    Committing,
}

impl Deciding {
    /// Whether the block is on its way to the disk.
    pub(super) const fn is_committing(&self) -> bool {
        matches!(self.stage, Stage::Committing)
    }
}

impl Application {
    pub(super) fn on_decided(
        &mut self,
        certificate: Certificate,
        reply: ReplyId,
        effects: &mut Vec<Effect>,
    ) {
        let (height, block) = (certificate.height, certificate.block);
        if height <= self.state.height {
            return effects.push(Effect::Reply(reply, Answer::Committed));
        }
        assert_eq!(
            height,
            self.state.height.next(),
            "consensus decides one height after the other"
        );
        self.deciding = Some(Deciding { certificate, reply, stage: Stage::Missing, asked: 0 });
        self.commit_if_decided(block, effects);
        if !self.is_missing(block) {
            return;
        }
        effects.push(Effect::Report(Report::DecidedNotHeld(height, block)));
        let lanes = self.state.committed.lanes.clone();
        effects.push(Effect::ReadUndecided { height, block, lanes });
    }

    /// Whether the block that is decided is being looked for, and is this one.
    fn is_missing(&self, block: BlockHash) -> bool {
        self.deciding.as_ref().is_some_and(|deciding| {
            deciding.certificate.block == block && matches!(deciding.stage, Stage::Missing)
        })
    }

    pub(super) fn on_undecided_read(
        &mut self,
        block: BlockHash,
        found: Option<Box<(Header, Cut, Vec<Bytes>)>>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_missing(block) {
            return self.on_aside_read(block, found, effects);
        }
        match found {
            Some(found) => {
                let (header, cut, raw) = *found;
                self.check_decided(header, cut, raw, effects);
            }
            None => self.fetch_decided(effects),
        }
    }

    /// The batches of a proposed block that the store keeps aside are checked as if they had come with it.
    fn on_aside_read(
        &self,
        block: BlockHash,
        found: Option<Box<(Header, Cut, Vec<Bytes>)>>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(found) = found.filter(|_| self.candidates.get(block).is_some()) {
            effects.push(Effect::CheckBatches(CheckJob::Attached(block, None), found.2));
        }
    }

    /// Asks the next peer that is up for the decided block.
    pub(super) fn fetch_decided(&mut self, effects: &mut Vec<Effect>) {
        if let Some(block) = self.deciding.as_ref().map(|deciding| deciding.certificate.block) {
            self.commit_if_decided(block, effects);
        }
        let Some(deciding) = self.deciding.as_mut().filter(|d| matches!(d.stage, Stage::Missing))
        else {
            return;
        };
        if planted(Bug::DecidedNotFetched) || planted(Bug::FetchOnce) && deciding.asked > 0 {
            return;
        }
        let count = self.peers.count_up().max(1);
        let rounds = u32::try_from(deciding.asked.checked_div(count).unwrap_or_default());
        let patience =
            FETCH_PATIENCE.saturating_mul(2u32.saturating_pow(rounds.unwrap_or(u32::MAX)));
        effects.push(Effect::SetTimer(Timer::Fetch, patience.min(FETCH_PATIENCE_MAX)));
        let next = deciding.asked.checked_rem(count).unwrap_or_default();
        deciding.asked = deciding.asked.saturating_add(1);
        if let Some(peer) = self.peers.all_up().nth(next) {
            effects.push(Effect::FetchValue(deciding.certificate.height, peer));
        }
    }

    pub(super) fn on_value_fetched(
        &mut self,
        from: PeerId,
        height: lockstep_core::types::Height,
        value: Option<(Bytes, Certificate)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(block) = self.deciding.as_ref().map(|deciding| deciding.certificate.block) else {
            return;
        };
        // A peer that lacks it is nobody's fault: the timer asks the next one.
        let Some((bytes, _)) = value.filter(|_| self.is_missing(block)) else { return };
        match value_of(&bytes, height) {
            Ok(value) if value.header.hash() == block || planted(Bug::OtherBlockFetched) => {
                let raw = value.batches.into_iter().map(Into::into).collect();
                self.check_decided(value.header, value.cut, raw, effects);
            }
            Ok(value) => {
                let fault = ValueFault::OtherBlock { expected: block, got: value.header.hash() };
                effects.push(Effect::Report(Report::ValueWrong(from, height, fault)));
            }
            Err(fault) => effects.push(Effect::Report(Report::ValueWrong(from, height, fault))),
        }
    }

    fn check_decided(
        &mut self,
        header: Header,
        cut: Cut,
        raw: Vec<Bytes>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(deciding) = &mut self.deciding {
            deciding.stage = Stage::Checking { header, cut };
            effects.push(Effect::CheckBatches(CheckJob::Decided(deciding.reply), raw));
        }
    }

    /// The stage, which becomes [`Stage::Missing`]; `None` if it is not this request's.
    fn take_stage(&mut self, id: ReplyId) -> Option<Stage> {
        let deciding = self.deciding.as_mut().filter(|deciding| deciding.reply == id)?;
        Some(core::mem::replace(&mut deciding.stage, Stage::Missing))
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(deciding) = &mut self.deciding {
            deciding.stage = stage;
        }
    }

    pub(super) fn on_decided_checked(
        &mut self,
        id: ReplyId,
        checked: Vec<Result<CheckedBatch, InvalidBatch>>,
        effects: &mut Vec<Effect>,
    ) {
        match (self.take_stage(id), checked.into_iter().collect::<Result<Vec<_>, _>>()) {
            (Some(Stage::Checking { header, cut }), Ok(batches)) => {
                let batches = Arc::new(batches);
                effects.push(Effect::VerifyBlock {
                    job: BlockJob::Decided(id),
                    header: header.clone(),
                    cut: cut.clone(),
                    batches: batches.clone(),
                });
                self.set_stage(Stage::Verifying { header, cut, batches });
            }
            (Some(Stage::Checking { .. }), Err(_)) => self.fetch_decided(effects),
            (Some(other), _) => self.set_stage(other),
            (None, _) => {}
        }
    }

    pub(super) fn on_decided_verified(
        &mut self,
        id: ReplyId,
        verification: Verification,
        effects: &mut Vec<Effect>,
    ) {
        let (header, cut, batches) = match self.take_stage(id) {
            Some(Stage::Verifying { header, cut, batches }) => (header, cut, batches),
            Some(other) => return self.set_stage(other),
            None => return,
        };
        match verification {
            Verification::Valid(assembly) => {
                effects.push(Effect::PersistBatches(BatchesJob::Decided(id), batches.to_vec()));
                let verified = Verified { assembly: Arc::new(*assembly), batches };
                self.set_stage(Stage::Persisting { header, cut, verified });
            }
            Verification::Invalid(reason) if reason.is_objective() => {
                let (height, block) = (header.height, header.hash());
                effects.push(Effect::Stop(Stop::InvalidDecided { height, block, reason }));
            }
            // Its sender gave other batches than the cut names.
            Verification::Invalid(_) | Verification::Outdated => self.fetch_decided(effects),
        }
    }

    pub(super) fn on_decided_persisted(&mut self, id: ReplyId, effects: &mut Vec<Effect>) {
        match self.take_stage(id) {
            Some(Stage::Persisting { header, cut, verified }) => {
                self.commit(header, cut, verified, effects);
            }
            Some(other) => self.set_stage(other),
            None => {}
        }
    }

    /// A block was found valid as a proposal; if it is the decided one that is looked for, it is found.
    pub(super) fn commit_if_decided(&mut self, block: BlockHash, effects: &mut Vec<Effect>) {
        if !self.is_missing(block) {
            return;
        }
        let held = self.candidates.verified(block).map(|(candidate, verified)| {
            (candidate.header.clone(), candidate.cut.clone(), verified.clone())
        });
        if let Some((header, cut, verified)) = held {
            self.commit(header, cut, verified, effects);
        }
    }

    fn commit(&mut self, header: Header, cut: Cut, verified: Verified, effects: &mut Vec<Effect>) {
        let Some(deciding) = &mut self.deciding else { return };
        deciding.stage = Stage::Committing;
        let Verified { assembly, batches } = verified;
        let certificate = deciding.certificate.clone();
        let decided = DecidedBlock { header, cut, certificate, assembly, batches };
        effects.push(Effect::CommitBlock(Box::new(decided)));
    }

    pub(super) fn on_block_committed(
        &mut self,
        now: UnixMillis,
        committed: Committed,
        effects: &mut Vec<Effect>,
    ) {
        self.state = committed.state.clone();
        if let Some(deciding) = self.deciding.take() {
            effects.push(Effect::Reply(deciding.reply, Answer::Committed));
        }
        self.forget_height(effects);
        self.settle(&committed, effects);
        self.advance_lanes(effects);
        if let Some(finalized) = self.finalized.take() {
            self.begin_next(now, finalized, effects);
        }
        self.stop_abstaining(effects);
        self.start_when_ready(effects);
        self.open_early(effects);
    }

    /// The height is over. Its block may still be on its way to the disk; the next height begins behind it.
    pub(super) fn on_finalized(
        &mut self,
        now: UnixMillis,
        finalized: Finalized,
        effects: &mut Vec<Effect>,
    ) {
        let height = finalized.certificate.height;
        for found in &finalized.evidence {
            effects.push(Effect::Report(Report::Equivocation(height, *found)));
        }
        if self.state.height >= height {
            self.begin_next(now, finalized, effects);
        } else {
            self.finalized = Some(finalized);
        }
    }

    fn begin_next(&self, now: UnixMillis, finalized: Finalized, effects: &mut Vec<Effect>) {
        let Finalized { certificate, evidence, reply } = finalized;
        let evidence = if planted(Bug::EvidenceLost) { Vec::new() } else { evidence };
        effects.push(Effect::PersistCertificate(certificate, evidence));
        effects.push(Effect::Reply(reply, Answer::Start(self.start_height(now))));
    }
}
