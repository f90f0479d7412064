//! Calls of the log: blocks, slices, ranges, proofs, sets.

use alloy_primitives::keccak256;
use lockstep_core::encoding::Canonical;
use lockstep_core::proposal::SyncedValue;
use lockstep_core::types::{BlockHash, ChainId, Height};
use lockstep_proto::convert::log::{BlockAt, ProvenSlice, SlicesQuery};
use lockstep_rpc::client::ClientError;
use lockstep_rpc::node::{ErrorCode, Log};

use crate::network::{A, B, NONE, Node, bundle, entry, fill};

fn refused(error: &ClientError) -> (ErrorCode, &str) {
    let refusal = error.refusal().unwrap_or_else(|| panic!("not a refusal: {error}"));
    assert!(!refusal.reason.is_empty() && !refusal.action.is_empty());
    (refusal.code, refusal.field.as_str())
}

#[tokio::test]
async fn blocks_are_read_by_height_and_hash() {
    let node = Node::start().await;
    let mut log = node.log_client().await;
    assert!(log.head().await.unwrap_err().is_not_found(), "nothing is decided yet");
    fill(&node.log, 3);
    let head = log.head().await.unwrap();
    assert_eq!(head, node.log.certified(Height(3)));
    let by_height = log.block(BlockAt::Height(Height(2))).await.unwrap();
    assert_eq!(by_height.certified, node.log.certified(Height(2)));
    assert_eq!(by_height.cut.hash(), by_height.certified.header.cut_hash);
    let hash = by_height.certified.header.hash();
    assert_eq!(log.block(BlockAt::Hash(hash)).await.unwrap(), by_height);
    let beyond = log.block(BlockAt::Height(Height(4))).await.unwrap_err();
    assert_eq!(refused(&beyond), (ErrorCode::NotFound, "height"));
    let unknown = log.block(BlockAt::Hash(BlockHash(keccak256(b"?")))).await.unwrap_err();
    assert_eq!(refused(&unknown), (ErrorCode::NotFound, "block_hash"));
    let zero = log.block(BlockAt::Height(Height(0))).await.unwrap_err();
    assert_eq!(refused(&zero), (ErrorCode::Missing, "height"));
}

#[tokio::test]
async fn a_slice_or_its_absence_is_proven() {
    let node = Node::start().await;
    node.log.decide(&[entry(A, b"1"), entry(B, b"2"), entry(A, b"3")]);
    node.log.decide(&[]);
    let (network, set) = (node.log.network(), node.log.genesis().validators.clone());
    let mut log = node.log_client().await;
    let ProvenSlice::Present { slice, proof } = log.slice(A, Height(1)).await.unwrap() else {
        panic!("the chain has a slice");
    };
    proof.verify(network, &set, &slice).unwrap();
    assert_eq!(slice.items.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 2]);
    for (chain, height) in [(NONE, 1), (ChainId(1), 1), (ChainId(903_000), 1), (A, 2)] {
        let proven = log.slice(chain, Height(height)).await.unwrap();
        let ProvenSlice::Absent(proof) = proven else { panic!("{chain} has no slice") };
        proof.verify(network, &set, chain).unwrap();
    }
    let error = log.slice(A, Height(3)).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::NotFound, "height"));
}

#[tokio::test]
async fn a_range_ends_at_the_head_and_is_proven() {
    let node = Node::start().await;
    fill(&node.log, 10);
    let set = node.log.genesis().validators.clone();
    let mut log = node.log_client().await;
    let query = SlicesQuery { chain: A, from: Height(4), to: Height(500) };
    let range = log.slices(query).await.unwrap();
    assert_eq!((range.proof.blocks.len(), range.next), (7, None));
    range.proof.verify(node.log.network(), &set, A, Height(4)).unwrap();
    let present = range.proof.blocks.iter().filter(|block| block.presence.slice().is_some());
    assert_eq!(present.count(), 3);
    let query = SlicesQuery { chain: A, from: Height(11), to: Height(11) };
    let error = log.slices(query).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::NotFound, "from_height"));
    let query = SlicesQuery { chain: A, from: Height(1), to: Height(1_001) };
    let error = log.slices(query).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::OutOfRange, "to_height"));
}

#[tokio::test]
async fn a_range_of_many_bytes_is_continued() {
    let node = Node::start().await;
    for n in 0..20u8 {
        let entries = [entry(A, &[n; 100_000]), entry(A, &[n + 100; 100_000])];
        node.log.decide(&entries);
    }
    let set = node.log.genesis().validators.clone();
    let mut log = node.log_client().await;
    let (mut from, mut answers) = (Height(1), 0);
    loop {
        let range = log.slices(SlicesQuery { chain: A, from, to: Height(20) }).await.unwrap();
        range.proof.verify(node.log.network(), &set, A, from).unwrap();
        assert!(range.proof.to_canonical().len() < 2 << 20);
        answers += 1;
        let last = range.proof.last().unwrap().header.height;
        match range.next {
            Some(next) => assert_eq!(next, last.next()),
            None => assert_eq!(last, Height(20)),
        }
        from = match range.next {
            Some(next) => next,
            None => break,
        };
    }
    assert!((2..=20).contains(&answers), "{answers}");
}

#[tokio::test]
async fn a_transaction_is_proven_loose_and_in_a_leg() {
    let node = Node::start().await;
    let bundle = bundle(b"in a leg");
    let body = lockstep_core::entry::Body::Bundle(bundle.clone());
    let expires = crate::network::now().plus(9_000);
    let bundled = lockstep_core::entry::Entry::new(body, expires, None).unwrap();
    node.log.decide(&[entry(A, b"loose"), bundled]);
    let set = node.log.genesis().validators.clone();
    let mut log = node.log_client().await;
    let in_leg = bundle.legs()[1].transactions[0].clone();
    for (chain, bytes, index) in [(A, b"loose".as_slice(), 0), (B, &in_leg, 1)] {
        let proof = log.transaction(chain, keccak256(bytes)).await.unwrap();
        proof.verify(node.log.network(), &set, chain, keccak256(bytes)).unwrap();
        assert_eq!(proof.item.index, index);
    }
    let error = log.transaction(B, keccak256(b"loose")).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::NotFound, "transaction_hash"));
}

#[tokio::test]
async fn sets_chains_genesis_and_handovers_are_read() {
    let node = Node::start().await;
    fill(&node.log, 3);
    node.log.hand_over();
    fill(&node.log, 6);
    let genesis = node.log.genesis();
    let mut log = node.log_client().await;
    assert_eq!(log.genesis().await.unwrap(), *genesis);
    assert_eq!(log.registry().await.unwrap(), node.log.registry());
    let (height, first) = log.validator_set(Some(Height(1))).await.unwrap();
    assert_eq!((height, &first), (Height(1), &genesis.validators));
    let (height, next) = log.validator_set(None).await.unwrap();
    assert_eq!(height, Height(7));
    assert_ne!(next, first);
    let error = log.validator_set(Some(Height(99))).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::NotFound, "height"));
    let handovers = log.handovers(Height(1), Height(6)).await.unwrap();
    assert_eq!((handovers.handovers.len(), handovers.next), (1, None));
    assert_eq!(handovers.handovers[0].block, node.log.certified(Height(4)));
    assert!(log.handovers(Height(5), Height(6)).await.unwrap().handovers.is_empty());
    let error = log.handovers(Height(2), Height(1)).await.unwrap_err();
    assert_eq!(refused(&error), (ErrorCode::OutOfRange, "to_height"));
}

#[tokio::test]
async fn a_full_block_is_what_value_sync_carries() {
    let node = Node::start().await;
    fill(&node.log, 1);
    let full = node.log.full_block(Height(1)).unwrap().unwrap();
    let value = SyncedValue::decode(&full.synced_value.clone().into()).unwrap();
    let mut blocks = node.log_client().await.stream_blocks(Some(Height(1))).await.unwrap();
    let streamed = futures::StreamExt::next(&mut blocks).await.unwrap().unwrap();
    assert_eq!(streamed, full);
    assert_eq!(value.header.hash(), full.certificate.block);
    assert_eq!(value.batches.len(), 1);
}
