//! A validator that is heights behind says so, with both heights, until it is level.

use std::time::Duration;

use lockstep_node::config::{DelayOptions, FaultOptions, FrameClass};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [usize; 4] = [0, 1, 2, 3];
const OTHERS: [usize; 3] = [0, 1, 2];
const LATE: usize = 3;
/// More than value sync asks for at once.
const HEIGHTS: u64 = 80;
/// How late each answer of value sync is; less than it is waited for.
const DELAY_MS: u64 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_that_is_behind_says_catching_up_with_both_heights() {
    let mut cluster = Cluster::of_four().await;
    let status = cluster.node_mut(LATE).stop().await;
    assert!(status.success(), "{status}");
    let ahead = cluster.until_more(&OTHERS, HEIGHTS, PATIENCE).await;
    let delay = DelayOptions { class: FrameClass::Sync, from: None, delay_ms: DELAY_MS };
    let faults = FaultOptions { delays: vec![delay], ..FaultOptions::default() };
    cluster.change(LATE, |options| options.faults = faults);
    cluster.start(&[LATE]).await;
    let said = until("it says that it is behind", PATIENCE, async || {
        let answer = cluster.node(LATE).get("/readyz").await;
        answer.body.contains("catching_up").then_some(answer)
    })
    .await;
    assert_eq!(said.status, 503, "{}", said.body);
    let (_, reason) = said.body.split_once("at height ").expect("it says where it is");
    let (here, there) = reason.split_once(" of ").expect("it says where the others are");
    let there: String = there.chars().take_while(char::is_ascii_digit).collect();
    let (here, there): (u64, u64) =
        (here.parse().expect("a height"), there.parse().expect("a height"));
    assert!(here < ahead.0 && there >= ahead.0, "{}", said.body);
    assert_eq!(cluster.node(LATE).get("/healthz").await.status, 200, "a restart would not help");

    cluster.assert_healthy(&OTHERS).await;
    cluster.until_height(&[LATE], ahead, PATIENCE).await;
    until("it is level", PATIENCE, async || {
        (cluster.node(LATE).get("/readyz").await.status == 200).then_some(())
    })
    .await;
    cluster.assert_agreement(&ALL).await;
    cluster.finish().await;
}
