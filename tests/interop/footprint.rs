//! More transfers at once than a block's DA footprint has room for: 750 of 40,000 in 30 million. The rest waits.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use lockstep_core::entry::Entry;
use lockstep_rpc::client::{Endpoint, IngressClient};

use crate::run::{PATIENCE, Run, block};

#[tokio::test(flavor = "multi_thread")]
async fn transfers_over_the_footprint_limit_wait_for_the_next_block() {
    let run = Run::one("footprint", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let mut entries: Vec<Entry> = Vec::new();
    let mut sent: Vec<B256> = Vec::new();
    for nonce in 0..30 {
        for account in 0..run.accounts.len() {
            let raw = run.transfer(901, account, nonce);
            sent.push(keccak256(&raw));
            entries.push(run.admitted(901, raw));
        }
    }
    // All at once, past the public port, which takes its time for each.
    let channel =
        Endpoint::new(run.world.endpoints().remove(0)).connect().await.expect("a validator");
    let (mut sender, mut receiver) =
        IngressClient::new(channel).open_stream().await.expect("a stream");
    for part in entries.chunks(600) {
        sender.send(part).await.expect("a validator takes them");
        let (_, results) = receiver.next().await.expect("an answer").expect("an answer");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
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
    assert!(most > 500, "the limit was not reached: at most {most} transfers in a block");
    assert!(most <= 750, "a block holds {most} transfers, over the footprint limit");
    run.end().await;
}
