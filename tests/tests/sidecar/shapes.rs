//! The doubles are worth something only if they are like the programs: the scripted engine's answers beside those that
//! were recorded from op-geth.

use alloy_primitives::{B256, Bytes};
use lockstep_execution::client::ErrorObject;
use lockstep_execution::refusal::{Refused, refused};
use lockstep_tests::scripted_engine::{EngineKind, Refusal, ScriptedEngine};
use serde_json::{Value, json};

use crate::op_node::{Head, OpNode};
use crate::rig::hash_of;

const RECORDED: &str = include_str!("../../fixtures/engine/recorded.jsonl");
const REFUSALS: &str = include_str!("../../fixtures/engine/refusals.jsonl");

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// Which kind of call it is, as far as answers differ in shape.
fn kind(method: &str, params: &Value) -> String {
    let job = &params[1];
    match method {
        "eth_getBlockByNumber" => format!("{method} {}", params[0]),
        _ if method.starts_with("engine_forkchoice") && !job.is_null() => {
            format!("{method} job {}", job["noTxPool"] == json!(true))
        }
        _ => method.to_owned(),
    }
}

/// Every field that was recorded is there, and of the same form.
fn expect_shape(recorded: &Value, ours: &Value, path: &str) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (name, value) in recorded {
                let ours = ours.get(name).unwrap_or_else(|| panic!("{path}.{name} is missing"));
                expect_shape(value, ours, &format!("{path}.{name}"));
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            for (value, ours) in recorded.iter().zip(ours) {
                expect_shape(value, ours, path);
            }
        }
        (Value::String(recorded), Value::String(ours)) => {
            let is_hash = |text: &str| text.starts_with("0x") && text.len() == 66;
            assert_eq!(recorded.starts_with("0x"), ours.starts_with("0x"), "{path}: {ours}");
            assert_eq!(is_hash(recorded), is_hash(ours), "{path}: {ours}");
            if !recorded.starts_with("0x") {
                assert_eq!(recorded, ours, "{path}");
            }
        }
        _ => assert_eq!(
            std::mem::discriminant(recorded),
            std::mem::discriminant(ours),
            "{path}: recorded {recorded}, ours {ours}"
        ),
    }
}

async fn engine(kind: EngineKind) -> (ScriptedEngine, OpNode) {
    let secret = B256::repeat_byte(3);
    let engine = ScriptedEngine::start(kind, 1_000, 30_000_000, secret).await;
    let genesis = Head { hash: engine.head(), timestamp: 1_000 };
    let node = OpNode::new(engine.url(), secret, genesis);
    (engine, node)
}

/// All kinds of calls that were recorded, made to the scripted engine.
async fn play(node: &mut OpNode) {
    for label in ["latest", "finalized", "safe"] {
        node.call("eth_getBlockByNumber", json!([label, true])).await;
    }
    node.call("eth_chainId", Value::Null).await;
    node.update(node.head.hash, Value::Null).await;
    let id = node.start_job().await.id();
    let envelope = node.call("engine_getPayloadV3", json!([id])).await.result();
    let mut params = OpNode::payload_params(&envelope);
    params.as_array_mut().unwrap().pop();
    node.call("engine_newPayloadV3", params).await.result();
    let block = node.derive(&[]).await;
    node.call("eth_getBlockByHash", json!([block.hash, true])).await;
}

#[tokio::test]
async fn answers_have_the_shape_of_those_recorded_from_op_geth() {
    let (engine, mut node) = engine(EngineKind::OpGeth).await;
    play(&mut node).await;
    let calls = engine.calls();
    for recorded in lines(RECORDED) {
        let what = kind(recorded["method"].as_str().unwrap(), &recorded["params"]);
        let ours = calls.iter().find(|call| kind(&call.method, &call.params) == what);
        let ours = ours.unwrap_or_else(|| panic!("{what} was not played"));
        let answer: Value = serde_json::from_slice(&ours.answer).unwrap();
        match recorded.get("error") {
            Some(error) => assert_eq!(&answer["error"], error, "{what}"),
            None => expect_shape(&recorded["result"], &answer["result"], &what),
        }
        expect_shape(&recorded["params"], &ours.params, &format!("parameters of {what}"));
    }
}

/// Words without what differs from one transaction to the next.
fn form(words: &str) -> String {
    let is_of_hex = |word: &&str| !word.starts_with("0x");
    words.split(' ').filter(is_of_hex).filter(|word| word.parse::<u64>().is_err()).collect()
}

#[tokio::test]
async fn refusals_have_the_words_of_op_geth() {
    let cases = [
        ("nonce too high", Refusal::Execution),
        ("undecodable", Refusal::Decoding),
        ("blob tx", Refusal::Crash),
    ];
    for (name, how) in cases {
        let recorded = lines(REFUSALS).find(|line| line["name"] == name).unwrap();
        let (engine, node) = engine(EngineKind::OpGeth).await;
        let bad = Bytes::from(vec![2, 7]);
        engine.refuse(hash_of(&bad), how);
        let mut attributes = node.attributes(1_001);
        attributes["transactions"] = json!([node.deposit(1_001), bad]);
        attributes["noTxPool"] = json!(true);
        let error = node.update(node.head.hash, attributes).await.json()["error"].clone();
        assert_eq!(error["code"], recorded["error"]["code"], "{name}");
        assert_eq!(error["message"], recorded["error"]["message"], "{name}");
        let words = |error: &Value| form(error["data"]["err"].as_str().unwrap_or_default());
        assert_eq!(words(&error), words(&recorded["error"]), "{name}");
        let read: ErrorObject = serde_json::from_value(error).unwrap();
        let expected = match how {
            Refusal::Execution => Refused::Hash(hash_of(&bad)),
            Refusal::Decoding => Refused::Index(1),
            Refusal::Crash => Refused::Unnamed,
        };
        assert_eq!(refused(&read), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn same_attributes_give_the_same_id_and_the_head_moves_even_if_they_are_refused() {
    let (engine, mut node) = engine(EngineKind::OpGeth).await;
    let genesis = node.head;
    let first = node.block().await;
    node.head = genesis;
    let one = node.start_job().await.id();
    assert_eq!(node.start_job().await.id(), one);
    assert_eq!(node.get_payload(&one).await.result(), node.get_payload(&one).await.result());
    assert_eq!(engine.head(), genesis.hash);
    let mut attributes = node.attributes(first.timestamp);
    attributes["timestamp"] = json!("0x1");
    assert_eq!(node.update(first.hash, attributes).await.code(), Some(-38003));
    assert_eq!(engine.head(), first.hash);
}

#[tokio::test]
async fn op_geth_builds_over_the_footprint_and_refuses_its_own_block() {
    let (engine, mut node) = engine(EngineKind::OpGeth).await;
    engine.check_footprint(400_000);
    let one = Bytes::from(vec![2, 1]);
    let envelope = node.derived(1_001, &[one]).await;
    let answer = node.new_payload(&envelope).await.result();
    assert_eq!(answer["status"], "INVALID");
    let words = answer["validationError"].as_str().unwrap();
    assert_eq!(words, "DA footprint 40000000 exceeds block gas limit 30000000");
    node.derive(&[]).await;
}

#[tokio::test]
async fn each_kind_of_engine_treats_a_bad_transaction_in_its_own_way() {
    for kind in [EngineKind::OpGeth, EngineKind::OpReth, EngineKind::Strict] {
        let (engine, node) = engine(kind).await;
        let (good, bad) = (Bytes::from(vec![2, 1]), Bytes::from(vec![2, 2]));
        engine.refuse(hash_of(&bad), Refusal::Execution);
        let mut attributes = node.attributes(1_001);
        attributes["transactions"] = json!([node.deposit(1_001), bad, good]);
        attributes["noTxPool"] = json!(true);
        let update = node.update(node.head.hash, attributes).await;
        match kind {
            EngineKind::OpGeth => assert_eq!(update.code(), Some(-38003)),
            EngineKind::OpReth => {
                let envelope = node.get_payload(&update.id()).await.result();
                assert_eq!(crate::op_node::Block::of(envelope).users, [good]);
            }
            EngineKind::Strict => {
                assert_eq!(node.get_payload(&update.id()).await.code(), Some(-32000));
            }
        }
    }
}

#[tokio::test]
async fn an_engine_that_crashed_comes_back_with_an_older_head_and_no_payloads() {
    let (engine, mut node) = engine(EngineKind::OpGeth).await;
    let first = node.block().await;
    let second = node.block().await;
    let id = node.start_job().await.id();
    engine.restart(1);
    assert_eq!(engine.head(), first.hash);
    assert_eq!(node.get_payload(&id).await.code(), Some(-38001));
    let status = node.update(second.hash, Value::Null).await.result();
    assert_eq!(status["payloadStatus"]["status"], "SYNCING");
    assert_eq!(engine.transactions(second.hash), None);
}
