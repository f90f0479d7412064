//! In front of a replica: what gossip brings is compared with the log. `INVALID` is said only to what this engine did not
//! build, and never for lack of data.

use std::time::{Duration, Instant};

use alloy_primitives::Bytes;
use lockstep_sidecar::config::Role;
use lockstep_tests::scripted_engine::{EngineKind, Fault, Instead, Refusal};
use lockstep_tests::scripted_log::Manner;
use lockstep_tests::wait::until;
use serde_json::Value;

use crate::op_node::{Head, OpNode, Reply};
use crate::rig::{Rig, SOON, Setup, hash_of, sender_of};

/// A replica's rig, and another engine of the same chain, which makes the payloads of gossip.
struct Replica {
    rig: Rig,
    sequencer: OpNode,
    _engine: lockstep_tests::scripted_engine::ScriptedEngine,
}

impl Replica {
    async fn start(manners: Vec<Manner>) -> Self {
        let rig = Rig::start(Setup { role: Role::Verifying, manners, ..Setup::default() }).await;
        let secret = alloy_primitives::B256::repeat_byte(5);
        let timestamp = rig.node.head.timestamp;
        let kind = EngineKind::OpGeth;
        let engine = lockstep_tests::scripted_engine::ScriptedEngine::start(
            kind, timestamp, 30_000_000, secret,
        )
        .await;
        let sequencer = OpNode::new(engine.url(), secret, rig.node.head);
        Self { rig, sequencer, _engine: engine }
    }

    /// A payload of these transactions on the sequencer's head, as gossip brings it.
    async fn gossip(&self, users: &[Bytes]) -> Value {
        self.sequencer.derived(self.sequencer.head.timestamp + 1, users).await
    }

    /// The replica gets a payload that it must take; both go on from it.
    async fn follow(&mut self, envelope: Value) {
        let reply = until("the payload is judged", SOON, async || {
            let reply = self.rig.node.new_payload(&envelope).await;
            reply.code().is_none().then_some(reply)
        })
        .await;
        assert_eq!(reply.result()["status"], "VALID", "{}", reply.text());
        let block = self.sequencer.adopt(envelope).await;
        self.rig.node.head = Head::from(&block);
        self.rig.node.update(block.hash, Value::Null).await.result();
    }

    /// What the replica says to a payload, once it has the log it needs.
    async fn judged(&self, envelope: &Value) -> Reply {
        until("the payload is judged", SOON, async || {
            let reply = self.rig.node.new_payload(envelope).await;
            reply.code().is_none().then_some(reply)
        })
        .await
    }
}

#[tokio::test]
async fn payloads_of_their_slices_are_taken() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    for number in 1..=3 {
        let items = replica.rig.fill(number, 3);
        let envelope = replica.gossip(&items).await;
        replica.follow(envelope).await;
    }
}

#[tokio::test]
async fn a_foreign_payload_is_invalid_and_never_reaches_the_engine() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let items = replica.rig.fill(1, 3);
    let foreign = replica.rig.transfers(1);
    let swapped = [items[1].clone(), items[0].clone()];
    let with_foreign = [items.clone(), foreign.clone()].concat();
    for users in [&foreign[..], &swapped, &with_foreign] {
        replica.rig.engine.forget();
        let envelope = replica.gossip(users).await;
        let reply = replica.judged(&envelope).await;
        assert_eq!(reply.result()["status"], "INVALID", "{}", reply.text());
        assert!(reply.result()["validationError"].is_string());
        assert!(replica.rig.engine.calls_of("engine_newPayload").is_empty());
    }
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
}

#[tokio::test]
async fn an_item_of_a_later_window_is_foreign() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let first = replica.rig.fill(1, 1);
    let second = replica.rig.fill(2, 1);
    let envelope = replica.gossip(&[first, second].concat()).await;
    assert_eq!(replica.judged(&envelope).await.result()["status"], "INVALID");
}

/// A replica whose chain has a first block.
async fn replica_with_a_block() -> Replica {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let items = replica.rig.fill(1, 1);
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
    replica
}

/// Who leaves out an item that is valid takes its turn from who sent it.
#[tokio::test]
async fn a_payload_that_leaves_a_valid_item_out_is_invalid() {
    let mut replica = replica_with_a_block().await;
    let items = replica.rig.fill(2, 3);
    for kept in [&[1, 2][..], &[0, 2], &[0, 1], &[2]] {
        let users: Vec<Bytes> = kept.iter().map(|place| items[*place].clone()).collect();
        let envelope = replica.gossip(&users).await;
        let reply = replica.judged(&envelope).await.result();
        assert_eq!(reply["status"], "INVALID", "{kept:?}: {reply}");
        let words = reply["validationError"].as_str().unwrap();
        assert!(words.starts_with("items that are valid were left out"), "{words}");
    }
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
}

#[tokio::test]
async fn a_payload_without_what_the_own_engine_does_not_take_either_is_taken() {
    let mut replica = replica_with_a_block().await;
    let items = replica.rig.fill(2, 3);
    replica.rig.engine.refuse(hash_of(&items[1]), Refusal::Execution);
    let users = [items[0].clone(), items[2].clone()];
    let envelope = replica.gossip(&users).await;
    replica.follow(envelope).await;
    let items = replica.rig.fill(3, 1);
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
}

/// More than an engine may refuse for one block: the replica proves them as its sequencer did.
#[tokio::test]
async fn a_payload_without_the_items_of_many_senders_without_money_is_taken() {
    let mut replica = replica_with_a_block().await;
    let items = replica.rig.fill(2, 400);
    let mut users = Vec::new();
    for (place, item) in items.iter().enumerate() {
        if place % 3 == 0 {
            users.push(item.clone());
            continue;
        }
        replica.rig.engine.impoverish(sender_of(item), 10);
        replica.rig.engine.refuse(hash_of(item), Refusal::Execution);
    }
    let envelope = replica.gossip(&users).await;
    replica.rig.engine.forget();
    replica.follow(envelope).await;
    let calls = replica.rig.engine.calls();
    assert!(calls.iter().filter(|call| call.is_job()).count() < 5, "it was built a few times");
}

/// op-node sends what it derived by the same call, and a refusal would fork the replica for good.
#[tokio::test]
async fn a_block_that_the_own_engine_built_is_never_refused() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    replica.rig.fill(1, 2);
    let foreign = replica.rig.transfers(2);
    let gossip = replica.gossip(&foreign).await;
    assert_eq!(replica.judged(&gossip).await.result()["status"], "INVALID");
    // L1 has it: the own engine builds the same block.
    let derived = replica.rig.node.derive(&foreign).await;
    assert_eq!(serde_json::json!(derived.hash), gossip["executionPayload"]["blockHash"]);
    // It is judged beside the call.
    until("the alarm is raised", SOON, async || {
        let (_, metrics) = replica.rig.get("/metrics").await;
        metrics.contains("lockstep_sidecar_foreign_total 2").then_some(())
    })
    .await;
}

/// op-node derives thousands in a row, and no verdict on them changes what the engine gets.
#[tokio::test]
async fn a_derived_block_waits_for_no_look_at_the_log() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let items = replica.rig.fill(1, 2);
    let envelope = replica.rig.node.derived(replica.rig.node.head.timestamp + 1, &items).await;
    replica.rig.engine.fault(Fault::always("eth_getBlockByHash", Instead::Silence));
    let begun = Instant::now();
    replica.rig.node.adopt(envelope).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_derived_block_passes_while_the_log_is_not_known() {
    let mut replica = Replica::start(vec![Manner::Gone]).await;
    let users = replica.rig.transfers(2);
    replica.rig.node.derive(&users).await;
}

/// Neither `INVALID` nor `SYNCING`: op-node tries again.
#[tokio::test]
async fn lack_of_data_is_an_error_that_is_tried_again() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let items = replica.rig.transfers(2);
    replica.rig.offer(1, &replica.rig.entries(&items));
    let envelope = replica.gossip(&items).await;
    let reply = replica.rig.node.new_payload(&envelope).await;
    assert_eq!(reply.code(), Some(-32000), "{}", reply.text());
    assert!(replica.rig.engine.calls_of("engine_newPayload").is_empty());
    replica.rig.close(1);
    replica.follow(envelope).await;
}

#[tokio::test]
async fn a_block_without_users_passes_without_any_log() {
    let mut replica = Replica::start(vec![Manner::Gone]).await;
    for _ in 0..2 {
        let envelope = replica.gossip(&[]).await;
        replica.follow(envelope).await;
    }
}

/// Its op-node has to hear that the parent is missing: that is how it knows to derive.
#[tokio::test]
async fn a_payload_on_an_unknown_parent_is_the_engines_to_answer() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let first = replica.rig.fill(1, 1);
    let second = replica.rig.fill(2, 1);
    replica.sequencer.derive(&first).await;
    let envelope = replica.gossip(&second).await;
    let reply = replica.rig.node.new_payload(&envelope).await;
    assert_eq!(reply.result()["status"], "SYNCING", "{}", reply.text());
}

#[tokio::test]
async fn a_replica_that_was_restarted_without_disk_judges_as_before() {
    let mut replica = Replica::start(vec![Manner::Honest]).await;
    let items = replica.rig.fill(1, 2);
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
    replica.rig.kill();
    replica.rig.lose_disk();
    replica.rig.revive().await;
    let items = replica.rig.fill(2, 2);
    let foreign = replica.rig.transfers(1);
    let envelope = replica.gossip(&foreign).await;
    assert_eq!(replica.judged(&envelope).await.result()["status"], "INVALID");
    let envelope = replica.gossip(&items).await;
    replica.follow(envelope).await;
}
