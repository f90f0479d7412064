//! op-batcher falls behind on purpose: it limits the chain's blocks, the sidecar records the limits, and what does not fit
//! waits for a later block.

use std::process::Stdio;
use std::time::Instant;

use crate::load::Load;
use crate::run::{PATIENCE, Run, block};

/// The batcher's limit for a block, in bytes. A transfer counts for 100 of them.
const BLOCK_BYTES: u64 = 2_500;
/// The deposit of the L1's attributes, and the transfers that fit.
const TRANSACTIONS_MAX: usize = 1 + 25;

#[tokio::test(flavor = "multi_thread")]
async fn blocks_stay_within_what_the_batcher_can_post() {
    let mut run = Run::one("throttling", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let name = "op-batcher-901";
    run.world.stop_process(name).await.unwrap();
    // By the command that devnet prints, with thresholds that a few blocks are over.
    let script = run.world.layout.directory.join("run").join(name);
    let mut by_hand = tokio::process::Command::new("sh")
        .arg(script)
        .env("OP_BATCHER_THROTTLE_UNSAFE_DA_BYTES_LOWER_THRESHOLD", "1")
        .env("OP_BATCHER_THROTTLE_UNSAFE_DA_BYTES_UPPER_THRESHOLD", "2")
        .env("OP_BATCHER_THROTTLE_BLOCK_SIZE_LOWER_LIMIT", BLOCK_BYTES.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the batcher starts");
    let load = Load::start(run.chain(901), &run.accounts, 40);
    let side = run.chain(901).sequencer.clone();
    let count = async |number: u64| {
        block(&side, &format!("{number:#x}")).await.expect("a block").transactions.len()
    };
    // In force once two blocks in a row are as full as they may be.
    let deadline = Instant::now() + PATIENCE;
    let mut head = run.more_blocks(901, 1, PATIENCE).await.number;
    while count(head).await != TRANSACTIONS_MAX || count(head - 1).await != TRANSACTIONS_MAX {
        assert!(Instant::now() < deadline, "the batcher limits nothing");
        head = run.more_blocks(901, 1, PATIENCE).await.number;
    }
    let limited = head;
    run.more_blocks(901, 6, PATIENCE).await;
    let report = load.stop(PATIENCE).await;
    let head = run.more_blocks(901, 2, PATIENCE).await.number;
    let mut most = 0;
    for number in limited..=head {
        most = most.max(count(number).await);
    }
    println!("{} transfers, at most {} in a block", report.sent.len(), most - 1);
    assert_eq!(most, TRANSACTIONS_MAX, "the limit is used, and kept");
    by_hand.kill().await.expect("the batcher ends");
    run.world.start_process(name).unwrap();
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    run.end().await;
}
