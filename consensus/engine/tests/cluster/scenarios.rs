//! One test per promise of the engine.

use std::time::{Duration, Instant};

use alloy_primitives::keccak256;
use lockstep_core::certificate::Proposal;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::{
    Class, Failure, Mode, SignError, StartError, StopError, SyncOutcome, inspect_wal,
};
use tokio::time::timeout;

use crate::app::NETWORK;
use crate::cluster::{Cluster, DEADLINE};
use crate::frames;
use crate::router::peer;

/// An interval at which sync helps nobody within a test.
const NEVER: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_engines_decide_twenty_heights() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.all_decided(20).await;
    cluster.check_agreement();
    cluster.check_no_double_vote();
    for node in &cluster.nodes {
        assert_eq!(node.handle.as_ref().unwrap().failure(), None);
        assert_eq!(node.store.lock().unwrap().evidence, []);
    }
    assert_eq!(cluster.router.disconnected(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_value_is_decided_when_it_is_handed_over() {
    let mut cluster = Cluster::new(4).await;
    cluster.sync.status_interval = NEVER;
    // Later than the propose timeout, so the others have long decided without this node.
    let late = Duration::from_millis(1_500);
    cluster.nodes[3].store.lock().unwrap().late = Some((5, late));
    cluster.start_all().await;
    cluster.decided(0, 5).await;
    let others_at = Instant::now();
    cluster.decided(3, 5).await;
    let waited = others_at.elapsed();
    assert!(waited > late / 2, "it was late: {waited:?}");
    assert!(waited < late + Duration::from_secs(2), "and no later than that: {waited:?}");
    let store = cluster.nodes[3].store.clone();
    assert_eq!(store.lock().unwrap().redelivered, 1);
    assert_eq!(store.lock().unwrap().synced, 0, "sync was out of the way");
    cluster.check_agreement();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_engine_catches_up_by_sync() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.all_decided(3).await;
    cluster.router.unlink(3).await;
    cluster.stop(3).await;
    let stopped_at = *cluster.nodes[3].store.lock().unwrap().tip.borrow();
    cluster.decided(0, stopped_at + 8).await;
    cluster.start(3).await;
    cluster.router.link(3).await;
    cluster.decided(3, stopped_at + 12).await;
    assert!(cluster.nodes[3].store.lock().unwrap().synced > 0, "by sync");
    cluster.check_agreement();
    cluster.check_no_double_vote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_value_is_asked_for_again_after_a_fault_and_after_a_transient_error() {
    let mut cluster = Cluster::new(4).await;
    cluster.nodes[3].store.lock().unwrap().sync_script =
        [SyncOutcome::PeerFault, SyncOutcome::Retry, SyncOutcome::Retry].into();
    // Unlinked, or the votes of these heights would wait for it and sync would not be needed.
    cluster.router.unlink(3).await;
    for place in 0..3 {
        cluster.start(place).await;
    }
    cluster.decided(0, 6).await;
    cluster.start(3).await;
    cluster.router.link(3).await;
    cluster.decided(3, 6).await;
    let store = cluster.nodes[3].store.lock().unwrap();
    assert!(store.sync_script.is_empty(), "not asked again: {:?}", store.sync_script);
    assert!(store.synced >= 4, "{} synced values", store.synced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_restarts_in_one_process_with_its_links() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    for restart in 1..=4 {
        cluster.decided(1, restart * 3).await;
        cluster.stop(1).await;
        let wal_path = cluster.nodes[1].wal_path.clone();
        let report = inspect_wal(&wal_path, cluster.nodes[1].signer.key.address()).unwrap();
        assert_eq!(report.set_aside, None);
        assert!(report.height.is_some());
        cluster.start(1).await;
    }
    cluster.all_decided(16).await;
    cluster.check_agreement();
    cluster.check_no_double_vote();
}

/// Votes that a stopped node signed at its log's height, own messages in the log, and the node's tip.
fn signed_and_logged(cluster: &Cluster, place: usize) -> (usize, usize, u64) {
    let node = &cluster.nodes[place];
    let report = inspect_wal(&node.wal_path, node.signer.key.address()).unwrap();
    let height = report.height.unwrap();
    let votes = node.signer.votes.lock().unwrap();
    let signed = votes.iter().filter(|vote| vote.height == height).count();
    let tip = *node.store.lock().unwrap().tip.borrow();
    (signed, report.own_messages.len(), tip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_knows_every_signature_but_at_most_one_at_any_stop() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.decided(2, 4).await;
    for _ in 0..6 {
        cluster.stop(2).await;
        let (signed, logged, tip) = signed_and_logged(&cluster, 2);
        assert!(signed <= logged + 1, "{signed} votes signed, {logged} messages logged");
        cluster.start(2).await;
        cluster.decided(2, tip + 2).await;
    }
    cluster.check_no_double_vote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_signer_ends_the_engine_and_a_follower_takes_its_place() {
    let mut cluster = Cluster::new(4).await;
    *cluster.nodes[3].signer.refuse_from.lock().unwrap() = Some(5);
    cluster.start_all().await;
    let handle = cluster.nodes[3].handle.clone().unwrap();
    let failure = timeout(DEADLINE, handle.wait_failed()).await.unwrap();
    assert!(matches!(failure, Failure::Signer(SignError::Refused(_))), "{failure:?}");

    let wal_before = {
        cluster.stop(3).await;
        std::fs::read(&cluster.nodes[3].wal_path).unwrap()
    };
    cluster.start_as(3, Mode::Follower).await.unwrap();
    cluster.decided(3, 10).await;
    let votes = |cluster: &Cluster| cluster.nodes[3].signer.votes.lock().unwrap().len();
    let before = votes(&cluster);
    cluster.decided(3, 14).await;
    assert_eq!(votes(&cluster), before, "a follower signs nothing");
    cluster.stop(3).await;
    let wal_after = std::fs::read(&cluster.nodes[3].wal_path).unwrap();
    assert_eq!(wal_before, wal_after, "and leaves the validator's log alone");

    *cluster.nodes[3].signer.refuse_from.lock().unwrap() = None;
    cluster.start(3).await;
    let tip = *cluster.nodes[3].store.lock().unwrap().tip.borrow();
    cluster.decided(3, tip + 4).await;
    assert!(votes(&cluster) > before, "votes again");
    cluster.check_agreement();
    cluster.check_no_double_vote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_engine_on_one_log_is_refused_and_stop_works_once() {
    let mut cluster = Cluster::new(2).await;
    cluster.nodes[1].wal_path = cluster.nodes[0].wal_path.clone();
    cluster.start(0).await;
    let mode = cluster.validator(1);
    let refused = cluster.start_as(1, mode).await;
    assert!(matches!(refused, Err(StartError::Engine { .. })), "{refused:?}");

    let handle = cluster.nodes[0].handle.clone().unwrap();
    cluster.stop(0).await;
    assert!(matches!(handle.stop().await, Err(StopError::Already)));
    cluster.start(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_log_halts_for_safety_and_inspection_mends_it() {
    let mut cluster = Cluster::new(4).await;
    // A log for height 1 with a sound checksum over what is no entry.
    let payload = [0xff];
    let mut log = [1u32.to_be_bytes().as_slice(), &1u64.to_be_bytes(), &[0]].concat();
    log.extend((payload.len() as u64).to_be_bytes());
    log.extend(crc32fast::hash(&payload).to_be_bytes());
    log.extend(payload);
    std::fs::write(&cluster.nodes[0].wal_path, log).unwrap();
    cluster.start_all().await;
    let handle = cluster.nodes[0].handle.clone().unwrap();
    let failure = timeout(DEADLINE, handle.wait_failed()).await.unwrap();
    assert!(matches!(failure, Failure::Unsafe { .. }), "{failure:?}");
    cluster.decided(1, 3).await;

    cluster.stop(0).await;
    let address = cluster.nodes[0].signer.key.address();
    let report = inspect_wal(&cluster.nodes[0].wal_path, address).unwrap();
    assert!(report.set_aside.is_some());
    cluster.start(0).await;
    cluster.decided(0, 5).await;
    cluster.check_agreement();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecodable_frame_disconnects_its_sender_and_changes_nothing_else() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.decided(0, 2).await;
    for class in [Class::Votes, Class::Parts, Class::Sync] {
        cluster.router.inject(1, 0, class, vec![0xff; 40]).await;
    }
    cluster.all_decided(6).await;
    let disconnected = cluster.router.disconnected();
    assert_eq!(disconnected.len(), 3);
    assert!(disconnected.iter().all(|(who, _)| *who == peer(1)), "{disconnected:?}");
    assert_eq!(cluster.nodes[0].handle.as_ref().unwrap().counters().refused, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_peer_that_is_not_up_are_ignored() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.decided(0, 2).await;
    cluster.router.inject(9, 0, Class::Votes, vec![0xff; 40]).await;
    cluster.all_decided(6).await;
    assert_eq!(cluster.router.disconnected(), []);
    assert_eq!(cluster.nodes[0].handle.as_ref().unwrap().counters().refused, 0);
}

/// The proposer of height 1 does not run; its frames are the test's. It has a block judged under (round 4, valid round 0),
/// as a proposal again after a polka, and signs a fresh proposal of it for round 0. Returns block and round of the
/// decision at height 1, and the liar's block.
async fn judged_under_another_round(passes_all: bool) -> (BlockHash, Round, BlockHash) {
    let mut cluster = Cluster::new(4).await;
    let liar = {
        let proposer = cluster.validators.proposer(Height(1), Round(0)).address;
        cluster.nodes.iter().position(|node| node.signer.key.address() == proposer).unwrap()
    };
    let key = &cluster.nodes[liar].signer.key;
    let bytes = b"a block with any time in it".to_vec();
    let block = BlockHash(keccak256(&bytes));
    let judged =
        Proposal { height: Height(1), round: Round(4), valid_round: Some(Round(0)), block };
    let signed = Proposal { round: Round(0), valid_round: None, ..judged };
    let frames = [
        (Class::Parts, frames::parts(judged, key.address(), bytes)),
        (Class::Votes, vec![frames::proposal(signed, key)]),
    ];
    for place in (0..4).filter(|place| *place != liar) {
        cluster.nodes[place].store.lock().unwrap().passes_all = passes_all;
        cluster.start(place).await;
    }
    for place in (0..4).filter(|place| *place != liar) {
        for (class, frames) in &frames {
            for frame in frames {
                cluster.router.inject(liar, place, *class, frame.clone()).await;
            }
        }
    }
    let honest = (liar + 1) % 4;
    cluster.decided(honest, 1).await;
    let store = cluster.nodes[honest].store.lock().unwrap();
    let (_, certificate) = &store.decided[&1];
    (certificate.block, certificate.round, block)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn value_judged_under_one_round_is_not_decided_under_another() {
    let (decided, round, lie) = judged_under_another_round(false).await;
    assert_ne!(decided, lie, "decided in round {round}");
    assert!(round > Round(0), "nobody honest proposed in round 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn application_that_passes_every_proposal_decides_what_it_judged_under_another_round() {
    let (decided, round, lie) = judged_under_another_round(true).await;
    assert_eq!((decided, round), (lie, Round(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decided_value_is_fetched_from_the_peer_that_is_asked() {
    let mut cluster = Cluster::new(4).await;
    cluster.start_all().await;
    cluster.all_decided(4).await;
    let handle = cluster.nodes[0].handle.clone().unwrap();
    let store = cluster.nodes[0].store.clone();
    assert!(!handle.fetch(Height(2), peer(9)), "not up");
    assert!(!handle.fetch(Height(0), peer(1)), "nobody decides it");
    assert!(handle.fetch(Height(2), peer(1)));
    assert!(handle.fetch(Height(3), peer(2)));
    assert!(handle.fetch(Height(1_000_000), peer(3)));
    let answered = async {
        while store.lock().unwrap().fetched.len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, answered).await.unwrap();
    let mut fetched = store.lock().unwrap().fetched.clone();
    fetched.sort_by_key(|(_, height, _)| *height);
    let decided = |place: usize, height| {
        cluster.nodes[place].store.lock().unwrap().decided[&height].0.clone()
    };
    let got: Vec<_> = fetched
        .iter()
        .map(|(from, height, value)| {
            (*from, *height, value.as_ref().map(|(bytes, _)| bytes.clone()))
        })
        .collect();
    let expected = [
        (peer(1), 2, Some(decided(1, 2))),
        (peer(2), 3, Some(decided(2, 3))),
        (peer(3), 1_000_000, None),
    ];
    assert_eq!(got, expected);
    for (_, _, value) in fetched {
        let Some((_, certificate)) = value else { continue };
        assert_eq!(certificate.verify(NETWORK, &cluster.validators), Ok(()));
    }
    assert_eq!(handle.counters().refused, 0);
}
