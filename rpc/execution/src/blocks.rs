//! Headers and contents of L2 blocks, asked of the engine. It remembers nothing.

use alloy_primitives::{B256, Bytes};
use lockstep_core::cursor::{L2Block, L2Header};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::attributes::Quantity;
use crate::client::{Engine, EngineError};
use crate::limits::LOOK_UP_TIMEOUT;

/// A block's header, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockInfo {
    number: Quantity,
    /// Its hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent_hash: B256,
    timestamp: Quantity,
    gas_limit: Quantity,
}

impl BlockInfo {
    /// L2 block number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number.0
    }

    /// Timestamp, seconds.
    #[must_use]
    pub const fn timestamp(&self) -> u64 {
        self.timestamp.0
    }

    /// The same for core.
    #[must_use]
    pub const fn header(&self) -> L2Header {
        L2Header {
            number: self.number.0,
            hash: self.hash,
            parent: self.parent_hash,
            timestamp: self.timestamp.0,
            gas_limit: self.gas_limit.0,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    transactions: Vec<Bytes>,
}

/// The blocks of the chain, as its engine has them.
#[derive(Debug)]
pub struct Blocks {
    engine: Engine,
}

impl Blocks {
    /// The blocks of an engine.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// The content of the block with this header; `None` if the engine does not have it.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot tell.
    pub async fn content(&self, header: L2Header) -> Result<Option<L2Block>, EngineError> {
        let bodies: Vec<Option<Body>> =
            self.look_up("engine_getPayloadBodiesByHashV1", ([header.hash],)).await?;
        let body = bodies.into_iter().next().flatten();
        Ok(body.map(|body| L2Block::new(header, body.transactions)))
    }

    /// The header of the block with this hash.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot tell.
    pub async fn info(&self, hash: B256) -> Result<Option<BlockInfo>, EngineError> {
        self.look_up("eth_getBlockByHash", (hash, false)).await
    }

    /// The header of the engine's head.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot tell.
    pub async fn head(&self) -> Result<Option<BlockInfo>, EngineError> {
        self.look_up("eth_getBlockByNumber", ("latest", false)).await
    }

    /// Whether the block is on the engine's chain.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot tell.
    pub async fn is_canonical(&self, hash: B256, number: u64) -> Result<bool, EngineError> {
        let params = (format!("{number:#x}"), false);
        let there: Option<BlockInfo> = self.look_up("eth_getBlockByNumber", params).await?;
        Ok(there.is_some_and(|block| block.hash == hash))
    }

    async fn look_up<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, EngineError> {
        let answer = timeout(LOOK_UP_TIMEOUT, self.engine.read(method, params)).await;
        let silent = |_| EngineError::Unreachable(format!("{method}: no answer in time"));
        answer.map_err(silent)?
    }
}
