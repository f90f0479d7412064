//! The engine is killed and comes back with an older head: what was sealed and posted stays, nothing is lost.

use lockstep_devnet::world::options::StateScheme;
use lockstep_devnet::world::until;

use crate::load::Load;
use crate::run::{Block, PATIENCE, Run, head};

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

/// A world of one chain whose engine keeps states by path, and a load. The engine was restarted once, so some states are on disk, as
/// on any chain of some age.
async fn by_path(name: &str) -> (Run, Load) {
    let mut run =
        Run::start(name, &[(901, 1)], |options| options.state_scheme = StateScheme::Path).await;
    run.head_at(901, 12, PATIENCE).await;
    let engine = run.chain(901).sequencer.process("op-geth");
    run.world.stop_process(&engine).await.unwrap();
    run.world.start_process(&engine).unwrap();
    let load = Load::start(run.chain(901), &run.accounts, 10);
    run.more_blocks(901, 15, PATIENCE).await;
    (run, load)
}

/// Waits for more blocks and checks that these are still there.
async fn expect_kept(run: &Run, before: &[Block]) {
    let newest = before.last().expect("a block").number;
    run.head_at(901, newest + 10, PATIENCE).await;
    let now = run.blocks(&run.chain(901).sequencer).await;
    for block in before {
        let kept = now.iter().find(|kept| kept.number == block.number).map(|kept| kept.hash);
        assert_eq!(kept, Some(block.hash), "block {} was made once", block.number);
    }
}

/// op-geth lacks the states of all newer blocks then.
#[tokio::test(flavor = "multi_thread")]
async fn killed_engine_under_the_path_scheme_loses_nothing() {
    let (mut run, load) = by_path("engine-path").await;
    let engine = run.chain(901).sequencer.process("op-geth");
    for _ in 0..2 {
        let before = run.blocks(&run.chain(901).sequencer).await;
        run.world.kill_process(&engine).await.unwrap();
        run.world.start_process(&engine).unwrap();
        expect_kept(&run, &before).await;
    }
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}

/// The machine crashed: op-node, engine and sidecar begin from what is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn killed_machine_under_the_path_scheme_loses_nothing() {
    let (mut run, load) = by_path("machine-path").await;
    let before = run.blocks(&run.chain(901).sequencer).await;
    let side = run.chain(901).sequencer.clone();
    let names = ["op-node", "sidecar", "op-geth"].map(|program| side.process(program));
    for name in &names {
        run.world.kill_process(name).await.unwrap();
    }
    let [node, rest @ ..] = &names;
    for name in rest {
        run.world.start_process(name).unwrap();
    }
    // An op-node whose engine is away at its start ends at once.
    until("the engine serves", PATIENCE, async || head(&side).await.map(|_| ())).await.unwrap();
    run.world.start_process(node).unwrap();
    expect_kept(&run, &before).await;
    let report = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}

/// An engine that has never written a state comes up at block 0 and waits for peers: it takes no block. One clean stop later it
/// has the states that it made again, and is given the rest.
#[tokio::test(flavor = "multi_thread")]
async fn killed_engine_without_a_state_on_disk_needs_one_clean_restart() {
    let mut run = Run::start("engine-fresh", &[(901, 1)], |options| {
        options.state_scheme = StateScheme::Path;
    })
    .await;
    run.head_at(901, 12, PATIENCE).await;
    let before = run.blocks(&run.chain(901).sequencer).await;
    let engine = run.chain(901).sequencer.process("op-geth");
    run.world.kill_process(&engine).await.unwrap();
    run.world.start_process(&engine).unwrap();
    until("the engine has made states again", PATIENCE, async || {
        head(&run.chain(901).sequencer).await.is_some_and(|head| head.number > 0).then_some(())
    })
    .await
    .unwrap();
    run.world.stop_process(&engine).await.unwrap();
    run.world.start_process(&engine).unwrap();
    expect_kept(&run, &before).await;
    run.expect_audited(901);
    run.end().await;
}
