//! The consensus log's tail is torn or full of zeros, as a power cut leaves it: the validator comes up, says so, and votes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_tests::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);
const ALL: [usize; 4] = [0, 1, 2, 3];
const VICTIM: usize = 1;
/// Bytes of the log's header and of an entry's.
const HEADER_BYTES: usize = 12;

/// Kills the validator, damages its log, starts it again, and waits until a certificate has its vote.
async fn comes_back(cluster: &mut Cluster, damage: impl FnOnce(&Path)) {
    cluster.node_mut(VICTIM).kill().await;
    let wal = cluster.node(VICTIM).data().join("consensus.wal");
    damage(&wal);
    let logged = cluster.node(VICTIM).log().len();
    cluster.start(&[VICTIM]).await;
    let log = cluster.node(VICTIM).log();
    let news = log.get(logged..).unwrap_or_default();
    assert!(news.contains("the consensus log had a damaged tail; it was set aside"), "{news}");

    let ahead = cluster.until_more(&[0, 2, 3], 3, PATIENCE).await;
    cluster.until_height(&[VICTIM], ahead, PATIENCE).await;
    cluster.until_votes(VICTIM, ahead, PATIENCE).await;
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&[0, 2, 3]).await;
}

fn set_aside(cluster: &Cluster) -> usize {
    let files = fs::read_dir(cluster.node(VICTIM).data()).expect("the directory");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("consensus.wal.damaged-")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_with_a_damaged_tail_of_its_consensus_log_votes_again() {
    let mut cluster = Cluster::of_four().await;
    cluster.until_height(&ALL, Height(5), PATIENCE).await;

    // Torn: the last entry lacks its end, or only the beginning of one is there.
    comes_back(&mut cluster, |wal| {
        let content = fs::read(wal).expect("the log");
        let torn = match content.len() {
            length if length > HEADER_BYTES + 20 => content[..length - 5].to_vec(),
            _ => [content.as_slice(), &[0, 0, 0]].concat(),
        };
        fs::write(wal, torn).expect("is damaged");
    })
    .await;
    assert_eq!(set_aside(&cluster), 1);

    // Zeros behind the end.
    comes_back(&mut cluster, |wal| {
        let mut file = OpenOptions::new().append(true).open(wal).expect("the log");
        file.write_all(&[0; 4_096]).expect("is damaged");
    })
    .await;
    assert_eq!(set_aside(&cluster), 2);

    // Zeros instead of the end.
    comes_back(&mut cluster, |wal| {
        let mut content = fs::read(wal).expect("the log");
        let half = HEADER_BYTES + (content.len() - HEADER_BYTES) / 2;
        content[half..].fill(0);
        content.extend([0; 64]);
        fs::write(wal, content).expect("is damaged");
    })
    .await;
    assert_eq!(set_aside(&cluster), 3);
    cluster.assert_healthy(&ALL).await;
    cluster.finish().await;
}
