//! One chain for 100 blocks under load, with deposits from L1: every block in time, every transaction once and in order.

use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use lockstep_devnet::world::l1::Deposit;

use crate::load::Load;
use crate::run::{PATIENCE, Run, balance};

/// Blocks of a run.
const BLOCKS: u64 = 100;
/// Transactions per second.
const RATE: usize = 50;

async fn sequence(name: &str, seconds: u64, blocks: u64) {
    let run = Run::one(name, seconds).await;
    // The activation blocks of Isthmus and Jovian are behind.
    run.head_at(901, 12 / seconds, PATIENCE).await;
    let begin = run.metrics(901).await;
    let sidecar = run.chain(901).sequencer.process("sidecar");
    let (cpu, clock) = (run.cpu_seconds(&sidecar), std::time::Instant::now());
    let load = Load::start(run.chain(901), &run.accounts, RATE);
    let to = Address::repeat_byte(0xd0);
    let l1 = run.world.l1().expect("an L1");
    let mut deposited = 0;
    let first = run.more_blocks(901, 1, PATIENCE).await.number;
    while run.more_blocks(901, 10, PATIENCE).await.number < first + blocks {
        let deposit = Deposit { to, value: 7, gas: 100_000, data: Bytes::new() };
        l1.deposit(901, &deposit).await.expect("a deposit");
        deposited += 7;
    }
    let cpu = (run.cpu_seconds(&sidecar) - cpu) / clock.elapsed().as_secs_f64() * 100.0;
    let report = load.stop(PATIENCE).await;
    assert!(
        report.sent.len() as u64 > blocks * seconds * RATE as u64 * 8 / 10,
        "only {} were taken: {:?}",
        report.sent.len(),
        report.refused.first()
    );
    run.expect_landed_once(901, &report.sent).await;
    run.more_blocks(901, 8 / seconds, PATIENCE).await;
    let chain = run.chain(901);
    assert_eq!(
        balance(&chain.sequencer, to).await.to::<u64>(),
        deposited,
        "every deposit is in the chain"
    );
    run.expect_audited(901);
    let metrics = run.metrics(901).await.since(&begin);
    let late = "lockstep_sidecar_late_seconds";
    let sealed = metrics.get(&format!("{late}_count"));
    let in_time = metrics.get(&format!("{late}_bucket{{le=\"0.0\"}}"));
    println!(
        "block time {seconds} s, {RATE} tx/s: {in_time} of {sealed} blocks sealed in time; submit to included p50 {} ms, p99 {} ms; \
         decided to sealed p50 <= {} s, p99 <= {} s; added per call p50 <= {} s, p99 <= {} s; sidecar {cpu:.1} % of a core; {} transactions",
        report.quantile(0.5).as_millis(),
        report.quantile(0.99).as_millis(),
        metrics.quantile("lockstep_sidecar_sealing_seconds", 0.5),
        metrics.quantile("lockstep_sidecar_sealing_seconds", 0.99),
        metrics.quantile("lockstep_sidecar_added_seconds", 0.5),
        metrics.quantile("lockstep_sidecar_added_seconds", 0.99),
        report.sent.len(),
    );
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_of_one_second_keeps_its_pace_under_load() {
    sequence("sequencing-1s", 1, BLOCKS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_of_two_seconds_keeps_its_pace_under_load() {
    sequence("sequencing-2s", 2, BLOCKS).await;
}

/// The first tier's share of the above.
#[tokio::test(flavor = "multi_thread")]
async fn tier_one_chain_makes_blocks_of_what_was_sent() {
    let run = Run::one("tier-one", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, 20);
    run.more_blocks(901, 15, PATIENCE).await;
    let report = load.stop(Duration::from_secs(20)).await;
    assert!(
        report.sent.len() > 200,
        "only {} were taken: {:?}",
        report.sent.len(),
        report.refused.first()
    );
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
