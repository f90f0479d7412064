//! What is brought to an engine ahead of op-node, and what its answer means.

use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).expect("is written")
}

#[test]
fn import_is_the_call_of_the_same_version_with_the_payload_as_it_came() {
    let root = B256::repeat_byte(7);
    let envelope = raw(&json!({
        "executionPayload": { "blockHash": "0x01", "ofALaterFork": 1.50 },
        "parentBeaconBlockRoot": root,
    }));
    let payload = json!({ "blockHash": "0x01", "ofALaterFork": 1.50 });
    let cases = [
        (2, json!([payload])),
        (3, json!([payload, [], root])),
        (4, json!([payload, [], root, []])),
    ];
    for (version, expected) in cases {
        let (method, params) =
            import(&format!("engine_getPayloadV{version}"), &envelope).expect("is a call");
        assert_eq!(method, format!("engine_newPayloadV{version}"));
        assert_eq!(serde_json::to_value(&params).expect("is JSON"), expected);
    }
    for other in ["engine_getBlobsV1", "engine_getPayloadV1", "engine_getPayloadV5"] {
        assert!(import(other, &envelope).is_none(), "{other}");
    }
    assert!(import("engine_getPayloadV4", &raw(&json!({ "status": "VALID" }))).is_none());
    let rootless = raw(&json!({ "executionPayload": {} }));
    assert!(import("engine_getPayloadV3", &rootless).is_none());
}

#[test]
fn only_an_execution_that_failed_on_the_parent_is_invalid() {
    let parent = B256::repeat_byte(1);
    let said = |status: &str, valid: Option<B256>| {
        let status =
            json!({ "status": status, "latestValidHash": valid, "validationError": "why" });
        imported(&raw(&status), parent)
    };
    assert_eq!(said("VALID", Some(B256::repeat_byte(2))), Some(Imported::Valid));
    assert_eq!(said("INVALID", Some(parent)), Some(Imported::Invalid("why".to_owned())));
    assert_eq!(said("INVALID", None), None);
    assert_eq!(said("INVALID", Some(B256::repeat_byte(2))), None);
    assert_eq!(said("SYNCING", None), None);
    assert_eq!(said("ACCEPTED", Some(parent)), None);
    assert_eq!(imported(&raw(&json!(7)), parent), None);
}
