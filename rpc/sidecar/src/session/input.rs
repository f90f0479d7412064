//! What happened: everything that the session is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::cursor::{L2Block, L2Header};
use lockstep_core::reader::LogView;
use lockstep_core::records::RecordBook;
use lockstep_core::types::Height;
use lockstep_execution::attributes::{Attributes, Forkchoice, JobId, payload_id};
use lockstep_execution::client::EngineError;
use lockstep_execution::payload::Payload;
use reqwest::StatusCode;
use serde_json::value::RawValue;

use super::effect::{AskId, CallId};
use crate::config::ExecutionMode;
use crate::feed::{FeedError, LogBlock, Newest};
use crate::precheck::{Ending, Facts, State};

/// The only time there is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what takes a while.
    pub instant: Instant,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// The log as it is known now.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// What records say.
    pub book: &'a RecordBook,
    /// The newest log block.
    pub newest: Newest,
    /// How long ago it came.
    pub silence: Duration,
}

impl<'a> Log<'a> {
    /// The same for a reader.
    #[must_use]
    pub const fn view(&self) -> LogView<'a> {
        LogView { book: self.book, newest: self.newest.timestamp }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// op-node calls.
    Called(CallId, Call),
    /// A question is answered.
    Replied(AskId, Reply),
    /// The log went on.
    LogAdvanced,
    /// Time passed: the session asked to be told.
    Tick,
    /// The engine did not answer something that was not the session's.
    EngineAway,
    /// The operator sets the switch.
    Switched(ExecutionMode),
}

/// A call of op-node that is looked at.
#[derive(Clone, Debug)]
pub enum Call {
    /// `forkchoiceUpdated`.
    Forkchoice {
        /// Its version.
        method: String,
        /// The heads.
        forkchoice: Forkchoice,
        /// What a block is to be built from, if it is a sequencing job.
        attributes: Option<Attributes>,
    },
    /// `getPayload`.
    GetPayload {
        /// Its version.
        method: String,
        /// Which, if it can be the id of a job.
        id: Option<JobId>,
    },
    /// `newPayload`.
    NewPayload {
        /// Its version.
        method: String,
        /// The block.
        payload: Payload,
        /// All parameters, as they came.
        params: Vec<Box<RawValue>>,
    },
    /// Any other, while the engine is in doubt.
    Other,
    /// `miner_setMaxDASize`.
    MaxDaSize {
        /// Greatest compressed bytes of a transaction; 0 for no limit.
        tx_bytes: u64,
        /// Greatest compressed bytes of a block; 0 for no limit.
        block_bytes: u64,
    },
}

impl Call {
    /// Reads a call; `None` if it is nothing to the session, or can't be read.
    #[must_use]
    pub fn read(method: &str, params: &[&RawValue]) -> Option<Self> {
        let first = *params.first()?;
        let (name, method) = (method, method.to_owned());
        if name.starts_with("engine_forkchoiceUpdated") {
            let forkchoice = Forkchoice::read(first).ok()?;
            let attributes = params.get(1).filter(|raw| raw.get() != "null");
            let attributes = attributes.and_then(|raw| Attributes::read(raw).ok());
            return Some(Self::Forkchoice { method, forkchoice, attributes });
        }
        if name.starts_with("engine_getPayloadV") {
            return Some(Self::GetPayload { method, id: payload_id(first) });
        }
        if name.starts_with("engine_newPayload") {
            let payload = Payload::read(first)?;
            let params = params.iter().map(|raw| (*raw).to_owned()).collect();
            return Some(Self::NewPayload { method, payload, params });
        }
        None
    }
}

/// What the engine answered to a call of op-node.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// HTTP status; 502 if the engine is away.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
    /// How long it took.
    pub time: Duration,
}

impl Forwarded {
    /// An answer that says that the engine is away.
    #[must_use]
    pub fn away(words: String, time: Duration) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, body: words.into(), time }
    }
}

/// A reply to a [`Question`](super::effect::Question).
#[derive(Clone, Debug)]
pub enum Reply {
    /// The engine answered a call of op-node.
    Forwarded(Forwarded),
    /// The engine answered a call, or did not.
    Called(Result<Box<RawValue>, EngineError>),
    /// A header; `None` if the engine does not have the block.
    Header(Result<Option<L2Header>, EngineError>),
    /// A block; `None` if the engine does not have it.
    Block(Result<Option<L2Block>, EngineError>),
    /// Slices.
    Log(Result<Vec<Arc<LogBlock>>, FeedError>),
    /// The book has the limits.
    Limits(Result<(), FeedError>),
    /// A height.
    Height(Result<Height, FeedError>),
    /// Facts of each item's transactions; `None` for an item that cannot be read.
    Facts(Vec<Option<Vec<Facts>>>),
    /// Accounts; `None` if the engine does not tell in time.
    State(Option<State>),
    /// Accounts, as far as the engine tells them in time.
    Endings(BTreeMap<Address, Ending>),
    /// It was tried to bring everything to disk; whether it is there. A block is handed out all the same: a full disk must not
    /// stop a chain.
    Kept(bool),
}

impl Reply {
    /// Whether it says that the engine is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let is_away = |error: &EngineError| match error {
            EngineError::Unreachable(_) => true,
            EngineError::Answer { .. } | EngineError::Refused(_) => false,
        };
        match self {
            Self::Forwarded(forwarded) => forwarded.status == StatusCode::BAD_GATEWAY,
            Self::Called(Err(error)) | Self::Header(Err(error)) | Self::Block(Err(error)) => {
                is_away(error)
            }
            Self::Called(Ok(_))
            | Self::Header(Ok(_))
            | Self::Block(Ok(_))
            | Self::Log(_)
            | Self::Limits(_)
            | Self::Height(_)
            | Self::Facts(_)
            | Self::State(_)
            | Self::Endings(_)
            | Self::Kept(_) => false,
        }
    }
}
