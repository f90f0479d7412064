//! What operators see, and the debug switch.

use lockstep_sidecar::config::WhenSilent;
use lockstep_tests::scripted_engine::{Fault, Instead};
use lockstep_tests::scripted_log::Manner;
use lockstep_tests::wait::until;
use serde_json::json;

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
        let envelope = rig.node.get_payload(&reply.id()).await.result();
        assert_eq!(rig.node.adopt(envelope).await.users, pool, "{name}");
        // The first block had one item; a dry run counts the two that it would have offered.
        let offered = if name == "dry_run" { 3 } else { 1 };
        until(name, SOON, async || {
            let (_, metrics) = rig.get("/metrics").await;
            let series = format!("lockstep_sidecar_offered_total {offered}\n");
            metrics.contains(&series).then_some(())
        })
        .await;
        let wanted = json!([{ "execution_mode": "enabled" }]);
        rig.operate("debug_setExecutionMode", wanted).await.result();
        items.extend(rig.fill(3, 1));
        assert_eq!(rig.node.block().await.users, items, "{name}");
    }
}
