//! Bytes between validators, and in the write-ahead log: `lockstep/v1/consensus.proto` to and from the engine's types.
//!
//! Decoding trusts nothing: a frame's size is checked before it is parsed, counts and lengths before they become
//! allocations of another order, and a message must fill its frame exactly and in its one encoding. What can't be
//! decoded no honest peer sends.

pub(crate) mod certificates;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod parts;
pub(crate) mod sync;
pub(crate) mod votes;

#[cfg(test)]
mod tests;

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use lockstep_core::limits::{PART_BYTES_MAX, SYNC_RESPONSE_BYTES_MAX, VALIDATORS_MAX};
use lockstep_core::signing::Signature;
use lockstep_core::types::BlockHash;
use malachitebft_app_channel::app::types::core::{NilOrVal, Round};
use prost::Message;

use crate::context::ValidatorAddress;
use crate::network::Class;

/// Rounds from here on are refused: at one round a second it takes 34 years to get here, and arithmetic on rounds can
/// then not overflow.
pub(crate) const ROUND_MAX: u32 = 1 << 30;
/// Signatures of a round certificate: a prevote and a precommit of each validator.
pub(crate) const ROUND_SIGNATURES_MAX: usize = 2 * VALIDATORS_MAX;
/// Bytes of one signature with its addresses, hash and lengths, at most.
const SIGNATURE_BYTES_MAX: usize = 160;

impl Class {
    /// Bytes of one frame of the class.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Votes => ROUND_SIGNATURES_MAX * SIGNATURE_BYTES_MAX + 256,
            Self::Parts => PART_BYTES_MAX + 1_024,
            Self::Sync => SYNC_RESPONSE_BYTES_MAX + 1_024,
        }
    }
}

const _: () = assert!(Class::Sync.frame_bytes_max() <= lockstep_core::limits::FRAME_BYTES_MAX);

/// Why bytes were refused, or a message can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// More bytes than one frame of its class may have.
    #[error("{got} bytes, at most {max} are allowed")]
    TooLong { got: usize, max: usize },
    /// Not protobuf of this message.
    #[error("not the expected message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Unknown fields, a field twice, or another than the shortest encoding.
    #[error("message of {expected} bytes in {got} bytes")]
    NotCanonical { expected: usize, got: usize },
    /// A field that must be there is not.
    #[error("field {field} is missing")]
    Missing { field: &'static str },
    /// A field has the wrong length, in bytes or elements.
    #[error("field {field} has length {got}")]
    Length { field: &'static str, got: usize },
    /// A number or an enum is out of its range.
    #[error("field {field} has value {got}, which is out of range")]
    Range { field: &'static str, got: u64 },
    /// It has no encoding: it never leaves the process.
    #[error("{what} is never sent")]
    NeverSent { what: &'static str },
}

/// Reads one message that fills `bytes` exactly.
fn decode<M: Message + Default>(bytes: Bytes, bytes_max: usize) -> Result<M, WireError> {
    let got = bytes.len();
    if got > bytes_max {
        return Err(WireError::TooLong { got, max: bytes_max });
    }
    let message = M::decode(bytes)?;
    let expected = message.encoded_len();
    if expected != got {
        return Err(WireError::NotCanonical { expected, got });
    }
    Ok(message)
}

/// The bytes of one message, if a peer would take them.
fn encode<M: Message>(message: &M, bytes_max: usize) -> Result<Bytes, WireError> {
    let got = message.encoded_len();
    if got > bytes_max {
        return Err(WireError::TooLong { got, max: bytes_max });
    }
    Ok(message.encode_to_vec().into())
}

fn round(field: &'static str, round: u32) -> Result<Round, WireError> {
    if round >= ROUND_MAX {
        return Err(WireError::Range { field, got: round.into() });
    }
    Ok(Round::new(round))
}

fn valid_round(field: &'static str, valid: Option<u32>) -> Result<Round, WireError> {
    valid.map_or(Ok(Round::Nil), |valid| round(field, valid))
}

fn round_number(field: &'static str, round: Round) -> Result<u32, WireError> {
    round.as_u32().ok_or(WireError::Missing { field })
}

fn address(field: &'static str, bytes: &[u8]) -> Result<ValidatorAddress, WireError> {
    Address::try_from(bytes)
        .map(ValidatorAddress)
        .map_err(|_| WireError::Length { field, got: bytes.len() })
}

fn block(field: &'static str, bytes: &[u8]) -> Result<BlockHash, WireError> {
    B256::try_from(bytes).map(BlockHash).map_err(|_| WireError::Length { field, got: bytes.len() })
}

fn nil_or_block(field: &'static str, bytes: &[u8]) -> Result<NilOrVal<BlockHash>, WireError> {
    if bytes.is_empty() { Ok(NilOrVal::Nil) } else { block(field, bytes).map(NilOrVal::Val) }
}

fn nil_or_block_bytes(value: &NilOrVal<BlockHash>) -> Bytes {
    match value {
        NilOrVal::Nil => Bytes::new(),
        NilOrVal::Val(block) => copy(block.0.as_slice()),
    }
}

fn signature(field: &'static str, bytes: &[u8]) -> Result<Signature, WireError> {
    let wrong = WireError::Length { field, got: bytes.len() };
    bytes.try_into().map(Signature).map_err(|_| wrong)
}

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Fails if a list has more than `max` elements.
fn count<T>(field: &'static str, list: &[T], max: usize) -> Result<(), WireError> {
    if list.len() > max {
        return Err(WireError::Length { field, got: list.len() });
    }
    Ok(())
}
