//! What the log says of a chain, as far as an audit has read it. Pure.
//!
//! The records themselves, and which of them count, are core's [`RecordBook`]. What an audit alone asks is here: where each
//! record stands and who signed it, which blocks share a number, which records were not compared with the chain yet, and
//! where each transaction is.
//!
//! Slices are noted in order, each once; noting one again changes nothing, so a walk may go back and read again. It
//! is bounded: the oldest is forgotten first.

use alloy_primitives::B256;
use lockstep_core::header::Header;
use lockstep_core::recent::Recent;
use lockstep_core::record::{Record, Sealed};
use lockstep_core::records::{First, RecordBook};
use lockstep_core::types::{Height, NetworkId, UnixMillis};
use lockstep_core::window::{LogSlice, Place};

use crate::finding::{Finding, RecordId};
use crate::limits::{RECORDS_MAX, SEEN_MAX};

/// The first `Sealed` record of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// What a finding says of it.
    pub id: RecordId,
    /// What it says.
    pub sealed: &'a Sealed,
}

/// Where the log has a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its item.
    pub place: Place,
    /// Its log time.
    pub time: UnixMillis,
}

/// A block's number and its first record.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    number: u64,
    id: RecordId,
}

/// What the log says of one chain.
#[derive(Clone, Debug)]
pub struct Book {
    network: NetworkId,
    noted: Height,
    records: RecordBook,
    /// The first record of each block, by the block's hash.
    firsts: Recent<B256, Numbered>,
    /// The first record of each number.
    numbers: Recent<u64, RecordId>,
    /// First records, by their blocks' hashes, that were not compared with the chain yet.
    fresh: Recent<B256, Numbered>,
    seen: Recent<B256, Seen>,
}

impl Book {
    /// An empty book of a chain in this network.
    #[must_use]
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            noted: Height::GENESIS,
            records: RecordBook::default(),
            firsts: Recent::new(RECORDS_MAX),
            numbers: Recent::new(RECORDS_MAX),
            fresh: Recent::new(RECORDS_MAX),
            seen: Recent::new(SEEN_MAX),
        }
    }

    /// Begins at a height, below which these are the newest limits, newest first, as far as they are known.
    pub fn begin_with(&mut self, height: Height, limits: &[(Header, Record)]) {
        self.records.note_limits(height, limits, true);
    }

    /// The records, as core reads them.
    #[must_use]
    pub const fn records(&self) -> &RecordBook {
        &self.records
    }

    /// Notes a slice. Gives the equivocations that it shows.
    pub fn note(&mut self, slice: &LogSlice) -> Vec<Finding> {
        if slice.height <= self.noted {
            return Vec::new();
        }
        self.noted = slice.height;
        for (item, weighed) in (0u32..).zip(&slice.items) {
            let place = Place { height: slice.height, item };
            for hash in &weighed.hashes {
                self.seen.insert(*hash, Seen { place, time: slice.timestamp });
            }
        }
        let firsts = self.records.note(slice);
        firsts.into_iter().filter_map(|first| self.note_first(first)).collect()
    }

    fn note_first(&mut self, First { place, record, sealed }: First<'_>) -> Option<Finding> {
        let (number, hash) = (sealed.number, sealed.hash);
        let signer = record.signer(self.network).ok();
        let id = RecordId { recorded: place.into(), block: hash, parent: sealed.parent, signer };
        self.firsts.insert(hash, Numbered { number, id });
        self.fresh.insert(hash, Numbered { number, id });
        let Some(&first) = self.numbers.get(&number) else {
            self.numbers.insert(number, id);
            return None;
        };
        (first.block != hash).then_some(Finding::Equivocation { number, first, second: id })
    }

    /// The first record for the block with this hash.
    #[must_use]
    pub fn sealed(&self, hash: &B256) -> Option<Recorded<'_>> {
        let Numbered { id, .. } = *self.firsts.get(hash)?;
        Some(Recorded { id, sealed: &self.records.sealed(hash)?.sealed })
    }

    /// Where the log has a transaction, as far as it was read.
    #[must_use]
    pub fn seen(&self, hash: &B256) -> Option<&Seen> {
        self.seen.get(hash)
    }

    /// Compares the records that were not compared yet with the chain: `canonical` gives the hash of the block with a
    /// number, if it is known.
    pub fn compare(&mut self, head: u64, canonical: impl Fn(u64) -> Option<B256>) -> Vec<Finding> {
        let differs = |(hash, Numbered { number, id }): (&B256, &Numbered)| {
            let canonical = canonical(*number).filter(|canonical| canonical != hash)?;
            Some(Finding::NotCanonical { number: *number, record: *id, canonical })
        };
        let found = self.fresh.iter().filter_map(differs).collect();
        self.fresh.retain(|_, fresh| canonical(fresh.number).is_none() && fresh.number > head);
        found
    }

    /// Has the records of blocks after a number compared again: the chain went back to it.
    pub fn reopen(&mut self, number: u64) {
        self.fresh.retain(|_, fresh| fresh.number <= number);
        for (hash, first) in self.firsts.iter().filter(|(_, first)| first.number > number) {
            self.fresh.insert(*hash, *first);
        }
    }
}

#[cfg(test)]
mod tests;
