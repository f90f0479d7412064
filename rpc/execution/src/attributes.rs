//! Payload attributes as raw JSON: what the sidecar reads of them, and the one thing it changes.
//!
//! Attributes are never read into a type and written again: a field that a later fork adds must survive. Source: Engine
//! API, `engine_forkchoiceUpdatedV3`; OP specs, "Extended PayloadAttributesV3".

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, hex, keccak256};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Why attributes were refused: op-node, or who claims to be it, sent something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload attributes: {0}")]
pub struct InvalidAttributes(pub String);

/// What op-node says of the heads, as it came and read.
#[derive(Clone, Debug)]
pub struct Forkchoice {
    /// As it came.
    pub raw: Box<RawValue>,
    /// The head that op-node wants.
    pub head: B256,
    /// The safe head; zero if there is none.
    pub safe: B256,
    /// The finalized head; zero if there is none.
    pub finalized: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawForkchoice {
    head_block_hash: B256,
    safe_block_hash: B256,
    finalized_block_hash: B256,
}

impl Forkchoice {
    /// Reads a forkchoice state.
    ///
    /// # Errors
    /// [`InvalidAttributes`] if it is none.
    pub fn read(raw: &RawValue) -> Result<Self, InvalidAttributes> {
        let state: RawForkchoice = serde_json::from_str(raw.get())
            .map_err(|error| InvalidAttributes(error.to_string()))?;
        Ok(Self {
            raw: raw.to_owned(),
            head: state.head_block_hash,
            safe: state.safe_block_hash,
            finalized: state.finalized_block_hash,
        })
    }
}

/// A JSON-RPC quantity: `0x` and hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity(pub u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or_default();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a quantity")))
    }
}

/// Attributes of a block to build.
#[derive(Clone, Debug)]
pub struct Attributes {
    fields: BTreeMap<String, Box<RawValue>>,
    raw: Box<RawValue>,
    /// The block's timestamp, seconds.
    pub timestamp: u64,
    /// The block's gas limit.
    pub gas_limit: u64,
    /// What op-node wants in the block: deposits alone, in a sequencing job.
    pub transactions: Vec<Bytes>,
    /// Whether the engine may add nothing of its own. Absent means no.
    pub no_tx_pool: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAttributes {
    timestamp: Quantity,
    gas_limit: Option<Quantity>,
    #[serde(default)]
    transactions: Option<Vec<Bytes>>,
    #[serde(default)]
    no_tx_pool: Option<bool>,
}

impl Attributes {
    /// Reads attributes.
    ///
    /// # Errors
    /// [`InvalidAttributes`] if they are none, or lack what every OP chain sends.
    pub fn read(raw: &RawValue) -> Result<Self, InvalidAttributes> {
        let invalid = |error: serde_json::Error| InvalidAttributes(error.to_string());
        let read: RawAttributes = serde_json::from_str(raw.get()).map_err(invalid)?;
        let gas_limit =
            read.gas_limit.ok_or_else(|| InvalidAttributes("no gasLimit".to_owned()))?;
        Ok(Self {
            fields: serde_json::from_str(raw.get()).map_err(invalid)?,
            raw: raw.to_owned(),
            timestamp: read.timestamp.0,
            gas_limit: gas_limit.0,
            transactions: read.transactions.unwrap_or_default(),
            no_tx_pool: read.no_tx_pool.unwrap_or(false),
        })
    }

    /// Whether the engine would fill the block from its pool: a sequencing job, and the only thing that is rewritten.
    #[must_use]
    pub const fn is_sequencing(&self) -> bool {
        !self.no_tx_pool
    }

    /// A name for the job of these attributes on `parent`. The same job has the same name.
    #[must_use]
    pub fn job(&self, parent: B256) -> JobId {
        let digest = keccak256([parent.as_slice(), self.raw.get().as_bytes()].concat());
        JobId(digest.first_chunk().copied().unwrap_or_default())
    }

    /// The same attributes with `items` behind the deposits, and nothing from the pool.
    ///
    /// # Errors
    /// [`InvalidAttributes`] if JSON cannot be written, which does not happen.
    pub fn with_items<'a>(
        &self,
        items: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<Box<RawValue>, InvalidAttributes> {
        let mut transactions: Vec<String> =
            self.transactions.iter().map(hex::encode_prefixed).collect();
        transactions.extend(items.into_iter().map(hex::encode_prefixed));
        let invalid = |error: serde_json::Error| InvalidAttributes(error.to_string());
        let mut fields = self.fields.clone();
        fields.insert("transactions".to_owned(), to_raw_value(&transactions).map_err(invalid)?);
        fields.insert("noTxPool".to_owned(), to_raw_value(&true).map_err(invalid)?);
        to_raw_value(&fields).map_err(invalid)
    }
}

/// The payload id that the sidecar gives a job: op-node treats it as opaque.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 8]);

impl core::fmt::Display for JobId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl core::fmt::Debug for JobId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the payload id in the parameters of a `getPayload`.
#[must_use]
pub fn payload_id(raw: &RawValue) -> Option<JobId> {
    let text: String = serde_json::from_str(raw.get()).ok()?;
    let bytes = hex::decode(text.strip_prefix("0x")?).ok()?;
    bytes.try_into().ok().map(JobId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = r#"{"timestamp":"0x6b02c2c4","prevRandao":"0xe0","suggestedFeeRecipient":"0x42","withdrawals":[],
        "parentBeaconBlockRoot":"0x00","transactions":["0x7ef901"],"gasLimit":"0x1c9c380","eip1559Params":"0x000000fa00000006",
        "minBaseFee":0,"aFieldOfTheNextFork":{"deep":[1,2.50,"x"]}}"#;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn unknown_fields_survive_the_rewrite_as_they_are() {
        let attributes = Attributes::read(&raw(REAL)).expect("attributes");
        let rewritten = attributes.with_items(&[Bytes::from_static(&[0x02, 0xff])]).expect("JSON");
        let before: BTreeMap<String, Box<RawValue>> = serde_json::from_str(REAL).expect("object");
        let after: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(rewritten.get()).expect("object");
        for (name, value) in &before {
            if name != "transactions" {
                assert_eq!(after[name].get(), value.get(), "{name}");
            }
        }
        assert_eq!(after["transactions"].get(), r#"["0x7ef901","0x02ff"]"#);
        assert_eq!(after["noTxPool"].get(), "true");
        assert_eq!(after.len(), before.len() + 1);
    }

    #[test]
    fn absent_no_tx_pool_is_a_sequencing_job() {
        let cases = [
            ("", true),
            (r#","noTxPool":false"#, true),
            (r#","noTxPool":null"#, true),
            (r#","noTxPool":true"#, false),
        ];
        for (field, expected) in cases {
            let text = format!(r#"{{"timestamp":"0x1","gasLimit":"0x2"{field}}}"#);
            let attributes = Attributes::read(&raw(&text)).expect("attributes");
            assert_eq!(attributes.is_sequencing(), expected, "{text}");
        }
    }

    #[test]
    fn attributes_without_time_or_gas_limit_are_refused() {
        for text in [
            "{}",
            r#"{"timestamp":"0x1"}"#,
            r#"{"timestamp":"1","gasLimit":"0x1"}"#,
            "[]",
            "7",
            r#"{"timestamp":"0x+1","gasLimit":"0x1"}"#,
            r#"{"timestamp":"0x1","gasLimit":"0x1","transactions":["0xz"]}"#,
        ] {
            assert!(Attributes::read(&raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn job_is_named_by_parent_and_attributes() {
        let attributes = Attributes::read(&raw(REAL)).expect("attributes");
        let other =
            Attributes::read(&raw(&REAL.replace("0x6b02c2c4", "0x6b02c2c5"))).expect("attributes");
        let parent = B256::repeat_byte(1);
        assert_eq!(attributes.job(parent), attributes.job(parent));
        assert_ne!(attributes.job(parent), other.job(parent));
        assert_ne!(attributes.job(parent), attributes.job(B256::repeat_byte(2)));
        let name = raw(&format!("\"{}\"", attributes.job(parent)));
        assert_eq!(payload_id(&name), Some(attributes.job(parent)));
    }
}
