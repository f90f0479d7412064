//! The entries that wait for a batch: one queue per chain, a bundle in the queue of each of its chains.
//!
//! Each entry has a place in one order of all entries. It is a *head* if it is the first in each of its chains' queues;
//! records are in no queue, and the first of them is a head. The cost of a batch is that of the heads looked at, not of
//! all that wait.
//!
//! Copies of one entry that the same gateway admitted, or none, differ in their expiry only: the one that lives longest
//! waits, at the earliest of their places. This file does not know budgets or batches.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, keccak256};
use lockstep_core::entry::{Body, CheckedEntry};
use lockstep_core::types::{ChainId, EntryId, UnixMillis};

/// Place in the order of submission: lower is earlier. Unique within a lane.
pub(super) type Place = i64;

/// What the lane keeps of an entry beside the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// keccak256 of the entry's bytes.
    pub(super) raw: B256,
    /// What copies share that differ in their expiry alone: the entry, and who admitted it.
    copies: (EntryId, Option<Address>),
    /// Its chains, in ascending order; none for a record, which does not wait.
    pub(super) chains: BTreeSet<ChainId>,
}

impl Ticket {
    pub(super) fn of(entry: &CheckedEntry) -> Self {
        let chains = match entry.entry().body() {
            Body::Transaction(transaction) => BTreeSet::from([transaction.chain]),
            Body::Bundle(bundle) => bundle.legs().iter().map(|leg| leg.chain).collect(),
            Body::Record(_) => BTreeSet::new(),
        };
        let copies = (entry.entry().id(), entry.gateway());
        Self { raw: keccak256(entry.entry().raw()), copies, chains }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Place, (Ticket, CheckedEntry)>,
    chains: BTreeMap<ChainId, BTreeSet<Place>>,
    records: BTreeSet<Place>,
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

    /// Puts an entry at a place of its own. If another copy of it waits, one of them is left.
    pub(super) fn insert(&mut self, place: Place, ticket: Ticket, entry: CheckedEntry) {
        let Some(there) = self.copies.get(&ticket.copies).copied() else {
            return self.put(place, ticket, entry);
        };
        let (other, waiting) = self.take(there);
        let place = place.min(there);
        if waiting.entry().expires() >= entry.entry().expires() {
            self.put(place, other, waiting);
        } else {
            self.put(place, ticket, entry);
        }
    }

    fn put(&mut self, place: Place, ticket: Ticket, entry: CheckedEntry) {
        self.copies.insert(ticket.copies, place);
        for chain in &ticket.chains {
            self.chains.entry(*chain).or_default().insert(place);
        }
        if ticket.chains.is_empty() {
            self.records.insert(place);
        }
        self.bytes = self.bytes.saturating_add(entry.entry().raw().len());
        self.by_expiry.insert((entry.entry().expires(), place));
        self.entries.insert(place, (ticket, entry));
    }

    /// The heads, at most one per chain and one record.
    pub(super) fn heads(&self) -> BTreeSet<Place> {
        let firsts = self.chains.values().filter_map(BTreeSet::first).copied();
        let heads = firsts.filter(|place| self.is_head(*place));
        heads.chain(self.records.first().copied()).collect()
    }

    /// The heads that a taken entry made.
    pub(super) fn heads_of(&self, taken: &Ticket) -> BTreeSet<Place> {
        let first = |chain| self.chains.get(chain).and_then(BTreeSet::first).copied();
        let firsts = taken.chains.iter().filter_map(first).filter(|place| self.is_head(*place));
        let record = self.records.first().copied().filter(|_| taken.chains.is_empty());
        firsts.chain(record).collect()
    }

    fn is_head(&self, place: Place) -> bool {
        let is_first = |chain| {
            self.chains.get(chain).and_then(BTreeSet::first).is_some_and(|first| *first == place)
        };
        self.entries.get(&place).is_some_and(|(ticket, _)| ticket.chains.iter().all(is_first))
    }

    /// The entry at a head.
    pub(super) fn get(&self, head: Place) -> &CheckedEntry {
        let (_, entry) = self.entries.get(&head).expect("a head is an entry that waits");
        entry
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, place: Place) -> (Ticket, CheckedEntry) {
        let (ticket, entry) = self.entries.remove(&place).expect("the caller found it here");
        for chain in &ticket.chains {
            let places = self.chains.get_mut(chain).expect("an entry is in its chains' queues");
            places.remove(&place);
            if places.is_empty() {
                self.chains.remove(chain);
            }
        }
        self.records.remove(&place);
        self.copies.remove(&ticket.copies);
        self.bytes = self.bytes.saturating_sub(entry.entry().raw().len());
        self.by_expiry.remove(&(entry.entry().expires(), place));
        (ticket, entry)
    }

    /// Gives up what expired by `now`.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        while let Some(&(expires, place)) = self.by_expiry.first()
            && expires <= now
        {
            drop(self.take(place));
        }
    }
}
