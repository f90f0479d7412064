//! What the batcher can post is a limit for blocks: its call becomes a record, and what is over
//! the record's limits waits, or is passed over where it could wait for ever.

use lockstep_core::entry::Body;
use lockstep_core::record::{Limits, RecordBody, SkipReason};
use lockstep_tests::wait::until;
use serde_json::{Value, json};

use crate::rig::{Rig, SOON, Setup, sequencer};

/// The `Limits` records that were submitted.
fn limits(rig: &Rig) -> Vec<Limits> {
    let all = rig.log.ingress.all();
    let records = all.iter().filter_map(|entry| match entry.body() {
        Body::Record(record) => {
            assert_eq!(record.signer(rig.log.network()).unwrap(), sequencer().address());
            Some(&record.body)
        }
        Body::Transaction(_) | Body::Bundle(_) => None,
    });
    let limits = records.filter_map(|body| match body {
        RecordBody::Limits(limits) => Some(*limits),
        RecordBody::Sealed(_) | RecordBody::Prepared(_) => None,
    });
    limits.collect()
}

async fn until_submitted(rig: &Rig, tx_bytes: u64, block_bytes: u64) {
    let expected = Limits { tx_bytes, block_bytes, ..Limits::default() };
    until("the limits are submitted", SOON, async || {
        limits(rig).last().is_some_and(|last| last.is_equal(&expected)).then_some(())
    })
    .await;
}

/// The batcher says its limits, and they are submitted.
async fn throttle(rig: &Rig, tx_bytes: u64, block_bytes: u64) {
    let params = json!([format!("{tx_bytes:#x}"), format!("{block_bytes:#x}")]);
    rig.node.call("miner_setMaxDASize", params).await.result();
    until_submitted(rig, tx_bytes, block_bytes).await;
}

#[tokio::test]
async fn the_batchers_limits_become_a_record_on_both_ports() {
    let rig = Rig::start(Setup::default()).await;
    let reply = rig.node.call("miner_setMaxDASize", json!(["0x10", "0x2000"])).await;
    assert_eq!(reply.result(), json!(true));
    until_submitted(&rig, 16, 8_192).await;
    let reply = rig.operate("miner_setMaxDASize", json!(["0x0", "0x12c"])).await;
    assert_eq!(reply.result(), json!(true));
    until_submitted(&rig, 0, 300).await;
    assert!(rig.engine.calls_of("miner_").is_empty(), "the engine's own pool is not used");
}

#[tokio::test]
async fn what_is_no_limit_is_refused() {
    let rig = Rig::start(Setup::default()).await;
    for params in [json!([]), json!(["0x1"]), json!([1, 2]), json!(["1", "2"]), Value::Null] {
        for reply in [
            rig.node.call("miner_setMaxDASize", params.clone()).await,
            rig.operate("miner_setMaxDASize", params.clone()).await,
        ] {
            assert_eq!(reply.code(), Some(-32602), "{params}");
        }
    }
    assert_eq!(limits(&rig), []);
}

/// A transfer counts for 100 bytes at least.
#[tokio::test]
async fn items_over_the_limits_of_a_block_wait() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 4).await;
    throttle(&rig, 0, 300).await;
    rig.offer_records(2);
    let items = rig.fill(2, 8);
    rig.close(5);
    for expected in [&items[..3], &items[3..6], &items[6..]] {
        assert_eq!(rig.node.block().await.users, expected);
    }
}

/// They are in force for windows that end after the record, and for no earlier one.
#[tokio::test]
async fn limits_hold_from_their_place_in_the_log_on() {
    let mut rig = Rig::start(Setup::default()).await;
    let first = rig.fill(1, 5);
    throttle(&rig, 0, 200).await;
    let second = rig.transfers(5);
    rig.offer(2, &rig.entries(&second));
    rig.log.decide_submitted(rig.end(2));
    rig.close(2);
    assert_eq!(rig.node.block().await.users, first);
    assert_eq!(rig.node.block().await.users, second[..2]);
    rig.close(3);
    // After a restart without disk the record is found in the log.
    rig.kill();
    rig.lose_disk();
    rig.revive().await;
    assert_eq!(rig.node.block().await.users, second[2..4]);
}

/// Limits below the log that a restarted sidecar follows are in force still, and a cache on disk knows none.
#[tokio::test]
async fn limits_hold_over_a_restart_with_the_disk() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    throttle(&rig, 0, 200).await;
    rig.offer_records(2);
    rig.filled_block(2, 2).await;
    let newest = rig.filled_block(3, 2).await;
    rig.until_kept(&newest).await;
    let items = rig.transfers(5);
    rig.offer(4, &rig.entries(&items));
    rig.close(4);
    rig.kill();
    rig.revive().await;
    assert_eq!(rig.node.block().await.users, items[..2]);
}

/// The newest limits came after the blocks that a cold sidecar has to walk; older ones were in force for these.
#[tokio::test]
async fn limits_of_older_blocks_hold_after_a_restart_without_the_disk() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    throttle(&rig, 0, 200).await;
    rig.offer_records(2);
    let sealed = rig.filled_block(2, 2).await;
    rig.until_sealed(&sealed).await;
    rig.offer_records(3);
    let items = rig.transfers(6);
    rig.offer(3, &rig.entries(&items));
    rig.close(3);
    assert_eq!(rig.node.block().await.users, items[..2]);
    throttle(&rig, 0, 100).await;
    rig.log.decide_submitted(rig.end(5));
    rig.close(5);
    rig.kill();
    rig.lose_disk();
    rig.revive().await;
    assert_eq!(rig.node.block().await.users, items[2..4]);
    assert_eq!(rig.node.block().await.users, items[4..5]);
}

/// An item over the limits never makes others wait: a batcher's least limits are below nearly every call of a contract.
#[tokio::test]
async fn items_over_the_limits_are_passed_over_and_nobody_waits_for_them() {
    let mut rig = Rig::start(Setup::default()).await;
    throttle(&rig, 0, 250).await;
    rig.offer_records(1);
    let leg = rig.transfers(3);
    let bundle = rig.bundle(&leg);
    rig.offer(1, &[bundle]);
    let items = rig.fill(1, 2);
    let block = rig.node.block().await;
    assert_eq!(block.users, items);
    let reasons: Vec<SkipReason> =
        rig.until_sealed(&block).await.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::OverLimit]);
    throttle(&rig, 50, 0).await;
    rig.offer_records(2);
    rig.fill(2, 2);
    assert!(rig.node.block().await.users.is_empty());
    throttle(&rig, 0, 0).await;
    rig.offer_records(3);
    rig.filled_block(3, 2).await;
}

/// They would be duplicates in the log for a minute, and out of force, if each record were not one of its own.
#[tokio::test]
async fn limits_that_come_back_are_in_force_again_and_repeated_ones_are_no_record() {
    let mut rig = Rig::start(Setup::default()).await;
    for number in [1, 3] {
        throttle(&rig, 0, 200).await;
        rig.offer_records(number);
        let items = rig.fill(number, 4);
        assert_eq!(rig.node.block().await.users, items[..2]);
        throttle(&rig, 0, 0).await;
        rig.offer_records(number + 1);
        rig.close(number + 1);
        assert_eq!(rig.node.block().await.users, items[2..]);
    }
    assert_eq!(limits(&rig).len(), 4);
    for _ in 0..3 {
        rig.node.call("miner_setMaxDASize", json!(["0x0", "0x0"])).await.result();
    }
    rig.filled_block(5, 1).await;
    assert_eq!(limits(&rig).len(), 4);
}
