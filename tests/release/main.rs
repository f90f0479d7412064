//! The program that ships, with RocksDB compiled into it, and this clone's, with the fetched library: each goes on with what
//! the other left behind. `make test-release` builds and names both.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lockstep_tests::cluster::Cluster;
use lockstep_tests::load::Load;

const ALL: [usize; 4] = [0, 1, 2, 3];
/// Heights that each program decides: enough for tables, logs and a guard with something in them.
const HEIGHTS: u64 = 30;
const PATIENCE: Duration = Duration::from_secs(30);

/// The program that ships.
fn release() -> PathBuf {
    let program = env::var_os("LOCKSTEP_RELEASE_BIN").map(PathBuf::from);
    program.expect("LOCKSTEP_RELEASE_BIN names the program of `make release`")
}

/// Whether the loader brings RocksDB to a program.
fn loads_rocksdb(program: &Path) -> bool {
    let needed = Command::new("ldd").arg(program).output().expect("ldd runs").stdout;
    String::from_utf8_lossy(&needed).contains("librocksdb")
}

/// Lets all validators decide and store under load, then kills them, so that their logs are left to be replayed.
async fn live(cluster: &mut Cluster) {
    cluster.start(&ALL).await;
    let load = Load::start(cluster.nodes.iter());
    cluster.until_more(&ALL, HEIGHTS, PATIENCE).await;
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&ALL).await;
    drop(load);
    for index in ALL {
        cluster.node_mut(index).kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_of_one_program_opens_with_the_other() {
    let mut cluster = Cluster::prepare(4).await;
    let own = cluster.use_program(release());
    assert!(!loads_rocksdb(&release()), "the program that ships has no RocksDB in it");
    assert!(loads_rocksdb(&own), "{} has RocksDB in it: nothing to compare", own.display());

    live(&mut cluster).await;
    cluster.use_program(own);
    live(&mut cluster).await;
    cluster.use_program(release());
    live(&mut cluster).await;

    cluster.start(&ALL).await;
    let height = cluster.assert_agreement(&ALL).await;
    assert!(height.0 >= 3 * HEIGHTS, "the log ends at height {height}");
    cluster.finish().await;
}
