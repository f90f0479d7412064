//! The engine is killed and comes back with an older head: what was sealed and posted stays, nothing is lost.

use crate::load::Load;
use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn killed_engine_comes_back_with_an_older_head() {
    let mut run = Run::one("engine-killed", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 10);
    run.more_blocks(901, 15, PATIENCE).await;
    let name = run.chain(901).sequencer.process("op-geth");
    for _ in 0..2 {
        run.world.kill_process(&name).await.unwrap();
        run.world.start_process(&name).unwrap();
        run.more_blocks(901, 15, PATIENCE).await;
    }
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
