//! Retries, cancelled jobs, reorgs and restarts: the same offer each time, nothing twice, nothing lost.

use std::time::{Duration, SystemTime};

use alloy_primitives::Bytes;
use lockstep_core::record::{SealMode, Sealed};
use lockstep_core::types::UnixMillis;
use lockstep_tests::scripted_engine::{EngineKind, Fault, Instead, Refusal};
use lockstep_tests::wait::until;
use serde_json::Value;

use crate::op_node::{Block, Head};
use crate::rig::{Rig, SOON, Setup, hash_of};

#[tokio::test]
async fn the_same_job_has_the_same_id_and_payload_however_often_it_is_asked() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.fill(1, 3);
    let first = rig.node.start_job().await.id();
    let payload = rig.node.get_payload(&first).await.result();
    for _ in 0..3 {
        assert_eq!(rig.node.start_job().await.id(), first);
        assert_eq!(rig.node.get_payload(&first).await.result(), payload);
    }
    let jobs = rig.engine.calls().iter().filter(|call| call.is_job()).count();
    assert_eq!(jobs, 1, "the engine builds once");
    rig.node.adopt(payload).await;
}

#[tokio::test]
async fn a_cancelled_job_takes_nothing_with_it() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.fill(1, 3);
    let id = rig.node.start_job().await.id();
    rig.node.get_payload(&id).await.result();
    // Another L1 origin: another job on the same parent.
    rig.node.entropy = 0xe1;
    let block = rig.node.block().await;
    assert_eq!(block.users, items);
    rig.filled_block(2, 1).await;
}

#[tokio::test]
async fn a_job_that_is_never_fetched_takes_nothing_with_it() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.fill(1, 3);
    rig.node.start_job().await.id();
    rig.node.entropy = 0xe1;
    rig.node.start_job().await.id();
    rig.node.entropy = 0xe2;
    assert_eq!(rig.node.block().await.users, items);
}

#[tokio::test]
async fn two_jobs_on_one_parent_live_side_by_side() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.fill(1, 2);
    let one = rig.node.start_job().await.id();
    rig.node.entropy = 0xe1;
    let other = rig.node.start_job().await.id();
    assert_ne!(one, other);
    let mut hashes = Vec::new();
    for id in [&one, &other, &one, &other] {
        let block = Block::of(rig.node.get_payload(id).await.result());
        assert_eq!(block.users, items);
        hashes.push(block.hash);
    }
    assert_eq!(hashes[0], hashes[2]);
    assert_eq!(hashes[1], hashes[3]);
    assert_ne!(hashes[0], hashes[1]);
}

/// op-node catches up: `getPayload` follows the job at once, and all windows are closed already.
#[tokio::test]
async fn blocks_made_one_right_after_the_other_have_each_its_own_items() {
    let mut rig = Rig::start(Setup::default()).await;
    let expected: Vec<Vec<Bytes>> = (1..=8).map(|number| rig.fill(number, 2)).collect();
    for items in expected {
        assert_eq!(rig.node.block().await.users, items);
    }
}

async fn blocks(rig: &mut Rig, numbers: std::ops::RangeInclusive<u64>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for number in numbers {
        blocks.push(rig.filled_block(number, 2).await);
    }
    blocks
}

#[tokio::test]
async fn after_an_l2_reorg_the_new_blocks_have_the_items_of_the_old_ones() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 1..=4).await;
    (rig.node.head, rig.node.entropy) = (Head::from(&old[0]), 0xe1);
    for old in &old[1..] {
        let new = rig.node.block().await;
        assert_eq!((new.number, &new.users), (old.number, &old.users));
        assert_ne!(new.hash, old.hash);
    }
    rig.filled_block(5, 2).await;
}

/// The blocks of a reorg take other deposits, so one has less room: what does not fit moves on and is not lost.
#[tokio::test]
async fn after_an_l2_reorg_with_less_room_the_items_move_on() {
    let mut rig = Rig::start(Setup { gas_limit: 1_000_000 + 2 * 21_000, ..Setup::default() }).await;
    let genesis = rig.node.head;
    let old = blocks(&mut rig, 1..=3).await;
    let all: Vec<Bytes> = old.iter().flat_map(|block| block.users.clone()).collect();
    (rig.node.head, rig.node.gas_limit) = (genesis, 1_000_000 + 21_000);
    for number in 4..=6 {
        rig.close(number);
    }
    let mut new = Vec::new();
    for _ in 0..6 {
        new.extend(rig.node.block().await.users);
    }
    assert_eq!(new, all);
}

/// In the second block they are lost with the block itself, which the engine had imported ahead of time.
#[tokio::test]
async fn an_engine_that_lost_its_payloads_builds_them_again() {
    for kind in [EngineKind::OpGeth, EngineKind::OpReth, EngineKind::Strict] {
        for number in [1, 2] {
            let mut rig = Rig::start(Setup::of(kind)).await;
            if number == 2 {
                rig.filled_block(1, 1).await;
            }
            let items = rig.transfers(3);
            rig.engine.refuse(hash_of(&items[1]), Refusal::Execution);
            rig.offer(number, &rig.entries(&items));
            rig.close(number);
            let id = rig.node.start_job().await.id();
            let before = rig.node.get_payload(&id).await.result();
            rig.engine.restart(number - 1);
            rig.engine.forget();
            assert_eq!(rig.node.get_payload(&id).await.result(), before, "{kind:?}");
            let builds = rig.engine.calls().iter().filter(|call| call.is_job()).count();
            assert!(builds > 0, "{kind:?}: it was built again");
            assert_eq!(Block::of(before).users, [items[0].clone(), items[2].clone()], "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_restart_with_the_disk_goes_on_with_the_next_items() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 1..=3).await;
    rig.until_kept(&old[2]).await;
    rig.kill();
    let waiting = rig.fill(4, 2);
    rig.revive().await;
    assert_eq!(rig.node.block().await.users, waiting);
    // And a job on an older parent, whose items are older than what is followed.
    (rig.node.head, rig.node.entropy) = (Head::from(&old[0]), 0xe1);
    for old in &old[1..] {
        assert_eq!(rig.node.block().await.users, old.users);
    }
}

/// Blocks with 20 log blocks without items behind each. A node reads its newest 64 heights once for all who ask.
async fn quiet_blocks(rig: &mut Rig, numbers: std::ops::RangeInclusive<u64>) -> Vec<Block> {
    let mut all = Vec::new();
    for number in numbers {
        all.extend(blocks(rig, number..=number).await);
        for _ in 0..20 {
            rig.log.decide_at(rig.log.time().plus(1), &[]);
        }
    }
    all
}

/// A chain that catches up builds one block after the other from what is in no memory. Each height is asked for once, not
/// everything up to the newest for each block.
#[tokio::test]
async fn older_heights_are_asked_for_once_however_many_blocks_need_them() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = quiet_blocks(&mut rig, 1..=20).await;
    rig.until_kept(&old[19]).await;
    rig.kill();
    rig.revive().await;
    rig.filled_block(21, 1).await;
    let before = rig.log.slices_read();
    (rig.node.head, rig.node.entropy) = (Head::from(&old[0]), 0xe1);
    for old in &old[1..] {
        assert_eq!(rig.node.block().await.users, old.users);
    }
    let heights = usize::try_from(rig.log.height().0).unwrap();
    let read = rig.log.slices_read() - before;
    assert!(read <= 2 * heights, "{read} reads of {heights} heights");
}

/// Its op-node brings the blocks one by one. The log of all of them was read by others; this one begins where they are.
#[tokio::test]
async fn a_fresh_sidecar_before_an_empty_engine_begins_at_the_newest_record() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = quiet_blocks(&mut rig, 1..=12).await;
    for block in &old {
        rig.until_sealed(block).await;
    }
    rig.offer_records(13);
    rig.close(13);
    rig.kill();
    rig.lose_disk();
    rig.engine.restart(0);
    let before = rig.log.slices_read();
    rig.revive().await;
    rig.until_ready().await;
    for block in &old {
        rig.node.adopt(block.envelope.clone()).await;
    }
    assert!(rig.node.block().await.users.is_empty());
    rig.filled_block(14, 2).await;
    let read = rig.log.slices_read() - before;
    assert!(read <= 60, "{read} reads of {} heights", rig.log.height());
}

#[tokio::test]
async fn a_restart_without_disk_and_records_walks_from_where_the_chain_joined() {
    let mut rig = Rig::start(Setup::default()).await;
    blocks(&mut rig, 1..=4).await;
    rig.kill();
    rig.lose_disk();
    rig.revive().await;
    rig.filled_block(5, 2).await;
}

/// The engine has 20 s for an answer; a look-up is asked again after two.
#[tokio::test]
async fn a_look_up_whose_answer_is_lost_holds_no_job_for_long() {
    for method in ["eth_getBlockByHash", "engine_getPayloadBodiesByHash"] {
        let mut rig = Rig::start(Setup::default()).await;
        blocks(&mut rig, 1..=3).await;
        rig.kill();
        rig.lose_disk();
        rig.engine.fault(Fault::once(method, Instead::Silence));
        rig.revive().await;
        let items = rig.fill(4, 2);
        let envelope = until(method, SOON, async || {
            let id = rig.node.start_job().await.id();
            let reply = rig.node.get_payload(&id).await;
            reply.code().is_none().then(|| reply.result())
        });
        let envelope = envelope.await;
        assert_eq!(rig.node.adopt(envelope).await.users, items, "{method}");
    }
}

#[tokio::test]
async fn a_restart_without_disk_begins_at_the_newest_record() {
    let mut rig = Rig::start(Setup::default()).await;
    let old = blocks(&mut rig, 1..=3).await;
    for block in &old {
        rig.until_sealed(block).await;
    }
    rig.offer_records(4);
    rig.close(4);
    rig.node.block().await;
    rig.kill();
    rig.lose_disk();
    rig.revive().await;
    rig.until_ready().await;
    rig.engine.forget();
    rig.filled_block(5, 2).await;
    let bodies = rig.engine.calls_of("engine_getPayloadBodies").len();
    assert_eq!(bodies, 1, "block 4 alone has to be walked");
}

/// A block whose every item was bad looks like a closed one: a restarted sidecar must not offer its items again.
#[tokio::test]
async fn a_block_without_users_is_told_by_its_record_after_a_restart_without_disk() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.transfers(2);
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(1, &rig.entries(&items));
    rig.close(1);
    let empty = rig.node.block().await;
    assert_eq!(empty.users.len(), 0);
    rig.until_sealed(&empty).await;
    rig.kill();
    rig.lose_disk();
    for item in &items {
        rig.engine.accept(hash_of(item));
    }
    rig.offer_records(2);
    rig.revive().await;
    rig.filled_block(2, 2).await;
}

/// Nobody says how it was built, so its next sequencer does, and the chain goes on at once. Nothing is lost: what was bad in it
/// is bad again.
#[tokio::test]
async fn a_block_without_users_and_record_is_recorded_as_closed_by_who_builds_on_it() {
    let mut rig = Rig::start(Setup::default()).await;
    let mut items = rig.transfers(2);
    rig.engine.refuse(hash_of(&items[0]), Refusal::Execution);
    rig.engine.refuse(hash_of(&items[1]), Refusal::Execution);
    rig.offer(1, &rig.entries(&items));
    rig.close(1);
    let empty = rig.node.block().await;
    rig.kill();
    rig.lose_disk();
    rig.log.ingress.take();
    rig.engine.accept(hash_of(&items[1]));
    rig.revive().await;
    let waiting = rig.fill(2, 2);
    let envelope = until("the block is made", SOON, async || {
        let id = rig.node.start_job().await.id();
        let reply = rig.node.get_payload(&id).await;
        reply.code().is_none().then(|| reply.result())
    });
    let envelope = envelope.await;
    items.extend(waiting);
    assert_eq!(rig.node.adopt(envelope).await.users, items[1..]);
    let is_it = |sealed: &Sealed| sealed.hash == empty.hash && sealed.mode == SealMode::Closed;
    until("it is recorded", SOON, async || {
        rig.log.sealed().iter().find(|it| is_it(it)).map(|_| ())
    })
    .await;
}

/// A sidecar without key has no word, and what is late is none: the block counts as offered.
#[tokio::test]
async fn a_block_without_users_and_record_counts_as_offered_once_the_log_is_a_minute_further() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.transfers(2);
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(1, &rig.entries(&items));
    rig.close(1);
    rig.node.block().await;
    rig.kill();
    rig.lose_disk();
    for item in &items {
        rig.engine.accept(hash_of(item));
    }
    let waiting = rig.fill(2, 2);
    rig.log.decide_at(rig.end(1).plus(61_000), &[]);
    rig.revive().await;
    let envelope = until("the block counts as offered", SOON, async || {
        let id = rig.node.start_job().await.id();
        let reply = rig.node.get_payload(&id).await;
        reply.code().is_none().then(|| reply.result())
    });
    let envelope = envelope.await;
    assert_eq!(rig.node.adopt(envelope).await.users, waiting);
}

/// Records reach the log after a restart, too: they are kept until it shows them.
#[tokio::test]
async fn a_record_that_the_log_does_not_show_is_submitted_again_after_a_restart() {
    let mut rig = Rig::start(Setup::default()).await;
    let block = rig.filled_block(1, 1).await;
    rig.until_sealed(&block).await;
    rig.until_on_disk("\"records\":[\"0x").await;
    rig.kill();
    let before = rig.log.ingress.submissions();
    rig.revive().await;
    until("it is submitted again", SOON, async || {
        (rig.log.ingress.submissions() > before).then_some(())
    })
    .await;
    assert_eq!(rig.log.sealed().len(), 1, "and is the same record");
    rig.offer_records(2);
    rig.close(2);
    rig.node.block().await;
}

/// With the clock of the machine, as op-node calls: the job one block time ahead, `getPayload` 50 ms before the block's
/// time, while the log decides every quarter of a second.
#[tokio::test]
async fn at_the_pace_of_op_node_blocks_are_on_time_and_have_their_items() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.until_ready().await;
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        UnixMillis(u64::try_from(since.as_millis()).unwrap())
    };
    let first = now().0 / 1_000 - rig.node.head.timestamp + 1;
    // op-node catches up with the clock.
    for number in 1..=first {
        rig.close(number);
        rig.node.block().await;
    }
    let mut sent: Vec<Bytes> = Vec::new();
    let mut held: Vec<Bytes> = Vec::new();
    for _ in 0..4 {
        let due = UnixMillis((rig.node.head.timestamp + 1) * 1_000);
        let id: Value = rig.node.start_job().await.id();
        while now().plus(50) < due {
            let items = rig.transfers(1);
            rig.log.decide_at(now(), &rig.entries(&items));
            sent.extend(items);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let payload = rig.node.get_payload(&id).await.result();
        held.extend(rig.node.adopt(payload).await.users);
        let late = now().0.saturating_sub(due.0);
        assert!(late < 500, "{late} ms late");
    }
    assert!(held.len() >= 15, "{} of {} items", held.len(), sent.len());
    assert_eq!(held, sent[..held.len()]);
}
