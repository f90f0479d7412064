//! This validator's own lane: entries wait here, become batches, and come back if a block had no room for them.
//!
//! ```text
//! push, restore ─► queue, one per chain ─► next_batch ─► in flight ─► settle ─┬─► decided, or left out for good
//!                       ▲                                                     │
//!                       └───────────── at their old place ◄──────── carried ──┘
//! ```
//!
//! **Order.** The log takes the entries of one lane and chain in the order in which they were submitted, over blocks and
//! restarts. Assembly keeps it within a block: what does not fit makes the lane's later entries for that chain wait. It
//! can't keep it between blocks, so the owner does: a block that leaves an entry out must find nothing of that chain
//! behind it in a later batch. A batch is decided whole; therefore an entry goes into the next batch only if, on each
//! of its chains, one of these holds:
//!
//! - *sure*: with all that is in flight it fits half of the lane's share of the bucket, as the newest state has it;
//! - *alone*: no earlier batch in flight has an entry of the chain. Then the batch takes at least one entry, and as many
//!   as the lane's share holds by now.
//!
//! A bundle that is not sure on one of its chains closes all of them until it is decided, because assembly makes only
//! the chain wait that is short. What waits lets entries of other chains pass by; a bundle waits on all of its chains.
//! A chain whose entry came back is held until nothing of it is in flight. Records do not wait.
//!
//! **Where order can still differ.** (1) A sure entry is left out although later batches hold entries of its chain: the
//! other lanes drain the bucket, by more than half of what it held, in a block that leaves this lane's batch out. With
//! honest owners and proposers that takes a batch that is late for two blocks of a busy chain. (2) Another lane's bundle
//! claims a loose transaction of this lane and has no room itself: assembly lets the later entries pass. (3) Entries
//! that waited in no stored batch when the node crashed are gone, those that had come back included; sent again, they
//! come later.
//!
//! Pure: the service signs, stores and pushes what [`OwnLane::next_batch`] gives out, then reports [`OwnLane::made`].

mod flight;
mod queue;

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::Address;
use lockstep_core::cut::LanePosition;
use lockstep_core::entry::CheckedEntry;
use lockstep_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_OVERHEAD_BYTES_MAX};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, Incarnation, Sequence, UnixMillis};

use self::flight::{Flight, Flown};
use self::queue::{Queue, Ticket};
use crate::settle::Carried;

/// Bytes of entries that wait for a batch. More are refused with a hint to come back.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Entries that wait for a batch.
pub const QUEUE_ENTRIES_MAX: usize = 65_536;

/// Bytes of entries that one batch holds.
const ENTRIES_BYTES_MAX: usize = BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES_MAX;

/// The queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entries} entries of {bytes} bytes wait for a batch already")]
pub struct QueueFull {
    /// Entries that wait.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A batch to be signed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBatch {
    /// Run of the lane, and place in the run.
    pub place: (Incarnation, Sequence),
    /// Digest of the batch before it; zero for sequence 0.
    pub parent: BatchDigest,
    /// At least one, at most what a batch holds.
    pub entries: Vec<CheckedEntry>,
}

/// The own lane is decided in a run that is not this one: nothing of this run can be decided any more, and no batch is
/// made until [`OwnLane::begin_run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// The decided incarnation: the new run's must be above.
    pub decided: Incarnation,
}

/// The lane's queue, and what of it is on its way to a block.
#[derive(Debug)]
pub struct OwnLane {
    me: Address,
    /// After the newest block.
    state: Arc<State>,
    incarnation: Incarnation,
    next: Sequence,
    parent: BatchDigest,
    /// The batch at `next` was given out and is not signed yet.
    is_making: bool,
    is_overtaken: bool,
    queue: Queue,
    flight: Flight,
}

impl OwnLane {
    /// The lane of `me` at the beginning of a run. `state` is the one after the newest block.
    #[must_use]
    pub fn new(me: Address, incarnation: Incarnation, state: Arc<State>) -> Self {
        Self {
            me,
            state,
            incarnation,
            next: Sequence(0),
            parent: BatchDigest::ZERO,
            is_making: false,
            is_overtaken: false,
            queue: Queue::default(),
            flight: Flight::default(),
        }
    }

    /// How many entries wait for a batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether an entry of this many bytes may be pushed: asked before its signatures are checked.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn has_room(&self, length: usize) -> Result<(), QueueFull> {
        let (entries, bytes) = (self.queue.len(), self.queue.bytes());
        if bytes.saturating_add(length) > QUEUE_BYTES_MAX || entries >= QUEUE_ENTRIES_MAX {
            return Err(QueueFull { entries, bytes });
        }
        Ok(())
    }

    /// Puts an entry at the end of its chains' queues. The very same bytes, while they wait or are in flight, change
    /// nothing. A copy that lives longer takes the place of one that waits; one that another gateway admitted, and one
    /// behind a copy in flight, is an entry of its own.
    ///
    /// # Errors
    /// [`QueueFull`]; the entry is not taken.
    pub fn push(&mut self, entry: CheckedEntry) -> Result<(), QueueFull> {
        self.has_room(entry.entry().raw().len())?;
        let ticket = Ticket::of(&entry);
        if !self.flight.contains(&ticket.raw) {
            self.queue.push_back(ticket, entry);
        }
        Ok(())
    }

    /// Puts the undecided entries of earlier runs into the queue, in their order: once, before anything is pushed. They
    /// count as waiting, whatever their number: at most what a lane may be ahead of the log.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = CheckedEntry>) {
        for entry in entries {
            match Ticket::of(&entry) {
                _ if planted(Bug::NotRestored) => {}
                ticket if planted(Bug::RestoredInReverse) => self.queue.push_front(ticket, entry),
                ticket => self.queue.push_back(ticket, entry),
            }
        }
    }

    /// The next batch, if an entry may go. Entries that expired by `now` (the wall clock) are given up. Until the batch
    /// is reported [made](Self::made) or [lost](Self::lost) there is no other.
    pub fn next_batch(&mut self, now: UnixMillis) -> Option<NextBatch> {
        if self.is_making || self.is_overtaken {
            return None;
        }
        self.queue.expire(now);
        let mut ready = self.queue.heads();
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        while let Some(place) = ready.pop_first() {
            let entry = self.queue.get(place);
            bytes = bytes.saturating_add(entry.entry().raw().len());
            if bytes > ENTRIES_BYTES_MAX || entries.len() >= BATCH_ENTRIES_MAX {
                break;
            }
            let Some(terms) = self.flight.admit(&self.state, now, entry) else {
                bytes = bytes.saturating_sub(entry.entry().raw().len());
                continue;
            };
            let (ticket, entry) = self.queue.take(place);
            ready.extend(self.queue.heads_of(&ticket));
            entries.push(entry.clone());
            self.flight.add(self.next, Flown { place, ticket, entry, terms });
        }
        if entries.is_empty() {
            return None;
        }
        self.flight.close_batch();
        self.is_making = true;
        let place = (self.incarnation, self.next);
        Some(NextBatch { place, parent: self.parent, entries })
    }

    /// The batch at this place is signed. False if the lane has begun another run meanwhile: the batch must not be
    /// stored or pushed, and its entries wait again.
    #[must_use]
    pub fn made(&mut self, place: (Incarnation, Sequence), digest: BatchDigest) -> bool {
        if !self.is_making || place != (self.incarnation, self.next) {
            return false;
        }
        self.flight.sign(self.next, digest);
        self.is_making = false;
        self.next = self.next.next();
        self.parent = digest;
        true
    }

    /// The batch at this place could not be signed: its entries are given up.
    pub fn lost(&mut self, place: (Incarnation, Sequence)) {
        if self.is_making && place == (self.incarnation, self.next) {
            self.is_making = false;
            self.flight.abandon(self.next);
        }
    }

    /// A block is decided: `state` is the one after it, `carried` the entries of this lane for which it had no room, in
    /// the lane's order. Blocks come in order, each once.
    ///
    /// `Some`, once per run, if the log has decided another run of this lane than this one. That happens to a validator that lost its
    /// disk after its clock was once far ahead. The caller takes a new incarnation above, synced, and begins a run.
    #[must_use]
    pub fn settle(&mut self, state: Arc<State>, carried: &[Carried]) -> Option<Overtaken> {
        self.state = state;
        let lanes = &self.state.committed.lanes;
        let decided = *lanes.iter().find(|lane| lane.owner == self.me)?;
        let (mine, strange): (Vec<&Carried>, Vec<_>) =
            carried.iter().partition(|carried| carried.batch.incarnation == self.incarnation);
        self.carry_strange(&strange);
        if decided.incarnation < self.incarnation {
            return None;
        }
        if self.is_other_run(&decided) {
            let is_known = std::mem::replace(&mut self.is_overtaken, true);
            return (!is_known).then_some(Overtaken { decided: decided.incarnation });
        }
        let back: BTreeSet<_> = mine.iter().map(|c| (c.batch.sequence, c.index)).collect();
        for (at, flown) in self.flight.decide(decided.sequence) {
            if back.contains(&at) && !planted(Bug::CarriedLost) {
                self.flight.hold(&flown.ticket.chains);
                if planted(Bug::CarriedBehind) {
                    self.queue.push_back(flown.ticket, flown.entry);
                    continue;
                }
                self.queue.insert(flown.place, flown.ticket, flown.entry);
            }
        }
        None
    }

    /// Begins a run after [`Overtaken`]. Everything that was in flight waits again, at its old place.
    ///
    /// # Panics
    /// If `incarnation` is not above the present one: positions would be signed twice.
    pub fn begin_run(&mut self, incarnation: Incarnation) {
        assert!(incarnation > self.incarnation, "a run's incarnation is above all earlier ones");
        for (_, flown) in self.flight.decide(Sequence(u64::MAX)) {
            self.queue.insert(flown.place, flown.ticket, flown.entry);
        }
        self.incarnation = incarnation;
        self.next = Sequence(0);
        self.parent = BatchDigest::ZERO;
        (self.is_making, self.is_overtaken) = (false, false);
    }

    /// Whether the decided position, which is not below this run, is none of this run's batches.
    fn is_other_run(&self, decided: &LanePosition) -> bool {
        decided.incarnation > self.incarnation
            || !self.flight.is_signed(decided.sequence, decided.digest)
    }

    /// Entries that come back from batches of an earlier run. They wait or are in flight here already, unless they were
    /// too many to be restored; then they go in front of everything.
    fn carry_strange(&mut self, carried: &[&Carried]) {
        for carried in carried.iter().rev() {
            let ticket = Ticket::of(&carried.entry);
            if !self.flight.contains(&ticket.raw) {
                self.queue.push_front(ticket, carried.entry.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
