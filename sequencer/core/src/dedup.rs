//! The dedup window: which transactions and records the log took within the last minute.
//!
//! A transaction is known by (chain, hash), inside bundles too; a record by (chain, entry id). The window of a block
//! with time `t` is `(t − EXPIRES_MS_MAX, t]` of block times. No entry lives longer than that, so what fell out of the
//! window can only come back under a new expiry; there an EVM chain's nonce stops it.
//!
//! The window is not part of the state: any node recomputes it from the last minute's blocks, in order. A lookup names
//! the time it is for, so the answer is the same whatever the window still holds besides.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::{B256, Bytes, keccak256};

use crate::entry::{Body, CheckedEntry, Entry};
use crate::limits::EXPIRES_MS_MAX;
use crate::planted::{Bug, planted};
use crate::types::{ChainId, Height, UnixMillis};

/// What is ordered once: a chain's transaction by its hash, a chain's record by its entry id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The chain.
    pub chain: ChainId,
    /// Transaction hash or entry id.
    pub hash: B256,
}

/// Where the log took something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// Height of the log block.
    pub height: Height,
    /// Index of the entry in that block.
    pub index: u32,
}

/// One block of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    height: Height,
    timestamp: UnixMillis,
    keys: Vec<Key>,
}

/// The keys that the last window's blocks took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedup {
    taken: BTreeMap<Key, (Decision, UnixMillis)>,
    blocks: VecDeque<Block>,
}

/// The keys of an entry: one per transaction, leg after leg; the entry's id for a record.
pub fn keys(entry: &CheckedEntry) -> impl Iterator<Item = Key> {
    let record = match entry.entry().body() {
        Body::Record(record) => Some(Key { chain: record.chain, hash: entry.entry().id().0 }),
        Body::Transaction(_) | Body::Bundle(_) => None,
    };
    let transactions = entry.transactions().iter().map(|t| Key { chain: t.chain, hash: t.hash });
    record.into_iter().chain(transactions)
}

/// The keys of an entry of a decided block: its signatures were checked by the quorum that decided it.
#[must_use]
pub fn keys_of_decided(entry: &Entry) -> Vec<Key> {
    let key = |chain, bytes: &Bytes| Key { chain, hash: keccak256(bytes) };
    match entry.body() {
        Body::Record(record) => vec![Key { chain: record.chain, hash: entry.id().0 }],
        Body::Transaction(transaction) => vec![key(transaction.chain, &transaction.bytes)],
        Body::Bundle(bundle) => bundle
            .legs()
            .iter()
            .flat_map(|leg| leg.transactions.iter().map(move |bytes| key(leg.chain, bytes)))
            .collect(),
    }
}

/// Whether a block of time `earlier` is in the window of a block of time `timestamp`.
#[must_use]
pub fn is_in_window(earlier: UnixMillis, timestamp: UnixMillis) -> bool {
    if planted(Bug::DedupShort) && earlier.plus(EXPIRES_MS_MAX / 60).0 <= timestamp.0 {
        return false;
    }
    earlier.plus(EXPIRES_MS_MAX).0 > timestamp.0 && earlier.0 <= timestamp.0
}

impl Dedup {
    /// An empty window: that of the genesis.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where `key` was taken within the window of a block of time `timestamp`.
    #[must_use]
    pub fn get(&self, key: &Key, timestamp: UnixMillis) -> Option<Decision> {
        let (decision, taken_at) = self.taken.get(key)?;
        is_in_window(*taken_at, timestamp).then_some(*decision)
    }

    /// Adds the next block, with each key it took and the index of the key's entry, and forgets the blocks outside its
    /// window. Blocks come in ascending order of height and time, each once.
    pub fn extend(
        &mut self,
        height: Height,
        timestamp: UnixMillis,
        taken: impl IntoIterator<Item = (Key, u32)>,
    ) {
        self.evict(timestamp);
        let mut keys = Vec::new();
        for (key, index) in taken {
            self.taken.insert(key, (Decision { height, index }, timestamp));
            keys.push(key);
        }
        self.blocks.push_back(Block { height, timestamp, keys });
    }

    /// Height of the first block the window holds: a node that starts reads from here on. `None` if it holds none.
    #[must_use]
    pub fn first_height(&self) -> Option<Height> {
        self.blocks.front().map(|block| block.height)
    }

    /// How many keys the window holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether the window holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    fn evict(&mut self, timestamp: UnixMillis) {
        while let Some(block) = self.blocks.front()
            && !is_in_window(block.timestamp, timestamp)
        {
            for key in &block.keys {
                self.taken.remove(key);
            }
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = EXPIRES_MS_MAX;

    fn key(n: u8) -> Key {
        Key { chain: ChainId(10), hash: B256::repeat_byte(n) }
    }

    fn decision(height: u64, index: u32) -> Decision {
        Decision { height: Height(height), index }
    }

    fn window(blocks: &[(u64, u64, u8)]) -> Dedup {
        let mut dedup = Dedup::new();
        for &(height, timestamp, n) in blocks {
            dedup.extend(Height(height), UnixMillis(timestamp), [(key(n), u32::from(n))]);
        }
        dedup
    }

    #[test]
    fn window_is_open_at_its_old_end_and_closed_at_its_new_end() {
        let taken_at = 1_000_000;
        let dedup = window(&[(1, taken_at, 7)]);
        let cases = [
            (taken_at, true),
            (taken_at + 1, true),
            (taken_at + WINDOW - 1, true),
            (taken_at + WINDOW, false),
            (taken_at + WINDOW + 1, false),
            (taken_at - 1, false),
        ];
        for (timestamp, is_known) in cases {
            let expected = is_known.then_some(decision(1, 7));
            assert_eq!(dedup.get(&key(7), UnixMillis(timestamp)), expected, "at {timestamp}");
        }
    }

    #[test]
    fn another_chain_or_hash_is_not_known() {
        let dedup = window(&[(1, 1_000, 7)]);
        assert_eq!(dedup.get(&key(8), UnixMillis(1_001)), None);
        let elsewhere = Key { chain: ChainId(11), ..key(7) };
        assert_eq!(dedup.get(&elsewhere, UnixMillis(1_001)), None);
    }

    #[test]
    fn what_fell_out_of_the_window_is_forgotten() {
        let mut dedup = window(&[(1, 1_000, 1), (2, 2_000, 2)]);
        assert_eq!((dedup.len(), dedup.first_height()), (2, Some(Height(1))));
        dedup.extend(Height(3), UnixMillis(1_000 + WINDOW), []);
        assert_eq!((dedup.len(), dedup.first_height()), (1, Some(Height(2))));
        assert_eq!(dedup.get(&key(1), UnixMillis(1_000 + WINDOW)), None);
        dedup.extend(Height(4), UnixMillis(9_000 + WINDOW), []);
        assert!(dedup.is_empty());
    }

    #[test]
    fn key_taken_again_after_the_window_is_known_from_its_later_block() {
        let mut dedup = window(&[(1, 1_000, 1), (2, 1_000 + WINDOW, 1)]);
        let now = UnixMillis(1_001 + WINDOW);
        assert_eq!(dedup.get(&key(1), now), Some(decision(2, 1)));
        dedup.extend(Height(3), now, []);
        assert_eq!(dedup.get(&key(1), now), Some(decision(2, 1)));
    }

    #[test]
    fn window_of_the_last_blocks_equals_the_window_of_all_blocks() {
        let blocks: Vec<_> =
            (1..=200u8).map(|n| (u64::from(n), u64::from(n) * WINDOW / 50, n)).collect();
        let all = window(&blocks);
        let first = usize::try_from(all.first_height().unwrap().0).unwrap() - 1;
        assert!(first > 100);
        assert_eq!(window(&blocks[first..]), all);
    }
}
