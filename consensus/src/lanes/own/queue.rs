//! The entries that wait for a batch, by lot: what they ask of one chain's budget, as open entries, as others, or nothing.
//!
//! Each entry has a place in one order of all entries, and stands in the lot of each of its chains. It is a *head* if it is
//! the first of its threads in all of them (see [`turns`](super::turns)). The entry with the lowest place is a head, so
//! there is always one. Records ask for nothing and have lots of their own.
//!
//! Copies of one entry that the same gateway admitted, or none, differ in their expiry only: the one that lives longest
//! waits, at the earliest of their places, for whom the first was. This file does not know how full a bucket is, or
//! batches.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use lockstep_core::admission::{self, Needs};
use lockstep_core::budget::{Amount, Demand};
use lockstep_core::entry::{Body, CheckedEntry, Entry};
use lockstep_core::state::{ChainState, State};
use lockstep_core::types::{ChainId, EntryId, UnixMillis};

use super::turns::{Load, Source, Turns};
use crate::fair::Turn;
use crate::ingress::Submitter;

/// Place in the order of submission: lower is earlier. Unique within a lane.
pub(super) type Place = i64;

/// What waits for the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A place among the chain's records, whoever signed it.
    Record,
    /// The chain's budget.
    Regular,
    /// The open share of a chain that has gateways.
    Open,
}

impl Class {
    const fn of(demand: &Demand) -> Self {
        if demand.is_open { Self::Open } else { Self::Regular }
    }
}

/// A chain and a class: entries that wait for the same.
pub(super) type Lot = (ChainId, Class);

/// What an entry is in one lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) lot: Lot,
    pub(super) source: Source,
    /// Whose transactions it has for the chain, in ascending order, each once.
    pub(super) accounts: Vec<Option<Address>>,
    pub(super) demand: Demand,
    /// How long the chain's budget takes to give that, in microseconds.
    cost: u64,
}

impl Ask {
    pub(super) const fn load(&self, length: usize) -> Load {
        Load { amount: self.demand.amount, entries: 1, bytes: length }
    }
}

/// What the lane keeps of an entry beside the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// keccak256 of the entry's bytes.
    pub(super) raw: B256,
    /// What copies share that differ in their expiry alone: the entry, and who admitted it.
    copies: (EntryId, Option<Address>),
    /// At most one per chain.
    pub(super) asks: Vec<Ask>,
    /// A block had no room for it once.
    pub(super) came_back: bool,
}

impl Ticket {
    pub(super) fn of(state: &State, entry: &CheckedEntry, from: Submitter) -> Self {
        let copies = (entry.entry().id(), entry.gateway());
        let asks = asks(state, entry, from);
        Self { raw: keccak256(entry.entry().raw()), copies, asks, came_back: false }
    }
}

/// Assembly leaves out an entry of an unknown chain, so it asks for nothing, like a record.
fn asks(state: &State, entry: &CheckedEntry, from: Submitter) -> Vec<Ask> {
    let needs = match admission::needs_of(&state.committed, entry) {
        Ok(Needs::Budget(needs)) => needs,
        Ok(Needs::Record(_)) | Err(_) => return vec![free(entry, from)],
    };
    let ask = |need: admission::Need| {
        let chain = state.committed.chain(need.chain).expect("what has a need is registered");
        let gateway = entry.gateway().filter(|gateway| chain.params.gateways.contains(gateway));
        let own = entry.transactions().iter().filter(|t| t.chain == need.chain);
        let accounts: BTreeSet<_> = own.map(|transaction| transaction.sender).collect();
        Ask {
            lot: (need.chain, Class::of(&need.demand)),
            source: gateway.map_or(Source::Client(from), Source::Gateway),
            accounts: accounts.into_iter().collect(),
            demand: need.demand,
            cost: cost(chain, &need.demand),
        }
    };
    needs.into_iter().map(ask).collect()
}

/// What an entry asks for at least, as far as its bytes show before signatures are checked. A gateway's may be false.
pub(super) fn asks_at_least(state: &State, entry: &Entry, from: Submitter) -> Vec<Ask> {
    let bytes = |transactions: &[Bytes]| transactions.iter().map(|bytes| bytes.len() as u64).sum();
    let amounts: Vec<(ChainId, u64)> = match entry.body() {
        _ if entry.gateway_signature().is_some() => Vec::new(),
        Body::Transaction(transaction) => vec![(transaction.chain, transaction.bytes.len() as u64)],
        Body::Bundle(bundle) => {
            bundle.legs().iter().map(|leg| (leg.chain, bytes(&leg.transactions))).collect()
        }
        Body::Record(_) => Vec::new(),
    };
    let ask = |(id, bytes)| {
        let chain = state.committed.chain(id)?;
        let is_open = !chain.params.gateways.is_empty();
        let demand = Demand { amount: Amount { gas: 0, bytes }, is_open };
        let (lot, cost) = ((id, Class::of(&demand)), cost(chain, &demand));
        Some(Ask { lot, source: Source::Client(from), accounts: Vec::new(), demand, cost })
    };
    amounts.into_iter().filter_map(ask).collect()
}

fn free(entry: &CheckedEntry, from: Submitter) -> Ask {
    let chain = match entry.entry().body() {
        Body::Transaction(transaction) => transaction.chain,
        Body::Bundle(bundle) => bundle.legs().first().expect("a bundle has two legs").chain,
        Body::Record(record) => record.chain,
    };
    let demand = Demand { amount: Amount::default(), is_open: false };
    let lot = (chain, Class::Record);
    Ask { lot, source: Source::Client(from), accounts: vec![None], demand, cost: 1 }
}

fn cost(chain: &ChainState, demand: &Demand) -> u64 {
    let micros = |amount: u64, rate: u64| {
        let micros = u128::from(amount).saturating_mul(1_000_000).checked_div(rate.into());
        u64::try_from(micros.unwrap_or_default()).unwrap_or(u64::MAX)
    };
    let (gas, bytes) = (chain.params.gas_per_second, chain.params.bytes_per_second);
    micros(demand.amount.gas, gas).max(micros(demand.amount.bytes, bytes)).max(1)
}

/// One entry that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) entry: CheckedEntry,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Place, Waiting>,
    lots: BTreeMap<Lot, Turns>,
    /// Entries whose turn came, and which wait until their lots have nothing in flight.
    called: BTreeSet<Place>,
    copies: BTreeMap<(EntryId, Option<Address>), Place>,
    by_expiry: BTreeSet<(UnixMillis, Place)>,
    bytes: usize,
    /// The next place behind all that were given, and the last one in front.
    back: Place,
    front: Place,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits in a lot, and what of it is this source's.
    pub(super) fn load(&self, lot: &Lot, source: &Source) -> (Load, Load) {
        self.lots.get(lot).map(|turns| turns.load(source)).unwrap_or_default()
    }

    /// Puts an entry behind all others.
    pub(super) fn push_back(&mut self, ticket: Ticket, entry: CheckedEntry) {
        let place = self.back;
        self.back = self.back.saturating_add(1);
        self.insert(place, ticket, entry);
    }

    /// Puts an entry in front of all others.
    pub(super) fn push_front(&mut self, ticket: Ticket, entry: CheckedEntry) {
        self.front = self.front.saturating_sub(1);
        self.insert(self.front, ticket, entry);
    }

    /// Puts an entry at a place of its own. If another copy of it waits, one of them is left, for whom the earlier was.
    pub(super) fn insert(&mut self, place: Place, ticket: Ticket, entry: CheckedEntry) {
        let Some(there) = self.copies.get(&ticket.copies).copied() else {
            return self.put(place, ticket, entry);
        };
        let Waiting { ticket: other, entry: waiting } = self.take(there, false);
        let asks = if there <= place { other.asks } else { ticket.asks };
        let came_back = other.came_back || ticket.came_back;
        let is_longer = waiting.entry().expires() < entry.entry().expires();
        let (raw, entry) = if is_longer { (ticket.raw, entry) } else { (other.raw, waiting) };
        let ticket = Ticket { raw, copies: ticket.copies, asks, came_back };
        self.put(place.min(there), ticket, entry);
    }

    fn put(&mut self, place: Place, ticket: Ticket, entry: CheckedEntry) {
        self.copies.insert(ticket.copies, place);
        let length = entry.entry().raw().len();
        for ask in &ticket.asks {
            let turns = self.lots.entry(ask.lot).or_default();
            turns.insert(place, ask.source, &ask.accounts, ask.load(length));
        }
        self.bytes = self.bytes.saturating_add(length);
        self.by_expiry.insert((entry.entry().expires(), place));
        self.entries.insert(place, Waiting { ticket, entry });
    }

    /// The lots in which something waits.
    pub(super) fn lots(&self) -> impl Iterator<Item = Lot> {
        self.lots.keys().copied()
    }

    /// The entries whose turn came before, by place.
    pub(super) fn called(&self) -> Vec<Place> {
        self.called.iter().copied().collect()
    }

    /// An entry's turn came and it waits for its lots, or it does so no more.
    pub(super) fn call(&mut self, place: Place, is_called: bool) {
        match is_called {
            true => self.called.insert(place),
            false => self.called.remove(&place),
        };
    }

    /// The source of a lot whose turn is next behind `last`, with its place in the order.
    pub(super) fn behind(&self, lot: &Lot, last: Option<Turn<Source>>) -> Option<Turn<Source>> {
        self.lots.get(lot)?.behind(last)
    }

    /// The first entries of a source's threads in a lot, by place.
    pub(super) fn heads(&self, lot: &Lot, source: Source) -> impl Iterator<Item = Place> {
        self.lots.get(lot).into_iter().flat_map(move |turns| turns.heads(source))
    }

    /// Whether an entry waits and is the first of all of its threads.
    pub(super) fn head(&self, place: Place) -> Option<&Waiting> {
        let waiting = self.entries.get(&place)?;
        let is_first = |ask: &Ask| {
            let turns = self.lots.get(&ask.lot).expect("an entry is in its lots");
            turns.is_head(place, &ask.source, &ask.accounts)
        };
        waiting.ticket.asks.iter().all(is_first).then_some(waiting)
    }

    /// Takes an entry out; `is_served`: for a batch.
    pub(super) fn take(&mut self, place: Place, is_served: bool) -> Waiting {
        let waiting = self.entries.remove(&place).expect("the caller found it here");
        let Waiting { ticket, entry } = &waiting;
        let length = entry.entry().raw().len();
        for ask in &ticket.asks {
            let turns = self.lots.get_mut(&ask.lot).expect("an entry is in its lots");
            if is_served {
                turns.serve(ask.source, ask.cost);
            }
            turns.remove(place, ask.source, &ask.accounts, ask.load(length));
            if turns.is_empty() {
                self.lots.remove(&ask.lot);
            }
        }
        self.called.remove(&place);
        self.copies.remove(&ticket.copies);
        self.bytes = self.bytes.saturating_sub(length);
        self.by_expiry.remove(&(entry.entry().expires(), place));
        waiting
    }

    /// Gives up what expired by `now`.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        while let Some(&(expires, place)) = self.by_expiry.first()
            && expires <= now
        {
            drop(self.take(place, false));
        }
    }
}
