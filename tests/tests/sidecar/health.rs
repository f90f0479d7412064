//! What operators see, and the debug switch.

use lockstep_core::record::SealMode;
use lockstep_sidecar::config::WhenSilent;
use lockstep_tests::scripted_engine::{Fault, Instead, Which};
use lockstep_tests::scripted_log::Manner;
use lockstep_tests::wait::until;
use serde_json::{Value, json};

use crate::rig::{Rig, SOON, Setup};

async fn expect_ready(rig: &Rig, expected: u16) {
    let (status, text) = rig.get("/readyz").await;
    assert_eq!(status, expected, "{text}");
}

#[tokio::test]
async fn health_is_200_in_service_503_without_engine_and_200_again() {
    let mut rig = Rig::start(Setup::default()).await;
    let health = rig.until_health("it serves", |status, _| status == 200).await;
    assert_eq!((&health["state"], &health["reason"]), (&json!("serving"), &json!("")));
    expect_ready(&rig, 200).await;
    rig.engine.fault(Fault::always("eth_getBlockByNumber", Instead::Cut));
    let health = rig.until_health("the engine is away", |status, _| status == 503).await;
    assert_eq!(health["state"], "down");
    expect_ready(&rig, 503).await;
    rig.engine.mend();
    rig.until_ready().await;
    expect_ready(&rig, 200).await;
    rig.filled_block(1, 1).await;
    let (status, metrics) = rig.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("lockstep_sidecar_sealed_total 1"), "{metrics}");
}

#[tokio::test]
async fn health_is_206_until_the_chain_is_found_in_the_log() {
    let mut rig = Rig::start(Setup { manners: vec![Manner::Gone], ..Setup::default() }).await;
    let health = rig.until_health("it starts", |status, _| status == 206).await;
    assert_eq!((&health["state"], &health["is_ready"]), (&json!("starting"), &json!(false)));
    expect_ready(&rig, 503).await;
    rig.endpoints[0].turn(Manner::Honest).await;
    rig.until_ready().await;
    expect_ready(&rig, 200).await;
}

/// An engine of another chain has other blocks: none of its jobs may count as well.
#[tokio::test]
async fn health_is_206_before_an_engine_of_another_chain() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.until_ready().await;
    rig.kill();
    rig.engine.fault(Fault::always("eth_chainId", Instead::Result(json!("0x386"))));
    rig.revive().await;
    let of_another = |health: &Value| {
        health["reason"].as_str().is_some_and(|it| it.ends_with("is not of chain 901"))
    };
    let health = rig
        .until_health("it is of another chain", |status, it| status == 206 && of_another(it))
        .await;
    assert_eq!(health["state"], "starting");
    rig.engine.mend();
    rig.until_ready().await;
}

/// op-node has another secret than the sidecar: no block is made, whatever the log and the engine do.
#[tokio::test]
async fn health_is_206_while_op_node_is_locked_out() {
    let rig = Rig::start(Setup::default()).await;
    rig.until_ready().await;
    rig.node.send("{}", None).await;
    let health = rig.until_health("op-node is locked out", |status, _| status == 206).await;
    assert_eq!(health["reason"], "jwt: calls with another secret are refused");
    rig.node.call("eth_chainId", json!([])).await;
    rig.until_ready().await;
}

#[tokio::test]
async fn health_is_206_while_the_log_is_silent() {
    let setup = Setup { when_silent: WhenSilent::DepositsOnly, ..Setup::default() };
    let mut rig = Rig::start(setup).await;
    rig.filled_block(1, 1).await;
    rig.until_ready().await;
    let health = rig.until_health("the log is silent", |status, _| status == 206).await;
    assert_eq!(health["state"], "partial");
    let reason = health["reason"].as_str().unwrap();
    assert!(reason.starts_with("no log block for "), "{reason}");
    rig.close(2);
    rig.until_ready().await;
}

#[tokio::test]
async fn the_debug_switch_shows_in_health_and_is_refused_what_it_does_not_know() {
    let rig = Rig::start(Setup::default()).await;
    rig.until_ready().await;
    let mode = async |rig: &Rig| rig.operate("debug_getExecutionMode", json!([])).await.result();
    assert_eq!(mode(&rig).await, json!({ "execution_mode": "enabled" }));
    for (number, name) in (1..).zip(["dry_run", "disabled"]) {
        // The log is not silent in the meantime.
        rig.close(number);
        let wanted = json!({ "execution_mode": name });
        let reply = rig.operate("debug_setExecutionMode", json!([wanted])).await;
        assert_eq!(reply.result(), wanted);
        assert_eq!(mode(&rig).await, wanted);
        let health = rig.until_health(name, |status, _| status == 206).await;
        assert_eq!(health["reason"], format!("execution mode is {name}"));
        expect_ready(&rig, 503).await;
        let back = json!([{ "execution_mode": "enabled" }]);
        rig.operate("debug_setExecutionMode", back).await.result();
        rig.until_ready().await;
    }
    for params in [json!([]), json!([{ "execution_mode": "half" }]), json!(["disabled"])] {
        assert_eq!(rig.operate("debug_setExecutionMode", params).await.code(), Some(-32602));
    }
    assert_eq!(mode(&rig).await, json!({ "execution_mode": "enabled" }));
}

/// op-conductor has one URL for the engine's JSON-RPC and for `/healthz`.
#[tokio::test]
async fn reading_calls_on_the_operators_port_are_answered_by_the_engine_and_others_refused() {
    let rig = Rig::start(Setup::default()).await;
    assert_eq!(rig.operate("eth_chainId", json!([])).await.result(), "0x385");
    let head = rig.operate("eth_getBlockByNumber", json!(["latest", false])).await.result();
    assert_eq!(head["hash"], json!(rig.engine.head()));
    let got = rig.engine.calls_of("eth_getBlockByNumber").pop().unwrap();
    assert_eq!(got.params, json!(["latest", false]));
    for method in
        ["eth_sendRawTransaction", "eth_sign", "engine_exchangeCapabilities", "admin_peers"]
    {
        assert_eq!(rig.operate(method, json!([])).await.code(), Some(-32601), "{method}");
        assert!(rig.engine.calls_of(method).is_empty(), "{method}");
    }
    rig.engine.fault(Fault::always("eth_chainId", Instead::Cut));
    assert_eq!(rig.operate("eth_chainId", json!([])).await.code(), Some(-32000));
}

#[tokio::test]
async fn switched_off_jobs_pass_through_and_switched_on_again_nothing_is_lost() {
    for name in ["dry_run", "disabled"] {
        let mut rig = Rig::start(Setup::default()).await;
        rig.filled_block(1, 1).await;
        let wanted = json!([{ "execution_mode": name }]);
        rig.operate("debug_setExecutionMode", wanted).await.result();
        let pool = rig.transfers(2);
        rig.engine.fill_pool(pool.clone());
        let mut items = rig.fill(2, 2);
        rig.engine.forget();
        let attributes = rig.node.attributes(rig.node.head.timestamp + 1);
        let params = json!([rig.node.heads(rig.node.head.hash), attributes]);
        let body = rig.node.body("engine_forkchoiceUpdatedV3", params);
        let reply = rig.node.raw(&body).await;
        let got = rig.engine.calls_of("engine_forkchoiceUpdated");
        assert_eq!((&got[0].body[..], &got[0].answer), (body.as_bytes(), &reply.body), "{name}");
        // The first block had one item; a dry run counts the two that it would have offered, as long as the head is its parent.
        let offered = if name == "dry_run" { 3 } else { 1 };
        until(name, SOON, async || {
            let (_, metrics) = rig.get("/metrics").await;
            let series = format!("lockstep_sidecar_offered_total {offered}\n");
            metrics.contains(&series).then_some(())
        })
        .await;
        let envelope = rig.node.get_payload(&reply.id()).await.result();
        assert_eq!(rig.node.adopt(envelope).await.users, pool, "{name}");
        let wanted = json!([{ "execution_mode": "enabled" }]);
        rig.operate("debug_setExecutionMode", wanted).await.result();
        items.extend(rig.fill(3, 1));
        assert_eq!(rig.node.block().await.users, items, "{name}");
    }
}

/// A block of deposits looks like one whose every item was bad. Its own sidecar says what it is, so nothing waits and nothing
/// is lost, while switched off and while op-node recovers.
#[tokio::test]
async fn an_empty_block_of_op_nodes_own_is_recorded_and_the_next_one_has_what_waited() {
    for is_switched_off in [true, false] {
        let mut rig = Rig::start(Setup::default()).await;
        rig.filled_block(1, 1).await;
        let items = rig.fill(2, 2);
        let block = match is_switched_off {
            true => {
                let wanted = json!([{ "execution_mode": "disabled" }]);
                rig.operate("debug_setExecutionMode", wanted).await.result();
                let block = rig.node.block().await;
                let wanted = json!([{ "execution_mode": "enabled" }]);
                rig.operate("debug_setExecutionMode", wanted).await.result();
                block
            }
            // The job says noTxPool, as in recover mode.
            false => rig.node.derive(&[]).await,
        };
        assert!(block.users.is_empty());
        let sealed = rig.until_sealed(&block).await;
        assert_eq!((sealed.mode, sealed.number), (SealMode::Closed, 2), "{is_switched_off}");
        rig.kill();
        rig.revive().await;
        rig.close(3);
        assert_eq!(rig.node.block().await.users, items, "{is_switched_off}");
    }
}

/// Jobs come to no block, because the engine refuses them, until health says so.
async fn until_no_block_shows(rig: &mut Rig) {
    let fault = Fault::always("engine_forkchoiceUpdated", Instead::Error(-38003));
    rig.engine.fault(fault.of(Which::WithAttributes));
    let said = until("no block shows", SOON * 2, async || {
        rig.log.decide_at(rig.log.time().plus(1), &[]);
        let id = rig.node.start_job().await.id();
        rig.node.get_payload(&id).await;
        let (status, text) = rig.get("/healthz").await;
        (status == 206).then_some(text)
    });
    let said = said.await;
    assert!(said.contains("no block for"), "{said}");
    rig.engine.mend();
}

/// A sidecar that makes no blocks is not healthy, whatever the log and the engine do: op-conductor must see it.
#[tokio::test]
async fn jobs_that_come_to_no_block_show_in_health_until_one_does() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    rig.until_ready().await;
    let items = rig.fill(2, 1);
    until_no_block_shows(&mut rig).await;
    let block = until("the block is made", SOON, async || {
        let id = rig.node.start_job().await.id();
        let reply = rig.node.get_payload(&id).await;
        reply.code().is_none().then(|| reply.result())
    });
    let envelope = block.await;
    assert_eq!(rig.node.adopt(envelope).await.users, items);
    rig.until_ready().await;
}

/// op-conductor has handed over, and another sequencer makes the blocks: nobody asks here for the one that could not be made.
#[tokio::test]
async fn jobs_that_came_to_no_block_say_nothing_when_the_chain_has_gone_on_without_them() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    rig.until_ready().await;
    until_no_block_shows(&mut rig).await;
    // It does not pass by itself while op-node has the same head.
    let (status, text) = rig.get("/healthz").await;
    assert_eq!(status, 206, "{text}");
    rig.node.derive(&[]).await;
    rig.until_ready().await;
}

/// A browser sends such bodies to any address, without asking first.
#[tokio::test]
async fn a_web_page_cannot_drive_the_operators_port() {
    let rig = Rig::start(Setup::default()).await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "debug_setExecutionMode",
        "params": [{ "execution_mode": "disabled" }] });
    let kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""];
    for kind in kinds {
        assert_eq!(rig.operate_as(kind, None, &body).await, 415, "{kind}");
    }
    // A page whose name was made to mean this address sends what it likes, but a browser says where it is from.
    let json = "application/json";
    for origin in ["http://evil.example", "null"] {
        assert_eq!(rig.operate_as(json, Some(origin), &body).await, 403, "{origin}");
    }
    let mode = rig.operate("debug_getExecutionMode", json!([])).await.result();
    assert_eq!(mode["execution_mode"], "enabled");
    for kind in [json, "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(rig.operate_as(kind, None, &body).await, 200, "{kind}");
    }
}
