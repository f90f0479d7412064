//! A standby op-node with an engine and a sidecar of its own takes over, and hands back: nothing is lost or doubled.

use alloy_primitives::B256;
use lockstep_devnet::world::options::Verifiers;
use lockstep_devnet::world::rollup::Side;
use serde_json::{Value, json};

use crate::load::Load;
use crate::run::{PATIENCE, Run, head};

/// Stops one sequencer and starts the other on the same head.
async fn hand_over(from: &Side, to: &Side) {
    let stopped: Value =
        from.node().call("admin_stopSequencer", json!([])).await.expect("the sequencer stops");
    let hash: B256 = serde_json::from_value(stopped).expect("a hash");
    lockstep_devnet::world::until("the standby has the head", PATIENCE, async || {
        (head(to).await?.hash == hash).then_some(())
    })
    .await
    .unwrap();
    let _: Value =
        to.node().call("admin_startSequencer", json!([hash])).await.expect("the standby starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_takes_over_and_hands_back() {
    let run =
        Run::start("handover", &[(901, 1)], |options| options.verifiers = Verifiers::Standby).await;
    run.head_at(901, 12, PATIENCE).await;
    let chain = run.chain(901).clone();
    let (first, second) = (&chain.sequencer, chain.verifier.as_ref().expect("a standby"));
    let load = Load::start(&chain, &run.accounts, 10);
    run.more_blocks(901, 8, PATIENCE).await;
    hand_over(first, second).await;
    run.more_blocks(901, 8, PATIENCE).await;
    hand_over(second, first).await;
    run.more_blocks(901, 8, PATIENCE).await;
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
