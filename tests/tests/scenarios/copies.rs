//! Copies of a user's entry with another expiry, sent to other validators and signed into a liar's lane, end nothing of the
//! user's: only the copy that a node was given itself counts there, and `Dropped` is no last word while another lives.

use std::time::Duration;

use lockstep_core::entry::Entry;
use lockstep_core::types::BatchDigest;
use lockstep_node::clock;
use lockstep_proto::convert::ingress::EntryState;
use lockstep_rpc::client::ClientError;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{expires_in, opaque, tight};
use lockstep_tests::landed::{place, state, until_landed};
use lockstep_tests::wait::until;

const OTHERS: [usize; 3] = [1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);
const EXPIRES_MS: u64 = 50_000;
/// Of each node. The bucket holds 288 KiB, so with these it is as good as empty.
const FILL: usize = 90_000;
/// Of nodes 1 and 2 then: more than the bucket has for a second, at 40,000 bytes a second.
const WAITS: usize = 80_000;
/// Of each copy. The chain has no room until long after.
const COPY_MS: u64 = 300;

/// Submits an entry, again if the node asks to wait.
async fn submit(cluster: &Cluster, index: usize, entry: &Entry) {
    let mut ingress = cluster.node(index).ingress().await;
    let submitted =
        until("it is accepted", PATIENCE, async || match ingress.submit(entry, None).await {
            Ok(submitted) => Some(submitted),
            Err(ClientError::Refused(refusal)) if refusal.retry_after_ms.is_some() => None,
            Err(error) => panic!("{error}"),
        });
    assert!(!submitted.await.is_known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_with_a_short_expiry_ends_nobodys_entry() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let fill = |number, bytes| tight(number, bytes, expires_in(EXPIRES_MS));
    for (number, index) in (100..).zip(OTHERS) {
        submit(&cluster, index, &fill(number, FILL)).await;
    }
    // Nodes 1 and 2 have no room for their entries of the chain: the victim's, and a copy, wait.
    for (number, index) in [(200, 1), (201, 2)] {
        submit(&cluster, index, &fill(number, WAITS)).await;
    }
    let victim = tight(1, 1_000, expires_in(EXPIRES_MS));
    submit(&cluster, 1, &victim).await;
    let copy = tight(1, 1_000, expires_in(COPY_MS));
    assert_eq!(victim.id(), copy.id());
    submit(&cluster, 2, &copy).await;
    // A liar's lane needs no ingress: its copies have expired when they come. The entry behind them tells when.
    let expired = tight(1, 1_000, clock::now());
    let marker = opaque("behind the copies");
    let entries = vec![expired, marker.clone()];
    let batch = attacker.batch(clock::now().0, 0, BatchDigest::ZERO, entries);
    for index in OTHERS {
        attacker.push(cluster.peer(index).0, &batch);
    }
    until_landed(OTHERS.map(|index| cluster.node(index)), &[marker.id()], PATIENCE).await;
    let mut of_copy = cluster.node(2).ingress().await;
    until("node 2 drops its copy", PATIENCE, async || {
        let state = state(&mut of_copy, victim.id()).await;
        assert!(!matches!(state, Some(EntryState::Decided(_))), "the chain has room: {state:?}");
        matches!(state, Some(EntryState::Dropped(_))).then_some(())
    })
    .await;

    // The victim's entry lives, and is decided; so it is then for who dropped a copy, and for who never saw one.
    let mut of_victim = cluster.node(1).ingress().await;
    until("the victim's entry is decided", PATIENCE, async || {
        let state = state(&mut of_victim, victim.id()).await;
        assert!(
            !matches!(state, Some(EntryState::Dropped(_)) | None),
            "the copy ended it: {state:?}"
        );
        place(&mut of_victim, victim.id()).await.map(drop)
    })
    .await;
    until_landed(OTHERS.map(|index| cluster.node(index)), &[victim.id()], PATIENCE).await;
    cluster.assert_agreement(&OTHERS).await;
    cluster.finish().await;
}
