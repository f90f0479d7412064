//! Lookups: from a transaction's hash, an entry's id or a block's hash to its height and index.
//!
//! Keys stay monotonic, so a hash is never a key. Each height has one table, sorted by the first eight bytes of what
//! is looked up. The tables of the newest heights, the *tail*, are held in memory. When the tail has
//! [`SEGMENT_RECORDS`] records or [`SEGMENT_HEIGHTS`] heights, they are merged into a *segment*: one sorted table, cut
//! into shards of about [`SHARD_RECORDS`] records by the leading bits of the prefix.
//!
//! Cost: a lookup searches the tail in memory and then reads one shard (16 KiB) of each segment, the newest first. A
//! miss reads one shard for each half a million transactions of the whole log. Prefixes may collide, so what is found
//! is compared with the entry itself.
//!
//! ```text
//! table of a height    prefix u64 | index u32                       ascending, 12 bytes each
//! shard                prefix u64 | height − first u32 | index u32  ascending, 16 bytes each
//! ```
//! An index of `u32::MAX` means the block.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rlp::{RlpDecodable, RlpEncodable};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::types::{BlockHash, ChainId, EntryId, Height};

/// Records of the tail from which on it becomes a segment: 16 MiB of memory.
pub(super) const SEGMENT_RECORDS: usize = 1 << 20;
/// Heights of the tail from which on it becomes a segment: 68 minutes at an interval of 250 ms.
pub(super) const SEGMENT_HEIGHTS: usize = 1 << 14;
/// Records of a shard, about.
const SHARD_RECORDS: usize = 1 << 10;
/// Shards of a segment at most, as a power of two. A `u16` names one.
const SHARD_BITS_MAX: u8 = 12;
/// Places that one lookup compares with the entry before it gives up. Random prefixes of 64 bits collide once in
/// billions; more is somebody's game.
pub(super) const CANDIDATES_MAX: usize = 64;
/// Index that stands for the block itself.
pub(super) const BLOCK_INDEX: u32 = u32::MAX;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// The block.
    pub height: Height,
    /// Index of the taken entry in the block, counted from 0.
    pub index: u32,
}

/// One line of a height's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Leading bytes of what is looked up.
    prefix: u64,
    /// Index of the taken entry.
    index: u32,
}

impl Lookup {
    /// Adds the lines under which the entry with this index is found: its id and each of its transactions.
    pub fn of_entry(index: u32, entry: &CheckedEntry, lookups: &mut Vec<Self>) {
        lookups.push(Self { prefix: entry_prefix(entry.entry().id()), index });
        for transaction in entry.transactions() {
            let prefix = transaction_prefix(transaction.chain, transaction.hash);
            lookups.push(Self { prefix, index });
        }
    }

    pub(super) fn of_block(hash: BlockHash) -> Self {
        Self { prefix: block_prefix(hash), index: BLOCK_INDEX }
    }
}

fn prefix_of(hash: B256) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The chain is mixed in, so that equal bytes on many chains do not collide.
pub(super) fn transaction_prefix(chain: ChainId, hash: B256) -> u64 {
    prefix_of(hash) ^ chain.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub(super) fn entry_prefix(id: EntryId) -> u64 {
    prefix_of(id.0)
}

pub(super) fn block_prefix(hash: BlockHash) -> u64 {
    prefix_of(hash.0)
}

/// A height's table as it is stored.
pub(super) fn table_bytes(table: &[Lookup]) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len().saturating_mul(12));
    for Lookup { prefix, index } in table {
        out.extend_from_slice(&prefix.to_be_bytes());
        out.extend_from_slice(&index.to_be_bytes());
    }
    out
}

/// Reads [`table_bytes`]; `None` if they are no table.
pub(super) fn table_from_bytes(bytes: &[u8]) -> Option<Arc<[Lookup]>> {
    let (lines, rest) = bytes.as_chunks::<12>();
    let table: Arc<[Lookup]> = lines
        .iter()
        .map(|[a, b, c, d, e, f, g, h, i, j, k, l]| Lookup {
            prefix: u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            index: u32::from_be_bytes([*i, *j, *k, *l]),
        })
        .collect();
    (rest.is_empty() && table.is_sorted()).then_some(table)
}

/// What a segment covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(super) struct Segment {
    /// First height, inclusive.
    pub(super) first: Height,
    /// Last height, inclusive.
    pub(super) last: Height,
    /// Leading bits of the prefix that name the shard, `0..=SHARD_BITS_MAX`.
    pub(super) shard_bits: u8,
}

impl Segment {
    /// The shard in which a prefix is.
    pub(super) fn shard_of(&self, prefix: u64) -> u16 {
        let bits = u32::from(self.shard_bits.min(SHARD_BITS_MAX));
        // A shift by 64 bits, where there is one shard, leaves nothing.
        let shard = prefix.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0);
        u16::try_from(shard).unwrap_or(u16::MAX)
    }

    /// Where a shard says that a prefix is, the newest place first.
    pub(super) fn find(&self, shard: &[u8], prefix: u64) -> Vec<Located> {
        let (records, _) = shard.as_chunks::<16>();
        let begin = records.partition_point(|record| record_of(record).0 < prefix);
        let mut found: Vec<Located> = records
            .iter()
            .skip(begin)
            .map(record_of)
            .take_while(|(got, ..)| *got == prefix)
            .map(|(_, offset, index)| {
                let height = Height(self.first.0.saturating_add(u64::from(offset)));
                Located { height, index }
            })
            .take(CANDIDATES_MAX)
            .collect();
        found.reverse();
        found
    }
}

fn record_of(record: &[u8; 16]) -> (u64, u32, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *record;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
        u32::from_be_bytes([m, n, o, p]),
    )
}

/// Tables of the newest heights, in ascending order of height.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    tables: Vec<(Height, Arc<[Lookup]>)>,
    records: usize,
}

impl Tail {
    /// Adds the table of the height after the last one.
    pub(super) fn push(&mut self, height: Height, table: Arc<[Lookup]>) {
        self.records = self.records.saturating_add(table.len());
        self.tables.push((height, table));
    }

    /// Forgets the heights up to `last`.
    pub(super) fn drop_to(&mut self, last: Height) {
        self.tables.retain(|(height, _)| *height > last);
        self.records =
            self.tables.iter().fold(0, |sum, (_, table)| sum.saturating_add(table.len()));
    }

    /// Whether it is long enough to become a segment.
    pub(super) fn is_due(&self) -> bool {
        self.records >= SEGMENT_RECORDS || self.tables.len() >= SEGMENT_HEIGHTS
    }

    /// Where a prefix is, the newest place first.
    pub(super) fn find(&self, prefix: u64) -> Vec<Located> {
        let places = self.tables.iter().rev().flat_map(|(height, table)| {
            let begin = table.partition_point(|line| line.prefix < prefix);
            table
                .iter()
                .skip(begin)
                .take_while(move |line| line.prefix == prefix)
                .map(|line| Located { height: *height, index: line.index })
        });
        places.take(CANDIDATES_MAX).collect()
    }

    /// The segment of all heights of the tail, and its shards; `None` if there are none.
    pub(super) fn to_segment(&self) -> Option<(Segment, Vec<Vec<u8>>)> {
        let (first, last) = (self.tables.first()?.0, self.tables.last()?.0);
        let mut records: Vec<(u64, u32, u32)> = Vec::with_capacity(self.records);
        for (height, table) in &self.tables {
            let offset = u32::try_from(height.0.saturating_sub(first.0)).ok()?;
            records.extend(table.iter().map(|line| (line.prefix, offset, line.index)));
        }
        records.sort_unstable();
        let segment = Segment { first, last, shard_bits: shard_bits(records.len()) };
        let mut shards = vec![Vec::new(); 1usize << segment.shard_bits];
        for (prefix, offset, index) in records {
            let shard = shards.get_mut(usize::from(segment.shard_of(prefix)))?;
            shard.extend_from_slice(&prefix.to_be_bytes());
            shard.extend_from_slice(&offset.to_be_bytes());
            shard.extend_from_slice(&index.to_be_bytes());
        }
        Some((segment, shards))
    }
}

/// How many leading bits make shards of about [`SHARD_RECORDS`].
fn shard_bits(records: usize) -> u8 {
    let shards = records.div_ceil(SHARD_RECORDS).max(1).next_power_of_two();
    u8::try_from(shards.trailing_zeros()).unwrap_or(u8::MAX).min(SHARD_BITS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tail(tables: Vec<Vec<(u64, u32)>>) -> Tail {
        let mut tail = Tail::default();
        for (height, lines) in (7u64..).zip(tables) {
            let mut table: Vec<Lookup> =
                lines.into_iter().map(|(prefix, index)| Lookup { prefix, index }).collect();
            table.sort_unstable();
            assert_eq!(table_from_bytes(&table_bytes(&table)).unwrap().as_ref(), table);
            tail.push(Height(height), table.into());
        }
        tail
    }

    #[test]
    fn a_shard_has_about_its_size_and_the_count_is_bounded() {
        let cases =
            [(0, 0), (1, 0), (1 << 10, 0), ((1 << 10) + 1, 1), (1 << 20, 10), (1 << 30, 12)];
        for (records, bits) in cases {
            assert_eq!(shard_bits(records), bits, "{records}");
        }
    }

    #[test]
    fn an_unsorted_or_torn_table_is_refused() {
        let line = |prefix: u64| [prefix.to_be_bytes().as_slice(), &[0; 4]].concat();
        assert!(table_from_bytes(&[line(1), line(2)].concat()).is_some());
        assert!(table_from_bytes(&[line(2), line(1)].concat()).is_none());
        assert!(table_from_bytes(&line(1)[..11]).is_none());
    }

    #[test]
    fn equal_bytes_on_two_chains_have_two_prefixes() {
        let hash = B256::repeat_byte(1);
        assert_ne!(transaction_prefix(ChainId(901), hash), transaction_prefix(ChainId(902), hash));
    }

    proptest! {
        #[test]
        fn a_segment_finds_what_its_tail_finds(
            tables in prop::collection::vec(
                prop::collection::vec((0u64..40, 0u32..9), 0..80).prop_map(|lines| {
                    // Few prefixes, spread over all shards: collisions are wanted.
                    lines.into_iter().map(|(p, i)| (p.wrapping_mul(u64::MAX / 37), i)).collect()
                }),
                1..40,
            ),
        ) {
            let tail = tail(tables);
            let (segment, shards) = tail.to_segment().unwrap();
            prop_assert_eq!(shards.len(), 1 << segment.shard_bits);
            for prefix in (0u64..41).map(|p| p.wrapping_mul(u64::MAX / 37)) {
                let shard = &shards[usize::from(segment.shard_of(prefix))];
                let (mut a, mut b) = (tail.find(prefix), segment.find(shard, prefix));
                prop_assert!(b.is_sorted_by(|x, y| x.height >= y.height));
                if a.len() < CANDIDATES_MAX {
                    a.sort_unstable();
                    b.sort_unstable();
                    prop_assert_eq!(a, b);
                }
            }
        }
    }
}
