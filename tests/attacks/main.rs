//! Attacks of one validator beside the baseline, in one run: `make attacks`.
//!
//! Four validators are measured, idle and with a load; then each attack, against three of them by a peer that holds the
//! fourth's keys, in a network of its own with the same load. An attack passes if the three decide 0.9 of the idle blocks,
//! 99 of 100 honest transactions are decided in at most twice the time and one block interval, none is lost, and memory
//! and disk of each validator stay within what the bounds of `consensus/README.md` add up to.
//!
//! A silent proposer costs the others the timeout of a round at each of its turns, which no rule gives back while it has
//! turns: with one of four silent, 0.9 of the idle blocks are out of reach. So an attack that loses turns is compared with
//! silence, and the attacker takes its turns in all others.
//!
//! An attack that is not seen to reach the validators fails, too.
//!
//! This is not among the tests of `make test`, because it measures time. Everything shares one machine, the attacker too,
//! so what an attack sends is bounded here and not by the machine. Floods by gRPC clients are `lockstep bench --only attacks`.

mod attacks;
mod floods;
mod measure;

use std::env;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use lockstep_core::types::Height;
use lockstep_node::genesis::ParamsEntry;
use lockstep_tests::cluster::Cluster;

use crate::attacks::{ATTACKS, Attack, Turns};
use crate::measure::Figures;

const PATIENCE: Duration = Duration::from_secs(30);
/// The least share of the idle rate of blocks.
const BLOCKS_MIN: f64 = 0.9;
/// How many times the baseline's latency an attack may cost, and a block interval more.
const LATENCY_TIMES_MAX: f64 = 2.0;
/// Resident memory of an honest validator, in MiB.
const MEMORY_MIB_MAX: u64 = 200;
/// What an honest validator writes in a window, in KiB: all that one lane may be ahead and one proposer's blocks may
/// bring (32 MiB each), what it may waste (4 MiB, a cut of 4, and 11 in 20 s), all once more in RocksDB's log.
const DISK_KIB_MAX: u64 = 166 << 10;
/// Those that an attack leaves honest.
const OTHERS: [usize; 3] = [1, 2, 3];

/// What attacks are compared with.
struct Baseline {
    blocks_per_second: f64,
    p99_ms: f64,
}

impl Baseline {
    /// Four honest validators: blocks without a load, and the latency of the load that every attack has beside it.
    async fn measure() -> (Self, Figures) {
        let mut cluster = Cluster::prepare_with(4, ParamsEntry::default()).await;
        cluster.start(&[0, 1, 2, 3]).await;
        cluster.until_height(&[0, 1, 2, 3], Height(8), PATIENCE).await;
        let blocks_per_second = measure::blocks_per_second(cluster.node(1).endpoint()).await;
        let loaded = measure::loaded(&cluster).await;
        cluster.finish().await;
        (Self { blocks_per_second, p99_ms: loaded.p99_ms }, loaded)
    }

    fn p99_ms_max(&self) -> f64 {
        let interval = u32::try_from(ParamsEntry::default().block_interval_ms).expect("fits");
        self.p99_ms.mul_add(LATENCY_TIMES_MAX, f64::from(interval))
    }

    /// What of an attack's figures does not pass.
    fn faults(&self, figures: &Figures) -> Vec<&'static str> {
        let is_slow = figures.blocks_per_second < BLOCKS_MIN * self.blocks_per_second;
        let is_late = figures.p99_ms > self.p99_ms_max();
        let faults = [
            (is_slow, "blocks"),
            (is_late, "latency"),
            (figures.lost > 0, "lost"),
            (figures.memory_mib > MEMORY_MIB_MAX, "memory"),
            (figures.disk_kib > DISK_KIB_MAX, "disk"),
        ];
        faults.into_iter().filter(|(is_fault, _)| *is_fault).map(|(_, what)| what).collect()
    }

    fn show(&self, name: &str, figures: &Figures, verdict: &str) {
        let Figures { blocks_per_second, turns_taken, p50_ms, p99_ms, lost, .. } = figures;
        let Figures { memory_mib, disk_kib, cpu_ms, .. } = figures;
        let blocks = blocks_per_second / self.blocks_per_second;
        let latency = p99_ms / self.p99_ms;
        println!(
            "| {name:<55} | {blocks_per_second:8.2} | {blocks:5.2} | {turns_taken:5.2} | {p50_ms:6.0} | {p99_ms:6.0} | {latency:5.2} | {lost:4} | {memory_mib:3} | {disk_kib:6} | {cpu_ms:3.0} | {verdict} |"
        );
    }

    fn say(&self, what: &str) {
        let (blocks, p99) = (BLOCKS_MIN * self.blocks_per_second, self.p99_ms_max());
        println!("{what}: at least {blocks:.2} blocks/s, p99 at most {p99:.0} ms, none lost");
    }
}

/// The attack, against three that must agree and be well behind it; and whether it reached them.
async fn run(attack: &Attack) -> (Figures, bool) {
    let (cluster, mut attacker) =
        Cluster::of_three_and_an_attacker_with(ParamsEntry::default()).await;
    let figures = tokio::select! {
        figures = measure::loaded(&cluster) => figures,
        () = (attack.run)(&cluster, &mut attacker) => panic!("the attack ended by itself"),
    };
    let is_seen = attack.seen.is_so(&cluster, &attacker);
    drop(attacker);
    cluster.until_more(&OTHERS, 4, PATIENCE).await;
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
    (figures, is_seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_cost_little_beside_the_baseline() {
    let only = env::var("LOCKSTEP_ATTACKS").unwrap_or_default();
    let (idle, loaded) = Baseline::measure().await;
    println!(
        "\n| {:<55} | blocks/s | ratio | turns | p50 ms | p99 ms | ratio | lost | MiB | disk KiB | CPU ms/s | verdict |",
        format!("attack ({} s each)", measure::WINDOW.as_secs())
    );
    println!(
        "|{}|---------:|------:|------:|-------:|-------:|------:|-----:|---:|---:|---:|---|",
        "-".repeat(57)
    );
    idle.show("none, all four are honest", &loaded, "baseline");
    let (mut failed, mut silence) = (Vec::new(), None);
    let wanted = ATTACKS.iter().enumerate();
    let is_wanted = |attack: &Attack| only.split(',').any(|part| attack.name.contains(part));
    let wanted = wanted.filter(|(place, attack)| *place == 0 || is_wanted(attack));
    for (_, attack) in wanted {
        // What an attack breaks is told with all others.
        let Ok((figures, is_seen)) = AssertUnwindSafe(run(attack)).catch_unwind().await else {
            println!("| {:<55} | FAIL: the log, a node or the agreement broke |", attack.name);
            failed.push(attack.name);
            continue;
        };
        if attack.turns == Turns::Lost && silence.is_none() {
            idle.show(attack.name, &figures, "what lost turns cost");
            let Figures { blocks_per_second, p99_ms, .. } = figures;
            silence = Some(Baseline { blocks_per_second, p99_ms });
            continue;
        }
        let compared = match (attack.turns, &silence) {
            (Turns::Lost, Some(silence)) => silence,
            _ => &idle,
        };
        let mut faults = compared.faults(&figures);
        faults.extend((!is_seen).then_some("not seen"));
        let verdict = match &faults[..] {
            [] => "pass".to_owned(),
            faults => format!("FAIL: {}", faults.join(", ")),
        };
        idle.show(attack.name, &figures, &verdict);
        failed.extend((!faults.is_empty()).then_some(attack.name));
    }
    idle.say("to pass, where turns are taken");
    silence.iter().for_each(|silence| silence.say("to pass, where they are lost"));
    assert!(failed.is_empty(), "not passed: {failed:?}");
}
