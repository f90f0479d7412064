//! Why a job comes to no block, and what whoever asked for it must do.

use alloy_primitives::B256;
use lockstep_core::reader::Unresolved;
use lockstep_execution::client::EngineError;

use crate::build::BuildError;
use crate::feed::FeedError;

/// What op-node, or the operator, must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing: op-node asks again, and it passes.
    Temporary,
    /// op-node has gone on, or must begin anew.
    Reset,
    /// The operator must look: it does not pass by itself.
    Critical,
}

/// A block is no longer the head that op-node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {0} is no longer the head")]
pub struct NotHead(pub B256);

/// Why a block's cursor, or what it was offered, is not known yet.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotFound {
    /// The log or the chain does not tell it.
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    /// The engine can't be asked.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The committee can't be asked.
    #[error("{0}")]
    Feed(#[from] FeedError),
}

/// Why a block could not be taken from the engine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotTaken {
    /// The engine is away, or has no payload.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// No answer.
    #[error("the engine gives no payload in time")]
    Silent,
    /// What it gave is no payload.
    #[error("the engine's payload cannot be read")]
    Unreadable,
    /// It holds something else than deposits and offered items.
    #[error("the engine's payload is not what was to be built")]
    Foreign,
    /// A block without torn legs cannot be built.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The same, however often it is tried.
    #[error("the engine tears legs without end")]
    Torn,
}

/// Why there is no block.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobError {
    /// op-node has another head by now.
    #[error("{0}")]
    NotHead(#[from] NotHead),
    /// Where the offer begins, or what it is, is not known yet.
    #[error("{0}")]
    NotFound(#[from] NotFound),
    /// The log has not come to the window's end.
    #[error("the log is not decided up to this block's window yet")]
    NotDecided,
    /// Nothing of the log is believed any more.
    #[error("the committee's safety has failed")]
    Forked,
    /// The engine does not build the block.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The engine built the block and calls it invalid.
    #[error("the engine does not take the block that it built: {0}")]
    NotImported(String),
    /// The engine does not give what it built.
    #[error("{0}")]
    NotTaken(#[from] NotTaken),
    /// It loses each block that it builds.
    #[error("the engine gives no payload of what it builds")]
    Lost,
    /// A block was called invalid when op-node brought it back.
    #[error("{0}")]
    BroughtBack(String),
    /// The job was forgotten behind newer ones.
    #[error("the job has ended")]
    Ended,
}

impl JobError {
    /// What must be done about it.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NotHead(_) | Self::Ended | Self::Build(BuildError::NotHead(_)) => Severity::Reset,
            Self::Forked
            | Self::NotImported(_)
            | Self::NotTaken(NotTaken::Foreign | NotTaken::Torn)
            | Self::Build(BuildError::OwnTransactions(_)) => Severity::Critical,
            Self::NotFound(_)
            | Self::NotDecided
            | Self::Build(_)
            | Self::NotTaken(_)
            | Self::Lost
            | Self::BroughtBack(_) => Severity::Temporary,
        }
    }
}

impl From<Unresolved> for JobError {
    fn from(error: Unresolved) -> Self {
        Self::NotFound(error.into())
    }
}
