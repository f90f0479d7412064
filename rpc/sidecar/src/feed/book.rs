//! What a chain's records in the log say: who sealed which block how, and which limits are in force. Pure.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_core::record::{Limits, Record, RecordBody, Sealed};
use lockstep_core::slice::Content;
use lockstep_core::types::UnixMillis;
use lockstep_core::window;

use super::LogBlock;
use crate::limits::LEDGER_BLOCKS_MAX;

/// The records of one chain, as far as they were seen. Bounded.
#[derive(Clone, Debug, Default)]
pub struct RecordBook {
    /// By the block's hash: the first record for it. Later ones are not for blocks.
    sealed: BTreeMap<B256, (UnixMillis, Sealed)>,
    /// The order in which they came, to forget the oldest.
    order: std::collections::VecDeque<B256>,
    /// By log time.
    limits: BTreeMap<UnixMillis, Limits>,
}

impl RecordBook {
    /// Notes the records of a block. Doing it twice changes nothing, if heights are noted in order.
    pub fn note(&mut self, block: &LogBlock) {
        for weighed in &block.slice.items {
            if let Content::Record(record) = &weighed.item.content {
                self.note_record(block.slice.timestamp, record);
            }
        }
    }

    /// Notes a record of this log time.
    pub fn note_record(&mut self, time: UnixMillis, record: &Record) {
        match &record.body {
            RecordBody::Sealed(sealed) => self.note_sealed(time, sealed),
            RecordBody::Limits(limits) => {
                self.limits.insert(time, *limits);
                while self.limits.len() > LEDGER_BLOCKS_MAX {
                    self.limits.pop_first();
                }
            }
            RecordBody::Prepared(_) => {}
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

    /// The limits in force for a window that ends at `end`: those of the last record that is not after it.
    #[must_use]
    pub fn limits_at(&self, end: UnixMillis) -> Limits {
        window::limits_at(end, self.limits.iter().map(|(time, limits)| (*time, *limits)))
    }
}
