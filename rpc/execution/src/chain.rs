//! A chain's blocks by number, hash or tag, as its engine's public JSON-RPC has them.
//!
//! What the engine says is believed; only that it answers what was asked is checked.

use alloy_primitives::{B256, hex};
use serde::Deserialize;

use crate::client::{Bounds, Engine, EngineError, InvalidUrl};
use crate::limits::{CHAIN_ANSWER_BYTES_MAX, CHAIN_TIMEOUT, CONNECT_TIMEOUT};

/// The execution APIs' code for a block that is not there.
const UNKNOWN_BLOCK: i64 = -39_001;
const BOUNDS: Bounds = Bounds {
    connect_timeout: CONNECT_TIMEOUT,
    timeout: CHAIN_TIMEOUT,
    answer_bytes_max: CHAIN_ANSWER_BYTES_MAX,
};

/// Calls one engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainRpc(Engine);

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
    /// [`InvalidUrl`].
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Engine::within(BOUNDS, url, None).map(Self)
    }

    /// Where the engine is.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// The block with this hash, on the engine's chain or beside it; `None` if the engine does not have it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<ChainBlock>, EngineError> {
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
    /// [`EngineError`].
    pub async fn block_at(&self, tag: BlockTag) -> Result<Option<ChainBlock>, EngineError> {
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
    ) -> Result<Option<ChainBlock>, EngineError> {
        match self.0.read::<Option<BlockJson>>(method, params).await {
            Ok(block) => block.map(ChainBlock::try_from).transpose(),
            Err(EngineError::Refused(error)) if is_absence(error.code, &error.message) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A head that there is none of yet is an error to some engines, and `null` to others.
fn is_absence(code: i64, message: &str) -> bool {
    code == UNKNOWN_BLOCK || message.ends_with("block not found")
}

fn malformed(reason: impl ToString) -> EngineError {
    EngineError::Answer { status: 200, reason: reason.to_string() }
}

fn quantity(text: &str) -> Result<u64, EngineError> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| malformed(format!("{text:?} is no quantity")))
}

fn hash(text: &str) -> Result<B256, EngineError> {
    text.parse().map_err(|_| malformed(format!("{text:?} is no hash")))
}

impl TryFrom<BlockJson> for ChainBlock {
    type Error = EngineError;

    fn try_from(block: BlockJson) -> Result<Self, EngineError> {
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
