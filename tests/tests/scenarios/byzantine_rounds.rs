//! What a proposer claims of rounds and valid rounds makes nothing timely, and keeps nobody else's block out.

use std::time::Duration;

use lockstep_core::block::proposal_timestamp;
use lockstep_core::certificate::Proposal;
use lockstep_core::header::Header;
use lockstep_core::proposal::Payload;
use lockstep_core::types::{Height, Round, UnixMillis};
use lockstep_node::clock;
use lockstep_tests::attacker::Attacker;
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

/// The parts say that the block had a polka in an earlier round; the signed proposal is a fresh one of that round.
fn propose_apart(attacker: &Attacker, header: &Header, payload: &Payload, rounds: u32) {
    let (height, block) = (header.height, header.hash());
    let signed = Proposal { height, round: Round(0), valid_round: None, block };
    let parts = Proposal { round: Round(rounds), valid_round: Some(Round(0)), ..signed };
    attacker.propose_apart(parts, signed, payload.encode().0);
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
        let payload = Payload { header: header.clone(), cut, batches: Vec::new() };
        propose_apart(&attacker, &header, &payload, VALIDATORS);
        assert_in_time(&cluster, header.height).await;
        assert_in_time(&cluster, Height(header.height.0 + 2)).await;
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}

/// One proposal of garbage for each of its rounds, of this height and the next: 33 kB.
fn flood(attacker: &Attacker, header: &Header, payload: &Payload) {
    for height in [header.height, header.height.next(), Height(header.height.0 + 2)] {
        for turn in 0..64 {
            // Its turn in round 0 of the first height; one round earlier with each height.
            let ahead = u32::try_from(height.0 - header.height.0).expect("at most 2");
            let round = Round(turn * VALIDATORS + (VALIDATORS - ahead) % VALIDATORS);
            let mut payload = payload.clone();
            (payload.header.height, payload.header.round) = (height, round);
            let block = payload.header.hash();
            let proposal = Proposal { height, round, valid_round: None, block };
            attacker.propose_payload(proposal, payload.encode().0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_for_all_rounds_of_one_proposer_stop_nobody() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    for _ in 0..3 {
        let state = attacker.until_turn(cluster.node(1)).await;
        let (header, cut) = attacker.valid_block(&state);
        let payload = Payload { header: header.clone(), cut, batches: Vec::new() };
        flood(&attacker, &header, &payload);
        cluster.until_height(&OTHERS, Height(header.height.0 + 6), PATIENCE).await;
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}
