//! The engine is the judge of what is valid. Engines differ in how they say it; the block is the same.

use alloy_primitives::Bytes;
use lockstep_core::record::{Cursor, SealMode, SkipReason, Skipped};
use lockstep_core::types::Height;
use lockstep_sidecar::limits::REFUSALS_MAX;
use lockstep_tests::scripted_engine::{EngineKind, Refusal};
use lockstep_tests::wait::until;

use crate::op_node::{Block, Head};
use crate::rig::{Rig, SOON, Setup, hash_of};

const KINDS: [EngineKind; 3] = [EngineKind::OpGeth, EngineKind::OpReth, EngineKind::Strict];

/// One item of the log: a transaction, or a leg; `true` where a transaction is bad.
type Item = &'static [bool];

const GOOD: Item = &[false];
const BAD: Item = &[true];

/// What a block holds, and what its record says was skipped, by the items' places.
#[derive(Debug, PartialEq)]
struct Judged {
    held: Vec<usize>,
    skipped: Vec<usize>,
}

/// Lets one kind of engine judge these items in one block: the chain's first, or the second, which is taken and imported
/// before op-node asks for it.
async fn judge(kind: EngineKind, how: Refusal, number: u64, items: &[Item]) -> Judged {
    let mut rig = Rig::start(Setup::of(kind)).await;
    if number == 2 {
        rig.filled_block(1, 1).await;
    }
    let mut entries = Vec::new();
    let mut lists: Vec<Vec<Bytes>> = Vec::new();
    for item in items {
        let transactions = rig.transfers(item.len());
        for (bytes, _) in transactions.iter().zip(item.iter()).filter(|(_, is_bad)| **is_bad) {
            rig.engine.refuse(hash_of(bytes), how);
        }
        match item.len() {
            1 => entries.extend(rig.entries(&transactions)),
            _ => entries.push(rig.bundle(&transactions)),
        }
        lists.push(transactions);
    }
    let height = rig.offer(number, &entries);
    rig.close(number);
    let block = rig.node.block().await;

    let is_held = |list: &&Vec<Bytes>| list.iter().all(|bytes| block.users.contains(bytes));
    let held: Vec<usize> = (0..lists.len()).filter(|place| is_held(&&lists[*place])).collect();
    let expected: Vec<Bytes> = held.iter().flat_map(|place| lists[*place].clone()).collect();
    assert_eq!(block.users, expected, "{kind:?}: in order, and legs whole");

    let sealed = rig.until_sealed(&block).await;
    assert_eq!((sealed.number, sealed.mode), (number, SealMode::Offered), "{kind:?}");
    let end = Cursor { height, items: u32::try_from(items.len()).unwrap() };
    assert_eq!(sealed.cursor, end, "{kind:?}: no item is offered again");
    let place = |skipped: &Skipped| {
        assert_eq!((skipped.height, skipped.reason), (height, SkipReason::Invalid), "{kind:?}");
        usize::try_from(skipped.item).unwrap()
    };
    Judged { held, skipped: sealed.skipped.iter().map(place).collect() }
}

/// Every kind of engine comes to this, however it refuses.
async fn expect_judged(items: &[Item], held: &[usize]) {
    let skipped = (0..items.len()).filter(|place| !held.contains(place)).collect();
    let expected = Judged { held: held.to_vec(), skipped };
    for kind in KINDS {
        for number in [1, 2] {
            let judged = judge(kind, Refusal::Execution, number, items).await;
            assert_eq!(judged, expected, "{kind:?} {items:?} in block {number}");
        }
    }
    for how in [Refusal::Decoding, Refusal::Crash] {
        let judged = judge(EngineKind::OpGeth, how, 1, items).await;
        assert_eq!(judged, expected, "{how:?} {items:?}");
    }
}

#[tokio::test]
async fn a_bad_item_between_good_ones_is_left_out() {
    expect_judged(&[GOOD, BAD, GOOD], &[0, 2]).await;
}

#[tokio::test]
async fn a_bad_item_in_front_is_left_out() {
    expect_judged(&[BAD, GOOD, GOOD, BAD], &[1, 2]).await;
}

#[tokio::test]
async fn a_block_whose_every_item_is_bad_is_made_without_them() {
    expect_judged(&[BAD, BAD, BAD], &[]).await;
    expect_judged(&[BAD], &[]).await;
}

#[tokio::test]
async fn a_leg_with_one_bad_transaction_is_left_out_whole() {
    expect_judged(&[GOOD, &[false, true], GOOD], &[0, 2]).await;
    expect_judged(&[&[true, false], GOOD], &[1]).await;
    expect_judged(&[GOOD, &[false, false], BAD], &[0, 1]).await;
}

#[tokio::test]
async fn legs_that_are_torn_one_after_the_other_are_all_left_out() {
    expect_judged(&[&[false, true], &[true, false, false], GOOD, &[false, true, false]], &[2])
        .await;
}

#[tokio::test]
async fn twenty_bad_items_among_forty_are_left_out() {
    let items: Vec<Item> = (0..40).map(|place| if place % 2 == 0 { BAD } else { GOOD }).collect();
    let held: Vec<usize> = (0..40).filter(|place| place % 2 == 1).collect();
    expect_judged(&items, &held).await;
}

/// An engine that refuses on and on must not hold the chain up.
#[tokio::test]
async fn items_that_are_refused_without_end_are_not_offered_on_that_parent() {
    for kind in [EngineKind::OpGeth, EngineKind::Strict] {
        let mut rig = Rig::start(Setup::of(kind)).await;
        let height = refused_without_end(&mut rig).await;
        let block = until_block(&mut rig).await;
        assert!(block.users.is_empty(), "{kind:?}");
        let sealed = rig.until_sealed(&block).await;
        assert_eq!(sealed.mode, SealMode::Closed, "{kind:?}");
        let join = Cursor { height: Height(1), items: 0 };
        assert_eq!(sealed.cursor, join, "{kind:?}: the cursor stays");
        let listed: Vec<u32> = sealed.skipped.iter().map(|skipped| skipped.item).collect();
        let expected: Vec<u32> = (0..u32::try_from(listed.len()).unwrap()).collect();
        assert_eq!(listed, expected, "{kind:?}: the first ones, in order");
        assert!(!listed.is_empty(), "{kind:?}: the chain gets on");
        for skipped in &sealed.skipped {
            assert_eq!((skipped.height, skipped.reason), (height, SkipReason::Invalid), "{kind:?}");
        }
    }
}

/// More bad items than an engine may refuse, in the window of block 1.
async fn refused_without_end(rig: &mut Rig) -> Height {
    let items = rig.transfers(REFUSALS_MAX + 20);
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    let height = rig.offer(1, &rig.entries(&items));
    rig.close(1);
    height
}

/// The block that a job comes to, however often op-node has to ask.
async fn until_block(rig: &mut Rig) -> Block {
    let envelope = until("the block is made", SOON, async || {
        let id = rig.node.start_job().await.id();
        let reply = rig.node.get_payload(&id).await;
        reply.code().is_none().then(|| reply.result())
    });
    let envelope = envelope.await;
    rig.node.adopt(envelope).await
}

/// What was refused once is in the closed block's record, so the next block is offered the rest.
#[tokio::test]
async fn after_refusals_without_end_the_next_block_goes_on_behind_them() {
    for is_cold in [false, true] {
        let mut rig = Rig::start(Setup::default()).await;
        let height = refused_without_end(&mut rig).await;
        let closed = until_block(&mut rig).await;
        rig.until_sealed(&closed).await;
        if is_cold {
            rig.offer_records(2);
            rig.kill();
            rig.lose_disk();
            rig.revive().await;
        }
        let honest = rig.fill(2, 2);
        rig.engine.forget();
        let block = until_block(&mut rig).await;
        assert_eq!(block.users, honest, "cold: {is_cold}");
        let builds = rig.engine.calls().iter().filter(|call| call.is_job()).count();
        assert_eq!(builds, 21, "cold: {is_cold}: what was refused is not asked for again");
        let sealed = rig.until_sealed(&block).await;
        assert_eq!(sealed.mode, SealMode::Offered);
        let skipped = sealed.skipped.iter().filter(|skipped| skipped.height == height).count();
        assert_eq!(skipped, REFUSALS_MAX + 20, "cold: {is_cold}");
        rig.filled_block(3, 1).await;
    }
}

/// Everybody else takes the block for an offered one then, so its own sidecar must, too.
#[tokio::test]
async fn a_closed_block_whose_record_is_not_decided_in_time_counts_as_offered() {
    let mut rig = Rig::start(Setup::default()).await;
    let items = rig.transfers(REFUSALS_MAX + 20);
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(1, &rig.entries(&items));
    rig.close(1);
    let closed = until_block(&mut rig).await;
    let record = rig.until_sealed(&closed).await;
    assert_eq!(record.mode, SealMode::Closed);
    for item in &items {
        rig.engine.accept(hash_of(item));
    }
    let honest = rig.fill(2, 2);
    rig.log.decide_at(rig.end(1).plus(62_000), &[]);
    rig.until_log_time(rig.end(1).plus(62_000)).await;
    assert_eq!(until_block(&mut rig).await.users, honest);
    // Nothing of what was put on disk meanwhile says otherwise.
    rig.kill();
    rig.revive().await;
    (rig.node.head, rig.node.entropy) = (Head::from(&closed), 0xe1);
    assert_eq!(until_block(&mut rig).await.users, honest);
}

/// As many items as the wallets' port takes of five accounts. None can land once the first of each is refused.
#[tokio::test]
async fn items_behind_a_refused_one_of_their_sender_cost_the_engine_nothing() {
    let mut rig = Rig::start(Setup::default()).await;
    let senders: Vec<Vec<Bytes>> = (0..5).map(|_| rig.transfers_of_one(64)).collect();
    let items: Vec<Bytes> =
        (0..64).flat_map(|nonce| senders.iter().map(move |sender| sender[nonce].clone())).collect();
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    let honest = rig.transfers(1);
    rig.offer(1, &rig.entries(&items));
    rig.offer(1, &rig.entries(&honest));
    rig.close(1);
    rig.engine.forget();
    let block = rig.node.block().await;
    assert_eq!(block.users, honest);
    let builds = rig.engine.calls().iter().filter(|call| call.is_job()).count();
    assert_eq!(builds, 6, "a refusal for each sender, and the block");
    let sealed = rig.until_sealed(&block).await;
    assert_eq!((sealed.mode, sealed.skipped.len()), (SealMode::Offered, items.len()));
}

#[tokio::test]
async fn the_block_after_one_with_bad_items_goes_on_behind_them() {
    for kind in KINDS {
        let mut rig = Rig::start(Setup::of(kind)).await;
        let first = rig.transfers(3);
        rig.engine.refuse(hash_of(&first[1]), Refusal::Execution);
        rig.offer(1, &rig.entries(&first));
        rig.close(1);
        assert_eq!(rig.node.block().await.users, [first[0].clone(), first[2].clone()], "{kind:?}");
        // The bad one would be good now; it had its turn.
        rig.engine.accept(hash_of(&first[1]));
        rig.filled_block(2, 2).await;
    }
}

/// op-geth judges by the parent: what was refused on one is offered again on another.
#[tokio::test]
async fn an_item_that_was_refused_on_one_parent_is_offered_again_on_another() {
    let mut rig = Rig::start(Setup::default()).await;
    let genesis = rig.node.head;
    let items = rig.transfers(2);
    rig.engine.refuse(hash_of(&items[0]), Refusal::Execution);
    rig.offer(1, &rig.entries(&items));
    rig.close(1);
    assert_eq!(rig.node.block().await.users, items[1..]);
    rig.engine.accept(hash_of(&items[0]));
    (rig.node.head, rig.node.entropy) = (genesis, 0xe1);
    assert_eq!(rig.node.block().await.users, items);
}

/// The packer counts as the protocol does, so that op-geth never builds a block that it then refuses for ever.
#[tokio::test]
async fn items_over_the_footprint_wait_for_the_next_block() {
    let setup = Setup { gas_limit: 1_200_000, footprint_scalar: 5_000, ..Setup::default() };
    let mut rig = Rig::start(setup).await;
    rig.engine.check_footprint(5_000);
    // 240 estimated bytes: room for two transfers, of 21,000 gas each.
    let items = rig.transfers(5);
    rig.offer(1, &rig.entries(&items));
    rig.close(3);
    for expected in [&items[..2], &items[2..4], &items[4..]] {
        assert_eq!(rig.node.block().await.users, expected);
    }
}

#[tokio::test]
async fn items_beyond_the_block_gas_wait_for_the_next_block() {
    let setup = Setup { gas_limit: 1_000_000 + 3 * 21_000 + 20_000, ..Setup::default() };
    let mut rig = Rig::start(setup).await;
    let items = rig.transfers(4);
    let height = rig.offer(1, &rig.entries(&items));
    rig.close(2);
    let first = rig.node.block().await;
    assert_eq!(first.users, items[..3]);
    let sealed = rig.until_sealed(&first).await;
    assert_eq!(sealed.cursor, Cursor { height, items: 3 });
    assert_eq!(rig.node.block().await.users, items[3..]);
    assert!(height > Height::GENESIS);
}
