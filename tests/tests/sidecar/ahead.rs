//! From the second block on, the sidecar knows how op-node asks, and has each block imported before it does.

use std::time::Duration;

use alloy_primitives::Bytes;
use lockstep_core::record::SealMode;
use lockstep_sidecar::limits::GUESSES_MIN;
use lockstep_tests::scripted_engine::{Fault, Instead, Refusal};
use lockstep_tests::wait::until;

use crate::rig::{Rig, SOON, Setup, hash_of, sender_of};

/// How often the engine was asked to build.
fn builds(rig: &Rig) -> usize {
    rig.engine.calls().iter().filter(|call| call.is_job()).count()
}

#[tokio::test]
async fn a_block_is_with_the_engine_before_op_node_asks_for_it() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    rig.engine.forget();
    let items = rig.fill(2, 3);
    let id = rig.node.start_job().await.id();
    until("the block is imported", SOON, async || {
        let calls = rig.engine.calls_of("engine_newPayloadV4");
        (!calls.is_empty() && !calls[0].answer.is_empty()).then_some(())
    })
    .await;
    rig.engine.forget();
    let envelope = rig.node.get_payload(&id).await.result();
    assert_eq!(rig.engine.calls_of("engine_").len(), 0, "the block is there");
    let block = rig.node.adopt(envelope).await;
    assert_eq!(block.users, items);
    assert_eq!(rig.until_sealed(&block).await.number, 2);
}

/// A job that op-node gives up has left a block with the engine. It is nobody's head.
#[tokio::test]
async fn a_block_that_is_never_fetched_moves_no_head_and_has_no_record() {
    let mut rig = Rig::start(Setup::default()).await;
    let first = rig.filled_block(1, 1).await;
    rig.until_sealed(&first).await;
    rig.engine.forget();
    let items = rig.fill(2, 3);
    rig.node.start_job().await.id();
    until("the block is imported", SOON, async || {
        (!rig.engine.calls_of("engine_newPayload").is_empty()).then_some(())
    })
    .await;
    assert_eq!(rig.engine.head(), first.hash);
    rig.node.entropy = 0xe1;
    let block = rig.node.block().await;
    assert_eq!((block.number, &block.users), (2, &items));
    rig.until_sealed(&block).await;
    assert_eq!(rig.log.sealed().len(), 2, "one record for each block that op-node took");
}

/// At a fork, op-node asks with another version than before, and the engine refuses the one of before.
#[tokio::test]
async fn a_payload_that_is_refused_ahead_of_time_is_neither_built_again_nor_changed() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    rig.engine.forget();
    let items = rig.fill(2, 3);
    rig.engine.fault(Fault::once("engine_getPayloadV4", Instead::Error(-38005)));
    assert_eq!(rig.node.block().await.users, items);
    assert_eq!(builds(&rig), 1);
}

/// Said to op-node, `INVALID` would come again for each block it begins.
#[tokio::test]
async fn a_block_that_the_engine_does_not_take_is_made_without_items() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    rig.engine.check_footprint(400_000);
    let mut items = rig.fill(2, 1);
    let block = rig.node.block().await;
    assert!(block.users.is_empty(), "{:?}", block.users);
    assert_eq!(rig.until_sealed(&block).await.mode, SealMode::Closed);
    rig.engine.check_footprint(0);
    items.extend(rig.fill(3, 1));
    assert_eq!(rig.node.block().await.users, items);
}

/// Each refusal costs an engine a whole execution, and after 256 of them nothing would be offered.
#[tokio::test]
async fn items_of_senders_without_money_cost_the_engine_no_refusal_however_many_they_are() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    let items = rig.transfers(400);
    let (poor, good): (Vec<_>, Vec<_>) =
        items.iter().enumerate().partition(|(place, _)| place % 3 != 0);
    for (_, item) in &poor {
        rig.engine.impoverish(sender_of(item), 10);
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(2, &rig.entries(&items));
    rig.close(2);
    rig.engine.forget();
    let block = rig.node.block().await;
    let good: Vec<Bytes> = good.into_iter().map(|(_, item)| item.clone()).collect();
    assert_eq!(block.users, good);
    assert_eq!(builds(&rig), 1);
    assert_eq!(rig.until_sealed(&block).await.skipped.len(), poor.len());
}

/// Something else in the block fills the account: the item may be good, so the engine judges it.
/// The block that proves a guess is imported; where its balances cannot be had, the engine judges.
#[tokio::test]
async fn items_of_senders_whose_balance_is_not_told_at_the_end_are_the_engines_to_judge() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    let items = rig.transfers(1 + GUESSES_MIN);
    for item in &items[1..] {
        rig.engine.impoverish(sender_of(item), 1);
    }
    rig.offer(2, &rig.entries(&items));
    // The first batch asks for the state at the parent.
    rig.engine.fault(Fault::once("batch", Instead::Delay(Duration::from_millis(10))));
    rig.engine.fault(Fault::once("batch", Instead::Silence));
    rig.close(2);
    rig.engine.forget();
    assert_eq!(rig.node.block().await.users, items);
    assert_eq!(builds(&rig), 2);
}

/// op-node had to find it out, because the sidecar did not know yet how it asks.
#[tokio::test]
async fn a_first_block_that_the_engine_does_not_take_is_refused_to_op_node_once() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.engine.check_footprint(400_000);
    let items = rig.fill(1, 1);
    let id = rig.node.start_job().await.id();
    until("it is built", SOON, async || (builds(&rig) > 0).then_some(())).await;
    let envelope = rig.node.get_payload(&id).await.result();
    assert_eq!(rig.node.new_payload(&envelope).await.result()["status"], "INVALID");
    // The same job, and another block.
    let block = rig.node.block().await;
    assert!(block.users.is_empty(), "{:?}", block.users);
    rig.engine.check_footprint(0);
    rig.close(2);
    assert_eq!(rig.node.block().await.users, items);
}

#[tokio::test]
async fn items_of_senders_with_money_at_the_end_of_the_block_are_the_engines_to_judge() {
    for is_good in [true, false] {
        let mut rig = Rig::start(Setup::default()).await;
        rig.filled_block(1, 1).await;
        let items = rig.transfers(3 + GUESSES_MIN);
        // The second has nothing at the parent and something at the end, the others never have anything.
        let (rich, poor) = (&items[1], &items[3..]);
        rig.engine.impoverish(sender_of(rich), 1);
        for item in poor {
            rig.engine.impoverish(sender_of(item), 10);
            rig.engine.refuse(hash_of(item), Refusal::Execution);
        }
        let mut expected = items[..3].to_vec();
        if !is_good {
            rig.engine.refuse(hash_of(rich), Refusal::Execution);
            expected.remove(1);
        }
        rig.offer(2, &rig.entries(&items));
        rig.close(2);
        let block = rig.node.block().await;
        assert_eq!(block.users, expected, "is good: {is_good}");
        assert_eq!(rig.until_sealed(&block).await.skipped.len(), items.len() - expected.len());
    }
}

/// A refusal costs the engine less than a second block: a few guesses are left to it.
#[tokio::test]
async fn few_items_that_seem_bad_are_not_guessed() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    let items = rig.transfers(GUESSES_MIN);
    for item in &items[1..] {
        rig.engine.impoverish(sender_of(item), 1);
    }
    rig.offer(2, &rig.entries(&items));
    rig.close(2);
    rig.engine.forget();
    assert_eq!(rig.node.block().await.users, items);
    assert_eq!(builds(&rig), 1);
}

/// Their balance covers gas and value. What L1 and the operator ask beside it, only the engine would have said.
#[tokio::test]
async fn items_of_senders_who_cannot_pay_the_operator_cost_the_engine_no_refusal() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.filled_block(1, 1).await;
    // Each account has one ether.
    rig.node.operator_fee = 1_000_000_000_000_000_000;
    let items = rig.transfers(20);
    for item in &items {
        rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    rig.offer(2, &rig.entries(&items));
    rig.close(2);
    rig.engine.forget();
    let block = rig.node.block().await;
    assert!(block.users.is_empty());
    assert_eq!(builds(&rig), 1);
    assert_eq!(rig.until_sealed(&block).await.skipped.len(), items.len());
}
