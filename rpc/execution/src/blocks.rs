//! Contents of L2 blocks: from the payloads that op-node sends, else asked of the engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{B256, Bytes};
use lockstep_core::cursor::L2Block;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::attributes::Quantity;
use crate::client::{Engine, EngineError};
use crate::limits::{BLOCKS_KEPT_MAX, LOOK_UP_TIMEOUT};
use crate::payload::Payload;

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
}

#[derive(Deserialize)]
struct Body {
    transactions: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: BTreeMap<B256, L2Block>,
    order: VecDeque<B256>,
}

/// The blocks of the chain, as its engine has them.
#[derive(Debug)]
pub struct Blocks {
    engine: Engine,
    // Held for one map operation at a time.
    kept: Mutex<Kept>,
}

impl Blocks {
    /// The blocks of an engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, kept: Mutex::default() }
    }

    /// Keeps the content of a payload.
    pub fn keep(&self, payload: &Payload) {
        let block = L2Block::from(payload.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.blocks.insert(block.hash, block).is_none() {
            kept.order.push_back(payload.hash);
        }
        while kept.order.len() > BLOCKS_KEPT_MAX {
            if let Some(oldest) = kept.order.pop_front() {
                kept.blocks.remove(&oldest);
            }
        }
    }

    /// The block with this hash; `None` if the engine does not have it.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot tell.
    pub async fn get(&self, hash: B256) -> Result<Option<L2Block>, EngineError> {
        if let Some(block) = self.kept(&hash) {
            return Ok(Some(block));
        }
        let Some(info) = self.info(hash).await? else {
            return Ok(None);
        };
        let bodies: Vec<Option<Body>> =
            self.look_up("engine_getPayloadBodiesByHashV1", ([hash],)).await?;
        let body = bodies.into_iter().next().flatten();
        Ok(body.map(|body| L2Block {
            number: info.number(),
            hash,
            parent: info.parent_hash,
            timestamp: info.timestamp(),
            gas_limit: info.gas_limit.0,
            transactions: body.transactions,
        }))
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

    fn kept(&self, hash: &B256) -> Option<L2Block> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).blocks.get(hash).cloned()
    }
}
