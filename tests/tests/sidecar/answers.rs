//! Every answer of the engine, at every call: what op-node gets of it. Nothing that makes it exit or wedge, nothing that
//! is not there in time, and the block in the end.

use std::time::{Duration, Instant};

use lockstep_tests::scripted_engine::{Fault, Instead, Which};
use lockstep_tests::wait::until;
use serde_json::{Value, json};

use crate::op_node::{Block, OpNode, Reply};
use crate::rig::{Rig, SOON, Setup};

/// The hold of one block time, and what a busy machine needs.
const IN_TIME: Duration = Duration::from_millis(1_900);
/// Calls of the Engine API for one block with one fault.
const CALLS_MAX: usize = 60;

fn answers() -> Vec<Instead> {
    let mut answers: Vec<Instead> = ["INVALID", "SYNCING", "ACCEPTED"].map(Instead::Status).into();
    answers.extend([-38001, -38002, -38003, -32000, -32603, -32601].map(Instead::Error));
    answers.extend([Instead::Http(500), Instead::Http(401), Instead::Garbage, Instead::Cut]);
    answers.extend([Instead::Result(Value::Null), Instead::Result(json!({ "payloadStatus": 7 }))]);
    answers
}

/// No answer to a sequencing call may make op-node exit, or wait for 30 s.
#[track_caller]
fn expect_harmless(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 200, "{what}: {}", reply.text());
    assert_ne!(reply.code(), Some(-38003), "{what}: {}", reply.text());
    for status in ["INVALID", "SYNCING", "ACCEPTED"] {
        let said = format!("\"status\":\"{status}\"");
        assert!(!reply.text().contains(&said), "{what}: {}", reply.text());
    }
}

/// What op-node does until it has a block: a job, `getPayload`; after an error it begins again.
async fn block_despite(node: &mut OpNode, what: &str) -> Block {
    let envelope = until(what, SOON, async || {
        let job = node.start_job().await;
        expect_harmless(&job, what);
        let id = job.code().is_none().then(|| job.id())?;
        let asked = Instant::now();
        let payload = node.get_payload(&id).await;
        assert!(asked.elapsed() < IN_TIME, "{what}: held for {:?}", asked.elapsed());
        expect_harmless(&payload, what);
        payload.code().is_none().then(|| payload.result())
    });
    let envelope = envelope.await;
    node.adopt(envelope).await
}

/// One block per answer, each with so many faults of this kind of call; all offered items are in it.
async fn every_answer_to(method: &'static str, which: Which, times: usize) {
    let mut rig = Rig::start(Setup::default()).await;
    for (number, answer) in (1..).zip(answers()) {
        let what = format!("{answer:?} to {method} {which:?}");
        let expected = rig.fill(number, 3);
        rig.engine.forget();
        rig.engine.fault(Fault::once(method, answer).of(which).times(times));
        let block = block_despite(&mut rig.node, &what).await;
        assert_eq!(block.users, expected, "{what}");
        let calls = rig.engine.calls_of("engine_").len();
        assert!(calls <= CALLS_MAX, "{what}: {calls} calls");
        rig.engine.mend();
    }
}

#[tokio::test]
async fn any_answer_to_setting_the_head_is_harmless_and_the_block_is_made() {
    every_answer_to("engine_forkchoiceUpdated", Which::WithoutAttributes, 1).await;
}

#[tokio::test]
async fn any_answer_to_building_is_harmless_and_no_item_is_lost_by_it() {
    for times in [1, 2] {
        every_answer_to("engine_forkchoiceUpdated", Which::WithAttributes, times).await;
    }
}

#[tokio::test]
async fn any_answer_to_taking_the_payload_is_harmless_and_no_item_is_lost_by_it() {
    // Once for the sidecar, which takes blocks ahead of time; twice for op-node's own call, too.
    for times in [1, 2] {
        every_answer_to("engine_getPayloadV", Which::Any, times).await;
    }
}

#[tokio::test]
async fn any_answer_to_importing_ahead_of_op_node_is_harmless_and_the_block_is_made() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    let silence = [Instead::Silence];
    for (number, answer) in (2..).zip(answers().into_iter().chain(silence)) {
        let what = format!("{answer:?} to importing ahead");
        let expected = rig.fill(number, 3);
        rig.engine.forget();
        rig.engine.fault(Fault::once("engine_newPayload", answer));
        let block = block_despite(&mut rig.node, &what).await;
        assert_eq!(block.users, expected, "{what}");
        assert_eq!(rig.engine.calls_of("engine_newPayload").len(), 2, "{what}: op-node's, too");
    }
}

#[tokio::test]
async fn a_state_that_the_engine_does_not_tell_delays_no_block() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    for (number, answer) in (2..).zip([Instead::Silence, Instead::Garbage, Instead::Http(500)]) {
        let what = format!("{answer:?} to batches");
        let expected = rig.fill(number, 3);
        rig.engine.fault(Fault::once("batch", answer));
        let asked = Instant::now();
        assert_eq!(rig.node.block().await.users, expected, "{what}");
        assert!(asked.elapsed() < IN_TIME, "{what}: {:?}", asked.elapsed());
    }
}

/// An engine that is broken for good: op-node gets errors it tries again after, and the engine is not flooded.
#[tokio::test]
async fn an_engine_that_always_fails_is_not_asked_in_a_hot_loop() {
    let faults = [
        ("engine_forkchoiceUpdated", Which::WithoutAttributes),
        ("engine_forkchoiceUpdated", Which::WithAttributes),
        ("engine_getPayloadV", Which::Any),
    ];
    let mut rig = Rig::start(Setup::default()).await;
    let expected = rig.fill(1, 3);
    for (method, which) in faults {
        for answer in [Instead::Error(-32000), Instead::Error(-38003), Instead::Http(500)] {
            let what = format!("always {answer:?} to {method} {which:?}");
            rig.engine.forget();
            rig.engine.fault(Fault::always(method, answer).of(which));
            let begun = Instant::now();
            let job = rig.node.start_job().await;
            expect_harmless(&job, &what);
            if job.code().is_none() {
                let payload = rig.node.get_payload(&job.id()).await;
                expect_harmless(&payload, &what);
                assert!(payload.code().is_some(), "{what}: {}", payload.text());
            }
            assert!(begun.elapsed() < IN_TIME, "{what}: {:?}", begun.elapsed());
            let calls = rig.engine.calls_of("engine_").len();
            assert!(calls <= CALLS_MAX, "{what}: {calls} calls");
            rig.engine.mend();
        }
    }
    let block = block_despite(&mut rig.node, "the engine is well again").await;
    assert_eq!(block.users, expected);
}

#[tokio::test]
async fn an_engine_that_never_answers_does_not_hold_get_payload() {
    let mut rig = Rig::start(Setup::default()).await;
    let expected = rig.fill(1, 2);
    rig.engine.fault(Fault::once("engine_getPayloadV", Instead::Silence));
    let block = block_despite(&mut rig.node, "no answer to getPayload").await;
    assert_eq!(block.users, expected);
    rig.fill(2, 2);
    let building = Fault::once("engine_forkchoiceUpdated", Instead::Silence);
    rig.engine.fault(building.of(Which::WithAttributes));
    let id = rig.node.start_job().await.id();
    let asked = Instant::now();
    expect_harmless(&rig.node.get_payload(&id).await, "no answer to building");
    assert!(asked.elapsed() < IN_TIME, "held for {:?}", asked.elapsed());
}

/// op-node gives up and asks again: the lost call stands in nobody's way.
#[tokio::test]
async fn a_call_that_the_engine_never_answers_leaves_the_next_one_alone() {
    let mut rig = Rig::start(Setup::default()).await;
    let expected = rig.fill(1, 2);
    let silent = Fault::once("engine_forkchoiceUpdated", Instead::Silence);
    rig.engine.fault(silent.of(Which::WithoutAttributes));
    let attributes = rig.node.attributes(rig.node.head.timestamp + 1);
    let params = json!([rig.node.heads(rig.node.head.hash), attributes]);
    let patience = Duration::from_millis(300);
    let lost = rig.node.call_for(patience, "engine_forkchoiceUpdatedV3", params).await;
    assert!(lost.is_none(), "{lost:?}");
    let block = rig.node.block().await;
    assert_eq!(block.users, expected);
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_work_changes_nothing() {
    let mut rig = Rig::start(Setup::default()).await;
    let methods = ["engine_forkchoiceUpdated", "engine_getPayloadV"];
    for (number, method) in (1..).zip(methods) {
        let expected = rig.fill(number, 3);
        rig.engine.fault(Fault::once(method, Instead::Cut).after_the_work());
        let block = block_despite(&mut rig.node, method).await;
        assert_eq!(block.users, expected, "{method}");
    }
}

/// What passes through is the engine's to say: op-node hears it as it is.
#[tokio::test]
async fn any_answer_to_a_call_that_passes_through_comes_back_as_it_is() {
    let mut rig = Rig::start(Setup::default()).await;
    let block = rig.filled_block(1, 2).await;
    let calls = [
        ("engine_forkchoiceUpdatedV3", json!([rig.node.heads(block.hash), null])),
        ("engine_newPayloadV4", OpNode::payload_params(&block.envelope)),
        ("engine_getPayloadV4", json!(["0x0312345678901234"])),
    ];
    for (method, params) in calls {
        for answer in answers() {
            let what = format!("{answer:?} to {method}");
            // After an answer that never came the engine's heads are set again.
            rig.node.call("eth_chainId", json!([])).await;
            rig.engine.forget();
            rig.engine.fault(Fault::once(method, answer.clone()));
            let reply = rig.node.call(method, params.clone()).await;
            let calls = rig.engine.calls_of(method);
            // An engine that lacks a head that came through here is given it back: the call, the heads, the call again.
            let lacks_head = method.starts_with("engine_forkchoiceUpdated")
                && matches!(answer, Instead::Status("SYNCING" | "ACCEPTED"));
            assert_eq!(calls.len(), if lacks_head { 3 } else { 1 }, "{what}");
            match answer {
                Instead::Http(status) => assert_eq!(reply.status, status, "{what}"),
                Instead::Cut => assert_eq!(reply.status, 502, "{what}"),
                Instead::Garbage => assert!(reply.text().ends_with("as the script says"), "{what}"),
                _ => assert_eq!(reply.body, calls.last().unwrap().answer, "{what}"),
            }
        }
    }
}
