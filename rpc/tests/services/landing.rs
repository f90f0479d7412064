//! What becomes of decided entries on their chains: watched to the end, waited for, and taken back.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use futures::StreamExt;
use lockstep_core::record::SkipReason;
use lockstep_core::types::{ChainId, EntryId};
use lockstep_proto::convert::ingress::{BlockId, Landing, Milestone, StatusKey, Submitted, Wait};
use lockstep_rpc::client::IngressClient;
use lockstep_rpc::node::{EntryState, LegState, LegStatus, Stage};

use crate::network::{A, B, Node, bundle, entry};

fn landing(number: u64) -> Landing {
    let block = BlockId { number, hash: B256::left_padding_from(&number.to_be_bytes()) };
    Landing { block, index: Some(3) }
}

fn leg(chain: ChainId, state: LegState) -> LegStatus {
    LegStatus { chain, state, last: Stage::Finalized }
}

fn skipped() -> LegState {
    LegState::Skipped { block: landing(9).block, reason: Some(SkipReason::Invalid) }
}

fn legs_of(state: &EntryState) -> &[LegStatus] {
    match state {
        EntryState::Decided(decided) => &decided.legs,
        other => panic!("{other:?} is not decided"),
    }
}

/// A node with a decided bundle for [`A`] and [`B`].
async fn with_bundle() -> (Node, IngressClient, EntryId) {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let id = client.submit_bundle(&bundle(b"x"), (None, None), None).await.unwrap().status.id;
    node.ingress.decide_for_chains();
    (node, client, id)
}

#[tokio::test]
async fn a_watch_goes_on_until_each_leg_has_reached_its_end() {
    let (node, mut client, id) = with_bundle().await;
    let mut states = Box::pin(client.watch(id).await.unwrap());
    let at = landing(5);
    let history = [
        [LegState::Decided, LegState::Decided],
        [LegState::Included(at), LegState::Decided],
        [LegState::Included(at), LegState::Included(landing(7))],
        // The first chain is reorganised: the leg waits again, and comes into another block.
        [LegState::Decided, LegState::Included(landing(7))],
        [LegState::Included(landing(6)), LegState::Safe(landing(7))],
        [LegState::Finalized(landing(6)), LegState::Safe(landing(7))],
        [LegState::Finalized(landing(6)), LegState::Finalized(landing(7))],
    ];
    for [a, b] in history {
        let legs = [leg(A, a), leg(B, b)];
        node.ingress.tell(id, &legs);
        let status = states.next().await.unwrap().unwrap();
        assert_eq!(legs_of(&status.state), legs);
        let EntryState::Decided(decided) = &status.state else { panic!("not decided") };
        assert_eq!(decided.height.0, 1, "where the log has it is told in every state");
        assert_eq!(client.status(StatusKey::Id(id)).await.unwrap(), status);
    }
    assert!(states.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_when_one_leg_was_skipped_and_the_others_are_final() {
    let (node, mut client, id) = with_bundle().await;
    let mut states = Box::pin(client.watch(id).await.unwrap());
    states.next().await.unwrap().unwrap();
    for b in [LegState::Included(landing(7)), LegState::Finalized(landing(7))] {
        let legs = [leg(A, skipped()), leg(B, b)];
        node.ingress.tell(id, &legs);
        assert_eq!(legs_of(&states.next().await.unwrap().unwrap().state), legs);
    }
    assert!(states.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_where_the_node_can_tell_no_more() {
    for (last, state) in
        [(Stage::Decided, LegState::Decided), (Stage::Included, LegState::Included(landing(4)))]
    {
        let (node, mut client, id) = with_bundle().await;
        let legs = [A, B].map(|chain| LegStatus { chain, state, last });
        node.ingress.tell(id, &legs);
        let states: Vec<_> = client.watch(id).await.unwrap().collect().await;
        assert_eq!(states.len(), 1);
        assert_eq!(legs_of(&states[0].as_ref().unwrap().state), legs);
    }
}

#[tokio::test]
async fn a_status_by_transaction_tells_the_legs_too() {
    let (node, mut client, id) = with_bundle().await;
    let legs = [leg(A, LegState::Included(landing(5))), leg(B, skipped())];
    node.ingress.tell(id, &legs);
    let transaction = bundle(b"x").legs()[1].transactions[0].clone();
    let key = StatusKey::Transaction(B, keccak256(transaction));
    let status = client.status(key).await.unwrap();
    assert_eq!((status.id, legs_of(&status.state)), (id, &legs[..]));
}

async fn wait(node: &Node, milestone: Milestone, timeout_ms: u64) -> Submitted {
    let wait = Some(Wait { milestone, timeout_ms });
    node.ingress_client().await.submit(&entry(A, b"waited for"), wait).await.unwrap()
}

#[tokio::test]
async fn a_call_waits_for_the_chain() {
    let node = Node::start().await;
    let id = wait(&node, Milestone::Received, 1).await.status.id;
    node.ingress.decide_for_chains();
    let cases = [
        (Milestone::Included, LegState::Included(landing(5))),
        (Milestone::Safe, LegState::Safe(landing(5))),
        (Milestone::Finalized, LegState::Finalized(landing(5))),
    ];
    for (milestone, state) in cases {
        let early = wait(&node, milestone, 20).await;
        assert!(!early.is_reached, "{milestone:?}");
        let told = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            node.ingress.tell(id, &[leg(A, state)]);
        };
        let (submitted, ()) = tokio::join!(wait(&node, milestone, 8_000), told);
        assert!(submitted.is_reached, "{milestone:?}");
        assert_eq!(legs_of(&submitted.status.state), [leg(A, state)]);
    }
}

#[tokio::test]
async fn nobody_waits_for_what_will_not_come() {
    let node = Node::start().await;
    let id = wait(&node, Milestone::Received, 1).await.status.id;
    node.ingress.decide_for_chains();
    let unknown = LegStatus { last: Stage::Decided, ..leg(A, LegState::Decided) };
    for leg in [leg(A, skipped()), unknown] {
        node.ingress.tell(id, &[leg]);
        let answer =
            tokio::time::timeout(Duration::from_secs(5), wait(&node, Milestone::Included, 8_000));
        let submitted = answer.await.expect("it answers at once");
        assert!(!submitted.is_reached && submitted.is_known);
        assert_eq!(legs_of(&submitted.status.state), [leg]);
    }
}
