//! The header of a log block. Its hash is what consensus decides.
//!
//! Bytes: the version byte, then RLP of the other fields in the order of the struct.

use alloy_primitives::{Address, B256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::encoding::{self, Canonical, tag};
use crate::types::{BlockHash, Height, NetworkId, Round, UnixMillis};

/// Header of a log block; its `version` is the encoding's version byte.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Header {
    /// The network.
    pub network_id: NetworkId,
    /// Position in the log, from 1.
    pub height: Height,
    /// The round it was built for. It may be decided in a later one.
    pub round: Round,
    /// Hash of the block before it; the network id for height 1.
    pub parent: BlockHash,
    /// The proposer's time, later than the parent's.
    pub timestamp_ms: UnixMillis,
    /// The proposer of (height, round).
    pub proposer: Address,
    /// Hash of the set that decides this height.
    pub validators_hash: B256,
    /// Hash of the set that decides the next height.
    pub next_validators_hash: B256,
    /// Height since which this height's set has decided without a change.
    pub set_since: Height,
    /// Hash of the cut.
    pub cut_hash: B256,
    /// Merkle root over the chains' slices.
    pub slices_root: B256,
    /// Hash of the state after this block.
    pub state_hash: B256,
}

impl Canonical for Header {}

impl Header {
    /// The block's hash: keccak256 over the header tag and the header's canonical bytes.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(encoding::hash(tag::HEADER, &[&self.to_canonical()]))
    }
}

#[cfg(test)]
mod tests;
