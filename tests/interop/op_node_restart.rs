//! op-node is stopped and killed under load, and comes back: no transaction is lost or doubled.

use crate::load::Load;
use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn op_node_comes_back_and_loses_nothing() {
    let mut run = Run::one("op-node-restart", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 20);
    let name = run.chain(901).sequencer.process("op-node");
    run.more_blocks(901, 5, PATIENCE).await;
    run.world.stop_process(&name).await.unwrap();
    run.world.start_process(&name).unwrap();
    run.more_blocks(901, 8, PATIENCE).await;
    run.world.kill_process(&name).await.unwrap();
    run.world.start_process(&name).unwrap();
    run.more_blocks(901, 8, PATIENCE).await;
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
