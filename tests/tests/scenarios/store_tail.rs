//! The store's newest write-ahead log has lost its tail, as a crash between write and sync leaves it: cut off in the middle
//! of a record, or full of zeros. The validator opens what is left, catches up, and votes; nobody signs twice. So, too, where
//! the disk lost what was synced.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockstep_core::types::Height;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, OPAQUE};
use lockstep_tests::load::Load;
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);
const ALL: [usize; 4] = [0, 1, 2, 3];
const VICTIM: usize = 1;
const OTHERS: [usize; 3] = [0, 2, 3];
/// More than any damage takes; a loaded validator writes as much in a few seconds.
const LOG_BYTES_MIN: u64 = 256 << 10;
/// What is cut off: records of a load are a few hundred bytes, so the cut goes through one.
const CUT_BYTES: u64 = 3_001;
/// What is filled with zeros: a few heights.
const ZERO_BYTES: u64 = 64 << 10;
/// Longer than the propose step of a round: whoever takes part has voted by then.
const ROUND: Duration = Duration::from_secs(1);

/// The newest write-ahead log of a store, and its length. Its name is a number that grows.
fn newest_log(store: &Path) -> (PathBuf, u64) {
    let files = fs::read_dir(store).expect("the store's directory");
    let logs = files.filter_map(|file| {
        let path = file.expect("a file").path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let number: u64 = path.file_stem()?.to_str()?.parse().ok()?;
        is_log.then_some((number, path))
    });
    let (_, path) = logs.max().expect("the store has a log");
    let length = fs::metadata(&path).expect("the log").len();
    (path, length)
}

/// Takes the last bytes of a file away.
fn cut(log: &Path, length: u64, bytes: u64) {
    let file = OpenOptions::new().write(true).open(log).expect("the log");
    file.set_len(length - bytes).expect("is cut");
}

/// Fills the last bytes of a file with zeros.
fn zero(log: &Path, length: u64, bytes: u64) {
    let file = OpenOptions::new().write(true).open(log).expect("the log");
    let zeros = vec![0; usize::try_from(bytes).expect("fits")];
    file.write_all_at(&zeros, length - bytes).expect("is damaged");
}

/// Waits until the victim's store has a log that is worth damaging.
async fn until_written(cluster: &Cluster) {
    let store = cluster.node(VICTIM).data().join("store");
    until("the store's log is long enough", PATIENCE, async || {
        (newest_log(&store).1 >= LOG_BYTES_MIN).then_some(())
    })
    .await;
}

/// Starts the victim again after a damage; the height its store opened at, and what it logged.
async fn restart(cluster: &mut Cluster) -> (Height, String) {
    let logged = cluster.node(VICTIM).log().len();
    cluster.start(&[VICTIM]).await;
    let log = cluster.node(VICTIM).log();
    let news = log.get(logged..).unwrap_or_default().to_owned();
    let opened = news.split_once("store opened height=").expect("it says what it opened").1;
    let digits: String = opened.chars().take_while(char::is_ascii_digit).collect();
    (Height(digits.parse().expect("a height")), news)
}

/// The victim catches up, votes, and serves what the others serve, proved.
async fn assert_back(cluster: &Cluster) {
    let ahead = cluster.until_more(&OTHERS, 3, PATIENCE).await;
    cluster.until_height(&[VICTIM], ahead, PATIENCE).await;
    cluster.until_votes(VICTIM, ahead, PATIENCE).await;
    let height = cluster.assert_agreement(&ALL).await;
    assert!(height >= ahead);
    for chain in [EVM_A, OPAQUE] {
        let mut here = cluster.verified(VICTIM).await;
        let mut there = cluster.verified(OTHERS[0]).await;
        let from = Height(ahead.0.saturating_sub(50).max(1));
        let here = here.range(chain, from, ahead).await.expect("is proved");
        assert_eq!(here, there.range(chain, from, ahead).await.expect("is proved"));
        assert!(here.iter().any(|(_, slice)| slice.is_some()), "the load is in the log");
    }
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;
}

/// Kills the victim under load, damages its store's log, and expects it back; the heights that the damage took.
async fn comes_back(cluster: &mut Cluster, damage: impl FnOnce(&Path, u64)) -> u64 {
    until_written(cluster).await;
    let before = cluster.node(VICTIM).height().await;
    cluster.node_mut(VICTIM).kill().await;
    let (log, length) = newest_log(&cluster.node(VICTIM).data().join("store"));
    damage(&log, length);
    let (opened, _) = restart(cluster).await;
    assert_back(cluster).await;
    before.0.saturating_sub(opened.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_whose_store_lost_the_tail_of_its_log_catches_up_and_votes() {
    let mut cluster = Cluster::of_four().await;
    let load = Load::start(cluster.nodes.iter());
    comes_back(&mut cluster, |log, length| cut(log, length, CUT_BYTES)).await;
    let lost = comes_back(&mut cluster, |log, length| zero(log, length, ZERO_BYTES)).await;
    assert!(lost > 0, "zeros took no height: they missed the records");
    assert!(!load.stop().await.is_empty());
    cluster.finish().await;
}

/// The store is behind what the validator signed, which no crash alone can do. Consensus throws its log away with what it was
/// locked on, so the validator follows until the log's height is decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_whose_store_lost_synced_heights_abstains_until_it_is_past_its_votes() {
    let mut cluster = Cluster::of_four().await;
    let load = Load::start(cluster.nodes.iter());
    until_written(&cluster).await;
    // Without a quorum it stays at a height in which it has voted.
    cluster.node(2).freeze();
    cluster.node(3).freeze();
    let mut since = (Height::GENESIS, Instant::now());
    until("the height stands for a round", PATIENCE, async || {
        let height = cluster.node(VICTIM).height().await;
        if height != since.0 {
            since = (height, Instant::now());
        }
        (since.1.elapsed() >= ROUND).then_some(())
    })
    .await;
    let before = since.0;
    cluster.node_mut(VICTIM).kill().await;
    cluster.node(2).thaw();
    cluster.node(3).thaw();
    let (log, length) = newest_log(&cluster.node(VICTIM).data().join("store"));
    cut(&log, length, length / 2);

    let (opened, news) = restart(&mut cluster).await;
    assert!(opened < before, "half of the log holds heights: {opened}, {before}");
    assert!(news.contains("what this validator signed or logged is ahead of the store"), "{news}");
    assert_back(&cluster).await;
    assert!(!load.stop().await.is_empty());
    cluster.finish().await;
}
