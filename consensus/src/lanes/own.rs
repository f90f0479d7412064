//! This validator's own lane: entries wait here, become batches, and come back if a block had no room for them.
//!
//! ```text
//! push, restore ─► queue, by lot ─► next_batch ─► in flight ─► settle ─┬─► decided, or left out for good
//!                     ▲                                               ├─► given up: left out twice
//!                     └──────────── at their old place ◄──── carried ─┘
//! ```
//!
//! **Turns.** What an entry asks of a chain's budget, as an open one or not, puts it in a *lot*. A batch takes of each lot
//! in turn, of each source in turn (gateways, clients), and of a source's accounts by their first one's place. An entry may
//! wait only where there is [room] for it.
//!
//! **Order.** The log takes the entries of one lane, chain, source and account in the order in which they were submitted,
//! over blocks and restarts. Assembly keeps it within a block: what does not fit makes the lane's later entries for that
//! chain wait. It can't keep it between blocks, so the owner does: a block that leaves an entry out must find nothing
//! behind it in a later batch. A batch is decided whole; therefore an entry goes into the next batch only if, in each of
//! its lots, one of these holds:
//!
//! - *sure*: with all that is in flight it fits half of the lane's share of the bucket, as the newest state has it;
//! - *alone*: no earlier batch in flight has an entry of the lot, and with what the batch has it fits the lane's share of
//!   the bucket by now.
//!
//! Of an account none that is not sure goes into a batch behind one that asks more: other lanes may drain the bucket until it
//! has room for the later one alone, and assembly lets others pass an entry that asks more than the bucket has. By a state
//! that is stale, because this node catches up, no entry is sure.
//!
//! One whose turn came and that is neither waits until its lots have nothing in flight, and all others of those lots with
//! it; a bundle waits for all of its lots. One that is more than the lane's share goes behind all others of a batch, if
//! nothing of its lots is in flight and the bucket has enough by now: it needs what other lanes leave, and what stands
//! behind it would wait with it. Where the bucket has not enough it holds back its own accounts alone.
//!
//! A bundle that is not sure in one of its lots closes its accounts' threads until it is decided, because assembly makes
//! only the chain wait that is short; so does an entry that is more than the lane's share, because assembly may let
//! others pass it. A thread whose entry came back is held until nothing of it is in flight. Records do not wait.
//!
//! An entry that a block left out goes once more, when the first pass has room for it; left out again it is given up, and
//! its submitter told. So what a lane carries for nothing is at most twice what it takes in.
//!
//! **Waste.** What was for nothing counts against the lane, and one that wasted too much stands still
//! ([`waste`]). So no more is in flight than the lane may still waste: whatever its clients send, it
//! is never stopped.
//!
//! **Where order can still differ.** (1) A sure entry is left out although later batches hold entries of its thread, or its
//! own batch does and it is a bundle: the other lanes drain the bucket, by more than half of what it held, in a block that
//! leaves this lane's batch out. With honest owners and proposers that takes a batch that is late for two blocks of a
//! busy chain. (2) Another lane's bundle claims a loose transaction of this lane and has no room itself: assembly lets the
//! later entries pass. (3) Entries that waited in no stored batch when the node crashed are gone, those that had come back
//! included; sent again, they come later.
//!
//! Pure: the service signs, stores and pushes what [`OwnLane::next_batch`] gives out, then reports [`OwnLane::made`].

mod flight;
mod queue;
pub mod room;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::Address;
use lockstep_core::admission::LeaveOut;
use lockstep_core::cut::LanePosition;
use lockstep_core::entry::{CheckedEntry, Entry};
use lockstep_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_OVERHEAD_BYTES_MAX};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, Height, Incarnation, Sequence, UnixMillis};
use lockstep_core::waste;

use self::flight::{Admission, Flight, Flown};
use self::queue::{Lot, Place, Queue, Ticket, Waiting};
use self::room::Busy;
use self::turns::Source;
use crate::fair::Turn;
use crate::ingress::Submitter;
use crate::settle::Carried;

/// Bytes of entries that one batch holds.
const ENTRIES_BYTES_MAX: usize = BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES_MAX;
/// A state may be stale when its block is two intervals and so many milliseconds old.
const OLD_MS: u64 = 1_000;
/// Of one source and lot, how many accounts are tried for one batch.
const ACCOUNTS_TRIED_MAX: usize = 16;

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

/// An entry that two blocks had no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The entry.
    pub entry: CheckedEntry,
    /// Why the second had none.
    pub reason: LeaveOut,
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

    /// Whether an entry may be pushed, as far as its bytes show before signatures are checked. `now` is the wall clock.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room(&self, now: UnixMillis, from: Submitter, entry: &Entry) -> Result<(), Busy> {
        let asks = queue::asks_at_least(&self.state, entry, from);
        room::check((&self.queue, &self.flight), &self.state, now, &asks, entry.raw().len())
    }

    /// Puts an entry at the end of its threads. The very same bytes, while they wait or are in flight, change nothing. A
    /// copy that lives longer takes the place of one that waits; one that another gateway admitted, and one behind a copy
    /// in flight, is an entry of its own. `now` is the wall clock.
    ///
    /// # Errors
    /// [`Busy`]; the entry is not taken.
    pub fn push(
        &mut self,
        now: UnixMillis,
        from: Submitter,
        entry: CheckedEntry,
    ) -> Result<(), Busy> {
        let ticket = Ticket::of(&self.state, &entry, from);
        room::check(
            (&self.queue, &self.flight),
            &self.state,
            now,
            &ticket.asks,
            entry.entry().raw().len(),
        )?;
        if !self.flight.contains(&ticket.raw) {
            self.queue.push_back(ticket, entry);
        }
        Ok(())
    }

    /// Puts the undecided entries of earlier runs into the queue, in their order: once, before anything is pushed. They
    /// count as waiting, whatever their number: at most what a lane may be ahead of the log.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = CheckedEntry>) {
        for entry in entries {
            match Ticket::of(&self.state, &entry, Submitter::UNKNOWN) {
                _ if planted(Bug::NotRestored) => {}
                ticket if planted(Bug::RestoredInReverse) => self.queue.push_front(ticket, entry),
                ticket => self.queue.push_back(ticket, entry),
            }
        }
    }

    /// The next batch, if an entry may go. Entries that expired by `now` (the wall clock) are given up. Until the batch
    /// is reported [made](Self::made) or [lost](Self::lost) there is no other. `claimed` is the highest height that a peer
    /// claims to have decided.
    pub fn next_batch(&mut self, now: UnixMillis, claimed: Height) -> Option<NextBatch> {
        if self.is_making || self.is_overtaken {
            return None;
        }
        self.flight.is_stale = is_stale(&self.state, now, claimed);
        self.queue.expire(now);
        let mut filling = Filling { bytes_max: self.batch_bytes_max(), ..Filling::default() };
        for place in self.queue.called() {
            self.fill(now, place, &mut filling);
        }
        let mut turns: BTreeSet<LotTurn> = self.queue.lots().map(LotTurn::first).collect();
        while let Some(mut turn) = turns.pop_first() {
            if filling.is_full {
                break;
            }
            if let Some(bytes) = self.take_turn(now, &mut turn, &mut filling) {
                turn.bytes = turn.bytes.saturating_add(bytes);
                turns.insert(turn);
            }
        }
        for place in std::mem::take(&mut filling.last) {
            self.fill_last(now, place, &mut filling);
        }
        let entries = filling.entries;
        if entries.is_empty() {
            return None;
        }
        self.flight.close_batch();
        self.is_making = true;
        let place = (self.incarnation, self.next);
        Some(NextBatch { place, parent: self.parent, entries })
    }

    /// Bytes of entries that the next batch may have: with all that is in flight no more than the lane may waste, or
    /// cuts would leave it where it is.
    fn batch_bytes_max(&self) -> usize {
        let allowance = waste::allowance(&self.state.committed, self.me);
        let in_flight = self.flight.bytes().saturating_add(BATCH_OVERHEAD_BYTES_MAX);
        let rest = usize::try_from(allowance).unwrap_or(usize::MAX).saturating_sub(in_flight);
        rest.min(ENTRIES_BYTES_MAX)
    }

    /// Fills in the next entry of a lot that may go; its bytes. `None` if no other may.
    fn take_turn(
        &mut self,
        now: UnixMillis,
        turn: &mut LotTurn,
        filling: &mut Filling,
    ) -> Option<usize> {
        loop {
            if filling.closed.contains(&turn.lot) || filling.is_full {
                return None;
            }
            let next = self.queue.behind(&turn.lot, turn.last)?;
            let heads = self.queue.heads(&turn.lot, next.1);
            let untried = heads.filter(|place| !filling.tried.contains(place));
            let untried: Vec<Place> = untried.take(ACCOUNTS_TRIED_MAX).collect();
            turn.last = Some(next);
            let mut untried = untried.into_iter();
            if let Some(bytes) = untried.find_map(|place| self.fill(now, place, filling)) {
                return Some(bytes);
            }
        }
    }

    /// Fills in an entry, if it may go; its bytes.
    fn fill(&mut self, now: UnixMillis, place: Place, filling: &mut Filling) -> Option<usize> {
        let Some(Waiting { ticket, entry }) = self.queue.head(place) else {
            filling.tried.insert(place);
            return None;
        };
        let length = entry.entry().raw().len();
        if !filling.has_room(entry) {
            filling.is_full = true;
            return None;
        }
        let is_closed = ticket.asks.iter().any(|ask| filling.closed.contains(&ask.lot));
        let admission = self.flight.admit(&self.state, now, ticket);
        match admission {
            Admission::Now { closes } if !is_closed => {
                self.go(place, closes, filling);
                return Some(length);
            }
            // One of a lot is enough: the others keep their turns.
            Admission::Behind(lots) if !is_closed => {
                self.queue.call(place, true);
                filling.closed.extend(lots);
            }
            Admission::Last => {
                self.queue.call(place, false);
                filling.last.push(place);
            }
            Admission::Later => self.queue.call(place, false),
            Admission::Now { .. } | Admission::Behind(_) => {}
        }
        filling.tried.insert(place);
        None
    }

    /// Fills in an entry that goes behind all others, if it may.
    fn fill_last(&mut self, now: UnixMillis, place: Place, filling: &mut Filling) {
        let Some(Waiting { ticket, entry }) = self.queue.head(place) else { return };
        if filling.has_room(entry) && self.flight.admits_last(&self.state, now, ticket) {
            self.go(place, true, filling);
        }
    }

    /// Takes an entry out of the queue into the batch being filled.
    fn go(&mut self, place: Place, closes: bool, filling: &mut Filling) {
        let Waiting { ticket, entry } = self.queue.take(place, true);
        filling.bytes = filling.bytes.saturating_add(entry.entry().raw().len());
        filling.entries.push(entry.clone());
        self.flight.add(self.next, Flown { place, ticket, entry, closes });
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
    /// the lane's order. Blocks come in order, each once. What is given up of those is added to `given_up`.
    ///
    /// `Some`, once per run, if the log has decided another run of this lane than this one. That happens to a validator that lost its
    /// disk after its clock was once far ahead. The caller takes a new incarnation above, synced, and begins a run.
    #[must_use]
    pub fn settle(
        &mut self,
        state: Arc<State>,
        carried: &[Carried],
        given_up: &mut Vec<GivenUp>,
    ) -> Option<Overtaken> {
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
        let back: BTreeMap<_, _> =
            mine.iter().map(|c| ((c.batch.sequence, c.index), c.reason)).collect();
        for (at, Flown { place, mut ticket, entry, .. }) in self.flight.decide(decided.sequence) {
            let Some(reason) = back.get(&at).filter(|_| !planted(Bug::CarriedLost)) else {
                continue;
            };
            if std::mem::replace(&mut ticket.came_back, true) {
                given_up.push(GivenUp { entry, reason: *reason });
                continue;
            }
            self.flight.hold(&ticket.asks);
            if planted(Bug::CarriedBehind) {
                self.queue.push_back(ticket, entry);
                continue;
            }
            self.queue.insert(place, ticket, entry);
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
            let ticket = Ticket::of(&self.state, &carried.entry, Submitter::UNKNOWN);
            if !self.flight.contains(&ticket.raw) {
                self.queue.push_front(ticket, carried.entry.clone());
            }
        }
    }
}

/// Whether blocks that this node lacks may have taken from the buckets: its newest is old, and the peers claim more, or have
/// not said yet that they have no more.
fn is_stale(state: &State, now: UnixMillis, claimed: Height) -> bool {
    let intervals = state.committed.params.block_interval_ms.saturating_mul(2);
    let is_old = now.since(state.timestamp) > intervals.saturating_add(OLD_MS);
    is_old && claimed != state.height
}

/// The batch being filled.
#[derive(Debug, Default)]
struct Filling {
    bytes: usize,
    /// Bytes of entries that it may have.
    bytes_max: usize,
    entries: Vec<CheckedEntry>,
    is_full: bool,
    /// Lots that wait until nothing of them is in flight.
    closed: BTreeSet<Lot>,
    /// Entries that may not go into it.
    tried: BTreeSet<Place>,
    /// Those among them that may go behind all others.
    last: Vec<Place>,
}

impl Filling {
    fn has_room(&self, entry: &CheckedEntry) -> bool {
        self.bytes.saturating_add(entry.entry().raw().len()) <= self.bytes_max
            && self.entries.len() < BATCH_ENTRIES_MAX
    }
}

/// The turn of a lot, in the order in which lots are served: who has least in the batch is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LotTurn {
    bytes: usize,
    lot: Lot,
    /// The source that was tried last.
    last: Option<Turn<Source>>,
}

impl LotTurn {
    const fn first(lot: Lot) -> Self {
        Self { bytes: 0, lot, last: None }
    }
}

#[cfg(test)]
mod tests;
