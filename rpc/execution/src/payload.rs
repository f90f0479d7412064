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
#[serde(rename_all = "camelCase")]
struct Status {
    status: String,
    #[serde(default)]
    latest_valid_hash: Option<B256>,
    #[serde(default)]
    validation_error: Option<String>,
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
        serde_json::from_str::<Envelope>(raw.get())
            .ok()
            .map(|envelope| envelope.execution_payload.into())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Built<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    prev_randao: &'a RawValue,
    #[serde(borrow)]
    fee_recipient: &'a RawValue,
    #[serde(borrow)]
    withdrawals: &'a RawValue,
    #[serde(borrow)]
    gas_limit: &'a RawValue,
    extra_data: Bytes,
    transactions: Vec<Bytes>,
}

/// The attributes from which a payload was built, its deposits alone among the transactions; `None` if its fields do not
/// say. `extraData` is version, denominator, elasticity (Holocene), and the minimum base fee (Jovian, version 1).
#[must_use]
pub fn attributes(raw: &RawValue, beacon_root: Option<&RawValue>) -> Option<Box<RawValue>> {
    let built: Built<'_> = serde_json::from_str(raw.get()).ok()?;
    let is_deposit = |bytes: &&Bytes| lockstep_core::deposit::is_deposit(bytes);
    let deposits: Vec<&Bytes> = built.transactions.iter().take_while(is_deposit).collect();
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| fields.insert(name.to_owned(), value);
    let value = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get()).ok();
    put("timestamp", value(built.timestamp)?);
    put("prevRandao", value(built.prev_randao)?);
    put("suggestedFeeRecipient", value(built.fee_recipient)?);
    put("withdrawals", value(built.withdrawals)?);
    put("gasLimit", value(built.gas_limit)?);
    put("transactions", serde_json::to_value(&deposits).ok()?);
    put("noTxPool", true.into());
    if let Some(root) = beacon_root {
        put("parentBeaconBlockRoot", value(root)?);
    }
    if let Some(params) = built.extra_data.get(1..9) {
        put("eip1559Params", serde_json::to_value(Bytes::copy_from_slice(params)).ok()?);
    }
    if let Some(fee) = built.extra_data.get(9..17).and_then(|bytes| bytes.first_chunk()) {
        put("minBaseFee", u64::from_be_bytes(*fee).into());
    }
    serde_json::value::to_raw_value(&fields).ok()
}

/// The `status` of a payload status: `VALID`, `INVALID`, `SYNCING`, `ACCEPTED`.
#[must_use]
pub fn status(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<Status>(raw.get()).ok().map(|status| status.status)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope<'a> {
    #[serde(borrow)]
    execution_payload: &'a RawValue,
    #[serde(borrow, default)]
    parent_beacon_block_root: Option<&'a RawValue>,
}

/// The call by which op-node would bring back what `getPayload` gave: method and parameters; `None` for what is no envelope,
/// and for other versions than 2 to 4, whose `newPayload` has the same number. OP has neither blobs nor requests. Source:
/// Engine API; op-node's `NewPayload`.
#[must_use]
pub fn import(get_payload: &str, raw: &RawValue) -> Option<(String, Vec<Box<RawValue>>)> {
    let version: u32 = get_payload.strip_prefix("engine_getPayloadV")?.parse().ok()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let envelope: RawEnvelope<'_> = serde_json::from_str(raw.get()).ok()?;
    let none = || RawValue::from_string("[]".to_owned()).ok();
    let mut params = vec![envelope.execution_payload.to_owned()];
    if version >= 3 {
        params.extend([none()?, envelope.parent_beacon_block_root?.to_owned()]);
    }
    if version >= 4 {
        params.push(none()?);
    }
    Some((format!("engine_newPayloadV{version}"), params))
}

/// What an engine says to a block that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It has the block.
    Valid,
    /// It has executed the block and does not take it, for this reason.
    Invalid(String),
}

/// Reads the answer to `newPayload` for a block on `parent`; `None` if it says nothing of the block's execution. One that
/// could not be read is `INVALID` without, one that could not be executed is `INVALID` with the parent as the latest
/// valid block.
#[must_use]
pub fn imported(raw: &RawValue, parent: B256) -> Option<Imported> {
    let Status { status, latest_valid_hash, validation_error } =
        serde_json::from_str(raw.get()).ok()?;
    match status.as_str() {
        "VALID" => Some(Imported::Valid),
        "INVALID" if latest_valid_hash == Some(parent) => {
            Some(Imported::Invalid(validation_error.unwrap_or_default()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
