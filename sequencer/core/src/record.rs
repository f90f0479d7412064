//! Records: what a chain's registered sequencer key says of its blocks.
//!
//! Three bodies: `Sealed` (a block was sealed), `Limits` (the data-availability limits now in force), `Prepared` (its
//! word on co-executed bundles). Here are their formats and signatures only; what they mean for windows and outcomes
//! is decided elsewhere. Source: design sections 4 and 6.

use alloy_primitives::{Address, B256};
use alloy_rlp::{BufMut, Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::encoding::{self, decode_list, encode_list, expect_end, list_length, tag};
use crate::limits::RECORD_SKIPPED_MAX;
use crate::signing::{self, InvalidSignature, Signature, SigningKey};
use crate::types::{ChainId, EntryId, Height, NetworkId, UnixMillis};

/// A place in a chain's slices: everything before it was offered, passed over, or is a record. It lies behind an item,
/// so heights at which the chain has none never move it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, RlpEncodable, RlpDecodable,
)]
pub struct Cursor {
    /// Height of the log block.
    pub height: Height,
    /// How many of the chain's items of that log block lie before the cursor.
    pub items: u32,
}

/// How a block was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMode {
    /// From an offer; its cursor is the end of the offer.
    Offered,
    /// Closed: nothing was offered, the cursor stays.
    Closed,
}

/// Why an offered item is not in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// The engine refused it: nonce, balance or fee.
    Invalid,
    /// Older than the backlog limit.
    Stale,
    /// Too big for an empty block.
    TooLarge,
    /// One of its transactions, or the item alone, is over the chain's [`Limits`].
    OverLimit,
}

/// One skipped item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Skipped {
    /// Height of its log block.
    pub height: Height,
    /// Its place among the chain's items of that block.
    pub item: u32,
    /// Why.
    pub reason: SkipReason,
}

/// A block was sealed.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Sealed {
    /// L2 block number.
    pub number: u64,
    /// L2 block hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// L2 timestamp, seconds.
    pub timestamp: u64,
    /// How it was built.
    pub mode: SealMode,
    /// Where the next block's offer begins.
    pub cursor: Cursor,
    /// Items that are not in it, in log order, at most [`RECORD_SKIPPED_MAX`]. Before the cursor, they are those that it was
    /// offered or that were passed over. Behind the cursor, they are those that an engine refused to a closed block: no block
    /// that descends from this one is offered them. A list of the greatest length may be cut off in front of the cursor: it
    /// says nothing of what lies between its last item there and the cursor.
    pub skipped: Vec<Skipped>,
}

/// Data-availability limits, in force for windows that end at the record's log time or later. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Limits {
    /// Greatest compressed bytes of one transaction; 0 means no limit.
    pub tx_bytes: u64,
    /// Greatest compressed bytes of one block; 0 means no limit.
    pub block_bytes: u64,
    /// When the sequencer's sidecar was told so, by its own clock: it makes each record one of its own, so that limits which
    /// come back are no duplicate in the log. The place in the log alone says since when they are in force.
    pub set_at_ms: UnixMillis,
}

impl Limits {
    /// Whether both limit the same.
    #[must_use]
    pub const fn is_equal(&self, other: &Self) -> bool {
        self.tx_bytes == other.tx_bytes && self.block_bytes == other.block_bytes
    }
}

/// A sequencer's word on one co-executed bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Preparation {
    /// The bundle.
    pub bundle: EntryId,
    /// Whether every transaction of the chain's leg would succeed.
    pub is_ok: bool,
}

/// A sequencer's word on the co-executed bundles of one block (reserved; design section 6).
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Prepared {
    /// L2 block number that will hold the legs.
    pub number: u64,
    /// Hash of its parent.
    pub parent: B256,
    /// Hash of the payload attributes.
    pub attributes: B256,
    /// One word per bundle, in log order.
    pub preparations: Vec<Preparation>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// Kind 1.
    Sealed(Sealed),
    /// Kind 2.
    Limits(Limits),
    /// Kind 3.
    Prepared(Prepared),
}

/// A signed record of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record.
    pub chain: ChainId,
    /// What it says.
    pub body: RecordBody,
    /// By the chain's sequencer key, over (network, chain, body).
    pub signature: Signature,
}

impl Record {
    /// What the sequencer key signs.
    #[must_use]
    pub fn digest(network: NetworkId, chain: ChainId, body: &RecordBody) -> B256 {
        let mut bytes = Vec::with_capacity(body.length());
        body.encode(&mut bytes);
        encoding::hash(tag::RECORD, &[network.0.as_slice(), &chain.0.to_be_bytes(), &bytes])
    }

    /// A record of `chain`, signed with its sequencer key.
    #[must_use]
    pub fn sign(network: NetworkId, chain: ChainId, body: RecordBody, key: &SigningKey) -> Self {
        let signature = key.sign(Self::digest(network, chain, &body));
        Self { chain, body, signature }
    }

    /// Who signed it. Whether that key may speak for the chain is the registry's to say.
    ///
    /// # Errors
    /// [`InvalidSignature`] if nobody did.
    pub fn signer(&self, network: NetworkId) -> Result<Address, InvalidSignature> {
        signing::recover(Self::digest(network, self.chain, &self.body), &self.signature)
    }
}

macro_rules! byte_enum {
    ($name:ident { $($variant:ident = $byte:literal),+ }) => {
        impl Encodable for $name {
            fn encode(&self, out: &mut dyn BufMut) {
                match self { $(Self::$variant => ($byte as u8).encode(out)),+ }
            }
            fn length(&self) -> usize {
                1
            }
        }
        impl Decodable for $name {
            fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
                match u8::decode(bytes)? {
                    $($byte => Ok(Self::$variant),)+
                    _ => Err(alloy_rlp::Error::Custom(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}
pub(crate) use byte_enum;

byte_enum!(SealMode { Offered = 1, Closed = 2 });
byte_enum!(SkipReason { Invalid = 1, Stale = 2, TooLarge = 3, OverLimit = 4 });

impl RecordBody {
    fn parts(&self) -> (u8, &dyn Encodable) {
        match self {
            Self::Sealed(body) => (1, body),
            Self::Limits(body) => (2, body),
            Self::Prepared(body) => (3, body),
        }
    }
}

impl Encodable for RecordBody {
    fn encode(&self, out: &mut dyn BufMut) {
        let (kind, body) = self.parts();
        encode_list(&[&kind, body], out);
    }
    fn length(&self) -> usize {
        let (kind, body) = self.parts();
        list_length(&[&kind, body])
    }
}

impl Decodable for RecordBody {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let body = match u8::decode(payload)? {
            1 => Self::Sealed(Decodable::decode(payload)?),
            2 => Self::Limits(Decodable::decode(payload)?),
            3 => Self::Prepared(Decodable::decode(payload)?),
            _ => return Err(alloy_rlp::Error::Custom("unknown kind of record")),
        };
        expect_end(payload)?;
        if let Self::Sealed(sealed) = &body
            && sealed.skipped.len() > RECORD_SKIPPED_MAX
        {
            return Err(alloy_rlp::Error::Custom("too many skipped items"));
        }
        Ok(body)
    }
}

impl Encodable for Record {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(&[&self.chain, &self.body, &self.signature], out);
    }
    fn length(&self) -> usize {
        list_length(&[&self.chain, &self.body, &self.signature])
    }
}

impl Decodable for Record {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let record = Self {
            chain: Decodable::decode(payload)?,
            body: Decodable::decode(payload)?,
            signature: Decodable::decode(payload)?,
        };
        expect_end(payload)?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests;
