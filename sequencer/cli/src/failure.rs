//! How an error looks, and which error is none: text for people, or one JSON object in one line for programs.

use std::error::Error;
use std::io;

use lockstep_node::output::to_stderr;
use lockstep_proto::error::Refusal;
use serde::Serialize;

use crate::commands::endpoint::refusal;

/// What an error says to programs.
#[derive(Debug, Serialize)]
struct ErrorObject {
    /// In one word; `FAILED` if it is no refusal of a node.
    code: String,
    /// The request's field at fault; empty if none is.
    field: String,
    reason: String,
    /// What to do about it; empty if the reason says it.
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// An error as the user sees it, with what to do about it where a node said so.
#[must_use]
pub fn describe(error: &eyre::Report, is_json: bool) -> String {
    let refusal = refusal(error);
    let mut chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    if is_json {
        let object = object(refusal, said_once(&chain));
        let json = serde_json::json!({ "error": object });
        return format!("{json}\n");
    }
    if refusal.is_some() {
        // The refusal itself follows, field by field.
        chain.pop();
        chain.push("refused".to_owned());
    }
    let mut text = format!("error: {}\n", said_once(&chain));
    if let Some(refusal) = refusal {
        text.push_str(&format!("  code:   {}\n", code_name(refusal)));
        if !refusal.field.is_empty() {
            text.push_str(&format!("  field:  {}\n", refusal.field));
        }
        text.push_str(&format!("  reason: {}\n  do:     {}\n", refusal.reason, refusal.action));
        if let Some(ms) = refusal.retry_after_ms {
            text.push_str(&format!("  retry:  in {ms} ms\n"));
        }
    }
    text
}

/// Prints an error to standard error.
pub fn show_error(error: &eyre::Report, is_json: bool) {
    to_stderr(&describe(error, is_json));
}

/// Whether an error only says that the reader of our output has gone.
#[must_use]
pub fn is_broken_pipe(error: &eyre::Report) -> bool {
    error.chain().any(|cause: &(dyn Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The causes in one line, without those that the error before them repeats.
fn said_once(chain: &[String]) -> String {
    let mut text = String::new();
    for cause in chain {
        if text.is_empty() {
            text.push_str(cause);
        } else if !text.ends_with(&format!(": {cause}")) && text != *cause {
            text.push_str(": ");
            text.push_str(cause);
        }
    }
    text
}

fn object(refusal: Option<&Refusal>, chain: String) -> ErrorObject {
    match refusal {
        Some(refusal) => ErrorObject {
            code: code_name(refusal),
            field: refusal.field.clone(),
            reason: refusal.reason.clone(),
            action: refusal.action.clone(),
            retry_after_ms: refusal.retry_after_ms,
        },
        None => ErrorObject {
            code: "FAILED".to_owned(),
            field: String::new(),
            reason: chain,
            action: String::new(),
            retry_after_ms: None,
        },
    }
}

/// `OverQuota` as `OVER_QUOTA`.
#[must_use]
pub fn code_name(refusal: &Refusal) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", refusal.code).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use eyre::WrapErr as _;
    use lockstep_proto::error::ErrorCode;

    fn refused() -> eyre::Report {
        let refusal = Refusal::new(ErrorCode::OverQuota, "too many")
            .of_field("transaction.raw")
            .retry_after(250);
        Err::<(), _>(refusal).wrap_err("submit to http://a:1").unwrap_err()
    }

    #[test]
    fn refusal_is_shown_with_code_field_reason_and_action() {
        let text = describe(&refused(), false);
        let expected = [
            "error: submit to http://a:1: refused",
            "code:   OVER_QUOTA",
            "field:  transaction.raw",
            "reason: too many",
            "do:     wait for retry_after_ms",
            "retry:  in 250 ms",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn error_is_one_json_object_in_one_line() {
        let line = describe(&refused(), true);
        assert_eq!(line.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).expect("is json");
        assert_eq!(json["error"]["code"], "OVER_QUOTA");
        assert_eq!(json["error"]["retry_after_ms"], 250);
        let other: serde_json::Value =
            serde_json::from_str(&describe(&eyre::eyre!("a\nb"), true)).expect("is json");
        assert_eq!(other["error"]["code"], "FAILED");
        assert_eq!(other["error"]["reason"], "a\nb");
    }

    #[test]
    fn cause_that_is_said_already_is_not_said_again() {
        let said =
            |chain: &[&str]| said_once(&chain.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(said(&["guard: no guard in a", "no guard in a"]), "guard: no guard in a");
        assert_eq!(said(&["a: b: c", "b: c", "c"]), "a: b: c");
        assert_eq!(said(&["taking a", "b in use"]), "taking a: b in use");
        assert_eq!(said(&["a quota", "quota"]), "a quota: quota");
        assert_eq!(said(&["same", "same"]), "same");
    }

    #[test]
    fn reader_that_has_gone_is_no_error() {
        let pipe = eyre::Report::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&pipe.wrap_err("showing")));
        assert!(!is_broken_pipe(&eyre::eyre!("broken pipe")));
    }
}
