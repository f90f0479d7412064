//! `kill -9` of each validator in turn under load: the others go on, it catches up, nobody signs twice, and what was
//! accepted is decided or has expired.

use std::time::{Duration, Instant};

use lockstep_core::types::{Height, UnixMillis};
use lockstep_proto::convert::ingress::EntryState;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::load::Load;
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);
/// An entry that was accepted so long before its node was killed is in a batch, which is stored.
const STORED_AFTER: Duration = Duration::from_secs(2);
/// Entries accepted between two kills.
const ENTRIES: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_validator_is_killed_under_load_and_catches_up() {
    let mut cluster = Cluster::of_four().await;
    let all = [0, 1, 2, 3];
    let load = Load::start(cluster.nodes.iter());
    let mut kills: Vec<(usize, Instant)> = Vec::new();
    for victim in all {
        let before = load.accepted();
        until("the load is accepted", PATIENCE, async || {
            (load.accepted() >= before + ENTRIES).then_some(())
        })
        .await;
        cluster.node_mut(victim).kill().await;
        kills.push((victim, Instant::now()));
        let others: Vec<usize> = all.into_iter().filter(|index| *index != victim).collect();
        cluster.until_more(&others, 5, PATIENCE).await;
        cluster.assert_no_evidence(&others).await;

        cluster.start(&[victim]).await;
        let ahead = cluster.until_more(&others, 5, PATIENCE).await;
        cluster.until_height(&[victim], ahead, PATIENCE).await;
        cluster.assert_agreement(&all).await;
    }
    let accepted = load.stop().await;

    // Behind the last expiry nothing is under way any more.
    let last = accepted.values().map(|accepted| accepted.expires).max().unwrap_or(UnixMillis(0));
    until("the log's time is behind the last expiry", PATIENCE, async || {
        let head = cluster.node(0).head().await?;
        (head.timestamp_ms > last).then_some(())
    })
    .await;
    let end = cluster.until_more(&all, 2, PATIENCE).await;
    let mut decided = 0;
    for (id, accepted) in &accepted {
        let mut places = Vec::new();
        for index in all {
            places.push(match cluster.node(index).status(*id).await {
                Some(EntryState::Decided(decided)) => Some((decided.height, decided.index)),
                Some(EntryState::Dropped(_)) | None => None,
                Some(EntryState::Received) => {
                    panic!("{id} is under way on node {index} after its expiry")
                }
            });
        }
        assert!(places.iter().all(|place| place == &places[0]), "{id}: {places:?}");
        let may_be_lost = kills.iter().any(|(victim, at)| {
            *victim == accepted.node && accepted.at <= *at && *at - accepted.at < STORED_AFTER
        });
        assert!(places[0].is_some() || may_be_lost, "{id}, accepted by {}, is lost", accepted.node);
        decided += usize::from(places[0].is_some());
    }
    println!("{decided} of {} accepted entries decided up to height {end}", accepted.len());
    assert!(decided >= 4 * ENTRIES);
    assert!(cluster.assert_agreement(&all).await >= Height(40));
    cluster.assert_no_evidence(&all).await;
    cluster.assert_healthy(&all).await;
    cluster.finish().await;
}
