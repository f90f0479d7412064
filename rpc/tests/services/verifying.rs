//! The verifying client at an honest node: what it shows, how it follows hand-overs and goes on after a range.

use alloy_primitives::keccak256;
use lockstep_core::types::Height;
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};

use crate::network::{A, B, Node, bundle, entry, fill, light_client, now};

async fn verifying(node: &Node) -> VerifyingLog {
    VerifyingLog::new(node.log_client().await, light_client(&node.log))
}

#[tokio::test]
async fn what_a_chain_has_is_shown() {
    let node = Node::start().await;
    let body = lockstep_core::entry::Body::Bundle(bundle(b"x"));
    let bundled = lockstep_core::entry::Entry::new(body, now().plus(9_000), None).unwrap();
    node.log.decide(&[entry(A, b"1"), bundled, entry(B, b"2")]);
    fill(&node.log, 10);
    let mut log = verifying(&node).await;
    assert_eq!(log.head().await.unwrap(), node.log.certified(Height(10)).header);
    assert_eq!(log.slice(A, Height(1)).await.unwrap().1.unwrap().items.len(), 2);
    assert_eq!(log.slice(A, Height(2)).await.unwrap().1, None);
    let range = log.range(A, Height(3), Height(99)).await.unwrap();
    assert_eq!(
        range.iter().map(|(header, _)| header.height.0).collect::<Vec<_>>(),
        [3, 4, 5, 6, 7, 8, 9, 10]
    );
    assert!(range.iter().all(|(header, slice)| slice.is_some() == (header.height.0 % 2 == 1)));
    let proof = log.transaction(A, keccak256(b"1")).await.unwrap();
    assert_eq!(proof.block.header.height, Height(1));
}

#[tokio::test]
async fn a_chain_is_followed_through_history_and_live() {
    let node = Node::start().await;
    fill(&node.log, 4);
    let mut log = verifying(&node).await;
    let mut stream = log.follow(A, Height(1)).await.unwrap();
    for height in 1..=4 {
        let (got, slice) = stream.next().await.unwrap();
        assert_eq!((got.height, slice.is_some()), (Height(height), height % 2 == 1));
    }
    fill(&node.log, 6);
    assert_eq!(stream.next().await.unwrap().0.height, Height(5));
    assert_eq!(stream.next().await.unwrap().0, node.log.certified(Height(6)).header);
    assert_eq!(log.light_client().head().unwrap().height, Height(6));
}

#[tokio::test]
async fn handovers_are_fetched_where_a_header_shows_one() {
    let node = Node::start().await;
    fill(&node.log, 3);
    node.log.hand_over();
    fill(&node.log, 8);
    for height in [5, 8] {
        let mut jump = verifying(&node).await;
        jump.slice(A, Height(height)).await.unwrap();
        assert_eq!(jump.light_client().validators().0, Height(5));
    }
    let mut step = verifying(&node).await;
    assert_eq!(step.range(A, Height(1), Height(8)).await.unwrap().len(), 8);
    let mut stream = verifying(&node).await;
    let mut stream = stream.follow(A, Height(1)).await.unwrap();
    for _ in 1..=8 {
        stream.next().await.unwrap();
    }
}

/// A caller that wants no more than one answer at a time is told where to ask on, until the head.
#[tokio::test]
async fn a_range_is_read_part_by_part_up_to_the_head() {
    let node = Node::start().await;
    fill(&node.log, 6);
    let mut log = verifying(&node).await;
    let part = log.part(A, Height(1), Height(4)).await.unwrap();
    assert_eq!((part.proof.blocks.len(), part.next), (4, Some(Height(5))));
    let part = log.part(A, Height(5), Height(9)).await.unwrap();
    assert_eq!((part.proof.blocks.len(), part.next), (2, None));
}

#[tokio::test]
async fn nobody_there_is_an_error_of_the_client() {
    let node = Node::start().await;
    let mut log = verifying(&node).await;
    let error = log.head().await.unwrap_err();
    assert!(matches!(error, VerifyError::Client(ClientError::Refused(_))), "{error}");
}
