//! Every key of the store, and its version.
//!
//! A key is a one-byte tag (its [`Space`]) and then fixed-width big-endian fields, so byte order is the order of
//! heights and of positions within a run, and writes go to the end of their space: write amplification stays near 2.
//!
//! | space | key | value |
//! |---|---|---|
//! | meta | name | see the `META_…` constants |
//! | block | height | RLP `[header, cut, certificate]` |
//! | body | height | references of the taken entries, [`TakenEntry`](super::TakenEntry) |
//! | batch | owner, incarnation, sequence | the batch's bytes |
//! | conflict | owner, incarnation, sequence, digest | bytes of another batch at a position that is taken already |
//! | undecided | height, round, block hash | RLP `[valid round, header, cut]` |
//! | validators | first height the set decides | RLP of the set |
//! | evidence | height, number | the evidence's bytes |
//! | passed | height, owner | the batch keys from which and to which the lane's jump at that height passed over |
//! | lookup | height | the height's sorted lookup table (`index.rs`) |
//! | segment | first height | what a segment of lookup tables covers |
//! | shard | first height of the segment, shard | a part of the segment's merged table |
//! | record | chain, kind, height | nothing: the chain has records of that kind at that height |

use alloy_primitives::Address;
use lockstep_core::batch::BatchPosition;
use lockstep_core::cut::LanePosition;
use lockstep_core::types::{BatchDigest, BlockHash, ChainId, Height, Incarnation, Round, Sequence};

use super::RecordKind;

/// Version of everything on this page. Another one in a directory is refused.
pub const SCHEMA: u32 = 3;

/// Greater than every key of every space.
pub const KEY_END: [u8; 80] = [0xff; 80];

/// Four bytes: the schema version.
pub const META_SCHEMA: &[u8] = b"schema";
/// Canonical bytes of the genesis.
pub const META_GENESIS: &[u8] = b"genesis";
/// Canonical bytes of the newest state.
pub const META_STATE: &[u8] = b"state";
/// Eight bytes: the incarnation that the own lane used last.
pub const META_INCARNATION: &[u8] = b"incarnation";

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Single values.
    Meta,
    /// Header, cut, certificate.
    Block,
    /// References of the taken entries.
    Body,
    /// Batches.
    Batch,
    /// Second batches at a position.
    Conflict,
    /// Payloads that are not decided yet.
    Undecided,
    /// Validator sets.
    Validators,
    /// Evidence of equivocation.
    Evidence,
    /// Ranges of batches that a lane's jump passed over.
    Passed,
    /// Lookup tables of single heights.
    Lookup,
    /// What a segment of lookup tables covers.
    Segment,
    /// Parts of a segment's table.
    Shard,
    /// Heights of a chain's records.
    Record,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Block,
        Self::Body,
        Self::Batch,
        Self::Conflict,
        Self::Undecided,
        Self::Validators,
        Self::Evidence,
        Self::Passed,
        Self::Lookup,
        Self::Segment,
        Self::Shard,
        Self::Record,
    ];

    /// The byte in front of the space's keys.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Block => 1,
            Self::Body => 2,
            Self::Batch => 3,
            Self::Conflict => 4,
            Self::Undecided => 5,
            Self::Validators => 6,
            Self::Evidence => 7,
            Self::Passed => 8,
            Self::Lookup => 9,
            Self::Segment => 10,
            Self::Shard => 11,
            Self::Record => 12,
        }
    }
}

/// Key of spaces that have one value per height.
#[must_use]
pub const fn height(height: Height) -> [u8; 8] {
    height.0.to_be_bytes()
}

/// Height of a key that begins with one.
#[must_use]
pub fn height_of(key: &[u8]) -> Option<Height> {
    key.first_chunk().map(|bytes| Height(u64::from_be_bytes(*bytes)))
}

/// Key of a batch.
#[must_use]
pub fn batch(position: &BatchPosition) -> Vec<u8> {
    let mut key = Vec::with_capacity(36);
    key.extend_from_slice(position.owner.as_slice());
    key.extend_from_slice(&position.incarnation.0.to_be_bytes());
    key.extend_from_slice(&position.sequence.0.to_be_bytes());
    key
}

/// The first key behind all batches of an owner.
#[must_use]
pub fn batches_end(owner: Address) -> Vec<u8> {
    let mut key = Vec::with_capacity(37);
    key.extend_from_slice(owner.as_slice());
    key.extend_from_slice(&[0xff; 17]);
    key
}

/// The first key behind a decided position; the owner's first key if nothing is decided.
#[must_use]
pub fn batch_after(position: &LanePosition) -> Vec<u8> {
    let mut key = batch(&position.batch());
    if !position.is_start() {
        key.push(0);
    }
    key
}

/// The position that a batch's key, or a conflict's, begins with.
#[must_use]
pub fn position_of(key: &[u8]) -> Option<BatchPosition> {
    let (owner, rest) = key.split_first_chunk::<20>()?;
    let (incarnation, rest) = rest.split_first_chunk::<8>()?;
    let sequence = rest.first_chunk::<8>()?;
    Some(BatchPosition {
        owner: Address::from(*owner),
        incarnation: Incarnation(u64::from_be_bytes(*incarnation)),
        sequence: Sequence(u64::from_be_bytes(*sequence)),
    })
}

/// Key of a second batch at a position.
#[must_use]
pub fn conflict(position: &BatchPosition, digest: BatchDigest) -> Vec<u8> {
    let mut key = batch(position);
    key.extend_from_slice(digest.0.as_slice());
    key
}

/// Key of a payload that is not decided yet.
#[must_use]
pub fn undecided(at: Height, round: Round, block: BlockHash) -> Vec<u8> {
    let mut key = Vec::with_capacity(44);
    key.extend_from_slice(&height(at));
    key.extend_from_slice(&round.0.to_be_bytes());
    key.extend_from_slice(block.0.as_slice());
    key
}

/// Key of a piece of evidence; `number` counts from 0 within the height.
#[must_use]
pub fn evidence(at: Height, number: u32) -> Vec<u8> {
    let mut key = height(at).to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Key of what a lane's jump at a height passed over.
#[must_use]
pub fn passed(at: Height, owner: Address) -> Vec<u8> {
    let mut key = height(at).to_vec();
    key.extend_from_slice(owner.as_slice());
    key
}

/// Key of a shard of the segment that begins at `first`.
#[must_use]
pub fn shard(first: Height, shard: u16) -> Vec<u8> {
    let mut key = height(first).to_vec();
    key.extend_from_slice(&shard.to_be_bytes());
    key
}

/// Key of a chain's records of a kind at a height.
#[must_use]
pub fn record(chain: ChainId, kind: RecordKind, at: Height) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.extend_from_slice(&chain.0.to_be_bytes());
    key.push(kind.tag());
    key.extend_from_slice(&height(at));
    key
}

/// Height of a key that [`record`] made.
#[must_use]
pub fn record_height(key: &[u8]) -> Option<Height> {
    key.get(9..).filter(|height| height.len() == 8).and_then(height_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keys_have_the_order_of_heights_within_chain_and_kind() {
        let keys = [
            (1, RecordKind::Sealed, 255),
            (1, RecordKind::Sealed, 256),
            (1, RecordKind::Limits, 0),
            (1, RecordKind::Prepared, u64::MAX),
            (256, RecordKind::Sealed, 0),
        ]
        .map(|(chain, kind, at)| (record(ChainId(chain), kind, Height(at)), Height(at)));
        assert!(keys.is_sorted_by(|a, b| a.0 < b.0));
        assert!(keys.iter().all(|(key, at)| record_height(key) == Some(*at)));
        assert_eq!(record_height(&[0; 16]), None);
        assert_eq!(record_height(&[0; 18]), None);
    }

    #[test]
    fn tags_are_unique() {
        let mut tags = Space::ALL.map(Space::tag).to_vec();
        tags.dedup();
        assert_eq!(tags.len(), Space::ALL.len());
        assert!(tags.is_sorted());
    }

    #[test]
    fn batch_keys_have_the_order_of_positions_and_read_back() {
        let owner = Address::repeat_byte(7);
        let at = |incarnation, sequence| BatchPosition {
            owner,
            incarnation: Incarnation(incarnation),
            sequence: Sequence(sequence),
        };
        let positions = [at(0, 0), at(0, 1), at(0, 255), at(0, 256), at(1, 0), at(u64::MAX, 3)];
        for pair in positions.windows(2) {
            assert!(batch(&pair[0]) < batch(&pair[1]), "{pair:?}");
        }
        for position in positions {
            assert_eq!(position_of(&batch(&position)), Some(position));
            assert!(batch(&position) < batches_end(owner));
            assert!(batch(&position) < conflict(&position, BatchDigest::ZERO));
        }
        assert_eq!(position_of(&[1, 2, 3]), None);
    }
}
