//! What an engine says when it cannot take an offered transaction, and which one it means.
//!
//! op-geth refuses the whole build and names the first transaction that failed: by hash where it was executed, by its
//! place (deposits counted) where it could not be decoded. Its words were recorded from op-geth v1.101702.3-rc.2; there
//! is no specification of them, so what is not understood names nothing.

use alloy_primitives::B256;

use crate::client::ErrorObject;

/// `Invalid payload attributes`.
pub const INVALID_ATTRIBUTES: i64 = -38003;
/// An internal error. Of op-geth's, one is about transactions: its handler crashed, which is what a blob transaction does
/// to it. op-reth answers so whenever it cannot build for a reason of its own.
const INTERNAL_ERROR: i64 = -32603;
const HANDLER_CRASHED: &str = "method handler crashed";

/// Which transaction an engine refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The one with this hash.
    Hash(B256),
    /// The one at this place of the attributes' list.
    Index(usize),
    /// It does not say.
    Unnamed,
}

/// What a refusal of a build says of its transactions; `None` if they are not why.
#[must_use]
pub fn refused(error: &ErrorObject) -> Option<Refused> {
    if error.code == INTERNAL_ERROR {
        return (error.message == HANDLER_CRASHED).then_some(Refused::Unnamed);
    }
    if error.code != INVALID_ATTRIBUTES {
        return None;
    }
    let words = error
        .data
        .as_ref()
        .and_then(|data| serde_json::from_str::<serde_json::Value>(data.get()).ok())
        .and_then(|data| data.get("err").and_then(|err| err.as_str().map(str::to_owned)))
        .unwrap_or_default();
    Some(named(&words))
}

fn named(words: &str) -> Refused {
    if let Some((_, rest)) = words.split_once("force-include tx: ")
        && let Some(hash) = rest.get(..66).and_then(|hash| hash.parse().ok())
    {
        return Refused::Hash(hash);
    }
    words
        .strip_prefix("transaction ")
        .and_then(|rest| rest.split_once(" is not valid"))
        .and_then(|(index, _)| index.parse().ok())
        .map_or(Refused::Unnamed, Refused::Index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i64, data: &str) -> ErrorObject {
        said(code, "m", data)
    }

    fn said(code: i64, message: &str, data: &str) -> ErrorObject {
        serde_json::from_str(&format!(r#"{{"code":{code},"message":"{message}","data":{data}}}"#))
            .expect("error")
    }

    #[test]
    fn an_internal_error_is_about_transactions_only_where_the_handler_crashed() {
        let crashed = said(-32603, "method handler crashed", "null");
        assert_eq!(refused(&crashed), Some(Refused::Unnamed));
        assert_eq!(refused(&said(-32603, "Internal error", "null")), None);
    }

    #[test]
    fn words_of_op_geth_name_the_transaction() {
        let hash = "0x66a2000000000000000000000000000000000000000000000000000000006f51";
        let executed = format!(
            r#"{{"err":"failed to force-include tx: {hash} type: 2 sender: 0x99 nonce: 5, err: nonce too high"}}"#
        );
        let cases = [
            (-38003, executed.as_str(), Some(Refused::Hash(hash.parse().expect("hash")))),
            (
                -38003,
                r#"{"err":"transaction 12 is not valid: rlp: too few elements"}"#,
                Some(Refused::Index(12)),
            ),
            (-38003, r#"{"err":"something else"}"#, Some(Refused::Unnamed)),
            (-38003, r#"{"err":"failed to force-include tx: 0x66"}"#, Some(Refused::Unnamed)),
            (-38003, "null", Some(Refused::Unnamed)),
            (-38003, r#""text""#, Some(Refused::Unnamed)),
            (-32603, "null", None),
            (-38002, executed.as_str(), None),
            (-32000, "null", None),
        ];
        for (code, data, expected) in cases {
            assert_eq!(refused(&error(code, data)), expected, "{code} {data}");
        }
    }
}
