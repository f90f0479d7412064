//! What the log says of a chain, as far as an audit has read it: records, limits, and where each transaction is. Pure.
//!
//! Slices are noted in order, each once; noting one again changes nothing, so a walk may go back and read again. It
//! is bounded: the oldest is forgotten first.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::B256;
use lockstep_core::record::{Limits, Record, RecordBody, Sealed};
use lockstep_core::slice::Content;
use lockstep_core::types::{Height, NetworkId, UnixMillis};
use lockstep_core::weight::Weighed;
use lockstep_core::window::{self, LogSlice, Place};

use crate::finding::{Finding, RecordId};
use crate::limits::{RECORDS_MAX, SEEN_MAX};

/// A `Sealed` record and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its log time.
    pub time: UnixMillis,
    /// What a finding says of it.
    pub id: RecordId,
    /// What it says.
    pub sealed: Sealed,
}

/// Where the log has a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its item.
    pub place: Place,
    /// Its log time.
    pub time: UnixMillis,
}

/// What the log says of one chain.
#[derive(Clone, Debug)]
pub struct Book {
    network: NetworkId,
    noted: Height,
    /// The first record of each block, by the block's hash.
    sealed: BTreeMap<B256, Recorded>,
    /// The first record of each number.
    numbers: BTreeMap<u64, Recorded>,
    /// The order in which records came.
    order: VecDeque<B256>,
    /// Records that were not compared with the chain yet.
    fresh: VecDeque<Recorded>,
    limits: VecDeque<(UnixMillis, Limits)>,
    seen: BTreeMap<B256, Seen>,
    seen_order: VecDeque<B256>,
}

impl Book {
    /// An empty book of a chain in this network.
    #[must_use]
    pub const fn new(network: NetworkId) -> Self {
        Self {
            network,
            noted: Height::GENESIS,
            sealed: BTreeMap::new(),
            numbers: BTreeMap::new(),
            order: VecDeque::new(),
            fresh: VecDeque::new(),
            limits: VecDeque::new(),
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
        }
    }

    /// Limits that were in force before the first slice.
    pub fn begin_with(&mut self, time: UnixMillis, limits: Limits) {
        self.limits.push_front((time, limits));
    }

    /// Notes a slice. Gives the equivocations that it shows.
    pub fn note(&mut self, slice: &LogSlice) -> Vec<Finding> {
        let mut found = Vec::new();
        if slice.height <= self.noted {
            return found;
        }
        self.noted = slice.height;
        for (item, weighed) in (0u32..).zip(&slice.items) {
            let place = Place { height: slice.height, item };
            match &weighed.item.content {
                Content::Transaction { .. } | Content::Leg { .. } => {
                    self.note_transactions(weighed, Seen { place, time: slice.timestamp });
                }
                Content::Record(record) => {
                    found.extend(self.note_record(record, place, slice.timestamp));
                }
            }
        }
        found
    }

    fn note_transactions(&mut self, weighed: &Weighed, seen: Seen) {
        for hash in &weighed.hashes {
            if self.seen.insert(*hash, seen).is_none() {
                self.seen_order.push_back(*hash);
            }
        }
        while self.seen_order.len() > SEEN_MAX {
            if let Some(oldest) = self.seen_order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
    }

    fn note_record(&mut self, record: &Record, place: Place, time: UnixMillis) -> Option<Finding> {
        match &record.body {
            RecordBody::Sealed(sealed) => {
                let id = RecordId {
                    recorded: place.into(),
                    block: sealed.hash,
                    parent: sealed.parent,
                    signer: record.signer(self.network).ok(),
                };
                self.note_sealed(Recorded { time, id, sealed: sealed.clone() })
            }
            RecordBody::Limits(limits) => {
                self.limits.push_back((time, *limits));
                while self.limits.len() > RECORDS_MAX {
                    self.limits.pop_front();
                }
                None
            }
            RecordBody::Prepared(_) => None,
        }
    }

    fn note_sealed(&mut self, recorded: Recorded) -> Option<Finding> {
        let (number, hash) = (recorded.sealed.number, recorded.sealed.hash);
        if self.sealed.contains_key(&hash) {
            return None;
        }
        let first = self.numbers.entry(number).or_insert_with(|| recorded.clone());
        let equivocation = (first.sealed.hash != hash).then_some(Finding::Equivocation {
            number,
            first: first.id,
            second: recorded.id,
        });
        self.sealed.insert(hash, recorded.clone());
        self.order.push_back(hash);
        self.fresh.push_back(recorded);
        while self.order.len() > RECORDS_MAX {
            if let Some(oldest) = self.order.pop_front().and_then(|hash| self.sealed.remove(&hash))
            {
                self.numbers.remove(&oldest.sealed.number);
            }
        }
        while self.fresh.len() > RECORDS_MAX {
            self.fresh.pop_front();
        }
        equivocation
    }

    /// The first record for the block with this hash.
    #[must_use]
    pub fn sealed(&self, hash: &B256) -> Option<&Recorded> {
        self.sealed.get(hash)
    }

    /// Where the log has a transaction, as far as it was read.
    #[must_use]
    pub fn seen(&self, hash: &B256) -> Option<&Seen> {
        self.seen.get(hash)
    }

    /// The limits in force for a window that ends at `end`.
    #[must_use]
    pub fn limits_at(&self, end: UnixMillis) -> Limits {
        window::limits_at(end, self.limits.iter().copied())
    }

    /// Compares the records that were not compared yet with the chain: `canonical` gives the hash of the block with a
    /// number, if it is known.
    pub fn compare(&mut self, head: u64, canonical: impl Fn(u64) -> Option<B256>) -> Vec<Finding> {
        let mut found = Vec::new();
        self.fresh.retain(|recorded| {
            let number = recorded.sealed.number;
            match canonical(number) {
                Some(canonical) if canonical != recorded.sealed.hash => {
                    found.push(Finding::NotCanonical { number, record: recorded.id, canonical });
                    false
                }
                Some(_) => false,
                None => number > head,
            }
        });
        found
    }

    /// Has the records of blocks after a number compared again: the chain went back to it.
    pub fn reopen(&mut self, number: u64) {
        self.fresh.retain(|recorded| recorded.sealed.number <= number);
        let again = self.order.iter().filter_map(|hash| self.sealed.get(hash));
        self.fresh.extend(again.filter(|recorded| recorded.sealed.number > number).cloned());
    }
}

#[cfg(test)]
mod tests;
