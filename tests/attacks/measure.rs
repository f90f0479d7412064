//! What honest nodes and clients get of the network while something goes on. The load is `lockstep bench`'s.

use std::time::{Duration, Instant};

use lockstep_core::types::Height;
use lockstep_devnet::bench::flood::{self, Load};
use lockstep_devnet::bench::measure;
use lockstep_rpc::client::{Endpoint, LogClient};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, EVM_B};

/// How long each thing is measured.
pub(crate) const WINDOW: Duration = Duration::from_secs(20);
/// Honest transactions per second: little, as what they wait for is to be seen and not what they cost.
const RATE: u32 = 20;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Blocks decided per second, as one node tells.
    pub(crate) blocks_per_second: f64,
    /// How many of its turns validator 0, the attacker if there is one, took: its blocks of each four.
    pub(crate) turns_taken: f64,
    /// Half of the transactions took at most so long, in milliseconds from when a send was due to when its block, proven,
    /// reached the client.
    pub(crate) p50_ms: f64,
    /// 99 of 100 did, of those decided.
    pub(crate) p99_ms: f64,
    /// Transactions that the log did not take until 15 s after the last.
    pub(crate) lost: u64,
    /// Resident memory of the greatest of the honest ones in the end, in MiB.
    pub(crate) memory_mib: u64,
    /// How much the data directory of one honest validator grew, in KiB.
    pub(crate) disk_kib: u64,
    /// CPU time of one honest validator, on average, per second, in milliseconds.
    pub(crate) cpu_ms: f64,
}

async fn height(endpoint: &str) -> Height {
    let channel = Endpoint::new(endpoint).connect().await.expect("the node serves");
    LogClient::new(channel).head().await.map_or(Height::GENESIS, |head| head.header.height)
}

/// Blocks that a node decides per second of the window.
pub(crate) async fn blocks_per_second(endpoint: String) -> f64 {
    let (begin, first) = (Instant::now(), height(&endpoint).await);
    tokio::time::sleep(WINDOW).await;
    let last = height(&endpoint).await;
    let count = u32::try_from(last.0.saturating_sub(first.0)).expect("few");
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// Loads the validators 1, 2 and 3. Apart from what its caller does meanwhile, as far as one machine allows.
pub(crate) async fn loaded(cluster: &Cluster) -> Figures {
    let first = cluster.node(1).height().await;
    let endpoints: Vec<String> =
        [1, 2, 3].iter().map(|index| cluster.node(*index).endpoint()).collect();
    let blocks = tokio::spawn(blocks_per_second(endpoints[0].clone()));
    let pids = [1, 2, 3].map(|index| cluster.node(index).pid());
    let data = cluster.node(1).data();
    let (begin, cpu, disk) = (Instant::now(), measure::cpu_ms(&pids), measure::disk_bytes(&data));
    // An even number of sends, half of them for each of two chains: then the load ends as soon as all are decided.
    let duration = WINDOW.saturating_sub(Duration::from_millis(10));
    let load = Load { rate: RATE, duration, seed: 1 };
    let flood = tokio::spawn(async move { flood::run(load, &[EVM_A, EVM_B], &endpoints).await });
    let outcome = flood.await.expect("the load ends").expect("the nodes take the load");
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), measure::cpu_ms(&pids) - cpu);
    let (memory, grown) = (measure::resident_kib(&pids), measure::disk_bytes(&data));
    let first = usize::try_from(first.0).expect("few");
    let headers = cluster.headers(1).await.split_off(first);
    let own = headers.iter().filter(|header| header.proposer == cluster.address(0)).count();
    let ms = |quantile| Duration::from_micros(outcome.latency.value_at_quantile(quantile));
    Figures {
        blocks_per_second: blocks.await.expect("blocks are counted"),
        turns_taken: 4.0 * own as f64 / headers.len() as f64,
        p50_ms: ms(0.5).as_secs_f64() * 1_000.0,
        p99_ms: ms(0.99).as_secs_f64() * 1_000.0,
        lost: outcome.sent_in_all.saturating_sub(outcome.decided_in_all),
        memory_mib: memory / 1_024,
        disk_kib: grown.saturating_sub(disk) / 1_024,
        cpu_ms: f64::from(u32::try_from(cpu).expect("little")) / 3.0 / seconds,
    }
}
