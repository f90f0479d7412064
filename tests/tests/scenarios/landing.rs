//! What became of an entry on its chain, as the chain's records in the log tell it: on every node, after a reorganisation,
//! and after a restart.

use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::record::{Cursor, RecordBody, SealMode, Sealed, SkipReason, Skipped};
use lockstep_proto::convert::ingress::{
    BlockId, Decided, EntryState, Landing, LegState, LegStatus, Milestone, Stage, Submitted, Wait,
};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{SEQUENCED, expires_in, opaque, record, sequencer};
use lockstep_tests::wait::until;

const ALL: [usize; 4] = [0, 1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);

fn block(number: u64, fork: u8) -> BlockId {
    let mut hash = B256::repeat_byte(fork);
    hash.0[24..].copy_from_slice(&number.to_be_bytes());
    BlockId { number, hash }
}

/// What the sequencer says of a block whose parent is on fork 1.
fn sealed(at: BlockId, cursor: Cursor, skipped: Vec<Skipped>) -> RecordBody {
    RecordBody::Sealed(Sealed {
        number: at.number,
        hash: at.hash,
        parent: block(at.number - 1, 1).hash,
        timestamp: 2 * at.number,
        mode: SealMode::Offered,
        cursor,
        skipped,
    })
}

async fn submit(cluster: &Cluster, entry: &Entry, milestone: Milestone) -> Submitted {
    let wait = Some(Wait { milestone, timeout_ms: 8_000 });
    cluster.node(0).ingress().await.submit(entry, wait).await.expect("is accepted")
}

async fn decide(cluster: &Cluster, entry: &Entry) -> Decided {
    let answer = submit(cluster, entry, Milestone::Decided).await;
    let EntryState::Decided(decided) = answer.status.state else { panic!("{answer:?}") };
    decided
}

async fn seal(cluster: &Cluster, body: RecordBody) {
    let entry = record(cluster.genesis.network_id(), SEQUENCED, body, &sequencer());
    assert_eq!(decide(cluster, &entry).await.legs, [], "a record has none");
}

/// Waits until these nodes say this of the entry's only leg.
async fn until_told(cluster: &Cluster, nodes: &[usize], entry: &Entry, state: LegState) {
    let expected = LegStatus { chain: SEQUENCED, state, last: Stage::Included };
    for index in nodes {
        until(&format!("node {index} says {state:?}"), PATIENCE, async || {
            let status = cluster.node(*index).status(entry.id()).await;
            let Some(EntryState::Decided(decided)) = status else { return None };
            (decided.legs == [expected]).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legs_follow_the_records_of_their_chain() {
    let mut cluster = Cluster::of_four().await;
    let bytes = b"for a block".to_vec().into();
    let transaction = Transaction { chain: SEQUENCED, kind: ChainKind::Opaque, bytes };
    let entry = Entry::new(Body::Transaction(transaction), expires_in(30_000), None);
    let entry = entry.expect("is short");
    let at = decide(&cluster, &entry).await;
    until_told(&cluster, &ALL, &entry, LegState::Decided).await;

    // Where nobody signs records, the decision is the end.
    let other = decide(&cluster, &opaque("nobody seals this")).await;
    assert_eq!(other.legs.len(), 1);
    assert_eq!((other.legs[0].last, other.legs[0].is_final()), (Stage::Decided, true));

    let (_, slice) =
        cluster.verified(1).await.slice(SEQUENCED, at.height).await.expect("is proved");
    let items = slice.expect("a slice").items;
    let place = items.iter().position(|item| item.index == at.index).expect("is there");
    let item = u32::try_from(place).expect("is small");
    let before = Cursor { height: at.height, items: item };
    let behind = Cursor { height: at.height, items: item + 1 };

    seal(&cluster, sealed(block(10, 1), before, vec![])).await;
    seal(&cluster, sealed(block(11, 1), behind, vec![])).await;
    let landing = |block| LegState::Included(Landing { block, index: None });
    until_told(&cluster, &ALL, &entry, landing(block(11, 1))).await;
    let answer = submit(&cluster, &entry, Milestone::Included).await;
    assert!(answer.is_reached && answer.is_known && answer.status.state.is_final());

    // The block is replaced by one that skips the item, which stays so over a restart.
    let reason = SkipReason::Invalid;
    let skipped = vec![Skipped { height: at.height, item, reason }];
    seal(&cluster, sealed(block(11, 2), behind, skipped)).await;
    let replaced = LegState::Skipped { block: block(11, 2), reason: Some(reason) };
    until_told(&cluster, &ALL, &entry, replaced).await;
    cluster.node_mut(3).stop().await;
    cluster.start(&[3]).await;
    until_told(&cluster, &[3], &entry, replaced).await;

    // The first block has a child: it was not replaced after all.
    seal(&cluster, sealed(block(12, 1), behind, vec![])).await;
    until_told(&cluster, &ALL, &entry, landing(block(11, 1))).await;
    cluster.assert_agreement(&ALL).await;
    cluster.finish().await;
}
