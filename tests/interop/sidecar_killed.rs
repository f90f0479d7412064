//! The sidecar is killed, and killed again with its disk gone: it finds its place, and the chain goes on.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::run::{PATIENCE, Run};

async fn kill(run: &mut Run, is_disk_lost: bool) -> Duration {
    let side = run.chain(901).sequencer.clone();
    let name = side.process("sidecar");
    run.world.kill_process(&name).await.unwrap();
    if is_disk_lost {
        std::fs::remove_dir_all(side.directory().join("sidecar")).expect("the sidecar's data");
    }
    run.world.start_process(&name).unwrap();
    let begun = Instant::now();
    let ready = format!("http://127.0.0.1:{}/readyz", side.ports.health);
    lockstep_devnet::world::until("the sidecar is ready", PATIENCE, async || {
        reqwest::get(&ready).await.ok().filter(|answer| answer.status().is_success())
    })
    .await
    .unwrap();
    let took = begun.elapsed();
    run.more_blocks(901, 8, PATIENCE).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn tier_one_killed_sidecar_comes_back_with_and_without_its_disk() {
    let mut run = Run::one("sidecar-killed", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 10);
    run.more_blocks(901, 5, PATIENCE).await;
    let warm = kill(&mut run, false).await;
    let cold = kill(&mut run, true).await;
    println!("ready after {} ms with its disk, {} ms without", warm.as_millis(), cold.as_millis());
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
