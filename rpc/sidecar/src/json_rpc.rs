//! JSON-RPC 2.0 as it goes over the wire: requests taken apart without losing a byte of what is passed on.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The method does not exist, or is not served here.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The request is not one.
pub const INVALID_REQUEST: i64 = -32600;
/// The bytes are not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The parameters make no sense.
pub const INVALID_PARAMS: i64 = -32602;
/// Any error of the server; a client may try again.
pub const SERVER_ERROR: i64 = -32000;

/// One call.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Request<'a> {
    /// Its id as it came; `None` for a notification.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// Its method.
    #[serde(borrow)]
    pub method: &'a str,
    /// Its parameters as they came.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
}

/// What a body holds.
#[derive(Debug)]
pub enum Body<'a> {
    /// One call.
    Single(Request<'a>),
    /// Several; each may be something else than a call.
    Batch(Vec<&'a RawValue>),
    /// Neither.
    Invalid,
}

/// Takes a body apart.
#[must_use]
pub fn parse(bytes: &[u8]) -> Body<'_> {
    if let Ok(request) = serde_json::from_slice(bytes) {
        return Body::Single(request);
    }
    serde_json::from_slice(bytes).map_or(Body::Invalid, Body::Batch)
}

impl<'a> Request<'a> {
    /// The parameters of a call by position, each as it came; none if there are none, or they are named.
    #[must_use]
    pub fn positional(&self) -> Vec<&'a RawValue> {
        self.params.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorObject>,
}

/// The `error` of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorObject {
    /// What went wrong, in a number.
    pub code: i64,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// More, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// An answer with a result.
#[must_use]
pub fn result(id: Option<&RawValue>, result: &RawValue) -> Vec<u8> {
    encode(&Answer { jsonrpc: "2.0", id, result: Some(result), error: None })
}

/// An answer with an error.
#[must_use]
pub fn error(id: Option<&RawValue>, code: i64, message: &str) -> Vec<u8> {
    let error = ErrorObject { code, message: message.to_owned(), data: None };
    encode(&Answer { jsonrpc: "2.0", id, result: None, error: Some(&error) })
}

fn encode(answer: &Answer<'_>) -> Vec<u8> {
    // Strings and numbers alone: there is nothing that cannot be written.
    serde_json::to_vec(answer).unwrap_or_default()
}
