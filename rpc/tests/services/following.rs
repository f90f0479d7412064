//! Streams that follow the log: history, then live, no gap.

use std::time::Duration;

use futures::StreamExt;
use lockstep_core::types::Height;
use lockstep_proto::convert::log::ProvenSlice;

use crate::network::{A, Node, fill};

#[tokio::test]
async fn slices_come_from_history_and_then_live_without_a_gap() {
    let node = Node::start().await;
    fill(&node.log, 5);
    let set = lockstep_rpc::node::Log::genesis(node.log.as_ref()).validators.clone();
    let mut slices = node.log_client().await.stream_slices(A, Some(Height(2))).await.unwrap();
    let log = std::sync::Arc::clone(&node.log);
    // Blocks are decided while history is read, and after.
    let deciding = tokio::spawn(async move {
        for height in 6..=40 {
            fill(&log, height);
            if height % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for height in 2..=40 {
        let proven = slices.next().await.unwrap().unwrap();
        assert_eq!(proven.block().header.height, Height(height));
        match proven {
            ProvenSlice::Present { slice, proof } => {
                assert_eq!(height % 2, 1);
                proof.verify(node.log.network(), &set, &slice).unwrap();
            }
            ProvenSlice::Absent(proof) => {
                assert_eq!(height % 2, 0);
                proof.verify(node.log.network(), &set, A).unwrap();
            }
        }
    }
    deciding.await.unwrap();
    let idle = tokio::time::timeout(Duration::from_millis(50), slices.next()).await;
    assert!(idle.is_err(), "no height comes twice");
}

#[tokio::test]
async fn a_stream_without_a_height_begins_behind_the_head() {
    let node = Node::start().await;
    fill(&node.log, 3);
    let mut client = node.log_client().await;
    let mut slices = client.stream_slices(A, None).await.unwrap();
    let mut blocks = client.stream_blocks(None).await.unwrap();
    fill(&node.log, 4);
    assert_eq!(slices.next().await.unwrap().unwrap().block().header.height, Height(4));
    assert_eq!(blocks.next().await.unwrap().unwrap().height, Height(4));
}

#[tokio::test]
async fn a_stream_may_begin_ahead_of_the_head() {
    let node = Node::start().await;
    let mut blocks = node.log_client().await.stream_blocks(Some(Height(3))).await.unwrap();
    fill(&node.log, 5);
    for height in 3..=5 {
        assert_eq!(blocks.next().await.unwrap().unwrap().height, Height(height));
    }
}

/// A slow reader holds only itself up.
#[tokio::test]
async fn a_reader_that_does_not_read_does_not_stop_others() {
    let node = Node::start().await;
    fill(&node.log, 200);
    let mut client = node.log_client().await;
    let mut sleeping = client.stream_blocks(Some(Height(1))).await.unwrap();
    let mut reading = client.stream_blocks(Some(Height(1))).await.unwrap();
    for height in 1..=200 {
        assert_eq!(reading.next().await.unwrap().unwrap().height, Height(height));
    }
    for height in 1..=200 {
        assert_eq!(sleeping.next().await.unwrap().unwrap().height, Height(height));
    }
}

#[tokio::test]
async fn streams_end_when_the_server_shuts_down() {
    let node = Node::start().await;
    fill(&node.log, 1);
    let mut slices = node.log_client().await.stream_slices(A, Some(Height(1))).await.unwrap();
    slices.next().await.unwrap().unwrap();
    let began = std::time::Instant::now();
    node.server.shutdown().await;
    let end = tokio::time::timeout(Duration::from_secs(1), slices.next()).await.unwrap();
    assert!(end.is_none_or(|last| last.is_err()));
    assert!(began.elapsed() < Duration::from_secs(7));
}
