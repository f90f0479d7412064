//! What a chain's records in the log say: who sealed which block how, and which limits are in force. Pure.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_core::record::{Limits, RecordBody, Sealed};
use lockstep_core::slice::Content;
use lockstep_core::types::{Height, UnixMillis};
use lockstep_core::window;

use super::{LogBlock, Recorded};
use crate::limits::LEDGER_BLOCKS_MAX;

/// The records of one chain, as far as they were seen. Bounded.
#[derive(Clone, Debug, Default)]
pub struct RecordBook {
    /// By the block's hash: the first record for it. Later ones are not for blocks.
    sealed: BTreeMap<B256, (UnixMillis, Sealed)>,
    /// The order in which they came, to forget the oldest.
    order: std::collections::VecDeque<B256>,
    /// By log time, with the height.
    limits: BTreeMap<UnixMillis, (Height, Limits)>,
    /// The height from which on all limits are noted, and those in force there; `None` while no height is.
    limits_from: Option<Height>,
}

impl RecordBook {
    /// Notes the records of a block. Doing it twice changes nothing, if heights are noted in order.
    pub fn note(&mut self, block: &LogBlock) {
        let (height, time) = (block.slice.height, block.slice.timestamp);
        for weighed in &block.slice.items {
            let Content::Record(record) = &weighed.item.content else { continue };
            match &record.body {
                RecordBody::Sealed(sealed) => self.note_sealed(time, sealed),
                RecordBody::Limits(limits) => {
                    self.limits.insert(time, (height, *limits));
                    self.forget_limits();
                }
                RecordBody::Prepared(_) => {}
            }
        }
    }

    /// Notes `Sealed` records that were found elsewhere, in log order.
    pub fn note_records<'a>(&mut self, records: impl IntoIterator<Item = &'a Recorded>) {
        for (header, record) in records {
            if let RecordBody::Sealed(sealed) = &record.body {
                self.note_sealed(header.timestamp_ms, sealed);
            }
        }
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
    pub fn note_limits(&mut self, height: Height, newest_first: &[Recorded], is_whole: bool) {
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
        while self.limits.len() > LEDGER_BLOCKS_MAX {
            self.limits.pop_first();
            let oldest = self.limits.first_key_value().map(|(_, (height, _))| *height);
            self.limits_from = self.limits_from.max(oldest);
        }
    }

    fn note_sealed(&mut self, time: UnixMillis, sealed: &Sealed) {
        if self.sealed.contains_key(&sealed.hash) {
            return;
        }
        self.sealed.insert(sealed.hash, (time, sealed.clone()));
        self.order.push_back(sealed.hash);
        while self.order.len() > LEDGER_BLOCKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.sealed.remove(&oldest);
            }
        }
    }

    /// The first record for the block with this hash, and its log time.
    #[must_use]
    pub fn sealed(&self, hash: &B256) -> Option<&(UnixMillis, Sealed)> {
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

#[cfg(test)]
mod tests;
