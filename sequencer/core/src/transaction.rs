//! One transaction of one chain, checked on its bytes alone.
//!
//! An EVM transaction is an EIP-2718 envelope of type legacy, 1, 2 or 4 with the chain's id and a low-s signature;
//! blobs (type 3) and deposits (0x7e) are refused. What depends on a chain's state (nonce, balance, fee) is not
//! looked at: admission is not validity. Sources: EIP-155, EIP-2718, EIP-2930, EIP-1559, EIP-7702, EIP-2.

use alloy_consensus::{SignableTransaction, Transaction as _, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, keccak256};

use crate::limits::{ENTRY_GAS_MAX, TRANSACTION_BYTES_MAX};
use crate::params::ChainKind;
use crate::signing::{self, InvalidSignature, Signature};
use crate::types::ChainId;

/// Why a transaction was refused. Permanent: the same bytes can never become valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransaction {
    /// No bytes.
    #[error("transaction is empty")]
    Empty,
    /// More than [`TRANSACTION_BYTES_MAX`].
    #[error("transaction has {count} bytes, at most {TRANSACTION_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its bytes.
        count: usize,
    },
    /// A type that the log does not carry.
    #[error("transaction type {got:#04x} is not one of legacy, 0x01, 0x02, 0x04")]
    Type {
        /// The type byte.
        got: u8,
    },
    /// Not an EIP-2718 envelope, or not its one canonical encoding.
    #[error("transaction is not a canonical EIP-2718 envelope: {reason}")]
    Envelope {
        /// What the decoder said.
        reason: String,
    },
    /// A legacy transaction without replay protection.
    #[error("transaction has no chain id (EIP-155), expected {expected}")]
    NoChainId {
        /// The chain it was submitted for.
        expected: ChainId,
    },
    /// Signed for another chain.
    #[error("transaction is for chain {got}, expected {expected}")]
    ChainId {
        /// The chain it was submitted for.
        expected: ChainId,
        /// The chain it was signed for.
        got: ChainId,
    },
    /// Declares more gas than any entry may.
    #[error("transaction declares {got} gas, at most {ENTRY_GAS_MAX} is allowed")]
    Gas {
        /// Its gas limit.
        got: u64,
    },
    /// The signature is not one.
    #[error("transaction's {0}")]
    Signature(#[from] InvalidSignature),
}

/// What the log needs to know of a transaction whose bytes were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTransaction {
    /// The chain it is for.
    pub chain: ChainId,
    /// keccak256 of its bytes: an EVM transaction's hash.
    pub hash: B256,
    /// Declared gas; 0 for opaque bytes.
    pub gas: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Who signed it; `None` for opaque bytes.
    pub sender: Option<Address>,
}

/// What was checked before. What it says is believed.
pub trait Known {
    /// The EVM transaction of a chain with this hash.
    fn transaction(&self, chain: ChainId, hash: B256) -> Option<CheckedTransaction>;
    /// Whose this signature over this digest is.
    fn signer(&self, digest: B256, signature: &Signature) -> Option<Address>;
}

/// Nothing was.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Known for Nothing {
    fn transaction(&self, _: ChainId, _: B256) -> Option<CheckedTransaction> {
        None
    }

    fn signer(&self, _: B256, _: &Signature) -> Option<Address> {
        None
    }
}

/// Checks one transaction of `chain`; for an EVM chain it recovers the signer, which costs about 50 µs of one core.
///
/// # Errors
/// [`InvalidTransaction`] names the rule that the bytes break.
pub fn check(
    chain: ChainId,
    kind: ChainKind,
    bytes: &[u8],
) -> Result<CheckedTransaction, InvalidTransaction> {
    check_knowing(chain, kind, bytes, &Nothing)
}

/// The same, unless it is known to have been checked.
pub(crate) fn check_knowing(
    chain: ChainId,
    kind: ChainKind,
    bytes: &[u8],
    known: &impl Known,
) -> Result<CheckedTransaction, InvalidTransaction> {
    let hash = keccak256(bytes);
    check_size(bytes)?;
    let is_evm = kind == ChainKind::Evm;
    let known = is_evm.then(|| known.transaction(chain, hash)).flatten();
    if let Some(known) = known.filter(|known| known.sender.is_some()) {
        return Ok(known);
    }
    let (gas, sender) = match kind {
        ChainKind::Opaque => (0, None),
        ChainKind::Evm => {
            let envelope = decode(chain, bytes)?;
            (envelope.gas_limit(), Some(recover(&envelope)?))
        }
    };
    Ok(CheckedTransaction { chain, hash, gas, bytes: bytes.len() as u64, sender })
}

pub(crate) const fn check_size(bytes: &[u8]) -> Result<(), InvalidTransaction> {
    match bytes.len() {
        0 => Err(InvalidTransaction::Empty),
        count if count > TRANSACTION_BYTES_MAX => Err(InvalidTransaction::TooLarge { count }),
        _ => Ok(()),
    }
}

/// Decodes the envelope and checks all but the signature.
fn decode(chain: ChainId, bytes: &[u8]) -> Result<TxEnvelope, InvalidTransaction> {
    if let Some(&got) = bytes.first()
        && !matches!(got, 0x01 | 0x02 | 0x04 | 0xc0..)
    {
        return Err(InvalidTransaction::Type { got });
    }
    let envelope = TxEnvelope::decode_2718_exact(bytes)
        .map_err(|error| InvalidTransaction::Envelope { reason: error.to_string() })?;
    if envelope.encoded_2718() != bytes {
        return Err(InvalidTransaction::Envelope { reason: "not its canonical form".to_owned() });
    }
    match envelope.chain_id() {
        None => return Err(InvalidTransaction::NoChainId { expected: chain }),
        Some(got) if got != chain.0 => {
            return Err(InvalidTransaction::ChainId { expected: chain, got: ChainId(got) });
        }
        Some(_) => {}
    }
    if envelope.gas_limit() > ENTRY_GAS_MAX {
        return Err(InvalidTransaction::Gas { got: envelope.gas_limit() });
    }
    Ok(envelope)
}

fn recover(envelope: &TxEnvelope) -> Result<Address, InvalidTransaction> {
    let (digest, signature) = match envelope {
        TxEnvelope::Legacy(signed) => (signed.tx().signature_hash(), signed.signature()),
        TxEnvelope::Eip2930(signed) => (signed.tx().signature_hash(), signed.signature()),
        TxEnvelope::Eip1559(signed) => (signed.tx().signature_hash(), signed.signature()),
        TxEnvelope::Eip7702(signed) => (signed.tx().signature_hash(), signed.signature()),
        TxEnvelope::Eip4844(_) => return Err(InvalidTransaction::Type { got: 3 }),
    };
    Ok(signing::recover(digest, &Signature(signature.as_bytes()))?)
}

#[cfg(test)]
mod tests;
