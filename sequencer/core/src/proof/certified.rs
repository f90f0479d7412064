//! A header with the certificate that decided it: what a validator set's quorum attests.

use alloy_primitives::{Address, B256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::{BlockHash, Height, NetworkId, ValidatorSet};
use crate::certificate::{Certificate, InvalidCertificate};
use crate::encoding::Canonical;
use crate::header::Header;
use crate::types::Round;

/// A header and a certificate that says it is decided. Nothing is checked before [`CertifiedHeader::verify`].
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Certificate,
}

impl Canonical for CertifiedHeader {}

/// Why a header is not shown to be decided. Whoever sent it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Of another network.
    #[error("header is of network {got}, expected {expected}")]
    Network {
        /// Ours.
        expected: NetworkId,
        /// The header's.
        got: NetworkId,
    },
    /// The certificate is of another height.
    #[error("certificate is of height {got}, the header of {expected}")]
    Height {
        /// The header's.
        expected: Height,
        /// The certificate's.
        got: Height,
    },
    /// The certificate is of another block.
    #[error("certificate is of block {got}, the header's hash is {expected}")]
    Block {
        /// The header's hash.
        expected: BlockHash,
        /// The certificate's block.
        got: BlockHash,
    },
    /// The certificate is of a round before the one that the header was built for.
    #[error("certificate is of round {got}, the header was built for {built_for}")]
    Round {
        /// The header's.
        built_for: Round,
        /// The certificate's.
        got: Round,
    },
    /// Another validator set decides the header's height.
    #[error("header names validator set {got}, the set at hand is {expected}")]
    Validators {
        /// Hash of the set at hand.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// Built by somebody whose turn it was not.
    #[error("header was proposed by {got}, it was the turn of {expected}")]
    Proposer {
        /// Whose turn it was.
        expected: Address,
        /// The header's.
        got: Address,
    },
    /// The certificate proves nothing.
    #[error("{0}")]
    Certificate(#[from] InvalidCertificate),
}

impl CertifiedHeader {
    /// Checks that the quorum of `set`, the validator set of the header's height, decided this header.
    ///
    /// # Errors
    /// [`InvalidHeader`] names the first thing that is wrong.
    pub fn verify(&self, network: NetworkId, set: &ValidatorSet) -> Result<(), InvalidHeader> {
        let Self { header, certificate } = self;
        if header.network_id != network {
            return Err(InvalidHeader::Network { expected: network, got: header.network_id });
        }
        if certificate.height != header.height {
            let (expected, got) = (header.height, certificate.height);
            return Err(InvalidHeader::Height { expected, got });
        }
        let hash = header.hash();
        if certificate.block != hash {
            return Err(InvalidHeader::Block { expected: hash, got: certificate.block });
        }
        if certificate.round < header.round {
            let (built_for, got) = (header.round, certificate.round);
            return Err(InvalidHeader::Round { built_for, got });
        }
        let expected = set.hash();
        if header.validators_hash != expected {
            return Err(InvalidHeader::Validators { expected, got: header.validators_hash });
        }
        let expected = set.proposer(header.height, header.round).address;
        if header.proposer != expected {
            return Err(InvalidHeader::Proposer { expected, got: header.proposer });
        }
        Ok(certificate.verify(network, set)?)
    }
}
