//! What recent heights have is read once, however many streams and calls want it, and whichever chain they ask for.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::convert::log::{ProvenSlice, SlicesQuery};
use lockstep_rpc::client::LogClient;
use lockstep_rpc::limits::RECENT_HEIGHTS_MAX;
use lockstep_rpc::node::{ErrorCode, Log};

use crate::network::{A, B, EVM, NONE, Node, entry, fill};

/// Chains with a slice in some blocks, and chains before, between and behind them.
const CHAINS: [ChainId; 6] = [ChainId(1), EVM, A, B, NONE, ChainId(903_000)];
const STREAMS_PER_CHAIN: usize = 10;

fn verify(node: &Node, proven: &ProvenSlice, chain: ChainId, height: u64) {
    let (network, set) = (node.log.network(), node.log.genesis().validators.clone());
    assert_eq!(proven.block().header.height, Height(height));
    let truth = node.log.slice_of(Height(height), chain);
    match proven {
        ProvenSlice::Present { slice, proof } => {
            proof.verify(network, &set, slice).unwrap();
            assert_eq!(Some(slice), truth.as_ref());
        }
        ProvenSlice::Absent(proof) => {
            proof.verify(network, &set, chain).unwrap();
            assert_eq!(None, truth);
        }
    }
}

/// Streams of every chain from `from` on, read up to `to`; each message is the one of its chain and height.
async fn follow(node: &Node, client: &LogClient, (from, to): (u64, u64)) {
    let streams = CHAINS.iter().flat_map(|chain| [*chain; STREAMS_PER_CHAIN]).map(|chain| {
        let mut client = client.clone();
        async move {
            let stream = client.stream_slices(chain, Some(Height(from))).await.unwrap();
            let count = usize::try_from(to - from + 1).unwrap();
            (chain, stream.take(count).map(Result::unwrap).collect::<Vec<_>>().await)
        }
    });
    let read = join_all(streams).await;
    for (chain, slices) in &read {
        for (height, proven) in (from..=to).zip(slices) {
            verify(node, proven, *chain, height);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_of_all_chains_share_one_read_per_height() {
    let node = Node::start().await;
    for n in 0..4u8 {
        node.log.decide(&[entry(A, &[n]), entry(B, &[n])]);
        node.log.decide(&[]);
        node.log.decide(&[entry(B, &[n, 1])]);
    }
    // All ask while the first one's read goes on.
    node.log.take_for_each_read(Duration::from_millis(20));
    let client = node.log_client().await;
    follow(&node, &client, (1, 12)).await;
    assert_eq!(node.log.reads(), (12, 0));
    follow(&node, &client, (6, 12)).await;
    assert_eq!(node.log.reads(), (12, 0), "the same heights again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_height_that_is_decided_is_read_once_for_all_that_wait_for_it() {
    let node = Node::start().await;
    node.log.take_for_each_read(Duration::from_millis(20));
    let client = node.log_client().await;
    let (slices, blocks) = tokio::join!(
        join_all((0..40).map(|n| {
            let mut client = client.clone();
            async move { client.stream_slices(CHAINS[n % CHAINS.len()], None).await.unwrap() }
        })),
        join_all((0..20).map(|_| {
            let mut client = client.clone();
            async move { client.stream_blocks(None).await.unwrap() }
        })),
    );
    let (mut slices, mut blocks) = (slices, blocks);
    for height in 1..=5u8 {
        node.log.decide(&[entry(A, &[height])]);
        let next = join_all(slices.iter_mut().map(StreamExt::next)).await;
        for (n, proven) in next.into_iter().enumerate() {
            let proven = proven.unwrap().unwrap();
            verify(&node, &proven, CHAINS[n % CHAINS.len()], height.into());
        }
        for block in join_all(blocks.iter_mut().map(StreamExt::next)).await {
            assert_eq!(block.unwrap().unwrap().height, Height(height.into()));
        }
        assert_eq!(node.log.reads(), (height.into(), height.into()));
    }
}

#[tokio::test]
async fn calls_share_what_streams_read_and_one_another() {
    let node = Node::start().await;
    node.log.decide(&[entry(A, b"1"), entry(B, b"2")]);
    let mut client = node.log_client().await;
    for chain in [A, B, NONE, EVM, A] {
        client.slice(chain, Height(1)).await.unwrap();
        let query = SlicesQuery { chain, from: Height(1), to: Height(1) };
        client.slices(query).await.unwrap();
    }
    client.stream_slices(B, Some(Height(1))).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(node.log.reads(), (1, 0));
}

#[tokio::test]
async fn older_heights_are_read_by_each_call_for_itself() {
    let node = Node::start().await;
    fill(&node.log, RECENT_HEIGHTS_MAX + 2);
    let mut client = node.log_client().await;
    for _ in 0..2 {
        for height in 1..=3 {
            let proven = client.slice(A, Height(height)).await.unwrap();
            assert_eq!(proven.block().header.height, Height(height));
        }
    }
    assert_eq!(node.log.reads(), (5, 0), "two heights twice, and the oldest recent one");
}

#[tokio::test]
async fn a_recent_height_that_is_not_here_is_refused_each_time() {
    let node = Node::start().await;
    fill(&node.log, 4);
    node.log.forget_below(3);
    let mut client = node.log_client().await;
    for _ in 0..3 {
        let error = client.slice(A, Height(2)).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().code, ErrorCode::NotFound);
        client.slice(A, Height(3)).await.unwrap();
    }
    assert_eq!(node.log.reads(), (4, 0), "height 3 once");
}

/// A client that goes while its read does leaves it to the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_first_reader_is_gone_serves_the_next() {
    let node = Node::start().await;
    node.log.decide(&[entry(A, b"1")]);
    node.log.take_for_each_read(Duration::from_millis(200));
    let (first, mut second) = (node.log_client().await, node.log_client().await);
    let mut gone = first.clone();
    let reading = tokio::spawn(async move { gone.slice(A, Height(1)).await });
    while node.log.reads() == (0, 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reading.abort();
    drop(first);
    second.slice(A, Height(1)).await.unwrap();
    assert_eq!(node.log.reads(), (1, 0));
}
