//! Transactions, bundles and opaque entries are decided once, everywhere at the same place, and anyone can check it.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use lockstep_core::entry::{Body, Entry};
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_devnet::load::wallet;
use lockstep_proto::convert::ingress::{Decided, EntryState, Milestone, Wait};
use lockstep_rpc::client::verified::VerifyError;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{self, EVM_A, EVM_B, OPAQUE, expires_in};
use lockstep_tests::node::Node;
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);

fn wait_decided() -> Option<Wait> {
    Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 })
}

async fn submit(node: &Node, entry: &Entry) -> Decided {
    let answer = node.ingress().await.submit(entry, wait_decided()).await.expect("is accepted");
    assert!(answer.is_reached, "{answer:?}");
    assert_eq!(answer.status.id, entry.id());
    match answer.status.state {
        EntryState::Decided(decided) => decided,
        other => panic!("{} says {other:?}", node.name),
    }
}

async fn decided(node: &Node, entry: &Entry) -> Decided {
    until(&format!("{} has the entry decided", node.name), PATIENCE, async || {
        match node.status(entry.id()).await {
            Some(EntryState::Decided(decided)) => Some(decided),
            Some(EntryState::Received) | None => None,
            Some(EntryState::Dropped(dropped)) => panic!("{}: {dropped:?}", node.name),
        }
    })
    .await
}

fn transaction_hash(entry: &Entry) -> B256 {
    match entry.body() {
        Body::Transaction(transaction) => keccak256(&transaction.bytes),
        other => panic!("{other:?} is no transaction"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_submitted_is_decided_once_and_proved() {
    let cluster = Cluster::of_four().await;
    let all = [0, 1, 2, 3];

    let transaction =
        entries::wallet(EVM_A, 1).transaction(expires_in(30_000)).expect("a transaction");
    let at = submit(cluster.node(1), &transaction).await;
    let (mut a, mut b) = (entries::wallet(EVM_A, 2), entries::wallet(EVM_B, 2));
    let bundle = wallet::bundle(&mut [&mut a, &mut b], expires_in(30_000)).expect("a bundle");
    let bundle_at = submit(cluster.node(2), &bundle).await;
    let opaque_at = submit(cluster.node(3), &entries::opaque("opaque bytes")).await;

    // The transaction: its proof, and nobody else's.
    let mut log = cluster.verified(0).await;
    cluster.until_height(&all, opaque_at.height, PATIENCE).await;
    let hash = transaction_hash(&transaction);
    let proof = log.transaction(EVM_A, hash).await.expect("is proved");
    assert_eq!((proof.block.header.height, proof.item.index), (at.height, at.index));
    assert_eq!(proof.block.header.hash(), at.block);
    assert!(matches!(log.transaction(EVM_B, hash).await, Err(VerifyError::Client(_))));

    // The bundle: one item in both chains' slices, under one index, of one block.
    for chain in [EVM_A, EVM_B] {
        let (header, slice) = log.slice(chain, bundle_at.height).await.expect("is proved");
        assert_eq!(header.hash(), bundle_at.block);
        let slice = slice.expect("a slice");
        let items: Vec<_> = slice.items.iter().filter(|i| i.index == bundle_at.index).collect();
        assert_eq!(items.len(), 1, "chain {chain}: {slice:?}");
    }

    // The opaque bytes as they were given, and the chain's absence where it has nothing.
    let (_, slice) = log.slice(OPAQUE, opaque_at.height).await.expect("is proved");
    let slice = slice.expect("a slice");
    let texts: Vec<_> = slice.items.iter().flat_map(|item| item.transactions()).collect();
    assert!(texts.iter().any(|bytes| bytes.as_ref() == b"opaque bytes"), "{texts:?}");
    let (first, absent) = log.slice(OPAQUE, Height(1)).await.expect("absence is proved");
    assert_eq!((first.height, absent), (Height(1), None));
    let stranger = log.slice(ChainId(77), opaque_at.height).await;
    assert_eq!(stranger.expect("absence is proved").1, None, "a chain that is not registered");

    // A height by its time, and the one after it by the millisecond before.
    let (second, _) = log.slice(OPAQUE, Height(2)).await.expect("is proved");
    assert_eq!(log.height_after(OPAQUE, first.timestamp_ms).await, Ok(second.height));
    let before = UnixMillis(first.timestamp_ms.0 - 1);
    assert_eq!(log.height_after(OPAQUE, before).await, Ok(first.height));

    // All heights of the chain in one range, and each transaction once.
    let range = log.range(OPAQUE, Height(1), opaque_at.height).await.expect("is proved");
    assert_eq!(range.len() as u64, opaque_at.height.0);
    let items: usize = range.iter().flat_map(|(_, slice)| slice).map(|s| s.items.len()).sum();
    assert_eq!(items, 1);

    cluster.assert_agreement(&all).await;
    cluster.assert_healthy(&all).await;
    cluster.assert_no_evidence(&all).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_sent_to_four_nodes_is_decided_once_and_is_that_decision_on_all() {
    let cluster = Cluster::of_four().await;
    let all = [0, 1, 2, 3];
    let mut wallet = entries::wallet(EVM_A, 3);
    let shared: Vec<Entry> =
        (0..20).map(|_| wallet.transaction(expires_in(30_000)).expect("a transaction")).collect();
    for entry in &shared {
        let submit = async |index: usize| {
            let mut client = cluster.node(index).ingress().await;
            client.submit(entry, None).await.expect("is accepted")
        };
        tokio::join!(submit(0), submit(1), submit(2), submit(3));
    }
    for entry in &shared {
        let first = decided(cluster.node(0), entry).await;
        for index in all {
            let here = decided(cluster.node(index), entry).await;
            assert_eq!(
                (here.height, here.index, here.block),
                (first.height, first.index, first.block)
            );
        }
        // Submitting it again is the same submission.
        let again = cluster.node(1).ingress().await.submit(entry, wait_decided()).await;
        let again = again.expect("is accepted");
        assert!(again.is_known);
        assert!(matches!(again.status.state, EntryState::Decided(d) if d.height == first.height));
    }
    let head = cluster.assert_agreement(&all).await;
    let mut log = cluster.verified(2).await;
    let range = log.range(EVM_A, Height(1), head).await.expect("is proved");
    let items: usize = range.iter().flat_map(|(_, slice)| slice).map(|s| s.items.len()).sum();
    assert_eq!(items, shared.len(), "each is in the log once");
    cluster.assert_healthy(&all).await;
    cluster.finish().await;
}
