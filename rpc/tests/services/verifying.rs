//! The verifying client: it counts what it proved, follows hand-overs, and notices each lie of a node.

use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use lockstep_core::light_client::{Handover, NotVerified};
use lockstep_core::params::Genesis;
use lockstep_core::slice::Content;
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::verified::{Proved, VerifyError, VerifyingLog};
use lockstep_rpc::node::{
    Block, BlockAt, BlockSlice, FullBlock, Located, Log, ReadError, Registry,
};
use tokio::sync::watch;

use crate::network::{A, B, MemoryLog, NONE, Node, bundle, entry, now};

async fn verifying(node: &Node) -> VerifyingLog {
    VerifyingLog::new(node.log_client().await, node.log.light_client())
}

#[tokio::test]
async fn what_is_proved_is_counted() {
    let node = Node::start().await;
    let body = lockstep_core::entry::Body::Bundle(bundle(b"x"));
    let bundled = lockstep_core::entry::Entry::new(body, now().plus(9_000), None).unwrap();
    node.log.decide(&[entry(A, b"1"), bundled, entry(B, b"2")]);
    node.log.fill(10);
    let mut log = verifying(&node).await;
    assert_eq!(log.head().await.unwrap(), node.log.certified(Height(10)).header);
    assert_eq!(log.slice(A, Height(1)).await.unwrap().unwrap().items.len(), 2);
    assert_eq!(log.slice(A, Height(2)).await.unwrap(), None);
    let range = log.range(A, Height(3), Height(99)).await.unwrap();
    assert_eq!(
        range.iter().map(|(height, _)| height.0).collect::<Vec<_>>(),
        [3, 4, 5, 6, 7, 8, 9, 10]
    );
    assert!(range.iter().all(|(height, slice)| slice.is_some() == (height.0 % 2 == 1)));
    let proved = Proved {
        first: Some(Height(1)),
        last: Some(Height(10)),
        slices: 5,
        absent: 5,
        items: 6,
        transactions: 6,
    };
    assert_eq!(*log.proved(), proved);
    let proof = log.transaction(A, keccak256(b"1")).await.unwrap();
    assert_eq!(proof.block.header.height, Height(1));
}

#[tokio::test]
async fn a_chain_is_followed_through_history_and_live() {
    let node = Node::start().await;
    node.log.fill(4);
    let mut log = verifying(&node).await;
    let mut stream = log.follow(A, Height(1)).await.unwrap();
    for height in 1..=4 {
        let (got, slice) = stream.next().await.unwrap();
        assert_eq!((got, slice.is_some()), (Height(height), height % 2 == 1));
    }
    node.log.fill(6);
    assert_eq!(stream.next().await.unwrap().0, Height(5));
    assert_eq!(stream.next().await.unwrap().0, Height(6));
    assert_eq!((stream.proved().slices, stream.proved().absent), (3, 3));
    assert_eq!(log.light_client().head().unwrap().height, Height(6));
}

#[tokio::test]
async fn handovers_are_fetched_where_a_header_shows_one() {
    let node = Node::start().await;
    node.log.fill(3);
    node.log.hand_over();
    node.log.fill(8);
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

#[tokio::test]
async fn a_node_that_hides_a_handover_is_not_believed() {
    let node =
        Node::behind(|log| Arc::new(Lying { log, hides_handovers: true, lie: |_| {} })).await;
    node.log.fill(3);
    node.log.hand_over();
    node.log.fill(6);
    let error = verifying(&node).await.slice(A, Height(6)).await.unwrap_err();
    let VerifyError::NotVerified(error) = error else { panic!("{error}") };
    assert!(matches!(*error, NotVerified::OmittedHandover { .. }), "{error}");
}

/// A log that lies about what a block has of a chain.
struct Lying {
    log: Arc<MemoryLog>,
    hides_handovers: bool,
    lie: fn(&mut BlockSlice),
}

impl Log for Lying {
    fn heads(&self) -> watch::Receiver<Height> {
        self.log.heads()
    }
    fn block(&self, at: BlockAt) -> Result<Option<Block>, ReadError> {
        let slice = |block: &Block| BlockSlice {
            block: block.certified.clone(),
            summaries: Vec::new(),
            slice: None,
        };
        let lie = |mut block: Block| {
            let mut told = slice(&block);
            (self.lie)(&mut told);
            block.certified = told.block;
            block
        };
        Ok(self.log.block(at)?.map(lie))
    }
    fn block_slice(&self, height: Height, chain: ChainId) -> Result<Option<BlockSlice>, ReadError> {
        let mut slice = self.log.block_slice(height, chain)?;
        if let Some(slice) = &mut slice {
            (self.lie)(slice);
        }
        Ok(slice)
    }
    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError> {
        self.log.full_block(height)
    }
    fn locate(&self, chain: ChainId, transaction: B256) -> Result<Option<Located>, ReadError> {
        self.log.locate(chain, transaction)
    }
    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        self.log.validator_set(height)
    }
    fn handovers(&self, from: Height, to: Height, max: usize) -> Result<Vec<Handover>, ReadError> {
        if self.hides_handovers { Ok(Vec::new()) } else { self.log.handovers(from, to, max) }
    }
    fn registry(&self) -> Registry {
        self.log.registry()
    }
    fn genesis(&self) -> Arc<Genesis> {
        self.log.genesis()
    }
}

/// Each lie about a slice: told by a real node to a real client.
#[tokio::test]
async fn each_lie_about_a_slice_is_noticed() {
    type Lie = fn(&mut BlockSlice);
    let lies: [(&str, Lie); 10] = [
        ("time", |told| told.block.header.timestamp_ms = UnixMillis(1)),
        ("state", |told| told.block.header.state_hash = B256::ZERO),
        ("certified time", |told| {
            told.block.header.timestamp_ms = UnixMillis(1);
            told.block.certificate.block = told.block.header.hash();
        }),
        ("signature", |told| told.block.certificate.signatures[0].signature.0[3] ^= 1),
        ("no quorum", |told| told.block.certificate.signatures.truncate(2)),
        ("certificate's round", |told| told.block.certificate.round.0 += 1),
        ("an item is missing", |told| drop(told.slice.as_mut().unwrap().items.pop())),
        ("an item is changed", |told| {
            let content = Content::Transaction { bytes: b"forged".to_vec().into() };
            told.slice.as_mut().unwrap().items[0].content = content;
        }),
        ("hidden", |told| {
            told.slice = None;
            told.summaries.retain(|summary| summary.chain != A);
        }),
        ("another table", |told| {
            let slice = told.slice.as_mut().unwrap();
            slice.items.pop();
            let forged = slice.summary();
            told.summaries.iter_mut().filter(|s| s.chain == A).for_each(|s| *s = forged);
        }),
    ];
    for (name, lie) in lies {
        let node = Node::behind(|log| Arc::new(Lying { log, hides_handovers: false, lie })).await;
        node.log.decide(&[entry(A, b"1"), entry(B, b"2"), entry(A, b"3")]);
        let mut log = verifying(&node).await;
        let error = log.slice(A, Height(1)).await.unwrap_err();
        assert!(matches!(error, VerifyError::NotVerified(_)), "{name}: {error}");
        let error = log.follow(A, Height(1)).await.unwrap().next().await.unwrap_err();
        assert!(matches!(error, VerifyError::NotVerified(_)), "{name}: {error}");
        assert_eq!(*log.proved(), Proved::default(), "{name}");
    }
}

#[tokio::test]
async fn a_lie_about_absence_and_about_the_head_is_noticed() {
    let lie: fn(&mut BlockSlice) = |told| told.summaries.clear();
    let node = Node::behind(|log| Arc::new(Lying { log, hides_handovers: false, lie })).await;
    node.log.decide(&[entry(A, b"1")]);
    let error = verifying(&node).await.slice(NONE, Height(1)).await.unwrap_err();
    assert!(matches!(error, VerifyError::NotVerified(_)), "{error}");

    let lie: fn(&mut BlockSlice) = |told| told.block.header.round.0 += 1;
    let node = Node::behind(|log| Arc::new(Lying { log, hides_handovers: false, lie })).await;
    node.log.fill(1);
    let error = verifying(&node).await.head().await.unwrap_err();
    assert!(matches!(error, VerifyError::NotVerified(_)), "{error}");
}

/// A log that tells of another height, or of another chain, than it is asked for. All of it is true.
struct Shifted(Arc<MemoryLog>, u64, Option<ChainId>);

impl Log for Shifted {
    fn heads(&self) -> watch::Receiver<Height> {
        self.0.heads()
    }
    fn block(&self, at: BlockAt) -> Result<Option<Block>, ReadError> {
        self.0.block(at)
    }
    fn block_slice(&self, height: Height, chain: ChainId) -> Result<Option<BlockSlice>, ReadError> {
        let Self(log, shift, other) = self;
        let told = other.unwrap_or(chain);
        let mut answer = log.block_slice(Height(height.0 + shift), told)?;
        if let (Some(answer), Some(_)) = (&mut answer, other) {
            // The service builds the proof for the chain that it was asked for: give it one.
            let place = answer.summaries.iter_mut().find(|summary| summary.chain == told);
            if let Some(place) = place {
                place.chain = chain;
            }
        }
        Ok(answer)
    }
    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError> {
        self.0.full_block(height)
    }
    fn locate(&self, chain: ChainId, transaction: B256) -> Result<Option<Located>, ReadError> {
        self.0.locate(chain, transaction)
    }
    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        self.0.validator_set(height)
    }
    fn handovers(&self, from: Height, to: Height, max: usize) -> Result<Vec<Handover>, ReadError> {
        self.0.handovers(from, to, max)
    }
    fn registry(&self) -> Registry {
        self.0.registry()
    }
    fn genesis(&self) -> Arc<Genesis> {
        self.0.genesis()
    }
}

#[tokio::test]
async fn the_truth_about_another_height_or_chain_is_no_answer() {
    let node = Node::behind(|log| Arc::new(Shifted(log, 1, None))).await;
    node.log.fill(4);
    let mut log = verifying(&node).await;
    let expected = VerifyError::Height { expected: Height(1), got: Height(2) };
    assert_eq!(log.slice(A, Height(1)).await.unwrap_err(), expected);
    let gap = log.follow(A, Height(1)).await.unwrap().next().await.unwrap_err();
    assert_eq!(gap, expected, "a height was left out");
    let error = log.range(A, Height(1), Height(3)).await.unwrap_err();
    assert!(matches!(error, VerifyError::NotVerified(_)), "{error}");

    let node = Node::behind(|log| Arc::new(Shifted(log, 0, Some(B)))).await;
    node.log.decide(&[entry(B, b"1")]);
    let error = verifying(&node).await.slice(A, Height(1)).await.unwrap_err();
    assert_eq!(error, VerifyError::Chain { expected: A, got: B });
}

#[tokio::test]
async fn nobody_there_is_an_error_of_the_client() {
    let node = Node::start().await;
    let mut log = verifying(&node).await;
    let error = log.head().await.unwrap_err();
    assert!(matches!(error, VerifyError::Client(ClientError::Refused(_))), "{error}");
}
