//! Why an audit ends, and whether it may go on later.

use lockstep_core::types::ChainId;
use lockstep_core::window::{InvalidBlock, MissingLog};

use crate::log::LogError;
use crate::rpc::RpcError;

/// Why nothing can be audited, or not further.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The chain is not in the genesis.
    #[error("chain {0} is not registered in the genesis")]
    UnknownChain(ChainId),
    /// The chain's transactions are not Ethereum's: it has no blocks that are known here.
    #[error("chain {0} is opaque: its blocks cannot be read")]
    Opaque(ChainId),
    /// The log cannot be read.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The chain cannot be read.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// The endpoint is another chain's.
    #[error("{url} is not of chain {chain}")]
    WrongChain {
        /// The endpoint.
        url: String,
        /// The chain that is audited.
        chain: ChainId,
    },
    /// The chain's endpoint has no head.
    #[error("{0} has no block")]
    NoHead(String),
    /// The chain does not have a block.
    #[error("the chain does not have block {0}")]
    NoBlock(u64),
    /// The chain's head is before the block with which it joins.
    #[error("chain {chain} joins at {joins_at}, and its head is before that")]
    NotJoined {
        /// The chain.
        chain: ChainId,
        /// Timestamp in seconds.
        joins_at: u64,
    },
    /// The log has not come to the window of a block.
    #[error("block {0} is ahead of the log")]
    AheadOfLog(u64),
    /// A block is no OP block.
    #[error("block {number}: {error}")]
    NotOp {
        /// Its number.
        number: u64,
        /// Why.
        error: InvalidBlock,
    },
    /// The slices do not show an offer: a fault of ours.
    #[error("{0}")]
    Offer(#[from] MissingLog),
    /// The chain was reorganised further back than the walk remembers.
    #[error(
        "the chain was reorganised behind block {0}, further back than is remembered: audit it again"
    )]
    TooDeep(u64),
}

impl AuditError {
    /// Whether it may pass: a node that is away, or behind.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Log(LogError::NoEndpoint { .. })
            | Self::Rpc(RpcError::Away { .. })
            | Self::NoHead(_)
            | Self::NoBlock(_)
            | Self::AheadOfLog(_) => true,
            Self::Log(LogError::Stale(_) | LogError::Fork(_))
            | Self::Rpc(RpcError::Lied { .. })
            | Self::UnknownChain(_)
            | Self::WrongChain { .. }
            | Self::Opaque(_)
            | Self::NotJoined { .. }
            | Self::NotOp { .. }
            | Self::Offer(_)
            | Self::TooDeep(_) => false,
        }
    }
}
