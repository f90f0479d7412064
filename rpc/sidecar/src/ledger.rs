//! The cursors of the chain's blocks, by hash: what each block was offered up to. Pure; a cache.
//!
//! All of it follows from the log and the blocks, so nothing here needs to survive: what is missing is walked again from
//! a block whose cursor is known. It is bounded; the lowest blocks are forgotten first.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_core::record::Cursor;

use crate::limits::LEDGER_BLOCKS_MAX;

/// What is known of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// L2 block number.
    pub number: u64,
    /// Hash of its parent.
    pub parent: B256,
    /// Timestamp, seconds.
    pub timestamp: u64,
    /// Where its child's offer begins.
    pub cursor: Cursor,
}

/// Cursors by block hash.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    blocks: BTreeMap<B256, Known>,
    by_number: BTreeMap<(u64, B256), ()>,
}

impl Ledger {
    /// What is known of a block.
    #[must_use]
    pub fn get(&self, hash: &B256) -> Option<&Known> {
        self.blocks.get(hash)
    }

    /// Notes a block. What was noted of it before is replaced.
    pub fn insert(&mut self, hash: B256, known: Known) {
        self.by_number.insert((known.number, hash), ());
        self.blocks.insert(hash, known);
        while self.blocks.len() > LEDGER_BLOCKS_MAX {
            let Some(((_, lowest), ())) = self.by_number.pop_first() else {
                return;
            };
            self.blocks.remove(&lowest);
        }
    }

    /// The newest blocks, at most `count`, by number.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (B256, &Known)> {
        self.by_number
            .keys()
            .rev()
            .take(count)
            .filter_map(|(_, hash)| self.blocks.get(hash).map(|known| (*hash, known)))
    }
}
