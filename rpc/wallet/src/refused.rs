//! Why `eth_sendRawTransaction` was refused, in geth's words: wallets and libraries match on them.
//!
//! Sources: go-ethereum `core/error.go`, `core/txpool/errors.go`, `core/txpool/validation.go`.

use alloy_primitives::{Address, U256};
use lockstep_core::limits::TRANSACTION_BYTES_MAX;
use lockstep_core::transaction::InvalidTransaction;
use lockstep_core::types::ChainId;
use lockstep_execution::json_rpc;

/// A refusal. The caller may send the transaction again once what it names has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Params(&'static str),
    #[error("typed transaction too short")]
    Empty,
    #[error("oversized data: transaction size {count}, limit {TRANSACTION_BYTES_MAX}")]
    Oversized { count: usize },
    #[error("transaction type not supported")]
    Type,
    #[error("rlp: {0}")]
    Envelope(String),
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("invalid sender: invalid chain id for signer: have {got} want {expected}")]
    Chain { expected: ChainId, got: ChainId },
    #[error("invalid sender: {0}")]
    Sender(String),
    #[error("exceeds block gas limit")]
    GasLimit,
    #[error("transaction gas limit too high (cap: {max}, tx: {gas})")]
    GasTooHigh { gas: u64, max: u64 },
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    #[error("set code tx must have at least one authorization tuple")]
    NoAuthorization,
    #[error("transaction underpriced: gas tip cap {tip}, minimum needed {needed}")]
    Underpriced { tip: u128, needed: u128 },
    #[error(
        "max fee per gas less than block base fee: address {sender}, maxFeePerGas: {fee}, baseFee: {base_fee}"
    )]
    FeeTooLow { sender: Address, fee: u128, base_fee: u128 },
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce has max value")]
    NonceMax,
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}"
    )]
    Funds { balance: U256, cost: U256, overshot: U256 },
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}"
    )]
    QueuedFunds { balance: U256, queued: U256, cost: U256, overshot: U256 },
    #[error("already known")]
    AlreadyKnown,
    #[error("replacement transaction underpriced")]
    Replacement,
    #[error("account limit exceeded")]
    AccountLimit,
    #[error("in-flight transaction limit reached for delegated accounts")]
    DelegatedLimit,
    #[error("gapped-nonce tx from delegated accounts")]
    DelegatedGap,
    #[error("txpool is full")]
    Full,
    #[error("limit exceeded: {0}")]
    Quota(String),
    #[error("execution engine unavailable: {0}")]
    Engine(String),
    #[error(
        "no transaction is taken: the sidecar's execution mode is {0}, blocks are made past the log"
    )]
    Closed(&'static str),
    #[error("not taken by the committee: {0}")]
    Committee(String),
}

impl Refused {
    /// The JSON-RPC code of the answer.
    pub(crate) const fn code(&self) -> i64 {
        match self {
            Self::Params(_) => json_rpc::INVALID_PARAMS,
            Self::Quota(_) => json_rpc::LIMIT_EXCEEDED,
            Self::Engine(_) => json_rpc::INTERNAL_ERROR,
            Self::Empty
            | Self::Oversized { .. }
            | Self::Type
            | Self::Envelope(_)
            | Self::Unprotected
            | Self::Chain { .. }
            | Self::Sender(_)
            | Self::GasLimit
            | Self::GasTooHigh { .. }
            | Self::IntrinsicGas { .. }
            | Self::TipAboveFee
            | Self::NoAuthorization
            | Self::Underpriced { .. }
            | Self::FeeTooLow { .. }
            | Self::NonceTooLow { .. }
            | Self::NonceMax
            | Self::Funds { .. }
            | Self::QueuedFunds { .. }
            | Self::AlreadyKnown
            | Self::Replacement
            | Self::AccountLimit
            | Self::DelegatedLimit
            | Self::DelegatedGap
            | Self::Full
            | Self::Closed(_)
            | Self::Committee(_) => json_rpc::SERVER_ERROR,
        }
    }

    /// In one word, for the counter of refusals.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Params(_) | Self::Empty | Self::Envelope(_) => "malformed",
            Self::Oversized { .. } => "size",
            Self::Type | Self::NoAuthorization => "type",
            Self::Unprotected | Self::Chain { .. } => "chain",
            Self::Sender(_) => "signature",
            Self::GasLimit | Self::GasTooHigh { .. } | Self::IntrinsicGas { .. } => "gas",
            Self::TipAboveFee | Self::Underpriced { .. } | Self::FeeTooLow { .. } => "fee",
            Self::NonceTooLow { .. } | Self::NonceMax => "nonce",
            Self::Funds { .. } | Self::QueuedFunds { .. } => "funds",
            Self::AlreadyKnown => "known",
            Self::Replacement => "replacement",
            Self::AccountLimit | Self::DelegatedLimit | Self::DelegatedGap | Self::Full => "full",
            Self::Quota(_) => "quota",
            Self::Closed(_) => "closed",
            Self::Engine(_) => "engine",
            Self::Committee(_) => "committee",
        }
    }
}

impl From<InvalidTransaction> for Refused {
    fn from(error: InvalidTransaction) -> Self {
        match error {
            InvalidTransaction::Empty => Self::Empty,
            InvalidTransaction::TooLarge { count } => Self::Oversized { count },
            InvalidTransaction::Type { .. } => Self::Type,
            InvalidTransaction::Envelope { reason } => Self::Envelope(reason),
            InvalidTransaction::NoChainId { .. } => Self::Unprotected,
            InvalidTransaction::ChainId { expected, got } => Self::Chain { expected, got },
            InvalidTransaction::Gas { .. } => Self::GasLimit,
            InvalidTransaction::Signature(error) => Self::Sender(error.to_string()),
        }
    }
}
