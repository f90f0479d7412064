//! A validator whose home is wiped while it has votes at a height that is not decided. Without a guard it does not start; with
//! a new one, fresh or lost, it signs nothing that contradicts its earlier votes, and votes again by itself.

use std::fs;
use std::time::{Duration, Instant};

use lockstep_consensus::guard::Origin;
use lockstep_core::types::{Height, Round};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::wait::{during, until};

const PATIENCE: Duration = Duration::from_secs(30);
const ALL: [usize; 4] = [0, 1, 2, 3];
/// It is down while the victim is wiped, so that every vote of the others counts.
const ABSENT: usize = 2;
const FROZEN: usize = 0;
const WITNESS: usize = 1;
const VICTIM: usize = 3;
/// Longer than the propose step of a round: all that take part have voted.
const STANDS: Duration = Duration::from_millis(1_500);
/// A validator that votes at the standing height after the wipe does so in the first rounds.
const LIE_IN_WAIT: Duration = Duration::from_secs(6);

/// Waits until a height has stood for a round, and gives it: it is not decided.
async fn until_it_stands(cluster: &Cluster) -> Height {
    let mut since = (Height::GENESIS, Instant::now());
    until("the height stands", PATIENCE, async || {
        let height = cluster.node(WITNESS).height().await;
        if height != since.0 {
            since = (height, Instant::now());
        }
        (since.1.elapsed() >= STANDS).then_some(height.next())
    })
    .await
}

/// Freezes a validator at a height whose first proposer is up, so that the victim has voted for a block there. A victim that
/// has forgotten that would vote for nothing, or propose another block.
async fn freeze(cluster: &Cluster) {
    loop {
        cluster.node(FROZEN).freeze();
        let height = until_it_stands(cluster).await;
        let proposer = cluster.genesis.validators.proposer(height, Round(0)).address;
        if [WITNESS, VICTIM].contains(&cluster.index_of(proposer)) {
            return;
        }
        cluster.node(FROZEN).thaw();
        cluster.node(WITNESS).until_height(height, PATIENCE).await;
    }
}

/// Wipes the victim's home while it has votes at a height that the others cannot decide without it.
async fn wipe(cluster: &mut Cluster) {
    let status = cluster.node_mut(ABSENT).stop().await;
    assert!(status.success(), "{status}");
    freeze(cluster).await;
    cluster.node_mut(VICTIM).kill().await;
    fs::remove_dir_all(cluster.node(VICTIM).guard()).expect("is removed");
    let refused = cluster.node(VICTIM).init(Origin::Fresh).expect_err("a node ran here");
    assert!(refused.contains("home/data/") && refused.contains("--lost"), "{refused}");
    fs::remove_dir_all(cluster.node(VICTIM).home()).expect("is removed");
}

/// Starts the victim with a new guard; it contradicts none of its votes, and votes once the log goes on.
async fn comes_back(cluster: &mut Cluster, origin: Origin) {
    cluster.node(VICTIM).init(origin).expect("a guard");
    // The log of an earlier time as a follower is torn. It holds nothing that is needed.
    let data = cluster.node(VICTIM).data();
    fs::create_dir_all(&data).expect("is made");
    fs::write(data.join("consensus.wal.follower"), [0; 12]).expect("is written");
    cluster.start(&[VICTIM]).await;
    cluster.node(FROZEN).thaw();
    during("nobody sees two votes of one round", LIE_IN_WAIT, async || {
        cluster.node(WITNESS).metric("lockstep_evidence").await == 0
    })
    .await;
    cluster.assert_no_evidence(&[WITNESS, FROZEN]).await;
    let answer = cluster.node(VICTIM).get("/readyz").await;
    let expected =
        format!("the guard {} {origin}", if origin == Origin::Lost { "was" } else { "is" });
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.body.contains("catching_up") && answer.body.contains(&expected),
        "{}",
        answer.body
    );

    cluster.start(&[ABSENT]).await;
    let ahead = cluster.until_more(&[WITNESS, FROZEN, ABSENT], 3, PATIENCE).await;
    cluster.until_height(&[VICTIM], ahead, PATIENCE).await;
    cluster.until_votes(VICTIM, ahead, PATIENCE).await;
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_whose_home_was_wiped_contradicts_no_vote_and_votes_again_by_itself() {
    let mut cluster = Cluster::of_four().await;
    wipe(&mut cluster).await;

    cluster.spawn(VICTIM);
    let status = cluster.node_mut(VICTIM).until_ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", cluster.node(VICTIM).last_words());
    let log = cluster.node(VICTIM).log();
    for expected in ["no guard in", "home/guard", "set `guard_dir`", "`lockstep init --lost`"] {
        assert!(log.contains(expected), "{expected}\n{log}");
    }
    comes_back(&mut cluster, Origin::Lost).await;

    // Its operator forgets `--lost`.
    wipe(&mut cluster).await;
    comes_back(&mut cluster, Origin::Fresh).await;
    cluster.finish().await;
}
