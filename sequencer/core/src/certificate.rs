//! What consensus signs, and commit certificates: precommits of more than two thirds of the voting power.
//!
//! Digests have a fixed layout, so that a contract can rebuild them with `abi.encodePacked` and check with
//! `ecrecover`:
//!
//! ```text
//! vote      tag 16 | network 32 | height u64 BE | round u32 BE | type u8 (1 prevote, 2 precommit) | block hash 32 (0 = nil)
//! proposal  tag 16 | network 32 | height u64 BE | round u32 BE | valid round u32 BE (0 = none, else round + 1) | block hash 32
//! ```

use alloy_primitives::{Address, B256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::encoding::{self, Canonical, Tag, tag};
use crate::signing::{self, InvalidSignature, Signature};
use crate::types::{BlockHash, Height, NetworkId, Round};
use crate::validator_set::ValidatorSet;

/// Tendermint's two kinds of vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteType {
    /// Byte 1.
    Prevote,
    /// Byte 2.
    Precommit,
}

/// A vote without its signature. The voter is who signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Height voted at.
    pub height: Height,
    /// Round voted in.
    pub round: Round,
    /// Prevote or precommit.
    pub vote_type: VoteType,
    /// The block, `None` for a nil vote.
    pub block: Option<BlockHash>,
}

impl Vote {
    /// What the voter signs.
    #[must_use]
    pub fn digest(&self, network: NetworkId) -> B256 {
        let vote_type = match self.vote_type {
            VoteType::Prevote => 1u8,
            VoteType::Precommit => 2,
        };
        let block = self.block.unwrap_or(BlockHash::ZERO);
        let pieces: [&[u8]; 5] = [
            network.0.as_slice(),
            &self.height.0.to_be_bytes(),
            &self.round.0.to_be_bytes(),
            &[vote_type],
            block.0.as_slice(),
        ];
        encoding::hash(tag::VOTE, &pieces)
    }
}

/// What a proposer signs: once for consensus, and once as the first part, each with its own tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Height proposed at.
    pub height: Height,
    /// Round proposed in.
    pub round: Round,
    /// The round in which the block had a polka, if it is proposed again.
    pub valid_round: Option<Round>,
    /// The block.
    pub block: BlockHash,
}

impl Proposal {
    /// What the proposer signs for consensus.
    #[must_use]
    pub fn digest(&self, network: NetworkId) -> B256 {
        self.digest_with(tag::PROPOSAL, network)
    }

    /// What the proposer signs in the first part of the proposal.
    #[must_use]
    pub fn part_digest(&self, network: NetworkId) -> B256 {
        self.digest_with(tag::PART, network)
    }

    fn digest_with(&self, tag: Tag, network: NetworkId) -> B256 {
        let valid_round = self.valid_round.map_or(0, |round| round.0.saturating_add(1));
        let pieces: [&[u8]; 5] = [
            network.0.as_slice(),
            &self.height.0.to_be_bytes(),
            &self.round.0.to_be_bytes(),
            &valid_round.to_be_bytes(),
            self.block.0.as_slice(),
        ];
        encoding::hash(tag, &pieces)
    }
}

/// One validator's precommit in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct CommitSignature {
    /// The validator.
    pub validator: Address,
    /// Its signature over the precommit.
    pub signature: Signature,
}

/// A commit certificate of one log block.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Certificate {
    /// The block's height.
    pub height: Height,
    /// The round that decided it; not before the header's round.
    pub round: Round,
    /// The block.
    pub block: BlockHash,
    /// Precommits, in strictly ascending order of validator.
    pub signatures: Vec<CommitSignature>,
}

impl Canonical for Certificate {}

/// Why a certificate proves nothing. Whoever sent it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Signatures are not in strictly ascending order of validator: unsorted, or one twice.
    #[error("signature of {validator} is not after the one before it")]
    Order {
        /// The one out of order.
        validator: Address,
    },
    /// Signed by somebody outside the set.
    #[error("{validator} is not in the height's validator set")]
    Stranger {
        /// Who.
        validator: Address,
    },
    /// A signature is none.
    #[error("signature of {validator}: {error}")]
    Signature {
        /// Whose it claims to be.
        validator: Address,
        /// Why.
        error: InvalidSignature,
    },
    /// A signature is somebody else's, or over other bytes.
    #[error("signature of {validator} recovers to {got}")]
    Signer {
        /// Whose it claims to be.
        validator: Address,
        /// What it recovers to.
        got: Address,
    },
    /// Not more than two thirds of the voting power.
    #[error("certificate has voting power {got} of {total}, more than two thirds are needed")]
    Power {
        /// Power of the signers.
        got: u64,
        /// Power of the set.
        total: u64,
    },
}

impl Certificate {
    /// Checks order, membership, every signature, and the quorum.
    ///
    /// # Errors
    /// [`InvalidCertificate`] names the first thing that is wrong.
    pub fn verify(&self, network: NetworkId, set: &ValidatorSet) -> Result<(), InvalidCertificate> {
        let vote = Vote {
            height: self.height,
            round: self.round,
            vote_type: VoteType::Precommit,
            block: Some(self.block),
        };
        let digest = vote.digest(network);
        let mut power = 0u64;
        let mut before = None;
        for CommitSignature { validator, signature } in &self.signatures {
            let validator = *validator;
            if before.is_some_and(|before| before >= validator) {
                return Err(InvalidCertificate::Order { validator });
            }
            before = Some(validator);
            let member = set.get(validator).ok_or(InvalidCertificate::Stranger { validator })?;
            let got = signing::recover(digest, signature)
                .map_err(|error| InvalidCertificate::Signature { validator, error })?;
            if got != validator {
                return Err(InvalidCertificate::Signer { validator, got });
            }
            power = power.saturating_add(member.power);
        }
        if !set.is_quorum(power) {
            return Err(InvalidCertificate::Power { got: power, total: set.total_power() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
