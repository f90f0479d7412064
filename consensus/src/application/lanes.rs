//! The lanes: what comes is checked, written, acknowledged; what is missing is asked for; entries become batches.
//!
//! Persist, then speak: a batch is acknowledged, pushed, or put into a cut only after it was synced. One group is written
//! at a time, so a position is filled once, and what was written together is acknowledged together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledgement, Batch, CheckedBatch, InvalidBatch};
use lockstep_core::lane::{BatchRange, Inserted, Room};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::signing::InvalidSignature;
use lockstep_core::types::{BlockHash, Incarnation, Sequence, UnixMillis};

use super::Application;
use super::effect::{BatchesJob, CheckJob, Effect, Misdeed, Report, Timer};
use crate::lanes::asked::Asked;
use crate::lanes::forks::Forks;
use crate::lanes::own::OwnLane;
use crate::lanes::table::Table;
use crate::lanes::wire::LaneMessage;
use crate::store::Aside;

/// Batches of one peer that are being checked or wait to be written.
const CHECKS_PER_PEER_MAX: usize = 8;
/// Batches of one peer that wait for that, 8 MiB. The oldest gives way: it is asked for again.
pub const WAITING_PER_PEER_MAX: usize = 16;
/// Batches written at a time.
const GROUP_MAX: usize = 64;
/// The least time between two groups: each costs a sync here, and every other validator the check of an
/// acknowledgement. The first batch after a pause is not kept waiting.
const GROUP_INTERVAL: Duration = Duration::from_millis(20);
/// How often gaps are looked for.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
/// How often what is stored and undecided is acknowledged again: an acknowledgement may have been lost.
const REMINDER_INTERVAL: Duration = Duration::from_secs(1);
/// Batches sent for one request; the asker asks again from where it ended.
const REQUEST_BATCHES_MAX: u64 = 64;

/// Per run of a lane, the last batch that is missing.
type Missing = BTreeMap<(Address, Incarnation), Sequence>;

/// Batches of one peer on their way to the writer.
#[derive(Debug, Default)]
struct Inbox {
    checking: usize,
    waiting: VecDeque<Bytes>,
    /// An acknowledgement is being checked; the newest that came meanwhile says all that the others do.
    is_checking_acknowledgement: bool,
    acknowledgement: Option<Acknowledgement>,
    /// Batches are being sent; the newest request that came meanwhile.
    is_serving: bool,
    requested: Option<BatchRange>,
}

/// What the lanes need between steps.
#[derive(Debug)]
pub(super) struct LaneSide {
    pub(super) table: Table,
    pub(super) own: OwnLane,
    pub(super) forks: Forks,
    asked: Asked,
    /// What was missing at the last look. Only what is missing for longer is asked for: a batch may be on its way.
    missing: Missing,
    inboxes: BTreeMap<PeerId, Inbox>,
    /// Checked batches that wait to be written, with the peer they came from; own ones with none.
    pub(super) to_write: VecDeque<(Option<PeerId>, CheckedBatch)>,
    /// Whose batches are being written, one for each batch of a peer.
    writing: Vec<PeerId>,
    is_writing: bool,
    /// The timer of the last group runs.
    is_group_pause: bool,
    /// An own batch is being signed or written.
    is_making: bool,
    is_batch_timer_set: bool,
    batch_delay: Duration,
}

impl LaneSide {
    pub(super) fn new(table: Table, own: OwnLane, batch_delay: Duration) -> Self {
        Self {
            table,
            own,
            forks: Forks::default(),
            asked: Asked::default(),
            missing: Missing::new(),
            inboxes: BTreeMap::new(),
            to_write: VecDeque::new(),
            writing: Vec::new(),
            is_writing: false,
            is_group_pause: false,
            is_making: false,
            is_batch_timer_set: false,
            batch_delay,
        }
    }
}

impl LaneSide {
    /// Batches of peers that wait to be checked.
    pub(super) fn count_inboxes(&self) -> usize {
        self.inboxes.values().map(|inbox| inbox.waiting.len()).sum()
    }
}

impl Application {
    pub(super) fn begin_lanes(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::SetTimer(Timer::Repair, REPAIR_INTERVAL));
        effects.push(Effect::SetTimer(Timer::Reminder, REMINDER_INTERVAL));
        self.wake(effects);
    }

    pub(super) fn on_lane_message(
        &mut self,
        from: PeerId,
        message: LaneMessage,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            LaneMessage::Batch(raw) => self.on_batch(from, raw, effects),
            LaneMessage::Acknowledgement(acknowledgement) => {
                if acknowledgement.network != self.network {
                    effects.push(Effect::Disconnect(from, Misdeed::Network));
                } else if self.peers.validator(from).is_some() {
                    self.check_acknowledgement(from, acknowledgement, effects);
                }
            }
            LaneMessage::Request(range) => {
                let last = range.first.0.saturating_add(REQUEST_BATCHES_MAX.saturating_sub(1));
                let range = BatchRange { last: Sequence(range.last.0.min(last)), ..range };
                self.serve(from, range, effects);
            }
        }
    }

    /// The cheap half first: a batch that nobody wants costs neither a hash nor a signature check.
    fn on_batch(&mut self, from: PeerId, raw: Bytes, effects: &mut Vec<Effect>) {
        match Batch::position_of(&raw) {
            Some(position) if !self.lanes.table.wants(&position) => return,
            Some(_) => {}
            None => {
                let misdeed = Misdeed::Batch(InvalidBatch::Version);
                return effects.push(Effect::Disconnect(from, misdeed));
            }
        }
        let inbox = self.lanes.inboxes.entry(from).or_default();
        if inbox.checking < CHECKS_PER_PEER_MAX {
            inbox.checking = inbox.checking.saturating_add(1);
            return effects.push(Effect::CheckBatches(CheckJob::Lane(from), vec![raw]));
        }
        if inbox.waiting.len() >= WAITING_PER_PEER_MAX && !planted(Bug::InboxUnbounded) {
            inbox.waiting.pop_front();
        }
        inbox.waiting.push_back(raw);
    }

    fn check_next(&mut self, from: PeerId, effects: &mut Vec<Effect>) {
        let Some(inbox) = self.lanes.inboxes.get_mut(&from) else { return };
        inbox.checking = inbox.checking.saturating_sub(1);
        while let Some(raw) = inbox.waiting.pop_front() {
            let position = Batch::position_of(&raw);
            if position.is_some_and(|position| self.lanes.table.wants(&position)) {
                inbox.checking = inbox.checking.saturating_add(1);
                return effects.push(Effect::CheckBatches(CheckJob::Lane(from), vec![raw]));
            }
        }
    }

    pub(super) fn on_batches_checked(
        &mut self,
        now: UnixMillis,
        job: CheckJob,
        batches: Vec<Result<CheckedBatch, InvalidBatch>>,
        effects: &mut Vec<Effect>,
    ) {
        match job {
            CheckJob::Lane(from) => {
                for batch in batches {
                    match batch {
                        Ok(batch) => self.lanes.to_write.push_back((Some(from), batch)),
                        // An honest validator checks what it passes on.
                        Err(reason) => {
                            effects.push(Effect::Disconnect(from, Misdeed::Batch(reason)));
                            self.check_next(from, effects);
                        }
                    }
                }
                self.write_group(effects);
            }
            CheckJob::Attached(block, from) => {
                self.on_attached_checked(now, (block, from), batches, effects);
            }
            CheckJob::Synced(id) => self.on_synced_checked(id, batches, effects),
            CheckJob::Decided(id) => self.on_decided_checked(id, batches, effects),
        }
    }

    /// Writes what waits, unless a group is being written or was a moment ago.
    fn write_group(&mut self, effects: &mut Vec<Effect>) {
        if self.lanes.is_writing || self.lanes.is_group_pause {
            return;
        }
        let mut group = Vec::new();
        let mut rooms = BTreeMap::new();
        while group.len() < GROUP_MAX
            && let Some((from, batch)) = self.lanes.to_write.pop_front()
        {
            let position = batch.position();
            // The first of two holds the position: the other one is wanted no more.
            let twin = group.iter().find(|other: &&CheckedBatch| other.position() == position);
            if twin.is_some_and(|twin| twin.digest() != batch.digest()) {
                effects.push(Effect::Report(Report::LaneEquivocation(position)));
            }
            let is_wanted = twin.is_none() && self.lanes.table.wants(&position);
            if is_wanted && self.has_room(&batch, &mut rooms) {
                self.lanes.writing.extend(from);
                group.push(batch);
                continue;
            }
            if is_wanted {
                effects.push(Effect::Report(Report::LaneTooFarAhead(position)));
            }
            if let Some(from) = from {
                self.check_next(from, effects);
            } else {
                self.lanes.is_making = false;
            }
        }
        if group.is_empty() {
            return;
        }
        if planted(Bug::BatchNotWritten) {
            self.insert(group.clone(), &[], effects);
            self.acknowledge(None, effects);
        }
        (self.lanes.is_writing, self.lanes.is_group_pause) = (true, true);
        effects.push(Effect::SetTimer(Timer::Group, GROUP_INTERVAL));
        effects.push(Effect::PersistBatches(BatchesJob::Group, group));
    }

    /// Whether the batch's lane may hold it, beside those of the group. What is not held is not written: its owner could
    /// fill every disk with it.
    pub(super) fn has_room(
        &self,
        batch: &CheckedBatch,
        rooms: &mut BTreeMap<Address, Room>,
    ) -> bool {
        let owner = batch.position().owner;
        let Some(room) = self.lanes.table.room(owner) else { return false };
        rooms.entry(owner).or_insert(room).take(batch)
    }

    fn check_acknowledgement(
        &mut self,
        from: PeerId,
        acknowledgement: Acknowledgement,
        effects: &mut Vec<Effect>,
    ) {
        let inbox = self.lanes.inboxes.entry(from).or_default();
        if inbox.is_checking_acknowledgement {
            inbox.acknowledgement = Some(acknowledgement);
        } else {
            inbox.is_checking_acknowledgement = true;
            effects.push(Effect::CheckAcknowledgement(from, acknowledgement));
        }
    }

    fn serve(&mut self, to: PeerId, range: BatchRange, effects: &mut Vec<Effect>) {
        let inbox = self.lanes.inboxes.entry(to).or_default();
        if inbox.is_serving {
            inbox.requested = Some(range);
        } else {
            inbox.is_serving = true;
            effects.push(Effect::SendBatches(to, range));
        }
    }

    pub(super) fn on_batches_sent(&mut self, to: PeerId, effects: &mut Vec<Effect>) {
        let inbox = self.lanes.inboxes.entry(to).or_default();
        inbox.is_serving = false;
        if let Some(range) = inbox.requested.take() {
            self.serve(to, range, effects);
        }
    }

    pub(super) fn on_group_timer(&mut self, effects: &mut Vec<Effect>) {
        self.lanes.is_group_pause = false;
        self.write_group(effects);
    }

    pub(super) fn on_group_persisted(
        &mut self,
        now: UnixMillis,
        batches: Vec<CheckedBatch>,
        aside: &[Aside],
        effects: &mut Vec<Effect>,
    ) {
        self.lanes.is_writing = false;
        for from in core::mem::take(&mut self.lanes.writing) {
            self.check_next(from, effects);
        }
        let own = batches.iter().filter(|batch| batch.position().owner == self.me);
        let own: Vec<CheckedBatch> = own.cloned().collect();
        self.insert(batches, aside, effects);
        for batch in own {
            // A peer that misses it asks when it sees our acknowledgement.
            effects.push(Effect::PushBatch(batch));
            self.lanes.is_making = false;
        }
        self.acknowledge(None, effects);
        self.judge_waiting(now, effects);
        self.write_group(effects);
        self.wake(effects);
    }

    /// Puts written batches into the lanes, but for those that the store keeps aside: what a lane holds is acknowledged.
    pub(super) fn insert(
        &mut self,
        batches: Vec<CheckedBatch>,
        aside: &[Aside],
        effects: &mut Vec<Effect>,
    ) {
        for batch in batches {
            let position = batch.position();
            if aside.contains(&(position, batch.digest())) && !planted(Bug::SecondBatchHeld) {
                effects.push(Effect::Report(Report::LaneEquivocation(position)));
                continue;
            }
            match self.lanes.table.insert(batch) {
                Some(Inserted::Equivocation(_)) => {
                    effects.push(Effect::Report(Report::LaneEquivocation(position)));
                }
                Some(Inserted::TooFarAhead) => {
                    effects.push(Effect::Report(Report::LaneTooFarAhead(position)));
                }
                Some(_) | None => {}
            }
        }
    }

    pub(super) fn on_acknowledgement_checked(
        &mut self,
        from: PeerId,
        acknowledgement: &Acknowledgement,
        signer: Result<Address, InvalidSignature>,
        effects: &mut Vec<Effect>,
    ) {
        let inbox = self.lanes.inboxes.entry(from).or_default();
        inbox.is_checking_acknowledgement = false;
        if let Some(newest) = inbox.acknowledgement.take() {
            self.check_acknowledgement(from, newest, effects);
        }
        let Some(expected) = self.peers.validator(from) else { return };
        match signer {
            Ok(got) if got == expected => {
                let set = &self.state.committed.validators;
                self.lanes.table.acknowledge(set, expected, acknowledgement);
                self.wake(effects);
            }
            Ok(got) => {
                effects.push(Effect::Disconnect(from, Misdeed::Signer { expected, got }));
            }
            Err(reason) => effects.push(Effect::Disconnect(from, Misdeed::Signature(reason))),
        }
    }

    /// Tells one peer, or all, what this node stores.
    pub(super) fn acknowledge(&self, to: Option<PeerId>, effects: &mut Vec<Effect>) {
        effects.push(Effect::Acknowledge(to, self.lanes.table.tips()));
    }

    pub(super) fn on_reminder_timer(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::SetTimer(Timer::Reminder, REMINDER_INTERVAL));
        if !self.lanes.table.tips().is_empty() {
            self.acknowledge(None, effects);
        }
    }

    /// Asks for what was missing at the last look and is missing still: of its owner, or of who says it has it.
    pub(super) fn on_repair_timer(&mut self, now: UnixMillis, effects: &mut Vec<Effect>) {
        if planted(Bug::RepairOnce) {
            return;
        }
        effects.push(Effect::SetTimer(Timer::Repair, REPAIR_INTERVAL));
        let missing = self.lanes.table.missing().into_iter().map(|range| (range, None));
        let behind = self.lanes.table.behind(&self.state.committed.validators).into_iter();
        let behind = behind.map(|(range, who)| (range, self.peers.peer_of(who)));
        let all: Vec<_> = missing.chain(behind).collect();
        let before = core::mem::take(&mut self.lanes.missing);
        for (range, holder) in all {
            let run = (range.owner, range.incarnation);
            if before.get(&run).is_some_and(|last| range.first <= *last) {
                self.ask_range(now, range, holder, effects);
            }
            let last = self.lanes.missing.entry(run).or_insert(range.last);
            *last = range.last.max(*last);
        }
    }

    /// Asks `from` if it is up, else the owner. What was asked for a moment ago is not asked for again.
    fn ask_range(
        &mut self,
        now: UnixMillis,
        range: BatchRange,
        from: Option<PeerId>,
        effects: &mut Vec<Effect>,
    ) {
        let owner = || self.peers.peer_of(range.owner).filter(|peer| self.peers.is_up(*peer));
        let Some(to) = from.filter(|peer| self.peers.is_up(*peer)).or_else(owner) else { return };
        if self.lanes.asked.is_due(&range, to, now) {
            effects.push(Effect::AskBatches(to, range));
        }
    }

    /// Asks for the batches that a proposed block lacks.
    pub(super) fn ask(
        &mut self,
        now: UnixMillis,
        (block, from): (BlockHash, Option<PeerId>),
        ranges: Vec<BatchRange>,
        effects: &mut Vec<Effect>,
    ) {
        for range in &ranges {
            self.ask_range(now, *range, from, effects);
        }
        effects.push(Effect::Report(Report::BlockWaits { block, ranges }));
    }

    /// Something may be put into a batch: it is, after a moment for others to come.
    pub(super) fn wake(&mut self, effects: &mut Vec<Effect>) {
        let lanes = &mut self.lanes;
        if !lanes.is_batch_timer_set && !lanes.is_making && lanes.own.waiting() > 0 {
            lanes.is_batch_timer_set = true;
            effects.push(Effect::SetTimer(Timer::Batch, lanes.batch_delay));
        }
    }

    /// Makes a batch of what waits, if not too much is on its way to a quorum.
    pub(super) fn on_batch_timer(&mut self, now: UnixMillis, effects: &mut Vec<Effect>) {
        let lanes = &mut self.lanes;
        lanes.is_batch_timer_set = false;
        if lanes.is_making || !lanes.table.has_room(&self.state.committed.validators) {
            return;
        }
        if let Some(next) = lanes.own.next_batch(now, self.claimed.highest) {
            lanes.is_making = true;
            effects.push(Effect::SignBatch(next));
        }
    }

    pub(super) fn on_batch_signed(
        &mut self,
        place: (Incarnation, Sequence),
        batch: Result<CheckedBatch, InvalidBatch>,
        effects: &mut Vec<Effect>,
    ) {
        let lanes = &mut self.lanes;
        match batch {
            Ok(batch) if lanes.own.made(place, batch.digest()) => {
                if planted(Bug::PushedNotWritten) {
                    effects.push(Effect::PushBatch(batch.clone()));
                }
                lanes.to_write.push_back((None, batch));
                return self.write_group(effects);
            }
            // The lane began another run meanwhile: its entries wait again.
            Ok(_) => {}
            Err(reason) => {
                lanes.own.lost(place);
                effects.push(Effect::Report(Report::OwnBatchInvalid(reason)));
            }
        }
        self.lanes.is_making = false;
        self.wake(effects);
    }

    /// The log moved on, and the lanes with it.
    pub(super) fn advance_lanes(&mut self, effects: &mut Vec<Effect>) {
        self.lanes.table.advance(&self.state.committed.lanes);
        self.lanes.forks.advance(&self.state.committed.lanes);
        self.wake(effects);
    }
}
