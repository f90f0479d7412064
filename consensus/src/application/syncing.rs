//! A decided value that came by sync, or was fetched: header, cut and every batch.
//!
//! Three things may be wrong, and they are told apart: the bytes (their sender is at fault, and another is asked), the
//! moment (the height was decided meanwhile: it is asked again), and this node's own disk (the node stops, and nobody is
//! blamed). Certificates are the engine's to check.

use std::sync::Arc;

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::batch::{CheckedBatch, InvalidBatch};
use lockstep_core::block::InvalidBlock;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::proposal::{InvalidValue, SyncedValue};
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::{ProposedBlock, SyncOutcome};

use super::Application;
use super::candidates::{Candidate, Verdict, Verified};
use super::effect::{Answer, BlockJob, CheckJob, Effect, PersistJob, ReplyId, Report};
use super::input::Verification;
use crate::lanes::table::Attached;
use crate::store::Undecided;

/// Why a value is not the decided one of its height. Its sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// It is malformed.
    #[error("value: {0}")]
    Malformed(#[from] InvalidValue),
    /// It is of another height.
    #[error("value is of height {got}, expected {expected}")]
    Height {
        /// The height asked for.
        expected: Height,
        /// The value's.
        got: Height,
    },
    /// Its cut is not its header's.
    #[error("value holds another cut than its header names")]
    OtherCut,
    /// It is another block.
    #[error("value is block {got}, expected {expected}")]
    OtherBlock {
        /// The decided block.
        expected: BlockHash,
        /// The value's.
        got: BlockHash,
    },
    /// A batch is wrong.
    #[error("batch: {0}")]
    Batch(#[from] InvalidBatch),
    /// The block breaks a rule, or these are not its batches.
    #[error("block: {0}")]
    Block(#[from] InvalidBlock),
}

/// The value of a height in these bytes.
pub(super) fn value_of(bytes: &Bytes, height: Height) -> Result<SyncedValue, ValueFault> {
    let value = SyncedValue::decode(&bytes.clone().into())?;
    let got = value.header.height;
    if got != height {
        return Err(ValueFault::Height { expected: height, got });
    }
    if value.cut.hash() != value.header.cut_hash {
        return Err(ValueFault::OtherCut);
    }
    Ok(value)
}

/// A value on its way through the checks. The engine brings one at a time.
#[derive(Debug)]
pub(super) struct Syncing {
    header: Header,
    cut: Cut,
    proposed: ProposedBlock,
    reply: ReplyId,
    verified: Option<Verified>,
    batches: Arc<Vec<CheckedBatch>>,
}

impl Application {
    pub(super) fn on_value_synced(
        &mut self,
        (height, round, proposer): (Height, Round, Address),
        bytes: &Bytes,
        reply: ReplyId,
        effects: &mut Vec<Effect>,
    ) {
        let value = match value_of(bytes, height) {
            Ok(value) => value,
            Err(fault) => return blame(height, fault, reply, effects),
        };
        if height != self.state.height.next() {
            return answer(reply, SyncOutcome::Retry, effects);
        }
        if let Some(before) = self.syncing.take() {
            answer(before.reply, SyncOutcome::Retry, effects);
        }
        let SyncedValue { header, cut, batches } = value;
        let block = header.hash();
        let (valid_round, is_valid) = (None, true);
        let proposed = ProposedBlock { height, round, valid_round, proposer, block, is_valid };
        let (verified, none) = (None, Arc::default());
        self.syncing = Some(Syncing { header, cut, proposed, reply, verified, batches: none });
        let raw = batches.into_iter().map(Into::into).collect();
        effects.push(Effect::CheckBatches(CheckJob::Synced(reply), raw));
    }

    /// The value that is being synced, if its request is this one: a result of an earlier request says nothing about the
    /// batches of this. One of a height that was decided meanwhile is asked for again.
    fn take_syncing(&mut self, id: ReplyId, effects: &mut Vec<Effect>) -> Option<Syncing> {
        let is_it = |syncing: &mut Syncing| syncing.reply == id || planted(Bug::StaleSyncCounts);
        let syncing = self.syncing.take_if(is_it)?;
        if syncing.proposed.height != self.state.height.next() {
            if planted(Bug::OvertakenPeerBlamed) {
                answer(syncing.reply, SyncOutcome::PeerFault, effects);
                return None;
            }
            answer(syncing.reply, SyncOutcome::Retry, effects);
            return None;
        }
        Some(syncing)
    }

    pub(super) fn on_synced_checked(
        &mut self,
        id: ReplyId,
        checked: Vec<Result<CheckedBatch, InvalidBatch>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut syncing) = self.take_syncing(id, effects) else { return };
        match checked.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(batches) => {
                syncing.batches = Arc::new(batches);
                effects.push(Effect::VerifyBlock {
                    job: BlockJob::Synced(id),
                    header: syncing.header.clone(),
                    cut: syncing.cut.clone(),
                    batches: syncing.batches.clone(),
                });
                self.syncing = Some(syncing);
            }
            Err(fault) => blame(syncing.proposed.height, fault.into(), syncing.reply, effects),
        }
    }

    pub(super) fn on_synced_verified(
        &mut self,
        id: ReplyId,
        verification: Verification,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut syncing) = self.take_syncing(id, effects) else { return };
        match verification {
            Verification::Valid(assembly) => {
                let (assembly, batches) = (Arc::new(*assembly), syncing.batches.clone());
                let undecided = Undecided {
                    round: syncing.proposed.round,
                    valid_round: None,
                    header: syncing.header.clone(),
                    cut: syncing.cut.clone(),
                };
                let job = PersistJob::Synced(id);
                syncing.verified = Some(Verified { assembly, batches: batches.clone() });
                self.syncing = Some(syncing);
                effects.push(Effect::PersistBlock { job, block: undecided, batches });
            }
            Verification::Invalid(reason) => {
                blame(syncing.proposed.height, reason.into(), syncing.reply, effects);
            }
            Verification::Outdated => answer(syncing.reply, SyncOutcome::Retry, effects),
        }
    }

    pub(super) fn on_synced_persisted(&mut self, id: ReplyId, effects: &mut Vec<Effect>) {
        let Some(syncing) = self.take_syncing(id, effects) else { return };
        let Syncing { header, cut, proposed, reply, verified: Some(verified), .. } = syncing else {
            return;
        };
        let (attached, verdict) = (Attached::new(), Verdict::Valid(verified));
        let candidate = Candidate { header, cut, from: None, attached, verdict, is_read: false };
        self.candidates.sync(proposed.block, candidate);
        answer(reply, SyncOutcome::Valid(proposed), effects);
    }
}

fn answer(reply: ReplyId, outcome: SyncOutcome, effects: &mut Vec<Effect>) {
    effects.push(Effect::Reply(reply, Answer::Synced(outcome)));
}

fn blame(height: Height, fault: ValueFault, reply: ReplyId, effects: &mut Vec<Effect>) {
    effects.push(Effect::Report(Report::SyncedWrong(height, fault)));
    answer(reply, SyncOutcome::PeerFault, effects);
}
