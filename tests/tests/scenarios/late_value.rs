//! Parts and batches that come late, by the mesh: a late value is decided late, never refused, and hurts nobody else.

use std::time::Duration;

use lockstep_core::types::EntryId;
use lockstep_node::config::{DelayOptions, FaultOptions, FrameClass};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::landed::until_landed;
use lockstep_tests::load::{Load, assert_order};

const PATIENCE: Duration = Duration::from_secs(40);
const ALL: [usize; 4] = [0, 1, 2, 3];
/// Four nodes accept 200 a second; the heights take longer than half of one.
const ENTRIES: usize = 50;
/// Below the propose timeout of 400 ms.
const LATE_MS: u64 = 300;
/// Above it.
const TOO_LATE_MS: u64 = 700;

fn late(classes: &[FrameClass], delay_ms: u64) -> FaultOptions {
    let delay = |class: &FrameClass| DelayOptions { class: *class, from: None, delay_ms };
    FaultOptions { delays: classes.iter().map(delay).collect(), losses: Vec::new() }
}

/// With these nodes late, so many heights are decided by all, under load, equal everywhere, and nothing is refused.
async fn decides(cluster: &mut Cluster, late_nodes: &[usize], faults: FaultOptions, heights: u64) {
    let before: Vec<usize> = cluster.nodes.iter().map(|node| node.log().len()).collect();
    for index in late_nodes {
        cluster.restart_with(*index, faults.clone()).await;
    }
    let load = Load::start(cluster.nodes.iter());
    let punctual: Vec<usize> = ALL.into_iter().filter(|i| !late_nodes.contains(i)).collect();
    let height = cluster.until_more(&punctual, heights, PATIENCE).await;
    cluster.until_height(late_nodes, height, PATIENCE).await;
    // What was accepted is decided, each lane in its order, though some were late.
    let accepted = load.stop().await;
    assert!(accepted.len() >= ENTRIES, "{} entries", accepted.len());
    let ids: Vec<EntryId> = accepted.keys().copied().collect();
    let places = until_landed(&cluster.nodes, &ids, PATIENCE).await;
    assert_order(&accepted, &places);
    assert!(cluster.assert_agreement(&ALL).await >= height);
    cluster.assert_no_evidence(&ALL).await;
    for (node, before) in cluster.nodes.iter().zip(before) {
        let log = node.log();
        let news = log.get(before..).unwrap_or_default();
        let invalid: Vec<&str> = news.lines().filter(|line| line.contains("is invalid")).collect();
        assert!(invalid.is_empty(), "{} with {faults:?}: {invalid:#?}", node.name);
    }
    for index in late_nodes {
        cluster.restart_with(*index, FaultOptions::default()).await;
    }
    cluster.until_more(&ALL, 2, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_gets_values_late_and_decides_every_height() {
    let mut cluster = Cluster::of_four().await;
    for delay in [LATE_MS, TOO_LATE_MS] {
        for class in [FrameClass::Parts, FrameClass::Lanes] {
            decides(&mut cluster, &[0], late(&[class], delay), 15).await;
        }
    }
    decides(&mut cluster, &[1], late(&[FrameClass::Parts, FrameClass::Lanes], TOO_LATE_MS), 15)
        .await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_get_values_late_and_the_log_goes_on() {
    let mut cluster = Cluster::of_four().await;
    decides(&mut cluster, &[0, 1], late(&[FrameClass::Parts], LATE_MS), 10).await;
    decides(&mut cluster, &[2, 3], late(&[FrameClass::Parts], TOO_LATE_MS), 5).await;
    cluster.finish().await;
}
