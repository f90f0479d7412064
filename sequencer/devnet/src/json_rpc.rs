//! JSON-RPC of a devnet's programs: one call at a time, of the client that all our calls of engines go through.

use std::time::Duration;

use alloy_primitives::B256;
use lockstep_execution::client::{Bounds, Engine, EngineError};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serializer};
use serde_json::Value;

const BOUNDS: Bounds = Bounds {
    connect_timeout: Duration::from_secs(10),
    timeout: Duration::from_secs(10),
    // A full block with its transactions.
    answer_bytes_max: 64 << 20,
};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {method}: {error}")]
pub struct CallError {
    /// Who was asked.
    pub url: String,
    /// The method.
    pub method: String,
    /// Why.
    pub error: EngineError,
}

/// A JSON-RPC server.
#[derive(Clone, Debug)]
pub struct JsonRpc(Engine);

impl JsonRpc {
    /// The server at this URL; nothing is sent yet.
    ///
    /// # Panics
    /// If it is not `http://host:port`: the devnet makes its URLs itself.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self(Engine::within(BOUNDS, url, None).expect("the devnet's own URLs are valid"))
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
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
        self.0.read(method, params).await.map_err(|error| self.failed(method, error))
    }

    /// Calls a method whose result is a quantity (`0x` and hex digits).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn quantity(&self, method: &str, params: Value) -> Result<u64, CallError> {
        let text: String = self.call(method, params).await?;
        quantity(&text).ok_or_else(|| self.unreadable(method, format!("{text:?} is no quantity")))
    }

    /// Calls a method whose result is a hash.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn hash(&self, method: &str, params: Value) -> Result<B256, CallError> {
        let text: String = self.call(method, params).await?;
        text.parse().map_err(|_| self.unreadable(method, format!("{text:?} is no hash")))
    }

    fn unreadable(&self, method: &str, reason: String) -> CallError {
        self.failed(method, EngineError::Answer { status: 200, reason })
    }

    fn failed(&self, method: &str, error: EngineError) -> CallError {
        CallError { url: self.url().to_owned(), method: method.to_owned(), error }
    }
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

    #[test]
    fn quantities_and_hashes_are_hex_with_a_prefix() {
        assert_eq!(quantity("0x1f"), Some(31));
        for wrong in ["1f", "0x", "0xg", ""] {
            assert_eq!(quantity(wrong), None, "{wrong}");
        }
        let read = |text: &str| hash(serde::de::value::StrDeserializer::new(text));
        let shown = B256::repeat_byte(7).to_string();
        assert_eq!(read(&shown), Ok(B256::repeat_byte(7)));
        let wrong: Result<_, serde::de::value::Error> = read("0x07");
        assert!(wrong.is_err());
    }
}
