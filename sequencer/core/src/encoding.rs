//! Canonical bytes: what is hashed, signed and stored. RLP with a version byte in front.
//!
//! One value has exactly one encoding: decoding refuses another version, leading zeros, over-long lengths and
//! trailing bytes. Protobuf never reaches a hash, because its bytes are not canonical.
//!
//! Every hash and every signature carries a [`Tag`] of its own in front, so that bytes of one kind can never be
//! taken for another kind. Source: RLP, Ethereum yellow paper appendix B; domain separation as in RFC 6962 section 2.1.

use alloy_primitives::{B256, Keccak256};
use alloy_rlp::{Decodable, Encodable};

#[cfg(feature = "keyed-hash")]
mod remembered;

/// The version byte in front of every canonical encoding, and the version of the protocol's rules.
pub const VERSION: u8 = 1;

/// A domain tag: exactly 16 ASCII bytes, so that no tag is a prefix of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; 16]);

/// All domain tags. A test holds that they are unique.
pub mod tag {
    use super::Tag;
    /// Genesis → network id.
    pub const GENESIS: Tag = Tag(*b"lockstep/gene/v1");
    /// Validator set → `validators_hash`.
    pub const VALIDATORS: Tag = Tag(*b"lockstep/vset/v1");
    /// Body of an entry → entry id.
    pub const ENTRY: Tag = Tag(*b"lockstep/entr/v1");
    /// Gateway's signature over (network, entry id).
    pub const GATEWAY: Tag = Tag(*b"lockstep/gate/v1");
    /// Record's signature by the chain's sequencer key.
    pub const RECORD: Tag = Tag(*b"lockstep/recd/v1");
    /// Batch → batch digest, which its owner signs.
    pub const BATCH: Tag = Tag(*b"lockstep/btch/v1");
    /// Acknowledgement vector.
    pub const ACKNOWLEDGEMENT: Tag = Tag(*b"lockstep/ackn/v1");
    /// Cut → `cut_hash`.
    pub const CUT: Tag = Tag(*b"lockstep/cuts/v1");
    /// State → `state_hash`.
    pub const STATE: Tag = Tag(*b"lockstep/stat/v1");
    /// Header → block hash, the value that consensus decides.
    pub const HEADER: Tag = Tag(*b"lockstep/head/v1");
    /// Consensus proposal.
    pub const PROPOSAL: Tag = Tag(*b"lockstep/prop/v1");
    /// First part of a proposal.
    pub const PART: Tag = Tag(*b"lockstep/part/v1");
    /// Prevote and precommit.
    pub const VOTE: Tag = Tag(*b"lockstep/vote/v1");
    /// Governance vote (reserved).
    pub const GOVERNANCE: Tag = Tag(*b"lockstep/govn/v1");
    /// Leaf of a Merkle tree.
    pub const LEAF: Tag = Tag(*b"lockstep/leaf/v1");
    /// Inner node of a Merkle tree.
    pub const NODE: Tag = Tag(*b"lockstep/node/v1");
    /// Root of a Merkle tree: commits to the count of leaves.
    pub const ROOT: Tag = Tag(*b"lockstep/root/v1");

    /// Every tag, for the test of uniqueness and for golden vectors.
    pub const ALL: [Tag; 17] = [
        GENESIS,
        VALIDATORS,
        ENTRY,
        GATEWAY,
        RECORD,
        BATCH,
        ACKNOWLEDGEMENT,
        CUT,
        STATE,
        HEADER,
        PROPOSAL,
        PART,
        VOTE,
        GOVERNANCE,
        LEAF,
        NODE,
        ROOT,
    ];
}

/// keccak256 over the tag and then the pieces, in order, with nothing between them.
///
/// The caller makes sure that the pieces are self-delimiting (fixed lengths, or one RLP item at the end).
#[must_use]
pub fn hash(tag: Tag, pieces: &[&[u8]]) -> B256 {
    #[cfg(feature = "keyed-hash")]
    if crate::signing::keyed_hash::is_on() {
        return remembered::hash(tag, pieces);
    }
    keccak(tag, pieces)
}

fn keccak(tag: Tag, pieces: &[&[u8]]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(tag.0);
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// Why canonical bytes were refused. Permanent: the same bytes can never decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEncoding {
    /// The version byte is missing or not [`VERSION`].
    #[error("encoding version {got:?}, expected {VERSION}")]
    Version {
        /// The first byte, `None` where there are no bytes at all.
        got: Option<u8>,
    },
    /// Bytes are left over behind the value.
    #[error("{count} bytes after the end of the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// Not RLP of the expected shape, or not its canonical form.
    #[error("not canonical RLP: {0}")]
    Rlp(alloy_rlp::Error),
}

impl From<alloy_rlp::Error> for InvalidEncoding {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Rlp(error)
    }
}

/// A value with canonical bytes: [`VERSION`], then its RLP.
pub trait Canonical: Encodable + Decodable {
    /// The value's canonical bytes.
    fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length().saturating_add(1));
        out.push(VERSION);
        self.encode(&mut out);
        out
    }

    /// Reads one value that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`InvalidEncoding`] on another version, on bytes that are not the canonical RLP of this type, and on
    /// trailing bytes.
    fn from_canonical(bytes: &[u8]) -> Result<Self, InvalidEncoding> {
        let (version, mut rest) = match bytes.split_first() {
            Some((version, rest)) => (Some(*version), rest),
            None => (None, bytes),
        };
        if version != Some(VERSION) {
            return Err(InvalidEncoding::Version { got: version });
        }
        let value = Self::decode(&mut rest)?;
        if !rest.is_empty() {
            return Err(InvalidEncoding::TrailingBytes { count: rest.len() });
        }
        Ok(value)
    }
}

/// RLP of the list whose items are `items`, each already encodable.
pub(crate) fn encode_list(items: &[&dyn Encodable], out: &mut dyn alloy_rlp::BufMut) {
    let payload_length = items.iter().fold(0usize, |sum, item| sum.saturating_add(item.length()));
    alloy_rlp::Header { list: true, payload_length }.encode(out);
    for item in items {
        item.encode(out);
    }
}

/// Length of what [`encode_list`] writes, in bytes.
pub(crate) fn list_length(items: &[&dyn Encodable]) -> usize {
    let payload = items.iter().fold(0usize, |sum, item| sum.saturating_add(item.length()));
    payload.saturating_add(alloy_rlp::length_of_length(payload))
}

/// Takes one list off `bytes` and returns its payload.
pub(crate) fn decode_list<'a>(bytes: &mut &'a [u8]) -> alloy_rlp::Result<&'a [u8]> {
    alloy_rlp::Header::decode_bytes(bytes, true)
}

/// A list of at most `count_max` items; stops at the first too many, so a list of nothings costs no memory.
pub(crate) fn decode_bounded<T: Decodable>(
    bytes: &mut &[u8],
    count_max: usize,
) -> alloy_rlp::Result<Vec<T>> {
    let payload = &mut decode_list(bytes)?;
    let mut items = Vec::new();
    while !payload.is_empty() {
        if items.len() >= count_max {
            return Err(alloy_rlp::Error::Custom("list is too long"));
        }
        items.push(T::decode(payload)?);
    }
    Ok(items)
}

/// Fails unless a list's payload was read to its end.
pub(crate) fn expect_end(payload: &[u8]) -> alloy_rlp::Result<()> {
    if payload.is_empty() { Ok(()) } else { Err(alloy_rlp::Error::UnexpectedLength) }
}

#[cfg(test)]
mod tests;
