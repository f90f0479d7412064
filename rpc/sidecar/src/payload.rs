//! Execution payloads, read as far as the sidecar must: which block, on which parent, with which transactions.
//!
//! A payload goes through as the bytes it came in; this is only a look at it. Source: Engine API, `ExecutionPayloadV3`
//! and later, unknown fields ignored.

use alloy_primitives::{B256, Bytes};
use lockstep_core::cursor::L2Block;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::attributes::Quantity;

/// A block as its payload has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// L2 block number.
    pub number: u64,
    /// Its hash, as the payload says; an engine that takes the payload has checked it.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// Timestamp, seconds.
    pub timestamp: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// All transactions, deposits first.
    pub transactions: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    block_number: Quantity,
    block_hash: B256,
    parent_hash: B256,
    timestamp: Quantity,
    gas_limit: Quantity,
    transactions: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    execution_payload: Raw,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

impl From<Raw> for Payload {
    fn from(raw: Raw) -> Self {
        Self {
            number: raw.block_number.0,
            hash: raw.block_hash,
            parent: raw.parent_hash,
            timestamp: raw.timestamp.0,
            gas_limit: raw.gas_limit.0,
            transactions: raw.transactions,
        }
    }
}

impl From<Payload> for L2Block {
    fn from(payload: Payload) -> Self {
        let Payload { number, hash, parent, timestamp, gas_limit, transactions } = payload;
        Self { number, hash, parent, timestamp, gas_limit, transactions }
    }
}

impl Payload {
    /// The payload that `newPayload` brings.
    #[must_use]
    pub fn read(raw: &RawValue) -> Option<Self> {
        serde_json::from_str::<Raw>(raw.get()).ok().map(Self::from)
    }

    /// The payload in the result of a `getPayload`.
    #[must_use]
    pub fn in_envelope(raw: &RawValue) -> Option<Self> {
        serde_json::from_str::<Envelope>(raw.get()).ok().map(|envelope| envelope.execution_payload.into())
    }
}

/// The `status` of a payload status: `VALID`, `INVALID`, `SYNCING`, `ACCEPTED`.
#[must_use]
pub fn status(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<Status>(raw.get()).ok().map(|status| status.status)
}
