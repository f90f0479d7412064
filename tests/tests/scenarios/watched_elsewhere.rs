//! An entry is watched at every node before any of them knows it: each tells when it is decided, and none ends the watch
//! before. The validator that it is submitted to tells that it was received, too.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use lockstep_proto::convert::ingress::{EntryState, EntryStatus};
use lockstep_rpc::client::ClientError;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::opaque;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a node takes to answer that it knows nothing.
const SILENCE: Duration = Duration::from_millis(500);

async fn next(
    states: &mut (impl Stream<Item = Result<EntryStatus, ClientError>> + Unpin),
) -> Option<EntryState> {
    let next = tokio::time::timeout(PATIENCE, states.next()).await.expect("a state in time");
    next.map(|status| status.expect("the watch goes on").state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_is_watched_at_every_node_before_it_is_known() {
    let mut cluster = Cluster::of_four().await;
    let full = cluster.add_full_node(vec![cluster.node(0).endpoint()]);
    cluster.start(&[full]).await;
    cluster.until_more(&[full], 1, PATIENCE).await;
    let (entry, other) = (opaque("watched before"), opaque("never submitted"));
    let mut watches = Vec::new();
    for index in [0, 1, 2, 3, full] {
        let mut ingress = cluster.node(index).ingress().await;
        watches.push(Box::pin(ingress.watch(entry.id()).await.expect("it is watched")));
    }
    let mut ingress = cluster.node(1).ingress().await;
    let mut never = Box::pin(ingress.watch(other.id()).await.expect("it is watched"));
    for watch in watches.iter_mut().chain([&mut never]) {
        let silent = tokio::time::timeout(SILENCE / 5, watch.next()).await;
        silent.expect_err("nothing is known of it");
    }
    ingress.submit(&entry, None).await.expect("is accepted");
    for (index, watch) in watches.iter_mut().enumerate() {
        let mut state = next(watch).await;
        if index == 1 && state == Some(EntryState::Received) {
            state = next(watch).await;
        }
        assert!(matches!(state, Some(EntryState::Decided(_))), "node {index}: {state:?}");
        assert_eq!(next(watch).await, None, "node {index}: nothing follows");
    }
    let silent = tokio::time::timeout(SILENCE, never.next()).await;
    silent.expect_err("the other one is still watched");
    cluster.finish().await;
}
