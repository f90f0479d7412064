//! A validator whose consensus log is lost stops for safety and says so: 503, a metric, the runbook's name in its log. It
//! signs nothing, the others go on, and the runbook's cure brings it back.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_node::config::FaultOptions;
use lockstep_proto::convert::log::BlockAt;
use lockstep_tests::cluster::{Cluster, INTERVAL};
use lockstep_tests::entries;
use lockstep_tests::wait::{during, until};

const PATIENCE: Duration = Duration::from_secs(30);
const ALL: [usize; 4] = [0, 1, 2, 3];
const VICTIM: usize = 0;
const OTHERS: [usize; 3] = [1, 2, 3];

/// Waits until the victim says that it halted, for this reason, wherever a person or a program may look.
async fn assert_halted(cluster: &Cluster, reason: &str) {
    let victim = cluster.node(VICTIM);
    until("the validator halts", PATIENCE, async || {
        (victim.metric("lockstep_halted").await == 1).then_some(())
    })
    .await;
    // The health follows the metric at once.
    until("its health says so", PATIENCE, async || {
        let answer = victim.get("/healthz").await;
        let is_clear = answer.body.contains("\"state\":\"stopped\"")
            && answer.body.contains("halted for safety: ")
            && answer.body.contains(reason);
        (answer.status == 503 && is_clear).then_some(())
    })
    .await;
    assert_eq!(victim.get("/readyz").await.status, 503);
    assert!(victim.log().contains("deploy/runbooks/halted.md"), "{}", victim.last_words());
    let submitted = tokio::time::timeout(INTERVAL * 10, async {
        victim.ingress().await.submit(&entries::opaque("to a halted node"), None).await
    });
    let answer = submitted.await.expect("who submits is not left waiting").expect_err("it stops");
    assert!(answer.to_string().contains("stopping"), "{answer}");
    during("it stays halted", INTERVAL * 10, async || {
        victim.get("/healthz").await.status == 503 && victim.metric("lockstep_halted").await == 1
    })
    .await;
}

/// The others decide heights, without a signature of the victim's.
async fn assert_goes_on_without(cluster: &Cluster) {
    let from = cluster.until_more(&OTHERS, 1, PATIENCE).await.next();
    let to = cluster.until_more(&OTHERS, 5, PATIENCE).await;
    let mut log = cluster.node(OTHERS[0]).log_client().await;
    for height in (from.0..=to.0).map(Height) {
        let block = log.block(BlockAt::Height(height)).await.expect("is decided").certified;
        let signatures = &block.certificate.signatures;
        let victim = cluster.address(VICTIM);
        assert!(signatures.iter().all(|s| s.validator != victim), "it signed height {height}");
    }
    for index in OTHERS {
        assert_eq!(cluster.node(index).metric("lockstep_halted").await, 0);
    }
}

/// Started again with its first options, it votes.
async fn assert_comes_back(cluster: &mut Cluster) {
    cluster.restart_with(VICTIM, FaultOptions::default()).await;
    let ahead = cluster.until_more(&OTHERS, 3, PATIENCE).await;
    cluster.until_height(&[VICTIM], ahead, PATIENCE).await;
    cluster.until_votes(VICTIM, ahead, PATIENCE).await;
    assert_eq!(cluster.node(VICTIM).metric("lockstep_halted").await, 0);
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_whose_consensus_log_has_no_disk_halts_at_its_start() {
    let mut cluster = Cluster::of_four().await;
    // A link to where nothing is mounted.
    let unmounted = cluster.path().join("unmounted");
    symlink(cluster.path().join("nothing"), &unmounted).expect("a link");
    cluster
        .restart_changed(VICTIM, |options| {
            let validator = options.validator.as_mut().expect("a validator");
            validator.wal_dir = Some(unmounted);
        })
        .await;
    assert_halted(&cluster, "engine does not start").await;
    assert_goes_on_without(&cluster).await;
    assert_comes_back(&mut cluster).await;
    cluster.finish().await;
}

/// A validator would go on writing into a file that has no name any more; its next start would find no log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_validator_whose_consensus_log_is_gone_halts_before_it_signs() {
    let mut cluster = Cluster::of_four().await;
    cluster.until_more(&ALL, 2, PATIENCE).await;
    fs::remove_file(cluster.node(VICTIM).data().join("consensus.wal")).expect("is removed");
    assert_halted(&cluster, "write-ahead log").await;
    assert_goes_on_without(&cluster).await;
    assert_comes_back(&mut cluster).await;
    cluster.finish().await;
}
