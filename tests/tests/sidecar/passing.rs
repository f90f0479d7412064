//! One thing is changed, a sequencing job; everything else goes through byte for byte, both ways.

use std::collections::BTreeMap;

use alloy_primitives::address;
use lockstep_tests::scripted_engine::{Fault, Instead};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::op_node::{Block, deposit};
use crate::rig::{Rig, Setup};

type Raw = BTreeMap<String, Box<RawValue>>;

/// Sends a body; the engine must have got exactly that, and its answer must have come back.
async fn expect_untouched(rig: &Rig, body: &str) {
    rig.engine.forget();
    let reply = rig.node.raw(body).await;
    let calls = rig.engine.calls();
    let own = |method: &str| method == "eth_getBlockByNumber" || method == "eth_getBlockByHash";
    let got = calls.iter().find(|call| *call.body == *body.as_bytes());
    let got = got.unwrap_or_else(|| panic!("the engine did not get {body}, but {calls:?}"));
    if !got.answer.is_empty() {
        assert_eq!(reply.body, got.answer, "{body}");
    }
    // The sidecar looks at heads by itself; it makes no other call.
    let others = calls.iter().filter(|call| *call.body != *body.as_bytes() && !own(&call.method));
    assert_eq!(others.count(), 0, "{body}: {calls:?}");
}

#[tokio::test]
async fn all_but_a_sequencing_job_passes_byte_for_byte() {
    let mut rig = Rig::start(Setup::default()).await;
    let block = rig.filled_block(1, 1).await;
    let heads = rig.node.heads(block.hash).to_string();
    let mut derivation = rig.node.attributes(block.timestamp + 1);
    derivation["noTxPool"] = json!(true);
    let bodies = [
        r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#.to_owned(),
        "  {\"id\" : \"a\\u0062\", \"params\":[ ] ,\n\"method\":\"eth_chainId\",\"jsonrpc\":\"2.0\", \"x\": 1.50 }\n".to_owned(),
        r#"{"jsonrpc":"2.0","id":2,"method":"eth_getBlockByNumber","params":["0x1",true]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":3,"method":"debug_somethingNew","params":{"named":[1]}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"eth_chainId","params":[]}"#.to_owned(),
        r#"[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"} , {"jsonrpc":"2.0","id":2,"method":"eth_getCode"}]"#.to_owned(),
        "[]".to_owned(),
        "not json".to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":4, "method":"engine_forkchoiceUpdatedV3","params":[{heads},  null]}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":5,"method":"engine_forkchoiceUpdatedV3","params":[ {heads}]}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":6,"method":"engine_forkchoiceUpdatedV3","params":[{heads} ,{derivation}]}}"#),
        r#"{"jsonrpc":"2.0","id":7,"method":"engine_forkchoiceUpdatedV3","params":[{"head": 1},{"timestamp":2}]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":8,"method":"engine_getPayloadV4","params":["0x0011223344556677"]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":9,"method":"engine_newPayloadV4","params":[{"not":"a payload"}, [] ]}"#.to_owned(),
        format!(r#"{{"id":10,"method":"engine_newPayloadV4","params": [{}, [], "0x00", []]}}"#, block.envelope["executionPayload"]),
    ];
    for body in bodies {
        expect_untouched(&rig, &body).await;
    }
}

/// The attributes of the newest job that the engine got, field by field as they came.
fn attributes_at_engine(rig: &Rig) -> Raw {
    let call = rig.engine.calls().into_iter().rfind(|call| call.is_job()).expect("a job");
    let body: Raw = serde_json::from_slice(&call.body).unwrap();
    let params: Vec<Box<RawValue>> = serde_json::from_str(body["params"].get()).unwrap();
    serde_json::from_str(params[1].get()).unwrap()
}

#[tokio::test]
async fn a_sequencing_job_is_changed_in_its_transactions_and_pool_alone() {
    for no_tx_pool in ["", r#","noTxPool":false"#, r#","noTxPool" : null"#] {
        let mut rig = Rig::start(Setup::default()).await;
        let items = rig.fill(1, 2);
        let attributes = rig.node.attributes(rig.node.head.timestamp + 1).to_string();
        let unknown = r#","aFieldOfTheNextFork": {"deep":[1,2.50, "x"],"big":123456789012345678901234567890}"#;
        let attributes =
            format!("{}{unknown}{no_tx_pool}}}", attributes.strip_suffix('}').unwrap());
        let heads = rig.node.heads(rig.node.head.hash);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"q","method":"engine_forkchoiceUpdatedV3","params":[{heads},{attributes}]}}"#
        );
        let reply = rig.node.raw(&body).await;
        assert_eq!(reply.json()["id"], "q");
        let block = Block::of(rig.node.get_payload(&reply.id()).await.result());
        assert_eq!(block.users, items);

        let before: Raw = serde_json::from_str(&attributes).unwrap();
        let mut after = attributes_at_engine(&rig);
        assert_eq!(after.remove("noTxPool").unwrap().get(), "true");
        let transactions = after.remove("transactions").unwrap();
        let deposit = rig.node.deposit(rig.node.head.timestamp + 1);
        let expected: Vec<_> = [&deposit].into_iter().chain(&items).collect();
        assert_eq!(transactions.get(), json!(expected).to_string());
        for (name, value) in &before {
            if name != "transactions" && name != "noTxPool" {
                assert_eq!(after.remove(name).unwrap().get(), value.get(), "{name}");
            }
        }
        assert!(after.is_empty(), "{after:?}");
    }
}

#[tokio::test]
async fn the_payload_comes_back_as_the_engine_gave_it() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.fill(1, 2);
    let id = rig.node.start_job().await.id();
    let reply = rig.node.get_payload(&id).await;
    let given = rig.engine.calls_of("engine_getPayload").pop().unwrap().answer;
    let result = |body: &[u8]| -> Box<RawValue> {
        let fields: Raw = serde_json::from_slice(body).unwrap();
        fields["result"].clone()
    };
    assert_eq!(result(&reply.body).get(), result(&given).get());
}

#[tokio::test]
async fn a_job_before_the_chain_joins_passes_through() {
    let rig = Rig::start(Setup::default()).await;
    // It asks the engine for its chain at the start.
    rig.until_ready().await;
    // Nobody's clock goes back; an engine's genesis may.
    let attributes = rig.node.attributes(rig.node.head.timestamp);
    let body = rig.node.body(
        "engine_forkchoiceUpdatedV3",
        json!([rig.node.heads(rig.node.head.hash), attributes]),
    );
    expect_untouched(&rig, &body).await;
}

#[tokio::test]
async fn an_activation_block_passes_through_and_the_next_one_has_what_waited() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.fill(1, 3);
    let deployer = address!("4210000000000000000000000000000000000003");
    let upgrade = rig.node.derive(&[deposit(deployer, 375_000, b"upgrade")]).await;
    assert_eq!(upgrade.users.len(), 0);
    rig.close(2);
    let block = rig.node.block().await;
    assert_eq!((block.number, block.users), (2, items));
}

#[tokio::test]
async fn calls_of_a_batch_are_answered_in_order_and_jobs_in_it_are_filled() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.fill(1, 2);
    let heads = rig.node.heads(rig.node.head.hash);
    let attributes = rig.node.attributes(rig.node.head.timestamp + 1);
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": 2, "method": "engine_forkchoiceUpdatedV3", "params": [heads, attributes] },
        { "jsonrpc": "2.0", "id": "x", "method": "eth_nothing" },
    ]);
    let answers = rig.node.raw(&batch.to_string()).await.json();
    let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!("x")]);
    assert_eq!(answers[0]["result"], "0x385");
    assert_eq!(answers[2]["error"]["code"], -32601);
    let envelope = rig.node.get_payload(&answers[1]["result"]["payloadId"]).await.result();
    assert_eq!(rig.node.adopt(envelope).await.users, items);
}

#[tokio::test]
async fn a_batch_stays_json_where_the_engine_is_away_or_answers_none() {
    let rig = Rig::start(Setup::default()).await;
    // It asks the engine for its chain at the start.
    rig.until_ready().await;
    let heads = rig.node.heads(rig.node.head.hash);
    for away in [Instead::Cut, Instead::Http(503), Instead::Garbage] {
        rig.engine.fault(Fault::once("eth_chainId", away.clone()));
        let batch = json!([
            { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
            { "jsonrpc": "2.0", "id": 2, "method": "engine_forkchoiceUpdatedV3", "params": [heads, null] },
        ]);
        let answers = rig.node.raw(&batch.to_string()).await.json();
        assert_eq!(answers[0]["id"], 1, "{away:?}");
        assert_eq!(answers[0]["error"]["code"], -32000, "{away:?}");
        assert_eq!(answers[1]["result"]["payloadStatus"]["status"], "VALID", "{away:?}");
    }
}
