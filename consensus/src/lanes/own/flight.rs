//! The account of what is in batches and not decided: what it asks of each chain, and whether another entry may follow.
//!
//! The rules and their reason are in [`own`](super). This file does not know what waits.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256};
use lockstep_core::budget::{self, Amount, Demand, Usage};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::limits::BATCH_OVERHEAD_BYTES_MAX;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::state::{ChainState, State};
use lockstep_core::types::{BatchDigest, ChainId, Sequence, UnixMillis};

use super::queue::{Ask, Class, Lot, Place, Ticket};
use super::turns::Source;

/// Whether an entry may go into the batch being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may. `closes`: nothing of its threads may follow before it is decided.
    Now { closes: bool },
    /// When nothing of these lots is in flight any more.
    Behind(Vec<Lot>),
    /// Behind all others of the batch, if nothing of its lots is in flight: it is more than the lane's share.
    Last,
    /// Not by this state and time: an earlier one of a thread came back, or it asks more than a bucket holds.
    Later,
}

/// An entry in a batch.
#[derive(Clone, Debug)]
pub(super) struct Flown {
    pub(super) place: Place,
    pub(super) ticket: Ticket,
    pub(super) entry: CheckedEntry,
    pub(super) closes: bool,
}

#[derive(Debug, Default)]
struct Batch {
    digest: Option<BatchDigest>,
    entries: Vec<Flown>,
}

/// What is in flight of one lot: entries in closed batches, and in the one being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    batched: usize,
    filling: usize,
}

/// What is in flight of one account's entries in a lot.
#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    entries: usize,
    /// The most that one of them asks, of gas and of bytes.
    most: Amount,
    /// Entries that close it.
    closing: usize,
    /// An entry came back while others were in flight.
    is_held: bool,
}

/// A lot, a source, an account.
type ThreadKey = (Lot, Source, Option<Address>);

fn threads(ask: &Ask) -> impl Iterator<Item = ThreadKey> {
    ask.accounts.iter().map(|account| (ask.lot, ask.source, *account))
}

/// What a chain's bucket gives this lane.
struct Shares {
    /// For sure, by the newest state.
    sure: Usage,
    /// In the first pass of a block of now.
    now: Usage,
    /// In the second pass, if nobody else takes anything.
    level: Usage,
    /// In the first pass, when the bucket is full.
    full: Usage,
}

impl Shares {
    fn of(state: &State, chain: &ChainState, now: UnixMillis) -> Self {
        let committed = &state.committed;
        let (lanes, percent) = (committed.lanes.len(), committed.params.open_share_percent);
        let elapsed = now.since(state.timestamp);
        Self {
            sure: budget::lane_share(chain, 0, lanes, percent),
            now: budget::lane_share(chain, elapsed, lanes, percent),
            level: budget::level(chain, elapsed, percent),
            full: budget::lane_share(chain, u64::MAX, lanes, percent),
        }
    }
}

/// Whether a lot's part of the usage fits: open entries have a share of their own in that of all.
const fn fits(usage: &Usage, share: &Usage, class: Class) -> bool {
    match class {
        Class::Open => usage.is_within(share),
        Class::Regular | Class::Record => usage.all.is_within(&share.all),
    }
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    batches: BTreeMap<Sequence, Batch>,
    usages: BTreeMap<ChainId, Usage>,
    lots: BTreeMap<Lot, Count>,
    threads: BTreeMap<ThreadKey, Thread>,
    raws: BTreeSet<B256>,
    /// Of entries.
    bytes: usize,
    /// The buckets may be far from what the state says.
    pub(super) is_stale: bool,
    /// The last batch that was decided; `None` before the first.
    decided: Option<(Sequence, BatchDigest)>,
}

impl Flight {
    /// Whether these bytes are in flight.
    pub(super) fn contains(&self, raw: &B256) -> bool {
        self.raws.contains(raw)
    }

    /// Bytes of the batches, at most.
    pub(super) fn bytes(&self) -> usize {
        self.batches.len().saturating_mul(BATCH_OVERHEAD_BYTES_MAX).saturating_add(self.bytes)
    }

    /// Whether an entry may follow what is in flight, in the batch being filled.
    pub(super) fn admit(&self, state: &State, now: UnixMillis, ticket: &Ticket) -> Admission {
        if planted(Bug::LaneDoesNotWait) {
            return Admission::Now { closes: false };
        }
        if ticket.asks.iter().flat_map(threads).any(|thread| self.is_closed(&thread)) {
            return Admission::Later;
        }
        let (mut unsure, mut may_go) = (Vec::new(), true);
        for ask in &ticket.asks {
            let (chain, class) = ask.lot;
            let Some(chain) = state.committed.chain(chain).filter(|_| class != Class::Record)
            else {
                continue;
            };
            let (shares, usage) = (Shares::of(state, chain, now), self.usage(ask));
            if !self.is_stale && fits(&usage.twice(), &shares.sure, class) {
                continue;
            }
            if !can_go(&ask.demand, &shares, ticket.came_back) {
                return Admission::Later;
            }
            if !fits(&Usage::default().plus(&ask.demand), &shares.now, class) {
                return Admission::Last;
            }
            if !self.is_batched(&ask.lot) && self.asks_less(ask) {
                return Admission::Later;
            }
            may_go &= !self.is_batched(&ask.lot) && fits(&usage, &shares.now, class);
            unsure.push(ask.lot);
        }
        if may_go {
            return Admission::Now { closes: ticket.asks.len() > 1 && !unsure.is_empty() };
        }
        Admission::Behind(unsure)
    }

    /// Whether an entry that goes [last](Admission::Last) may go now, behind all others of the batch: nothing of its lots
    /// is in flight, and their buckets have that much if nobody else takes any.
    pub(super) fn admits_last(&self, state: &State, now: UnixMillis, ticket: &Ticket) -> bool {
        ticket.asks.iter().all(|ask| {
            let Some(chain) = state.committed.chain(ask.lot.0) else { return true };
            let shares = Shares::of(state, chain, now);
            !self.is_batched(&ask.lot) && fits(&self.usage(ask), &shares.level, ask.lot.1)
        })
    }

    /// Whether one of the ask's threads has an entry in flight that asks more, of gas or of bytes.
    fn asks_less(&self, ask: &Ask) -> bool {
        let mut threads = threads(ask).filter_map(|thread| self.threads.get(&thread));
        threads.any(|thread| !thread.most.is_within(&ask.demand.amount))
    }

    fn is_batched(&self, lot: &Lot) -> bool {
        self.lots.get(lot).is_some_and(|count| count.batched > 0)
    }

    fn is_closed(&self, thread: &ThreadKey) -> bool {
        self.threads.get(thread).is_some_and(|thread| thread.is_held || thread.closing > 0)
    }

    /// What is in flight of a lot.
    pub(super) fn amount(&self, (chain, class): &Lot) -> Amount {
        let usage = self.usages.get(chain).copied().unwrap_or_default();
        match class {
            Class::Open => usage.open,
            Class::Regular => usage.all.minus(usage.open),
            Class::Record => Amount::default(),
        }
    }

    /// What is in flight of the ask's chain, with it.
    fn usage(&self, ask: &Ask) -> Usage {
        self.usages.get(&ask.lot.0).copied().unwrap_or_default().plus(&ask.demand)
    }

    /// Puts an admitted entry into the batch being filled.
    pub(super) fn add(&mut self, sequence: Sequence, flown: Flown) {
        for ask in &flown.ticket.asks {
            let usage = self.usages.entry(ask.lot.0).or_default();
            *usage = usage.plus(&ask.demand);
            let count = self.lots.entry(ask.lot).or_default();
            count.filling = count.filling.saturating_add(1);
            for thread in threads(ask) {
                let thread = self.threads.entry(thread).or_default();
                thread.entries = thread.entries.saturating_add(1);
                thread.most = thread.most.max(ask.demand.amount);
                thread.closing = thread.closing.saturating_add(usize::from(flown.closes));
            }
        }
        self.raws.insert(flown.ticket.raw);
        self.bytes = self.bytes.saturating_add(flown.entry.entry().raw().len());
        self.batches.entry(sequence).or_default().entries.push(flown);
    }

    /// The batch being filled is full, or nothing else may go.
    pub(super) fn close_batch(&mut self) {
        for count in self.lots.values_mut() {
            count.batched = count.batched.saturating_add(std::mem::take(&mut count.filling));
        }
    }

    /// A closed batch is signed.
    pub(super) fn sign(&mut self, sequence: Sequence, digest: BatchDigest) {
        let batch = self.batches.get_mut(&sequence).expect("it was closed and is not decided");
        batch.digest = Some(digest);
    }

    /// Whether this run has a batch with this digest at this place, in flight or the last that was decided.
    pub(super) fn is_signed(&self, sequence: Sequence, digest: BatchDigest) -> bool {
        let in_flight = self.batches.get(&sequence).and_then(|batch| batch.digest);
        in_flight == Some(digest) || self.decided == Some((sequence, digest))
    }

    /// Lets all batches up to this one go: their entries in order, each with its place.
    pub(super) fn decide(&mut self, last: Sequence) -> Vec<((Sequence, u32), Flown)> {
        let mut decided = Vec::new();
        while let Some(batch) = self.batches.first_entry().filter(|batch| *batch.key() <= last) {
            let (sequence, Batch { digest, entries }) = batch.remove_entry();
            self.decided = digest.map(|digest| (sequence, digest));
            let places = (0u32..).map(|index| (sequence, index));
            decided.extend(places.zip(entries));
        }
        decided.iter().for_each(|(_, flown)| self.release(flown));
        decided
    }

    /// Lets a batch go that was never signed.
    pub(super) fn abandon(&mut self, sequence: Sequence) {
        let batch = self.batches.remove(&sequence).unwrap_or_default();
        batch.entries.iter().for_each(|flown| self.release(flown));
    }

    fn release(&mut self, flown: &Flown) {
        self.raws.remove(&flown.ticket.raw);
        self.bytes = self.bytes.saturating_sub(flown.entry.entry().raw().len());
        for ask in &flown.ticket.asks {
            let usage = self.usages.get_mut(&ask.lot.0).expect("what is in flight is counted");
            *usage = usage.minus(&ask.demand);
            let count = self.lots.get_mut(&ask.lot).expect("what is in flight is counted");
            count.batched = count.batched.saturating_sub(1);
            if count.batched == 0 {
                self.lots.remove(&ask.lot);
            }
            for key in threads(ask) {
                let thread = self.threads.get_mut(&key).expect("what is in flight is counted");
                thread.entries = thread.entries.saturating_sub(1);
                thread.closing = thread.closing.saturating_sub(usize::from(flown.closes));
                if thread.entries == 0 {
                    self.threads.remove(&key);
                }
            }
        }
    }

    /// Holds what has entries in flight of an entry's threads: it came back.
    pub(super) fn hold(&mut self, asks: &[Ask]) {
        for thread in asks.iter().flat_map(threads) {
            if let Some(thread) = self.threads.get_mut(&thread) {
                thread.is_held = true;
            }
        }
    }
}

/// Whether a bucket has that much by now. One that came back is not tried again before the first pass has room for it, if
/// it ever has: the log carries it once more at most for nothing.
fn can_go(demand: &Demand, shares: &Shares, came_back: bool) -> bool {
    let alone = Usage::default().plus(demand);
    let has_room_ever = alone.is_within(&shares.full);
    alone.is_within(if came_back && has_room_ever { &shares.now } else { &shares.level })
}
