//! Heads and time: which parents a job may have, which head the engine is told, how long a call is held.

use std::time::{Duration, Instant};

use lockstep_tests::scripted_engine::{Fault, Instead, Refusal, Which};
use lockstep_tests::wait::{during, until};
use serde_json::{Value, json};

use crate::op_node::{Block, Head};
use crate::rig::{Rig, SOON, Setup, hash_of};

async fn blocks(rig: &mut Rig, count: u64) -> Vec<Block> {
    let mut blocks = Vec::new();
    for number in 1..=count {
        blocks.push(rig.filled_block(number, 1).await);
    }
    blocks
}

/// An engine that lost its tail: if op-node sequenced on at once, it would replace blocks that are on L1.
#[tokio::test]
async fn a_job_on_a_parent_older_than_a_safe_head_is_put_off_for_some_seconds() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 4).await;
    rig.node.safe = old[2].hash;
    rig.node.update(old[3].hash, Value::Null).await.result();
    rig.engine.restart(1);
    rig.node.head = Head::from(&old[0]);
    (rig.node.safe, rig.node.finalized) = (old[0].hash, old[0].hash);
    rig.node.entropy = 0xe1;
    let begun = Instant::now();
    let id = until("the job is taken in the end", SOON, async || {
        let reply = rig.node.start_job().await;
        if let Some(code) = reply.code() {
            assert_eq!(code, -32000, "{}", reply.text());
        }
        reply.code().is_none().then(|| reply.id())
    })
    .await;
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(3), "only {waited:?}");
    let envelope = rig.node.get_payload(&id).await.result();
    assert_eq!(rig.node.adopt(envelope).await.users, old[1].users);
}

/// A machine that lost power: the sidecar has to know the safe head still, and waits while derivation comes nearer to it.
#[tokio::test]
async fn a_restarted_sidecar_puts_jobs_off_until_derivation_is_where_it_was() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 4).await;
    rig.node.safe = old[2].hash;
    rig.node.update(old[3].hash, Value::Null).await.result();
    rig.until_on_disk(&format!("\"safe\":[\"{}\",3]", old[2].hash)).await;
    rig.until_kept(&old[3]).await;
    rig.kill();
    rig.engine.restart(1);
    rig.revive().await;
    rig.node.head = Head::from(&old[0]);
    (rig.node.safe, rig.node.finalized) = (old[0].hash, old[0].hash);
    assert_eq!(rig.node.start_job().await.code(), Some(-32000));
    for old in &old[1..3] {
        let derived = rig.node.derive(&old.users).await;
        rig.node.safe = derived.hash;
    }
    let block = rig.node.block().await;
    assert_eq!((block.hash, &block.users), (old[3].hash, &old[3].users));
}

#[tokio::test]
async fn derivation_in_the_meantime_ends_the_wait_and_keeps_the_blocks() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 4).await;
    rig.node.safe = old[2].hash;
    rig.node.update(old[3].hash, Value::Null).await.result();
    rig.engine.restart(1);
    rig.node.head = Head::from(&old[0]);
    (rig.node.safe, rig.node.finalized) = (old[0].hash, old[0].hash);
    assert_eq!(rig.node.start_job().await.code(), Some(-32000));
    for old in &old[1..3] {
        let derived = rig.node.derive(&old.users).await;
        assert_eq!(derived.hash, old.hash);
        rig.node.safe = derived.hash;
    }
    let block = rig.node.block().await;
    assert_eq!((block.hash, &block.users), (old[3].hash, &old[3].users));
}

/// The heads that the engine was told, in order.
fn heads_told(rig: &Rig) -> Vec<alloy_primitives::B256> {
    rig.engine.calls_of("engine_forkchoiceUpdated").iter().filter_map(|call| call.head()).collect()
}

#[tokio::test]
async fn a_job_that_waits_does_not_move_the_head_back() {
    let mut rig = Rig::start(Setup::default()).await;
    let first = rig.filled_block(1, 1).await;
    let derived = rig.node.derived(first.timestamp + 1, &[]).await;
    rig.node.start_job().await.id();
    // The window of block 2 is open; a derived block comes in its place.
    let second = rig.node.adopt(derived).await;
    rig.engine.forget();
    rig.fill(2, 1);
    rig.fill(3, 1);
    during("the head stays", Duration::from_millis(600), async || {
        rig.engine.head() == second.hash && heads_told(&rig).is_empty()
    })
    .await;
}

/// A job is being built, refusal by refusal, when op-node moves on.
#[tokio::test]
async fn a_job_that_is_being_built_does_not_move_the_head_back() {
    let mut rig = Rig::start(Setup::default()).await;
    let first = rig.filled_block(1, 1).await;
    let derived = rig.node.derived(first.timestamp + 1, &[]).await;
    let items = rig.transfers(8);
    for item in &items[..6] {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(2, &rig.entries(&items));
    let slow = Instead::Delay(Duration::from_millis(150));
    rig.engine.fault(Fault::always("engine_forkchoiceUpdated", slow).of(Which::WithAttributes));
    rig.close(2);
    rig.engine.forget();
    rig.node.start_job().await.id();
    until("it is being built", SOON, async || {
        (rig.engine.calls().iter().filter(|call| call.is_job()).count() >= 2).then_some(())
    })
    .await;
    let second = rig.node.adopt(derived).await;
    during("the head stays", Duration::from_millis(1_000), async || {
        rig.engine.head() == second.hash
    })
    .await;
    let told = heads_told(&rig);
    assert_eq!(told.last(), Some(&second.hash), "{told:?}");
}

#[tokio::test]
async fn a_late_build_tells_the_newest_safe_and_finalized_heads() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 3).await;
    let id = rig.node.start_job().await.id();
    (rig.node.safe, rig.node.finalized) = (old[1].hash, old[0].hash);
    rig.node.update(old[2].hash, Value::Null).await.result();
    rig.engine.forget();
    let items = rig.fill(4, 1);
    let block = Block::of(rig.node.get_payload(&id).await.result());
    assert_eq!(block.users, items);
    let job = rig.engine.calls().into_iter().find(|call| call.is_job()).expect("a job");
    assert_eq!(job.params[0], rig.node.heads(old[2].hash));
}

#[tokio::test]
async fn a_payload_of_a_dead_job_is_unknown_at_once() {
    let mut rig = Rig::start(Setup::default()).await;
    let first = rig.filled_block(1, 1).await;
    let built = rig.node.start_job().await.id();
    rig.fill(2, 1);
    rig.node.get_payload(&built).await.result();
    rig.node.entropy = 0xe1;
    let waiting = rig.node.start_job().await.id();
    rig.node.derive(&[]).await;
    for id in [built, waiting] {
        let asked = Instant::now();
        let reply = rig.node.get_payload(&id).await;
        assert_eq!(reply.code(), Some(-38001), "{}", reply.text());
        assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    }
    assert_eq!(rig.engine.head(), rig.node.head.hash);
    assert_ne!(rig.node.head.hash, first.hash);
}

#[tokio::test]
async fn get_payload_is_held_for_one_block_time_but_two_seconds_at_most() {
    for (block_time, expected) in [(1, 1_000), (4, 2_000)] {
        let mut rig = Rig::start(Setup { block_time, ..Setup::default() }).await;
        let id = rig.node.start_job().await.id();
        let asked = Instant::now();
        let reply = rig.node.get_payload(&id).await;
        let held = asked.elapsed();
        assert_eq!(reply.code(), Some(-32000), "{}", reply.text());
        let expected = Duration::from_millis(expected);
        assert!(held >= expected && held < expected + Duration::from_millis(700), "{held:?}");
        // The log comes late: the block is late, not empty.
        let items = rig.fill(1, 2);
        assert_eq!(rig.node.block().await.users, items);
    }
}

#[tokio::test]
async fn a_held_call_is_answered_as_soon_as_the_window_closes() {
    let mut rig = Rig::start(Setup::default()).await;
    let id = rig.node.start_job().await.id();
    let items = rig.transfers(2);
    let entries = rig.entries(&items);
    let asked = Instant::now();
    let get = rig.node.call("engine_getPayloadV4", json!([id]));
    let log = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.offer(1, &entries);
        rig.close(1);
    };
    let (reply, ()) = tokio::join!(get, log);
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
    assert_eq!(Block::of(reply.result()).users, items);
}
