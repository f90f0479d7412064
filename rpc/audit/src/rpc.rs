//! The audited chain's blocks, fetched: from a public JSON-RPC endpoint, or from an engine's authenticated one.

use alloy_primitives::B256;
use futures::StreamExt;
use futures::stream;
use lockstep_execution::blocks::{BlockInfo, Blocks};
use lockstep_execution::client::{Engine, EngineError, InvalidUrl};
use lockstep_execution::jwt::Secret;

use crate::block::{ChainBlock, InvalidAnswer, RpcBlock};
use crate::limits::CALLS_AT_ONCE;

/// Why a block is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RpcError {
    /// The endpoint cannot tell. Try again.
    #[error("{url}: {error}")]
    Away {
        /// The endpoint.
        url: String,
        /// Why.
        error: EngineError,
    },
    /// The endpoint's answer contradicts itself. Ask another endpoint.
    #[error("{url} lied: {error}")]
    Lied {
        /// The endpoint.
        url: String,
        /// How.
        error: InvalidAnswer,
    },
}

#[derive(Debug)]
enum Source {
    Public(Engine),
    Engine(Blocks),
}

/// One chain's endpoint.
#[derive(Debug)]
pub struct ChainRpc {
    url: String,
    engine: Engine,
    source: Source,
}

impl ChainRpc {
    /// The endpoint at `url`, `http://host:port`: the engine's authenticated one if there is a secret, else a public one.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn new(url: &str, secret: Option<Secret>) -> Result<Self, InvalidUrl> {
        let is_engine = secret.is_some();
        let engine = Engine::new(url, secret)?;
        let source = match is_engine {
            true => Source::Engine(Blocks::new(engine.clone())),
            false => Source::Public(engine.clone()),
        };
        Ok(Self { url: url.to_owned(), engine, source })
    }

    /// The endpoint.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the endpoint is of this chain.
    ///
    /// # Errors
    /// [`RpcError`] if the endpoint cannot tell.
    pub async fn is_of(&self, chain: u64) -> Result<bool, RpcError> {
        self.engine.is_of(chain).await.map_err(|error| self.away(error))
    }

    /// The header of the chain's head.
    ///
    /// # Errors
    /// [`RpcError`] if the endpoint cannot tell.
    pub async fn head(&self) -> Result<Option<BlockInfo>, RpcError> {
        self.info("latest").await
    }

    /// The header of the block with this number; `None` if the chain does not have it.
    ///
    /// # Errors
    /// [`RpcError`] if the endpoint cannot tell.
    pub async fn header(&self, number: u64) -> Result<Option<BlockInfo>, RpcError> {
        let info = self.info(&format!("{number:#x}")).await?;
        let other = info.as_ref().map(BlockInfo::number).filter(|got| *got != number);
        match other {
            Some(got) => Err(self.lied(InvalidAnswer::Number { expected: number, got })),
            None => Ok(info),
        }
    }

    /// The hash of the block with this number; `None` if the chain does not have it.
    ///
    /// # Errors
    /// [`RpcError`] if the endpoint cannot tell.
    pub async fn hash(&self, number: u64) -> Result<Option<B256>, RpcError> {
        Ok(self.header(number).await?.map(|info| info.hash))
    }

    /// The blocks with these numbers in order, up to the first that the chain does not have.
    ///
    /// # Errors
    /// [`RpcError`] if the endpoint cannot tell, or lied.
    pub async fn blocks(&self, from: u64, to: u64) -> Result<Vec<ChainBlock>, RpcError> {
        let mut asked =
            stream::iter(from..=to).map(|number| self.block(number)).buffered(CALLS_AT_ONCE);
        let mut blocks = Vec::new();
        while let Some(block) = asked.next().await {
            match block? {
                Some(block) => blocks.push(block),
                None => break,
            }
        }
        Ok(blocks)
    }

    async fn block(&self, number: u64) -> Result<Option<ChainBlock>, RpcError> {
        match &self.source {
            Source::Public(engine) => {
                let params = (format!("{number:#x}"), true);
                let block: Option<RpcBlock> = engine
                    .read("eth_getBlockByNumber", params)
                    .await
                    .map_err(|error| self.away(error))?;
                let checked = block.map(|block| block.check(number)).transpose();
                checked.map_err(|error| self.lied(error))
            }
            Source::Engine(blocks) => {
                let Some(info) = self.header(number).await? else {
                    return Ok(None);
                };
                let block = blocks.content(info.header()).await;
                let block = block.map_err(|error| self.away(error))?;
                Ok(block.map(ChainBlock::from))
            }
        }
    }

    async fn info(&self, block: &str) -> Result<Option<BlockInfo>, RpcError> {
        let answer = self.engine.read("eth_getBlockByNumber", (block, false)).await;
        answer.map_err(|error| self.away(error))
    }

    fn away(&self, error: EngineError) -> RpcError {
        RpcError::Away { url: self.url.clone(), error }
    }

    fn lied(&self, error: InvalidAnswer) -> RpcError {
        RpcError::Lied { url: self.url.clone(), error }
    }
}
