//! A client of a chain's execution engine: JSON-RPC over HTTP, a bounded answer within a bounded time.
//!
//! It speaks plain HTTP only: the engine is on this machine or on a private network. What the engine says is believed;
//! only that it answers what was asked is checked. It does not retry.

use std::time::Duration;

use alloy_primitives::{B256, hex};
use reqwest::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::chain;

/// How long a call may take, from the connection to the answer's last byte.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of one answer: a block with 100,000 transaction hashes of 69 bytes, and some.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Bytes of an error's message that are kept.
const MESSAGE_BYTES_MAX: usize = 256;
/// The execution APIs' code for a block that is not there.
const UNKNOWN_BLOCK: i64 = -39_001;

/// Calls one engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainRpc {
    client: reqwest::Client,
    url: String,
}

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainRpcError {
    /// The URL is not usable. The operator must mend it.
    #[error("{url:?} is not http://host:port")]
    Url {
        /// The URL.
        url: String,
    },
    /// Nobody answers, or not in time. Try again.
    #[error("cannot reach the engine: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// An HTTP status that is no success.
    #[error("the engine answers with HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer is longer than [`ANSWER_BYTES_MAX`].
    #[error("the engine's answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// The answer is not what was asked for.
    #[error("the engine's answer makes no sense: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// The engine refuses the call.
    #[error("the engine refuses: {message} (code {code})")]
    Refused {
        /// JSON-RPC's code.
        code: i64,
        /// For people; at most 256 bytes.
        message: String,
    },
}

/// A block of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBlock {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Hashes of its transactions, deposits included, in order.
    pub transactions: Vec<B256>,
}

/// Which block of the engine's own chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockTag {
    /// By number.
    Number(u64),
    /// The unsafe head.
    Latest,
    /// The safe head.
    Safe,
    /// The finalized head.
    Finalized,
}

impl BlockTag {
    fn parameter(self) -> String {
        match self {
            Self::Number(number) => format!("{number:#x}"),
            Self::Latest => "latest".to_owned(),
            Self::Safe => "safe".to_owned(),
            Self::Finalized => "finalized".to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: u8,
    method: &'a str,
    params: &'a P,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockJson {
    number: String,
    hash: String,
    parent_hash: String,
    timestamp: String,
    transactions: Vec<String>,
}

impl ChainRpc {
    /// A client of the engine at `http://host:port`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ChainRpcError::Url`].
    pub fn new(url: &str) -> Result<Self, ChainRpcError> {
        let unusable = || ChainRpcError::Url { url: url.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|_| unusable())?;
        if parsed.scheme() != "http" || parsed.host().is_none() {
            return Err(unusable());
        }
        // The engine is named by its operator: no proxy of the environment, and no way to another host.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|_| unusable())?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Where the engine is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method. A result of `null` is read as `T` is from `null`.
    ///
    /// # Errors
    /// [`ChainRpcError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, ChainRpcError> {
        let request = Request { jsonrpc: "2.0", id: 1, method, params };
        let body = serde_json::to_vec(&request).map_err(malformed)?;
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        let mut response = request.body(body).send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            return Err(ChainRpcError::Status { status: status.as_u16() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                return Err(ChainRpcError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        read(&bytes)
    }

    /// The block with this hash, on the engine's chain or beside it; `None` if the engine does not have it.
    ///
    /// # Errors
    /// [`ChainRpcError`].
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<ChainBlock>, ChainRpcError> {
        let block = self.block("eth_getBlockByHash", &(hex::encode_prefixed(hash), false)).await?;
        match &block {
            Some(block) if block.hash != hash => {
                Err(malformed(format!("block {} for {hash}", block.hash)))
            }
            _ => Ok(block),
        }
    }

    /// A block of the engine's own chain; `None` if there is none (yet).
    ///
    /// # Errors
    /// [`ChainRpcError`].
    pub async fn block_at(&self, tag: BlockTag) -> Result<Option<ChainBlock>, ChainRpcError> {
        let block = self.block("eth_getBlockByNumber", &(tag.parameter(), false)).await?;
        match (&block, tag) {
            (Some(block), BlockTag::Number(number)) if block.number != number => {
                Err(malformed(format!("block {} for {number}", block.number)))
            }
            _ => Ok(block),
        }
    }

    async fn block(
        &self,
        method: &str,
        params: &(String, bool),
    ) -> Result<Option<ChainBlock>, ChainRpcError> {
        match self.call::<Option<BlockJson>>(method, params).await {
            Ok(block) => block.map(ChainBlock::try_from).transpose(),
            Err(ChainRpcError::Refused { code, message }) if is_absence(code, &message) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A head that there is none of yet is an error to some engines, and `null` to others.
fn is_absence(code: i64, message: &str) -> bool {
    code == UNKNOWN_BLOCK || message.ends_with("block not found")
}

fn unreachable(error: reqwest::Error) -> ChainRpcError {
    ChainRpcError::Unreachable { reason: chain(&error.without_url()) }
}

fn malformed(reason: impl ToString) -> ChainRpcError {
    ChainRpcError::Malformed { reason: reason.to_string() }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChainRpcError> {
    let answer: Answer<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
    if let Some(Refusal { code, message }) = answer.error {
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        let message = message.get(..end).unwrap_or_default().to_owned();
        return Err(ChainRpcError::Refused { code, message });
    }
    serde_json::from_str(answer.result.map_or("null", RawValue::get)).map_err(malformed)
}

fn quantity(text: &str) -> Result<u64, ChainRpcError> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| malformed(format!("{text:?} is no quantity")))
}

fn hash(text: &str) -> Result<B256, ChainRpcError> {
    text.parse().map_err(|_| malformed(format!("{text:?} is no hash")))
}

impl TryFrom<BlockJson> for ChainBlock {
    type Error = ChainRpcError;

    fn try_from(block: BlockJson) -> Result<Self, ChainRpcError> {
        Ok(Self {
            number: quantity(&block.number)?,
            hash: hash(&block.hash)?,
            parent: hash(&block.parent_hash)?,
            timestamp: quantity(&block.timestamp)?,
            transactions: block
                .transactions
                .iter()
                .map(|text| hash(text))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests;
