//! Slices: what one log block holds of one chain, in order, and the table of a block's slices.
//!
//! Two levels of Merkle trees: a slice's root is over its items, the block's `slices_root` over one
//! [`SliceSummary`] per chain that has items. A chain without items has no summary, which can be proven too.
//! Here are formats and roots only; proofs are in [`proof`](crate::proof). Source: design section 3.
//!
//! Bytes: an item is RLP `[index, kind, content]`; kind 1 is a transaction's bytes, 2 a leg
//! `[bundle, leg, legs, guarantee, transactions]`, 3 a record. An item's RLP is the bytes of its Merkle leaf.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{BufMut, Decodable, Encodable, Error, RlpDecodable, RlpEncodable};

use crate::bundle::Guarantee;
use crate::encoding::{
    Canonical, decode_bounded, decode_list, encode_list, expect_end, list_length,
};
use crate::limits::{LEG_TRANSACTIONS_MAX, LEGS_MAX, LEGS_MIN, SLICE_ITEMS_MAX};
use crate::merkle;
use crate::record::Record;
use crate::types::{ChainId, EntryId};

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Kind 1: a loose transaction.
    Transaction {
        /// EIP-2718 bytes, or opaque ones.
        bytes: Bytes,
    },
    /// Kind 2: a bundle's part on this chain.
    Leg {
        /// The bundle's id.
        bundle: EntryId,
        /// Place of the leg in its bundle, below `legs`.
        leg: u32,
        /// How many legs the bundle has, [`LEGS_MIN`]..=[`LEGS_MAX`].
        legs: u32,
        /// What the bundle is promised.
        guarantee: Guarantee,
        /// 1..=[`LEG_TRANSACTIONS_MAX`] transactions, in order.
        transactions: Vec<Bytes>,
    },
    /// Kind 3: a record of the chain's sequencer.
    Record(Record),
}

/// One item of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Index in the log block, counted from 0 over all chains. The legs of one bundle share it.
    pub index: u32,
    /// What it is.
    pub content: Content,
}

/// A chain's slice of one log block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The chain.
    pub chain: ChainId,
    /// 1..=[`SLICE_ITEMS_MAX`] items, in strictly ascending order of index.
    pub items: Vec<Item>,
}

/// A slice's line in the block's table of slices; its RLP is the bytes of its Merkle leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SliceSummary {
    /// The chain.
    pub chain: ChainId,
    /// Merkle root over the items.
    pub root: B256,
    /// How many items, at least 1.
    pub items: u32,
    /// Sum of the items' encoded lengths, in bytes.
    pub bytes: u64,
}

impl Item {
    /// Its transactions, in order; none for a record.
    #[must_use]
    pub fn transactions(&self) -> &[Bytes] {
        match &self.content {
            Content::Transaction { bytes } => core::slice::from_ref(bytes),
            Content::Leg { transactions, .. } => transactions,
            Content::Record(_) => &[],
        }
    }

    /// Hash of the item's leaf.
    #[must_use]
    pub fn leaf(&self) -> B256 {
        let mut bytes = Vec::with_capacity(self.length());
        self.encode(&mut bytes);
        merkle::leaf(&bytes)
    }
}

impl Slice {
    /// Merkle root over the items, in order.
    #[must_use]
    pub fn root(&self) -> B256 {
        merkle::root(self.items.iter().map(Item::leaf))
    }

    /// The slice's line in the block's table.
    #[expect(clippy::missing_panics_doc, reason = "2^32 items fit neither a block nor a message")]
    #[must_use]
    pub fn summary(&self) -> SliceSummary {
        SliceSummary {
            chain: self.chain,
            root: self.root(),
            items: u32::try_from(self.items.len())
                .expect("2^32 items fit neither a block nor a message"),
            bytes: self.items.iter().fold(0, |sum, item| sum.saturating_add(item.length() as u64)),
        }
    }
}

impl SliceSummary {
    /// Hash of the summary's leaf.
    #[must_use]
    pub fn leaf(&self) -> B256 {
        let mut bytes = Vec::with_capacity(self.length());
        self.encode(&mut bytes);
        merkle::leaf(&bytes)
    }
}

/// The header's `slices_root`: Merkle root over the summaries, which must be in strictly ascending order of chain.
///
/// A block without items has the root over no leaves, which is not zero.
#[must_use]
pub fn slices_root(summaries: &[SliceSummary]) -> B256 {
    merkle::root(summaries.iter().map(SliceSummary::leaf))
}

impl Encodable for Content {
    fn encode(&self, out: &mut dyn BufMut) {
        match self {
            Self::Transaction { bytes } => bytes.encode(out),
            Self::Leg { bundle, leg, legs, guarantee, transactions } => {
                encode_list(&[bundle, leg, legs, guarantee, transactions], out);
            }
            Self::Record(record) => record.encode(out),
        }
    }
    fn length(&self) -> usize {
        match self {
            Self::Transaction { bytes } => bytes.length(),
            Self::Leg { bundle, leg, legs, guarantee, transactions } => {
                list_length(&[bundle, leg, legs, guarantee, transactions])
            }
            Self::Record(record) => record.length(),
        }
    }
}

impl Content {
    const fn kind(&self) -> u8 {
        match self {
            Self::Transaction { .. } => 1,
            Self::Leg { .. } => 2,
            Self::Record(_) => 3,
        }
    }

    fn decode(kind: u8, payload: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match kind {
            1 => Ok(Self::Transaction { bytes: Bytes::decode(payload)? }),
            2 => Self::decode_leg(&mut decode_list(payload)?),
            3 => Ok(Self::Record(Record::decode(payload)?)),
            _ => Err(Error::Custom("unknown kind of item")),
        }
    }

    fn decode_leg(payload: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let bundle = EntryId::decode(payload)?;
        let (leg, legs) = (u32::decode(payload)?, u32::decode(payload)?);
        let guarantee = Guarantee::decode(payload)?;
        let transactions = decode_bounded(payload, LEG_TRANSACTIONS_MAX)?;
        expect_end(payload)?;
        if leg >= legs || !(LEGS_MIN as u64..=LEGS_MAX as u64).contains(&u64::from(legs)) {
            return Err(Error::Custom("leg is not one of a bundle's"));
        }
        if transactions.is_empty() {
            return Err(Error::Custom("leg without a transaction"));
        }
        Ok(Self::Leg { bundle, leg, legs, guarantee, transactions })
    }
}

impl Encodable for Item {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(&[&self.index, &self.content.kind(), &self.content], out);
    }
    fn length(&self) -> usize {
        list_length(&[&self.index, &self.content.kind(), &self.content])
    }
}

impl Decodable for Item {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let index = u32::decode(payload)?;
        let kind = u8::decode(payload)?;
        let content = Content::decode(kind, payload)?;
        expect_end(payload)?;
        Ok(Self { index, content })
    }
}

impl Encodable for Slice {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(&[&self.chain, &self.items], out);
    }
    fn length(&self) -> usize {
        list_length(&[&self.chain, &self.items])
    }
}

impl Decodable for Slice {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let chain = Decodable::decode(payload)?;
        let items: Vec<Item> = decode_bounded(payload, SLICE_ITEMS_MAX)?;
        expect_end(payload)?;
        if items.is_empty() {
            return Err(Error::Custom("slice without an item"));
        }
        if items.windows(2).any(|pair| matches!(pair, [a, b] if a.index >= b.index)) {
            return Err(Error::Custom("slice's items are not in ascending order"));
        }
        Ok(Self { chain, items })
    }
}

impl Canonical for Item {}
impl Canonical for Slice {}
impl Canonical for SliceSummary {}

#[cfg(test)]
mod tests;
