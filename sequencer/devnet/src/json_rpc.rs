//! JSON-RPC over plain HTTP, for the programs of a devnet: one call at a time, nothing is retried.

use std::time::Duration;

use alloy_primitives::B256;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serializer};
use serde_json::{Value, json};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer: a full block with its transactions.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers, or the connection broke. May pass.
    #[error("{url}: {reason}")]
    Unreachable {
        /// Who was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not that of a JSON-RPC server, or its result is not what was expected.
    #[error("{url} answers {method} with {reason}")]
    Unreadable {
        /// Who was asked.
        url: String,
        /// The method.
        method: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The server refuses.
    #[error("{method} is refused: {code} {message}")]
    Refused {
        /// The method.
        method: String,
        /// The error's code.
        code: i64,
        /// The error's message.
        message: String,
        /// More about it; `null` if there is no more.
        data: Value,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<ErrorObject>,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

/// A JSON-RPC server.
#[derive(Clone, Debug)]
pub struct JsonRpc {
    client: reqwest::Client,
    url: String,
}

impl JsonRpc {
    /// The server at this URL; nothing is sent yet.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        // Fails only where TLS or a resolver is wanted; there is neither.
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        Self { client: client.unwrap_or_default(), url: url.into() }
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method with an array of parameters.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, CallError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.post(body.to_string()).await?;
        let unreadable = |error: serde_json::Error| CallError::Unreadable {
            url: self.url.clone(),
            method: method.to_owned(),
            reason: error.to_string(),
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(unreadable)?;
        match answer.error {
            None => serde_json::from_value(answer.result).map_err(unreadable),
            Some(ErrorObject { code, message, data }) => {
                Err(CallError::Refused { method: method.to_owned(), code, message, data })
            }
        }
    }

    /// Calls a method whose result is a quantity (`0x` and hex digits).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn quantity(&self, method: &str, params: Value) -> Result<u64, CallError> {
        let text: String = self.call(method, params).await?;
        quantity(&text).ok_or_else(|| CallError::Unreadable {
            url: self.url.clone(),
            method: method.to_owned(),
            reason: format!("{text:?}, which is no quantity"),
        })
    }

    /// Calls a method whose result is a hash.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn hash(&self, method: &str, params: Value) -> Result<B256, CallError> {
        let text: String = self.call(method, params).await?;
        text.parse().map_err(|_| CallError::Unreadable {
            url: self.url.clone(),
            method: method.to_owned(),
            reason: format!("{text:?}, which is no hash"),
        })
    }

    async fn post(&self, body: String) -> Result<Vec<u8>, CallError> {
        let unreachable = |reason: String| CallError::Unreachable { url: self.url.clone(), reason };
        let request = self.client.post(&self.url).header("content-type", "application/json");
        let sent = request.body(body).send().await;
        let mut response = sent.map_err(|error| unreachable(described(&error)))?;
        let mut answer = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| unreachable(described(&error)))?
        {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(unreachable(format!("answers with over {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok(answer)
    }
}

/// An error and its causes.
fn described(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A quantity as Ethereum's JSON-RPC has it.
#[must_use]
pub fn quantity(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A hash, `0x` and 64 hex digits, for `deserialize_with`.
///
/// # Errors
/// If it is none.
pub fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<B256, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format_args!("{text:?} is no hash")))
}

/// The opposite of [`hash`], for `serialize_with`.
///
/// # Errors
/// The serializer's.
pub fn show_hash<S: Serializer>(hash: &B256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives one answer.
    async fn server(body: &'static str) -> JsonRpc {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("has one"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("is called");
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.expect("reads");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("answers");
        });
        JsonRpc::new(url)
    }

    #[tokio::test]
    async fn result_is_read_and_null_is_none() {
        let rpc = server(r#"{"jsonrpc":"2.0","id":1,"result":"0x1f"}"#).await;
        assert_eq!(rpc.quantity("eth_blockNumber", json!([])).await.expect("has one"), 31);
        let rpc = server(r#"{"jsonrpc":"2.0","id":1,"result":null}"#).await;
        let receipt: Option<Value> =
            rpc.call("eth_getTransactionReceipt", json!([])).await.unwrap();
        assert_eq!(receipt, None);
    }

    #[tokio::test]
    async fn refusal_has_code_message_and_data() {
        let answer = r#"{"id":1,"error":{"code":-38003,"message":"no","data":{"err":"nonce"}}}"#;
        let error = server(answer).await.call::<Value>("m", json!([])).await.unwrap_err();
        let CallError::Refused { code: -38003, message, data, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((message.as_str(), &data["err"]), ("no", &json!("nonce")));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_from_nobody() {
        let error = server("fine").await.call::<Value>("m", json!([])).await.unwrap_err();
        assert!(matches!(error, CallError::Unreadable { .. }), "{error}");
        let error = server(r#"{"result":7}"#).await.quantity("m", json!([])).await.unwrap_err();
        assert!(matches!(error, CallError::Unreadable { .. }), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("has one");
        drop(listener);
        let rpc = JsonRpc::new(format!("http://{address}"));
        let error = rpc.call::<Value>("m", json!([])).await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    }
}
