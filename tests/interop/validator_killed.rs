//! A validator is killed: the log goes on, and so do the chains, whichever endpoint their sidecars were reading.

use crate::load::Load;
use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn killed_validator_stops_no_chain() {
    let mut run = Run::one("validator-killed", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 10);
    let names: Vec<String> =
        run.world.processes().iter().take(4).map(|process| process.name().to_owned()).collect();
    for name in names.iter().take(2) {
        run.more_blocks(901, 5, PATIENCE).await;
        run.world.kill_process(name).await.unwrap();
        run.more_blocks(901, 15, PATIENCE).await;
        run.world.start_process(name).unwrap();
        run.more_blocks(901, 5, PATIENCE).await;
    }
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
