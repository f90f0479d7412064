//! The cursors of the chain's blocks, by hash: what each block was offered up to. Pure; a cache. And the blocks that this
//! sidecar sealed closed, until the log shows their records.
//!
//! All of it follows from the log and the blocks, so nothing here needs to survive: what is missing is walked again from
//! a block whose cursor is known. It is bounded; the lowest blocks are forgotten first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::B256;
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{Begin, Place};

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
    /// Where its children's offers begin.
    pub begin: Begin,
    /// Log time up to which this holds, if it rests on this sidecar's word about a closed block: if no record of that block
    /// is decided by then, it counts as offered. `None` if it holds for good.
    pub until: Option<UnixMillis>,
}

impl Known {
    /// Whether it holds once the log has come to this time.
    #[must_use]
    pub fn holds(&self, newest: UnixMillis) -> bool {
        self.until.is_none_or(|until| newest <= until)
    }
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

    /// The newest blocks of which all is known for good, at most `count`, by number.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (B256, &Known)> {
        self.by_number
            .keys()
            .rev()
            .filter_map(|(_, hash)| self.blocks.get(hash).map(|known| (*hash, known)))
            .filter(|(_, known)| known.until.is_none())
            .take(count)
    }
}

/// Blocks that were sealed closed, each with what the engine refused to it. Bounded; the oldest are forgotten first.
#[derive(Clone, Debug, Default)]
pub struct ClosedBlocks {
    blocks: BTreeMap<B256, Closed>,
    /// In the order in which they came.
    order: VecDeque<B256>,
}

#[derive(Clone, Debug, Default)]
struct Closed {
    refused: BTreeSet<Place>,
    /// Whether op-node brought the block back.
    is_taken: bool,
}

impl ClosedBlocks {
    /// What the engine refused to a block; `None` if it was not sealed closed.
    #[must_use]
    pub fn get(&self, hash: &B256) -> Option<&BTreeSet<Place>> {
        self.blocks.get(hash).map(|closed| &closed.refused)
    }

    /// Notes a block. One that was noted before stays as it was.
    pub fn insert(&mut self, hash: B256, refused: BTreeSet<Place>) {
        if self.blocks.contains_key(&hash) {
            return;
        }
        self.blocks.insert(hash, Closed { refused, is_taken: false });
        self.order.push_back(hash);
        while self.order.len() > LEDGER_BLOCKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.blocks.remove(&oldest);
            }
        }
    }

    /// Notes that op-node brought a block back. Whether it was sealed closed.
    pub fn take(&mut self, hash: &B256) -> bool {
        let closed = self.blocks.get_mut(hash);
        closed.map(|closed| closed.is_taken = true).is_some()
    }

    /// Forgets a block.
    pub fn remove(&mut self, hash: &B256) {
        self.retain(|other| other != hash);
    }

    /// Forgets the blocks for which this is not so.
    pub fn retain(&mut self, is_kept: impl Fn(&B256) -> bool) {
        self.order.retain(|hash| is_kept(hash));
        self.blocks.retain(|hash, _| is_kept(hash));
    }

    /// Those that op-node brought back, the oldest first.
    #[must_use]
    pub fn taken(&self) -> Vec<B256> {
        let is_taken = |hash: &&B256| self.blocks.get(*hash).is_some_and(|closed| closed.is_taken);
        self.order.iter().filter(is_taken).copied().collect()
    }

    /// All blocks, the oldest first.
    #[must_use]
    pub fn to_vec(&self) -> Vec<(B256, BTreeSet<Place>)> {
        let refused = |hash: &B256| Some((*hash, self.get(hash)?.clone()));
        self.order.iter().filter_map(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_closed_blocks_are_forgotten_first() {
        let mut closed = ClosedBlocks::default();
        let hash = |n: usize| {
            B256::from(
                alloy_primitives::U256::from(n)
                    .wrapping_mul(alloy_primitives::U256::from(0x9e37_79b9_7f4a_7c15_u64) << 128),
            )
        };
        for n in 0..LEDGER_BLOCKS_MAX + 2 {
            closed.insert(hash(n), BTreeSet::new());
        }
        let kept = closed.to_vec();
        assert_eq!(kept.len(), LEDGER_BLOCKS_MAX);
        assert_eq!(kept[0].0, hash(2));
        assert!(closed.get(&hash(LEDGER_BLOCKS_MAX + 1)).is_some());
        closed.remove(&hash(2));
        assert_eq!(closed.to_vec()[0].0, hash(3));
        assert!(closed.taken().is_empty());
        assert!(closed.take(&hash(9)) && closed.take(&hash(5)));
        assert!(!closed.take(&hash(2)));
        assert_eq!(closed.taken(), [hash(5), hash(9)]);
    }
}
