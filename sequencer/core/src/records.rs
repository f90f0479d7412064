//! What a chain's records in the log say, as far as they were read: how blocks were sealed, and which limits are in force. Pure.
//!
//! Of several records of one block the first counts, so log blocks are noted in order. Who begins in the middle of the log
//! adds records that were found elsewhere; of those it is not known that nothing came before them, so a block of which two
//! contradict each other is left out.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;

use crate::cursor::is_timely;
use crate::header::Header;
use crate::limits::READER_BLOCKS_MAX;
use crate::recent::Recent;
use crate::record::{Limits, Record, RecordBody, SealMode, Sealed};
use crate::slice::Content;
use crate::types::{Height, UnixMillis};
use crate::window::{self, Begin, LogSlice, Place};

/// The first `Sealed` record of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its log time.
    pub time: UnixMillis,
    /// What it says.
    pub sealed: Sealed,
}

impl Recorded {
    /// Where the offers of the block's children begin, if the record alone tells: that of a closed block may have come too
    /// late to count. `end` is the end of the block's window.
    #[must_use]
    pub fn begin(&self, end: UnixMillis) -> Option<Begin> {
        let is_sure = self.sealed.mode == SealMode::Offered || is_timely(self.time, end);
        is_sure.then(|| self.sealed.begin())
    }
}

/// A `Sealed` record of a block of which none was known before.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// Where it is in the log.
    pub place: Place,
    /// The record.
    pub record: &'a Record,
    /// What it says.
    pub sealed: &'a Sealed,
}

/// The records of one chain, as far as they were read. Bounded; the oldest are forgotten first.
#[derive(Clone, Debug)]
pub struct RecordBook {
    /// By the block's hash.
    sealed: Recent<B256, Recorded>,
    /// By log time, with the height.
    limits: BTreeMap<UnixMillis, (Height, Limits)>,
    /// The height from which on all limits are noted, and those in force there; `None` while no height is.
    limits_from: Option<Height>,
}

impl Default for RecordBook {
    fn default() -> Self {
        let sealed = Recent::new(READER_BLOCKS_MAX);
        Self { sealed, limits: BTreeMap::new(), limits_from: None }
    }
}

impl RecordBook {
    /// Notes the records of a log block. Doing it twice changes nothing, if heights are noted in order. Gives the `Sealed`
    /// records that count from now on.
    pub fn note<'a>(&mut self, slice: &'a LogSlice) -> Vec<First<'a>> {
        let mut firsts = Vec::new();
        for (item, weighed) in (0u32..).zip(&slice.items) {
            let Content::Record(record) = &weighed.item.content else { continue };
            match &record.body {
                RecordBody::Sealed(sealed) => {
                    if self.note_sealed(slice.timestamp, sealed) {
                        let place = Place { height: slice.height, item };
                        firsts.push(First { place, record, sealed });
                    }
                }
                RecordBody::Limits(limits) => {
                    self.limits.insert(slice.timestamp, (slice.height, *limits));
                    self.forget_limits();
                }
                RecordBody::Prepared(_) => {}
            }
        }
        firsts
    }

    /// Notes `Sealed` records that were found elsewhere, in log order.
    pub fn note_found(&mut self, records: &[(Header, Record)]) {
        let found: Vec<(UnixMillis, &Sealed)> = records
            .iter()
            .filter_map(|(header, record)| Some((header.timestamp_ms, sealed(record)?)))
            .collect();
        let disputed = disputed(found.iter().map(|(_, sealed)| *sealed));
        for (time, sealed) in found {
            if !disputed.contains(&sealed.hash) {
                self.note_sealed(time, sealed);
            }
        }
    }

    /// Whether it is the first one of its block.
    fn note_sealed(&mut self, time: UnixMillis, sealed: &Sealed) -> bool {
        let is_first = !self.sealed.contains(&sealed.hash);
        if is_first {
            self.sealed.insert(sealed.hash, Recorded { time, sealed: sealed.clone() });
        }
        is_first
    }

    /// Heights whose limits are to be noted before a walk may begin at `height`: those below the result. `None` if all are
    /// noted.
    #[must_use]
    pub fn limits_missing(&self, height: Height) -> Option<Option<Height>> {
        match self.limits_from {
            Some(from) if from <= height => None,
            from => Some(from),
        }
    }

    /// Notes the newest of the limits below what [`limits_missing`](Self::limits_missing) named, newest first. All from
    /// `height` on are noted then, and those in force there, if the list goes back to below `height` or is whole.
    pub fn note_limits(
        &mut self,
        height: Height,
        newest_first: &[(Header, Record)],
        is_whole: bool,
    ) {
        let mut is_reached = is_whole;
        for (header, record) in newest_first {
            let RecordBody::Limits(limits) = &record.body else { continue };
            // Of several in one log block, the last counts, and comes first here.
            self.limits.entry(header.timestamp_ms).or_insert((header.height, *limits));
            is_reached |= header.height < height;
        }
        if is_reached {
            self.limits_from = Some(height);
        } else if let Some((header, _)) = newest_first.last() {
            self.limits_from = Some(header.height);
        }
        self.forget_limits();
    }

    fn forget_limits(&mut self) {
        while self.limits.len() > READER_BLOCKS_MAX {
            self.limits.pop_first();
            let oldest = self.limits.first_key_value().map(|(_, (height, _))| *height);
            self.limits_from = self.limits_from.max(oldest);
        }
    }

    /// The first record of the block with this hash.
    #[must_use]
    pub fn sealed(&self, hash: &B256) -> Option<&Recorded> {
        self.sealed.get(hash)
    }

    /// The limits that were recorded last.
    #[must_use]
    pub fn newest_limits(&self) -> Limits {
        self.limits.last_key_value().map(|(_, (_, limits))| *limits).unwrap_or_default()
    }

    /// The limits in force for a window that ends at `end`: those of the last record that is not after it. They are known of
    /// blocks whose parents' cursors [`limits_missing`](Self::limits_missing) misses nothing of.
    #[must_use]
    pub fn limits_at(&self, end: UnixMillis) -> Limits {
        window::limits_at(end, self.limits.iter().map(|(time, (_, limits))| (*time, *limits)))
    }
}

/// What a record says of a block, if it does.
#[must_use]
pub const fn sealed(record: &Record) -> Option<&Sealed> {
    match &record.body {
        RecordBody::Sealed(sealed) => Some(sealed),
        RecordBody::Limits(_) | RecordBody::Prepared(_) => None,
    }
}

/// The blocks of which records contradict each other.
#[must_use]
pub fn disputed<'a>(records: impl IntoIterator<Item = &'a Sealed>) -> BTreeSet<B256> {
    let mut first: BTreeMap<B256, &Sealed> = BTreeMap::new();
    let mut disputed = BTreeSet::new();
    for sealed in records {
        let before = first.entry(sealed.hash).or_insert(sealed);
        if (before.mode, before.cursor) != (sealed.mode, sealed.cursor) {
            disputed.insert(sealed.hash);
        }
    }
    disputed
}

/// The records with which a walk to a block after number `last` may begin, of those that were found, in their order: each
/// tells the cursor of its block, if the block is on the chain.
///
/// A record that says closed may have come too late to count. Of records that contradict each other it is not known which
/// came first.
pub fn begins(records: &[(Header, Record)], last: u64) -> impl Iterator<Item = &Sealed> {
    let records = records.iter().filter_map(|(_, record)| sealed(record));
    let disputed = disputed(records.clone());
    records.filter(move |sealed| {
        sealed.number <= last
            && sealed.mode == SealMode::Offered
            && !disputed.contains(&sealed.hash)
    })
}

#[cfg(test)]
mod tests;
