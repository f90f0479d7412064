//! The whole committee stops and comes back: a chain halts and catches up, or goes on with deposits only and takes what
//! the log has later.

use std::time::Duration;

use lockstep_devnet::world::sidecar::WhenSilent;

use crate::run::{PATIENCE, Run, head};

async fn stop_and_start(run: &mut Run, silence: Duration) -> u64 {
    let names: Vec<String> =
        run.world.processes().iter().take(4).map(|process| process.name().to_owned()).collect();
    let before = head(&run.chain(901).sequencer).await.expect("a head").number;
    for name in &names {
        run.world.stop_process(name).await.unwrap();
    }
    tokio::time::sleep(silence).await;
    let made = head(&run.chain(901).sequencer).await.expect("a head").number - before;
    for name in &names {
        run.world.start_process(name).unwrap();
    }
    made
}

async fn expect_goes_on(run: &Run) {
    run.more_blocks(901, 5, PATIENCE).await;
    let hash = run.send(901, &run.transfer(901, 1, 0)).await;
    run.landed(901, hash, PATIENCE).await;
    // On time again.
    lockstep_devnet::world::until(
        "the chain is on time again",
        Duration::from_secs(90),
        async || {
            let head = head(&run.chain(901).sequencer).await?;
            let now =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
            (head.timestamp + 1 >= now).then_some(())
        },
    )
    .await
    .unwrap();
    run.expect_audited(901);
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_halts_without_the_committee_and_catches_up() {
    let mut run = Run::one("halt", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let made = stop_and_start(&mut run, Duration::from_secs(15)).await;
    assert!(made <= 3, "the chain made {made} blocks without a log");
    expect_goes_on(&run).await;
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_goes_on_with_deposits_only_and_rejoins() {
    let mut run = Run::start("deposits-only", &[(901, 1)], |options| {
        options.when_silent = WhenSilent::DepositsOnly
    })
    .await;
    run.head_at(901, 12, PATIENCE).await;
    let made = stop_and_start(&mut run, Duration::from_secs(15)).await;
    assert!(made >= 8, "the chain made only {made} blocks in 15 s");
    expect_goes_on(&run).await;
    run.end().await;
}
