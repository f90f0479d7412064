//! The batcher posts the chain to L1, and a stock replica derives the same blocks from it. Its users send through it
//! (op-geth's `--rollup.sequencerhttp`).

use std::time::Duration;

use alloy_primitives::B256;
use serde_json::json;

use crate::load::Load;
use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn stock_replica_derives_the_same_blocks() {
    let run = Run::replicated("derivation", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 20);
    run.more_blocks(901, 10, PATIENCE).await;
    let verifier = run.chain(901).verifier.clone().expect("a replica");
    let raw = run.transfer(901, 20, 0);
    let hash: B256 =
        verifier.engine().call("eth_sendRawTransaction", json!([raw])).await.expect("is passed on");
    run.landed(901, hash, PATIENCE).await;
    let head = run.more_blocks(901, 20, PATIENCE).await;
    let mut report = load.stop(PATIENCE).await;
    report.sent.push(hash);
    run.safe_at(&verifier, head.number, Duration::from_secs(90)).await;
    run.expect_same(901, head.number).await;
    run.expect_landed_once(901, &report.sent).await;
    println!("{} blocks with {} transactions, derived identically", head.number, report.sent.len());
    run.end().await;
}
