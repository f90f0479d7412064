//! The client of the execution engine's authenticated endpoint.
//!
//! [`Engine::forward`] carries bytes and looks at nothing; [`Engine::call`] makes a call of the sidecar's own. Neither
//! tries again: who calls knows whether that makes sense.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::jwt::Secret;
use crate::limits::{BATCH_CALLS_MAX, CONNECT_TIMEOUT, ENGINE_ANSWER_BYTES_MAX, ENGINE_TIMEOUT};

/// The `error` of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorObject {
    /// What went wrong, in a number.
    pub code: i64,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// More, as it came.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

/// What the engine answered, unread.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// Why a call gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine cannot be reached, or did not answer in time. Try again.
    #[error("engine cannot be reached: {0}")]
    Unreachable(String),
    /// The engine's answer is not JSON-RPC, or not 200. Try again.
    #[error("engine answered {status}: {reason}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine refused the call.
    #[error("engine refused: {} ({})", .0.message, .0.code)]
    Refused(Box<ErrorObject>),
}

impl EngineError {
    /// The engine's refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&ErrorObject> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Unreachable(_) | Self::Answer { .. } => None,
        }
    }
}

#[derive(Serialize)]
struct Call<'a, P> {
    jsonrpc: &'static str,
    id: u32,
    method: &'a str,
    params: P,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

/// The execution engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    client: reqwest::Client,
    url: String,
    secret: Option<Secret>,
}

impl Engine {
    /// The engine at `url`, with its secret if the endpoint is the authenticated one. Nothing is connected yet.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`] if no HTTP client can be made on this machine.
    pub fn new(url: &str, secret: Option<Secret>) -> Result<Self, EngineError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ENGINE_TIMEOUT)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .map_err(|error| EngineError::Unreachable(error.to_string()))?;
        Ok(Self { client, url: url.to_owned(), secret })
    }

    /// Sends a body and gives the answer as it is, whatever it says.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`] if there is none, or it is larger than [`ENGINE_ANSWER_BYTES_MAX`].
    pub async fn forward(&self, body: Bytes) -> Result<Reply, EngineError> {
        let unreachable = |error: reqwest::Error| EngineError::Unreachable(chain(&error));
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, format!("Bearer {}", secret.token()));
        }
        let mut response = request.body(body).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > ENGINE_ANSWER_BYTES_MAX {
                let reason = format!("more than {ENGINE_ANSWER_BYTES_MAX} bytes");
                return Err(EngineError::Unreachable(reason));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body: body.into() })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// [`EngineError`] if there is no result.
    pub async fn call(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<Box<RawValue>, EngineError> {
        let reply = self.forward(encode(&Call { jsonrpc: "2.0", id: 1, method, params })?).await?;
        result_of(&reply)
    }

    /// Calls a method whose result is of type `T`.
    ///
    /// # Errors
    /// [`EngineError`] if there is no result, or it is none.
    pub async fn read<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, EngineError> {
        let raw = self.call(method, params).await?;
        serde_json::from_str(raw.get()).map_err(|error| EngineError::Answer {
            status: 200,
            reason: format!("{method}: {error}"),
        })
    }
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

impl Engine {
    /// Makes several calls in few bodies. One result per call, in their order; `None` where the engine refused.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not answer, or not with a batch.
    pub async fn batch<P: Serialize>(
        &self,
        calls: &[(&str, P)],
    ) -> Result<Vec<Option<Box<RawValue>>>, EngineError> {
        let mut results = Vec::with_capacity(calls.len());
        for calls in calls.chunks(BATCH_CALLS_MAX) {
            results.extend(self.batch_of(calls).await?);
        }
        Ok(results)
    }

    async fn batch_of<P: Serialize>(
        &self,
        calls: &[(&str, P)],
    ) -> Result<Vec<Option<Box<RawValue>>>, EngineError> {
        let body: Vec<_> = (0u32..)
            .zip(calls)
            .map(|(id, (method, params))| Call { jsonrpc: "2.0", id, method, params })
            .collect();
        let reply = self.forward(encode(&body)?).await?;
        let bad = |reason: String| EngineError::Answer { status: reply.status.as_u16(), reason };
        let answers: Vec<Box<RawValue>> =
            serde_json::from_slice(&reply.body).map_err(|error| bad(error.to_string()))?;
        let mut results: Vec<Option<Box<RawValue>>> = calls.iter().map(|_| None).collect();
        for raw in answers {
            let head: Id =
                serde_json::from_str(raw.get()).map_err(|error| bad(error.to_string()))?;
            let answer: Answer =
                serde_json::from_str(raw.get()).map_err(|error| bad(error.to_string()))?;
            if let Some(place) =
                usize::try_from(head.id).ok().and_then(|index| results.get_mut(index))
            {
                *place = answer.result;
            }
        }
        Ok(results)
    }

    /// Reads one result of a batch.
    ///
    /// # Errors
    /// [`EngineError`] if there is none, or it is not of this type.
    pub fn parse<T: for<'a> Deserialize<'a>>(
        result: Option<Option<Box<RawValue>>>,
    ) -> Result<T, EngineError> {
        let bad = |reason: String| EngineError::Answer { status: 200, reason };
        let raw = result.flatten().ok_or_else(|| bad("no result in a batch".to_owned()))?;
        serde_json::from_str(raw.get()).map_err(|error| bad(error.to_string()))
    }
}

/// The result in an answer.
///
/// # Errors
/// [`EngineError`] if it has none.
pub fn result_of(reply: &Reply) -> Result<Box<RawValue>, EngineError> {
    let bad = |reason: String| EngineError::Answer { status: reply.status.as_u16(), reason };
    if reply.status != StatusCode::OK {
        return Err(bad(
            String::from_utf8_lossy(reply.body.get(..200).unwrap_or(&reply.body)).into_owned()
        ));
    }
    let answer: Answer =
        serde_json::from_slice(&reply.body).map_err(|error| bad(error.to_string()))?;
    match (answer.result, answer.error) {
        (_, Some(error)) => Err(EngineError::Refused(Box::new(error))),
        (Some(result), None) => Ok(result),
        // `"result": null` reads as absent.
        (None, None) => to_raw_value(&()).map_err(|error| bad(error.to_string())),
    }
}

fn encode(call: &impl Serialize) -> Result<Bytes, EngineError> {
    serde_json::to_vec(call)
        .map(Bytes::from)
        .map_err(|error| EngineError::Unreachable(format!("cannot encode the call: {error}")))
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
