//! States of entries: asked for, and watched.

use alloy_primitives::{B256, keccak256};
use futures::StreamExt;
use lockstep_core::types::EntryId;
use lockstep_proto::convert::ingress::StatusKey;
use lockstep_rpc::node::{DropReason, Dropped, EntryState, ErrorCode};

use crate::network::{A, B, Node, bundle, entry};

#[tokio::test]
async fn a_status_is_found_by_id_and_by_transaction() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let id = client.submit_bundle(&bundle(b"x"), (None, None), None).await.unwrap().status.id;
    let by_id = StatusKey::Id(id);
    assert_eq!(client.status(by_id).await.unwrap().state, EntryState::Received);
    let transaction = &bundle(b"x").legs()[1].transactions[0].clone();
    let by_transaction = StatusKey::Transaction(B, keccak256(transaction));
    let error = client.status(by_transaction).await.unwrap_err();
    assert!(error.is_not_found(), "only decided transactions are found by their hash: {error}");
    node.ingress.decide();
    let status = client.status(by_id).await.unwrap();
    assert!(matches!(status.state, EntryState::Decided(_)));
    assert_eq!(client.status(by_transaction).await.unwrap(), status);
    let wrong_chain = StatusKey::Transaction(A, keccak256(transaction));
    assert!(client.status(wrong_chain).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_unknown_entry_is_not_found() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let key = StatusKey::Id(EntryId(B256::repeat_byte(1)));
    let error = client.status(key).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::NotFound, "id"));
}

#[tokio::test]
async fn a_watch_shows_each_state_once_and_ends_with_the_final_one() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let entry = entry(A, b"watched");
    let mut states = Box::pin(client.watch(entry.id()).await.unwrap());
    client.submit(&entry, None).await.unwrap();
    let first = states.next().await.unwrap().unwrap();
    assert_eq!((first.id, first.state), (entry.id(), EntryState::Received));
    node.ingress.decide();
    let last = states.next().await.unwrap().unwrap();
    assert!(matches!(last.state, EntryState::Decided(_)));
    assert!(states.next().await.is_none());
    let late: Vec<_> = client.watch(entry.id()).await.unwrap().collect().await;
    assert_eq!(late, [Ok(last)], "a watch of a decided entry is that decision");
}

#[tokio::test]
async fn a_watch_ends_with_the_drop() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let entry = entry(A, b"dropped");
    client.submit(&entry, None).await.unwrap();
    let mut states = Box::pin(client.watch(entry.id()).await.unwrap());
    assert_eq!(states.next().await.unwrap().unwrap().state, EntryState::Received);
    let dropped = Dropped { reason: DropReason::Expired, detail: "expired".to_owned() };
    node.ingress.drop_all(&dropped);
    assert_eq!(states.next().await.unwrap().unwrap().state, EntryState::Dropped(dropped));
    assert!(states.next().await.is_none());
}

#[tokio::test]
async fn a_watch_that_the_node_ends_says_so() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let id = EntryId(B256::repeat_byte(7));
    let mut states = Box::pin(client.watch(id).await.unwrap());
    node.ingress.forget();
    let error = states.next().await.unwrap().unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::NotReady);
    assert!(states.next().await.is_none());
}
