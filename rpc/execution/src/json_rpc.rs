//! JSON-RPC 2.0 as it is on the wire: one call or a batch, taken apart without being rebuilt.
//!
//! Ids and parameters stay the text they came as, so that what is passed on is what was sent. It knows no method. What
//! another reader might understand differently is refused here: a field given twice, and a name that only a reader
//! careless about case would take for one of the four (Go's `encoding/json` does). Source: jsonrpc.org/specification.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The text is not JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// The JSON is no call.
pub const INVALID_REQUEST: i64 = -32_600;
/// There is no such method, or it is not public.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// The parameters are not the method's.
pub const INVALID_PARAMS: i64 = -32_602;
/// Something failed that the caller is not to blame for.
pub const INTERNAL_ERROR: i64 = -32_603;
/// The call was understood and refused; what Ethereum's engines answer.
pub const SERVER_ERROR: i64 = -32_000;
/// The caller asks for too much (EIP-1474).
pub const LIMIT_EXCEEDED: i64 = -32_005;

const FIELDS: [&str; 4] = ["jsonrpc", "id", "method", "params"];

/// One call, borrowed from the text it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// A string or a number; `None` for a notification, which is not answered, and for an id that is null.
    pub id: Option<&'a RawValue>,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// An array or an object.
    pub params: Option<&'a RawValue>,
    /// The whole call.
    pub raw: &'a RawValue,
}

impl<'a> Request<'a> {
    /// The parameters by position, each as it came; none if there are none, or they are named.
    #[must_use]
    pub fn positional(&self) -> Vec<&'a RawValue> {
        self.params.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

/// Why a text is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON.
    #[error("parse error: {0}")]
    NotJson(String),
    /// It is JSON, but no call.
    #[error("invalid request: {0}")]
    NotARequest(String),
}

impl Malformed {
    /// The answer to the sender, whose id is unknown.
    #[must_use]
    pub fn answer(&self) -> String {
        let code = match self {
            Self::NotJson(_) => PARSE_ERROR,
            Self::NotARequest(_) => INVALID_REQUEST,
        };
        error(None, code, &self.to_string(), None)
    }
}

/// What a text was.
#[derive(Clone, Debug)]
pub enum Parsed<'a> {
    /// One call.
    Single(Request<'a>),
    /// Several, in their order; perhaps none.
    Batch(Vec<Result<Request<'a>, Malformed>>),
    /// Neither.
    Invalid(Malformed),
}

/// Takes a text apart. The number of calls in a batch is the caller's to bound, by the length of the text at least.
#[must_use]
pub fn parse(text: &[u8]) -> Parsed<'_> {
    let raw: &RawValue = match serde_json::from_slice(text) {
        Ok(raw) => raw,
        Err(error) => return Parsed::Invalid(Malformed::NotJson(error.to_string())),
    };
    if !raw.get().starts_with('[') {
        return match request(raw) {
            Ok(request) => Parsed::Single(request),
            Err(malformed) => Parsed::Invalid(malformed),
        };
    }
    match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        Ok(calls) => Parsed::Batch(calls.into_iter().map(request).collect()),
        Err(error) => Parsed::Invalid(Malformed::NotJson(error.to_string())),
    }
}

fn request(raw: &RawValue) -> Result<Request<'_>, Malformed> {
    let Fields { id, method, params } = serde_json::from_str(raw.get())
        .map_err(|error| Malformed::NotARequest(error.to_string()))?;
    if id.is_some_and(|id| id.get().starts_with(['{', '[', 't', 'f'])) {
        return Err(Malformed::NotARequest("id is neither a string nor a number".to_owned()));
    }
    Ok(Request { id, method, params, raw })
}

struct Fields<'a> {
    id: Option<&'a RawValue>,
    method: Cow<'a, str>,
    params: Option<&'a RawValue>,
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let (mut id, mut method, mut params) = (None, None, None);
        let mut has_version = false;
        while let Some(Text(key)) = map.next_key()? {
            let is_repeated = match key.as_ref() {
                "id" => id.replace(map.next_value()?).is_some(),
                "method" => method.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                "params" => params.replace(map.next_value()?).is_some(),
                "jsonrpc" => {
                    map.next_value::<IgnoredAny>()?;
                    std::mem::replace(&mut has_version, true)
                }
                other if is_ambiguous(other) => {
                    return Err(A::Error::custom(format_args!("field {other:?} is ambiguous")));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if is_repeated {
                return Err(A::Error::custom(format_args!("field {key:?} is given twice")));
            }
        }
        let method = method.ok_or_else(|| A::Error::missing_field("method"))?;
        let present = |raw: &&'de RawValue| raw.get() != "null";
        Ok(Fields { id: id.filter(present), method, params: params.filter(present) })
    }
}

/// Whether a careless reader could take the name for one of ours. Beyond ASCII there are letters that fold to it.
fn is_ambiguous(name: &str) -> bool {
    !name.is_ascii() || FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject<'a>>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: i64,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl Answer<'_> {
    fn text(&self) -> String {
        // Strings, numbers and checked JSON always have a text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The answer that the call succeeded.
#[must_use]
pub fn result(id: Option<&RawValue>, result: &RawValue) -> String {
    Answer { jsonrpc: "2.0", id, result: Some(result), error: None }.text()
}

/// The answer that the call was refused.
#[must_use]
pub fn error(id: Option<&RawValue>, code: i64, message: &str, data: Option<&RawValue>) -> String {
    let error = Some(ErrorObject { code, message, data });
    Answer { jsonrpc: "2.0", id, result: None, error }.text()
}

#[cfg(test)]
mod tests;
