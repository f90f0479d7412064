//! What the batcher can post is a limit for blocks: its call becomes a record, and what is over the record's limits waits.

use lockstep_core::entry::Body;
use lockstep_core::record::{Limits, RecordBody};
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

async fn until_submitted(rig: &Rig, expected: Limits) {
    until("the limits are submitted", SOON, async || {
        (limits(rig).last() == Some(&expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_batchers_limits_become_a_record_on_both_ports() {
    let rig = Rig::start(Setup::default()).await;
    let reply = rig.node.call("miner_setMaxDASize", json!(["0x10", "0x2000"])).await;
    assert_eq!(reply.result(), json!(true));
    until_submitted(&rig, Limits { tx_bytes: 16, block_bytes: 8_192 }).await;
    let reply = rig.operate("miner_setMaxDASize", json!(["0x0", "0x12c"])).await;
    assert_eq!(reply.result(), json!(true));
    until_submitted(&rig, Limits { tx_bytes: 0, block_bytes: 300 }).await;
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
    rig.node.call("miner_setMaxDASize", json!(["0x0", "0x12c"])).await.result();
    until_submitted(&rig, Limits { tx_bytes: 0, block_bytes: 300 }).await;
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
    rig.node.call("miner_setMaxDASize", json!(["0x0", "0xc8"])).await.result();
    until_submitted(&rig, Limits { tx_bytes: 0, block_bytes: 200 }).await;
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

#[tokio::test]
async fn items_over_the_limit_of_a_transaction_wait_until_it_is_lifted() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.node.call("miner_setMaxDASize", json!(["0x32", "0x0"])).await.result();
    until_submitted(&rig, Limits { tx_bytes: 50, block_bytes: 0 }).await;
    rig.offer_records(1);
    let items = rig.fill(1, 2);
    assert!(rig.node.block().await.users.is_empty());
    rig.node.call("miner_setMaxDASize", json!(["0x0", "0x0"])).await.result();
    until_submitted(&rig, Limits::default()).await;
    rig.offer_records(2);
    rig.close(2);
    assert_eq!(rig.node.block().await.users, items);
}
