//! More transfers at once than a block's DA footprint has room for: 750 of 40,000 in 30 million. The rest waits.

use std::time::Duration;

use alloy_primitives::B256;

use crate::run::{PATIENCE, Run, block};

#[tokio::test(flavor = "multi_thread")]
async fn transfers_over_the_footprint_limit_wait_for_the_next_block() {
    let run = Run::one("footprint", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let mut sent: Vec<B256> = Vec::new();
    let chunks: Vec<usize> = (0..run.accounts.len()).collect();
    for nonce in 0..30 {
        let sends = chunks.iter().map(|account| {
            let raw = run.transfer(901, *account, nonce);
            let run = &run;
            async move { run.send(901, &raw).await }
        });
        sent.extend(futures::future::join_all(sends).await);
    }
    for hash in [sent[0], sent[sent.len() - 1]] {
        run.landed(901, hash, PATIENCE).await;
    }
    run.more_blocks(901, 2, Duration::from_secs(20)).await;
    run.expect_landed_once(901, &sent).await;
    run.expect_audited(901);
    let side = &run.chain(901).sequencer;
    let mut most = 0;
    let head = run.more_blocks(901, 1, PATIENCE).await.number;
    for number in 12..=head {
        let block = block(side, &format!("{number:#x}")).await.expect("a block");
        most = most.max(block.transactions.len() - 1);
    }
    println!("{} transfers, at most {most} in one block", sent.len());
    assert!(most <= 750, "a block holds {most} transfers, over the footprint limit");
    run.end().await;
}
