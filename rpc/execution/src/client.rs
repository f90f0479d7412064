//! The client of an execution engine, or of another program's JSON-RPC: plain HTTP, authenticated where there is a secret.
//!
//! [`Engine::send`] and [`Engine::forward`] carry bytes and look at nothing; [`Engine::call`] and [`Engine::batch`] make calls
//! of our own. None tries again: the caller knows whether that makes sense. The operator names the address, so no proxy of the
//! environment is used and no redirect is followed.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::attributes::Quantity;
use crate::jwt::Secret;
use crate::limits::{
    BATCH_CALLS_MAX, CONNECT_TIMEOUT, ENGINE_ANSWER_BYTES_MAX, ENGINE_TIMEOUT, MESSAGE_BYTES_MAX,
};

/// How long an endpoint may take, and how much of its answer is read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a call may take, from the connection to the answer's last byte.
    pub timeout: Duration,
    /// Bytes of one answer, unless it is streamed.
    pub answer_bytes_max: usize,
}

impl Bounds {
    /// Those of the Engine API.
    pub const ENGINE: Self = Self {
        connect_timeout: CONNECT_TIMEOUT,
        timeout: ENGINE_TIMEOUT,
        answer_bytes_max: ENGINE_ANSWER_BYTES_MAX,
    };
}

/// The endpoint's URL is not usable. The operator must change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not http://host:port, with or without a path")]
pub struct InvalidUrl {
    /// The URL.
    pub url: String,
}

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

impl ErrorObject {
    /// The message, at most [`MESSAGE_BYTES_MAX`] bytes of it.
    fn brief(&self) -> &str {
        let end = self.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        self.message.get(..end).unwrap_or_default()
    }
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
    #[error("engine refused: {} ({})", .0.brief(), .0.code)]
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
    /// Ours are numbers; an engine that cannot read a call has none of them.
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

impl Answer {
    fn into_result(self, status: StatusCode) -> CallResult {
        match (self.result, self.error) {
            (_, Some(error)) => Err(EngineError::Refused(Box::new(error))),
            (Some(result), None) => Ok(result),
            // `"result": null` reads as absent.
            (None, None) => to_raw_value(&()).map_err(|error| EngineError::Answer {
                status: status.as_u16(),
                reason: error.to_string(),
            }),
        }
    }
}

/// The execution engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    client: reqwest::Client,
    url: String,
    secret: Option<Secret>,
    answer_bytes_max: usize,
}

impl Engine {
    /// The engine at `http://host:port`, with its secret if the endpoint is the authenticated one, within
    /// [`Bounds::ENGINE`]. Nothing is connected yet.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn new(url: &str, secret: Option<Secret>) -> Result<Self, InvalidUrl> {
        Self::within(Bounds::ENGINE, url, secret)
    }

    /// The same within other bounds.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn within(bounds: Bounds, url: &str, secret: Option<Secret>) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl { url: url.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|_| invalid())?;
        // Written out, so that a forgotten port is an error and not port 80, and a password stands in no file of options.
        let written = parsed.host_str().zip(parsed.port_or_known_default());
        let rest =
            written.and_then(|(host, port)| url.strip_prefix(&format!("http://{host}:{port}")));
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(invalid());
        }
        let client = reqwest::Client::builder()
            .connect_timeout(bounds.connect_timeout)
            .timeout(bounds.timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(20))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            // It fails where TLS or a resolver is asked for; neither is.
            .map_err(|_| invalid())?;
        Ok(Self { client, url: url.to_owned(), secret, answer_bytes_max: bounds.answer_bytes_max })
    }

    /// Whether the engine is of this chain.
    ///
    /// # Errors
    /// [`EngineError`] if it does not say.
    pub async fn is_of(&self, chain: u64) -> Result<bool, EngineError> {
        let raw = self.call("eth_chainId", [(); 0]).await?;
        let id: Quantity = serde_json::from_str(raw.get()).map_err(|error| {
            EngineError::Answer { status: 200, reason: format!("eth_chainId: {error}") }
        })?;
        Ok(id.0 == chain)
    }

    /// Where the engine is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a body; the answer is not read yet, whatever it says, and has no bound but the time.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`] if there is none.
    pub async fn send(&self, body: Bytes) -> Result<reqwest::Response, EngineError> {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, format!("Bearer {}", secret.token()));
        }
        request.body(body).send().await.map_err(unreachable)
    }

    /// Sends a body and gives the answer as it is, whatever it says.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`] if there is none, or it is larger than its bound.
    pub async fn forward(&self, body: Bytes) -> Result<Reply, EngineError> {
        let mut response = self.send(body).await?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > self.answer_bytes_max {
                let reason = format!("more than {} bytes", self.answer_bytes_max);
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

/// The result of one call of several.
pub type CallResult = Result<Box<RawValue>, EngineError>;

impl Engine {
    /// Makes several calls in few bodies. One result per call, in their order; `None` where the engine refused.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not answer, or not with a batch.
    pub async fn batch<P: Serialize>(
        &self,
        calls: &[(&str, P)],
    ) -> Result<Vec<Option<Box<RawValue>>>, EngineError> {
        Ok(self.results(calls).await?.into_iter().map(Result::ok).collect())
    }

    /// The same, with the reason where there is no result.
    ///
    /// # Errors
    /// As [`Engine::batch`].
    pub async fn results<P: Serialize>(
        &self,
        calls: &[(&str, P)],
    ) -> Result<Vec<CallResult>, EngineError> {
        let mut results = Vec::with_capacity(calls.len());
        for calls in calls.chunks(BATCH_CALLS_MAX) {
            results.extend(self.results_of(calls).await?);
        }
        Ok(results)
    }

    async fn results_of<P: Serialize>(
        &self,
        calls: &[(&str, P)],
    ) -> Result<Vec<CallResult>, EngineError> {
        let body: Vec<_> = (0u32..)
            .zip(calls)
            .map(|(id, (method, params))| Call { jsonrpc: "2.0", id, method, params })
            .collect();
        let reply = self.forward(encode(&body)?).await?;
        let bad = |reason: String| EngineError::Answer { status: reply.status.as_u16(), reason };
        let answers: Vec<Answer> =
            serde_json::from_slice(&reply.body).map_err(|error| bad(error.to_string()))?;
        let unanswered = |(method, _): &(&str, P)| Err(bad(format!("no answer to {method}")));
        let mut results: Vec<CallResult> = calls.iter().map(unanswered).collect();
        for answer in answers {
            let index = answer.id.as_u64().and_then(|id| usize::try_from(id).ok());
            if let Some(place) = index.and_then(|index| results.get_mut(index)) {
                *place = answer.into_result(reply.status);
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
    answer.into_result(reply.status)
}

fn encode(call: &impl Serialize) -> Result<Bytes, EngineError> {
    serde_json::to_vec(call)
        .map(Bytes::from)
        .map_err(|error| EngineError::Unreachable(format!("cannot encode the call: {error}")))
}

/// Without the URL, which may hold a password and is shown to wallets otherwise.
fn unreachable(error: reqwest::Error) -> EngineError {
    EngineError::Unreachable(chain(&error.without_url()))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: StatusCode, body: &str) -> CallResult {
        result_of(&Reply { status, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    #[test]
    fn result_is_read_and_null_is_a_result() {
        let result = |body| answered(StatusCode::OK, body).expect("a result").get().to_owned();
        assert_eq!(result(r#"{"jsonrpc":"2.0","id":1,"result":"0x1f"}"#), r#""0x1f""#);
        assert_eq!(result(r#"{"jsonrpc":"2.0","id":1,"result":null}"#), "null");
        assert_eq!(result(r#"{"jsonrpc":"2.0","id":"a"}"#), "null");
    }

    #[test]
    fn refusal_has_code_message_and_data() {
        let body = r#"{"id":null,"error":{"code":-38003,"message":"no","data":{"err":"nonce"}}}"#;
        let error = answered(StatusCode::OK, body).expect_err("a refusal");
        let refusal = error.refusal().expect("a refusal");
        assert_eq!((refusal.code, refusal.message.as_str()), (-38_003, "no"));
        assert_eq!(refusal.data.as_ref().map(|data| data.get()), Some(r#"{"err":"nonce"}"#));
    }

    #[test]
    fn another_status_and_what_is_no_json_rpc_are_no_answer() {
        for (status, body) in [
            (StatusCode::OK, "fine"),
            (StatusCode::FOUND, r#"{"id":1,"result":1}"#),
            (StatusCode::SERVICE_UNAVAILABLE, ""),
        ] {
            let answer = answered(status, body);
            assert!(matches!(answer, Err(EngineError::Answer { .. })), "{status} {body}");
        }
    }
}
