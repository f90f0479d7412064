//! Two of four stopped: the height stays, health says why; both back: it goes on by itself.

use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_tests::cluster::{Cluster, INTERVAL};
use lockstep_tests::wait::{during, until};

/// Until the health says that there is no quorum: connections end after 5 s of silence.
const PATIENCE: Duration = Duration::from_secs(15);
/// Progress after both are back.
const BACK: Duration = Duration::from_secs(15);
const ALL: [usize; 4] = [0, 1, 2, 3];

/// The height of both that are left. A block that only one of them had the votes for comes to the other by value sync.
async fn level(cluster: &Cluster) -> Height {
    until("both are at one height", PATIENCE, async || {
        let (one, other) = (cluster.node(0).height().await, cluster.node(1).height().await);
        (one == other).then_some(one)
    })
    .await
}

/// The height stands still for 20 intervals while the health of both that are left says that there is no quorum.
async fn assert_stalled(cluster: &Cluster) {
    for index in [0, 1] {
        until("the health says that there is no quorum", PATIENCE, async || {
            let answer = cluster.node(index).get("/healthz").await;
            let is_clear = answer.body.contains("no quorum, 1 of 3 other validators connected");
            (answer.status == 503 && is_clear).then_some(())
        })
        .await;
    }
    let height = level(cluster).await;
    during("the height stays", INTERVAL * 20, async || {
        cluster.node(0).height().await == height && cluster.node(1).height().await == height
    })
    .await;
    let body = cluster.node(1).get("/healthz").await.body;
    assert!(body.contains("\"state\":\"stalled\""), "{body}");
    assert!(body.contains(&format!("stalled at height {height}")), "{body}");
}

async fn assert_back(cluster: &Cluster) {
    cluster.until_more(&ALL, 3, BACK).await;
    cluster.assert_agreement(&ALL).await;
    for index in ALL {
        until("the health is well again", PATIENCE, async || {
            (cluster.node(index).get("/healthz").await.status == 200).then_some(())
        })
        .await;
    }
    cluster.assert_no_evidence(&ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_killed_stop_the_log_until_they_are_back() {
    let mut cluster = Cluster::of_four().await;
    cluster.node_mut(2).kill().await;
    cluster.node_mut(3).kill().await;
    assert_stalled(&cluster).await;
    cluster.start(&[2, 3]).await;
    assert_back(&cluster).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_frozen_stop_the_log_until_they_go_on() {
    let cluster = Cluster::of_four().await;
    cluster.node(2).freeze();
    cluster.node(3).freeze();
    assert_stalled(&cluster).await;
    cluster.node(2).thaw();
    cluster.node(3).thaw();
    assert_back(&cluster).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_that_is_back_beside_one_other_catches_up_without_a_quorum() {
    let mut cluster = Cluster::of_four().await;
    cluster.node_mut(0).kill().await;
    cluster.until_more(&[1, 2, 3], 3, BACK).await;
    cluster.node_mut(2).kill().await;
    cluster.node_mut(3).kill().await;
    cluster.start(&[0]).await;
    level(&cluster).await;
    cluster.start(&[2, 3]).await;
    assert_back(&cluster).await;
    cluster.finish().await;
}
