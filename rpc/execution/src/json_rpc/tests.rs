//! What is taken for a call, what is not, and what answers look like.

use super::*;

fn single(text: &str) -> Request<'_> {
    match parse(text.as_bytes()) {
        Parsed::Single(request) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn invalid(text: &str) -> Malformed {
    match parse(text.as_bytes()) {
        Parsed::Invalid(malformed) => malformed,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_call_keeps_its_texts() {
    let text = r#" {"jsonrpc":"2.0", "id": 1.50, "method":"eth_call","params":[ {"a":1} ,"0x"]}"#;
    let request = single(text);
    assert_eq!(request.id.unwrap().get(), "1.50");
    assert_eq!(request.method, "eth_call");
    assert_eq!(request.params.unwrap().get(), r#"[ {"a":1} ,"0x"]"#);
    assert_eq!(request.raw.get(), text.trim());
}

#[test]
fn missing_and_null_are_the_same() {
    for text in [r#"{"method":"a"}"#, r#"{"method":"a","id":null,"params":null}"#] {
        let request = single(text);
        assert!(request.id.is_none() && request.params.is_none());
    }
}

#[test]
fn an_escaped_method_is_read_as_what_it_means() {
    assert_eq!(single(r#"{"method":"\u0061dmin_peers","id":"x"}"#).method, "admin_peers");
    assert_eq!(single(r#"{"\u006dethod":"eth_call"}"#).method, "eth_call");
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for text in [
        r#"{"method":"eth_call","method":"admin_peers"}"#,
        r#"{"method":"eth_call","Method":"admin_peers"}"#,
        r#"{"method":"eth_call","\u004dethod":"admin_peers"}"#,
        r#"{"method":"eth_call","PARAMS":[]}"#,
        r#"{"method":"eth_call","param\u017f":[]}"#,
        r#"{"method":"eth_call","id":1,"id":2}"#,
        r#"{"method":"eth_call","jsonrpc":"2.0","jsonrpc":"2.0"}"#,
    ] {
        assert!(matches!(invalid(text), Malformed::NotARequest(_)), "{text}");
    }
    assert_eq!(single(r#"{"method":"eth_call","skipCache":true}"#).method, "eth_call");
}

#[test]
fn other_texts_are_no_calls() {
    for text in ["", "{", "{} {}", "[1,", "\u{feff}{}"] {
        assert!(matches!(invalid(text), Malformed::NotJson(_)), "{text}");
    }
    let no_calls = ["1", "\"a\"", "null", "{}", r#"{"method":1}"#, r#"{"method":"a","id":{}}"#];
    for text in no_calls {
        assert!(matches!(invalid(text), Malformed::NotARequest(_)), "{text}");
    }
    assert!(matches!(parse(b"\xff"), Parsed::Invalid(_)));
}

#[test]
fn a_batch_keeps_its_order_and_one_bad_call_does_not_spoil_it() {
    let Parsed::Batch(calls) = parse(br#"[{"method":"a","id":1},7,{"method":"b"}]"#) else {
        panic!("no batch");
    };
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0].as_ref().unwrap().method, "a");
    assert!(matches!(calls[1], Err(Malformed::NotARequest(_))));
    assert_eq!(calls[2].as_ref().unwrap().method, "b");
    assert!(matches!(parse(b"[]"), Parsed::Batch(calls) if calls.is_empty()));
}

#[test]
fn answers_carry_the_id_as_it_came() {
    let request = single(r#"{"method":"a","id":"x\u0041"}"#);
    let raw = RawValue::from_string("[1, 2]".to_owned()).unwrap();
    assert_eq!(result(request.id, &raw), r#"{"jsonrpc":"2.0","id":"x\u0041","result":[1, 2]}"#);
    assert_eq!(
        error(request.id, SERVER_ERROR, "no \"way\"", Some(&raw)),
        r#"{"jsonrpc":"2.0","id":"x\u0041","error":{"code":-32000,"message":"no \"way\"","data":[1, 2]}}"#
    );
    assert_eq!(
        Malformed::NotARequest("why".to_owned()).answer(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request: why"}}"#
    );
}
