//! Log blocks in memory, bounded by what they take there. Pure.
//!
//! Two shelves: the newest ones, which are followed, and older ones that were asked for again. A chain that catches up
//! walks through the older ones upwards, so what was asked for is kept for the next blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::types::{Height, UnixMillis};

use super::LogBlock;

/// What a log block and an item take beside the transactions' bytes, about.
const BLOCK_BYTES: usize = 256;
const ITEM_BYTES: usize = 256;

/// Log blocks by height, the lowest forgotten first.
#[derive(Debug)]
pub(super) struct Shelf {
    blocks: BTreeMap<Height, Arc<LogBlock>>,
    bytes: usize,
    bytes_max: usize,
}

impl Shelf {
    /// An empty shelf for so many bytes; one block always fits.
    #[must_use]
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { blocks: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// The block at a height.
    #[must_use]
    pub(super) fn get(&self, height: Height) -> Option<&Arc<LogBlock>> {
        self.blocks.get(&height)
    }

    /// The lowest height.
    #[must_use]
    pub(super) fn first(&self) -> Option<Height> {
        self.blocks.first_key_value().map(|(height, _)| *height)
    }

    /// The blocks from a height on.
    pub(super) fn from(&self, height: Height) -> impl Iterator<Item = &Arc<LogBlock>> {
        self.blocks.range(height..).map(|(_, block)| block)
    }

    /// Adds a block, and forgets the lowest while there are too many bytes.
    pub(super) fn insert(&mut self, block: Arc<LogBlock>) {
        self.bytes = self.bytes.saturating_add(size(&block));
        if let Some(before) = self.blocks.insert(block.slice.height, block) {
            self.bytes = self.bytes.saturating_sub(size(&before));
        }
        while self.bytes > self.bytes_max && self.blocks.len() > 1 {
            if let Some((_, lowest)) = self.blocks.pop_first() {
                self.bytes = self.bytes.saturating_sub(size(&lowest));
            }
        }
    }
}

fn size(block: &LogBlock) -> usize {
    let item = |bytes: usize| bytes.saturating_add(ITEM_BYTES);
    let items = block
        .slice
        .items
        .iter()
        .map(|weighed| item(weighed.item.transactions().iter().map(|bytes| bytes.len()).sum()));
    items.fold(BLOCK_BYTES, usize::saturating_add)
}

/// Log blocks one after the other, as far as they are in memory.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// From the first that was wanted on.
    pub(super) blocks: Vec<Arc<LogBlock>>,
    /// The heights that come next and have to be asked for, first and last; `None` if nothing is missing.
    pub(super) missing: Option<(Height, Height)>,
}

/// The blocks from `from` up to the first one after log time `until`, of both shelves. At most `count` heights are missing at
/// a time. Heights behind the newest are not asked for: what is there is all.
#[must_use]
pub(super) fn show(
    (newest, older): (&Shelf, &Shelf),
    from: Height,
    until: UnixMillis,
    count: u64,
) -> Shown {
    let (mut blocks, mut height) = (Vec::new(), from.max(Height(1)));
    while let Some(block) = newest.get(height).or_else(|| older.get(height)) {
        blocks.push(Arc::clone(block));
        if block.slice.timestamp > until {
            return Shown { blocks, missing: None };
        }
        height = height.next();
    }
    let first = newest.first().filter(|first| height < *first);
    let missing = first.and_then(|first| {
        let next = older.from(height).next().map_or(first, |block| block.slice.height);
        let last = Height(height.0.saturating_add(count.saturating_sub(1)));
        Some((height, last.min(next.min(first).previous()?)))
    });
    Shown { blocks, missing }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;
    use lockstep_core::params::ChainKind;
    use lockstep_core::slice::{Content, Item};
    use lockstep_core::types::BlockHash;
    use lockstep_core::window::LogSlice;

    use super::*;

    fn block(height: u64, bytes: usize) -> Arc<LogBlock> {
        let content = Content::Transaction { bytes: Bytes::from(vec![1; bytes]) };
        let items = vec![Item { index: 0, content }];
        let time = UnixMillis(height * 100);
        let slice = LogSlice::new(Height(height), time, ChainKind::Opaque, items);
        Arc::new(LogBlock { hash: BlockHash::ZERO, slice })
    }

    fn shelf(heights: impl IntoIterator<Item = u64>) -> Shelf {
        let mut shelf = Shelf::new(usize::MAX);
        heights.into_iter().for_each(|height| shelf.insert(block(height, 1)));
        shelf
    }

    #[test]
    fn lowest_blocks_are_forgotten_once_there_are_too_many_bytes() {
        let mut shelf = Shelf::new(3 * (1_000 + BLOCK_BYTES + ITEM_BYTES));
        for height in 1..=9 {
            shelf.insert(block(height, 1_000));
        }
        shelf.insert(block(9, 1_000));
        assert_eq!(shelf.first(), Some(Height(7)));
        shelf.insert(block(10, 1 << 20));
        assert_eq!(shelf.first(), Some(Height(10)), "one always fits");
        shelf.insert(block(11, 1));
        assert_eq!(shelf.first(), Some(Height(11)));
    }

    fn check(newest: &Shelf, older: &Shelf, (from, until): (u64, u64), expected: &str) {
        let Shown { blocks, missing } =
            show((newest, older), Height(from), UnixMillis(until * 100), 10);
        let heights = blocks.iter().map(|block| block.slice.height.to_string());
        let missing = missing.map(|(first, last)| format!("({first} to {last})"));
        let shown = heights.chain(missing).collect::<Vec<_>>().join(" ");
        assert_eq!(shown, expected, "{from} {until}");
    }

    #[test]
    fn only_heights_up_to_the_first_after_the_time_are_asked_for() {
        let (newest, older) = (shelf(100..=104), shelf([40, 41, 42, 60]));
        check(&newest, &older, (101, 102), "101 102 103");
        check(&newest, &older, (103, 200), "103 104");
        check(&newest, &older, (40, 41), "40 41 42");
        check(&newest, &older, (40, 50), "40 41 42 (43 to 52)");
        check(&newest, &older, (53, 59), "(53 to 59)");
        check(&newest, &older, (95, 103), "(95 to 99)");
        check(&newest, &older, (0, 3), "(1 to 10)");
        check(&newest, &older, (105, 200), "");
        check(&shelf([]), &older, (50, 60), "");
    }
}
