//! L1 replaces its last blocks: the chain builds on other origins, and everything that was sent is there once.

use crate::load::Load;
use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn l1_reorg_loses_nothing() {
    let run = Run::replicated("l1-reorg", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 10);
    for depth in [1, 3, 6] {
        run.more_blocks(901, 15, PATIENCE).await;
        run.world.l1().expect("an L1").reorg(depth).await.unwrap();
    }
    let head = run.more_blocks(901, 25, PATIENCE).await;
    let report = load.stop(PATIENCE).await;
    let verifier = run.chain(901).verifier.clone().expect("a replica");
    run.safe_at(&verifier, head.number, PATIENCE * 2).await;
    run.expect_same(901, head.number).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
