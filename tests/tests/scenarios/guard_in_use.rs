//! A second process with a validator's guard is refused, with the first one's id, before it can say or sign anything; when
//! the first is gone, it may take its place.

use std::time::Duration;

use lockstep_tests::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(30);
const ALL: [usize; 4] = [0, 1, 2, 3];
const OTHERS: [usize; 3] = [1, 2, 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_on_one_guard_is_refused_by_name_until_the_first_is_gone() {
    let mut cluster = Cluster::of_four().await;
    let twin = cluster.add_twin(0);
    let first = cluster.node(0).pid();
    cluster.spawn(twin);
    let status = cluster.node_mut(twin).until_ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", cluster.node(twin).last_words());
    let log = cluster.node(twin).log();
    for expected in [
        "guard directory",
        "home/guard",
        &format!("is locked by process {first}: another node runs with this key; stop it first"),
    ] {
        assert!(log.contains(expected), "{expected}\n{log}");
    }

    // The first did not notice.
    cluster.until_more(&ALL, 5, PATIENCE).await;
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;

    // The lock ends with its process, however that ends.
    cluster.node_mut(0).kill().await;
    cluster.start(&[twin]).await;
    let ahead = cluster.until_more(&OTHERS, 3, PATIENCE).await;
    cluster.until_height(&[twin], ahead, PATIENCE).await;
    cluster.until_votes(0, ahead, PATIENCE).await;
    cluster.assert_agreement(&[1, 2, 3, twin]).await;
    cluster.assert_no_evidence(&[1, 2, 3, twin]).await;
    cluster.finish().await;
}
