//! What a proposer claims of rounds and valid rounds makes nothing timely, and keeps nobody else's block out.

use std::time::Duration;

use lockstep_core::block::proposal_timestamp;
use lockstep_core::certificate::Proposal;
use lockstep_core::proposal::Payload;
use lockstep_core::types::{Height, Round, UnixMillis};
use lockstep_node::clock;
use lockstep_tests::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);
const OTHERS: [usize; 3] = [1, 2, 3];
/// Validators, so rounds between two turns of one.
const VALIDATORS: u32 = 4;

/// The block that the others decided at a height is not later than their clocks.
async fn assert_in_time(cluster: &Cluster, height: Height) {
    cluster.until_height(&OTHERS, height, PATIENCE).await;
    let headers = cluster.headers(1).await;
    let decided = headers.iter().find(|header| header.height == height).expect("is decided");
    let ahead = decided.timestamp_ms.since(clock::now());
    assert!(ahead < 5_000, "height {height} is decided {ahead} ms ahead of the clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_of_a_valid_round_makes_no_block_timely() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let hour = |now: UnixMillis| now.plus(3_600_000);
    let minute = |now: UnixMillis| now.plus(60_000);
    let greatest = |_| UnixMillis(u64::MAX);
    for lie in [hour, minute, greatest] as [fn(UnixMillis) -> UnixMillis; 3] {
        let state = attacker.until_turn(cluster.node(1)).await;
        let timestamp = lie(proposal_timestamp(state.timestamp, clock::now()));
        let (header, cut) = attacker.block_at(&state, timestamp);
        attacker.propose_with_a_polka_that_never_was(&header, &cut, Round(VALIDATORS));
        assert_in_time(&cluster, header.height).await;
        assert_in_time(&cluster, Height(header.height.0 + 2)).await;
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}

/// The block names its proposer's next turn in the height, where its parts are proposed; the signed proposal is of this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_of_another_round_is_not_decided_in_this_one() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    for _ in 0..3 {
        let state = attacker.until_turn(cluster.node(1)).await;
        let (mut header, cut) = attacker.valid_block(&state);
        header.round = Round(VALIDATORS);
        let (height, block) = (header.height, header.hash());
        let payload = Payload { header, cut, batches: Vec::new() };
        let signed = Proposal { height, round: Round(0), valid_round: None, block };
        let parts = Proposal { round: Round(VALIDATORS), ..signed };
        attacker.propose_apart(parts, signed, payload.encode().0);
        cluster.until_height(&OTHERS, height, PATIENCE).await;
        let decided = &cluster.headers(1).await[usize::try_from(state.height.0).expect("few")];
        assert_eq!(decided.height, height);
        assert_ne!(decided.hash(), block, "a block of round {VALIDATORS} is decided in round 0");
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_for_all_rounds_of_one_proposer_stop_nobody() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    for _ in 0..3 {
        let state = attacker.until_turn(cluster.node(1)).await;
        attacker.propose_in_all_rounds(&state);
        cluster.until_height(&OTHERS, Height(state.height.0 + 7), PATIENCE).await;
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}
