//! What gRPC clients that attack cost honest ones, beside the baseline of the same run: a Markdown table.
//!
//! Each row has four validators of its own, with the quotas that nodes have by default and small budgets for the chains
//! that are flooded. An honest client of another address submits a few transactions a second over all validators; one
//! that is refused is lost, as it is not sent again. What of this machine the attackers may use is bounded in
//! [`attackers`](super::attackers). Validators that attack are another matter: `make attacks`.

use std::fmt;
use std::time::Duration;

use eyre::{WrapErr as _, ensure};
use lockstep_core::limits::ENTRY_GAS_MAX;
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::ChainId;
use lockstep_node::config::QuotaOptions;
use lockstep_node::genesis::{ChainEntry, Kind};
use lockstep_node::output::Output;
use tokio::time::{Instant, sleep, timeout};

use super::Args;
use super::attackers::{Attack, Attackers, Content, Reads};
use super::cluster::{Cluster, Options};
use super::flood::{self, Load, Outcome, Target};
use super::measure;
use super::rows::INTERVAL_MS;
use crate::layout::FIRST_CHAIN;

/// The least share of the baseline's heights, in percent.
const HEIGHTS_PERCENT_MIN: u64 = 90;
/// How many times the baseline's latency (p99) an attack may cost, and a block interval more.
const LATENCY_TIMES_MAX: u64 = 2;
/// Resident memory that no validator exceeds, in MiB: its caches and tables, and its bounded pool, lanes and connections.
const RESIDENT_MIB_MAX: u64 = 200;
/// Honest sends later than they were due, per mille, that a row bears: either the machine had no time for the load, or a
/// node made it wait.
const LATE_PER_MILLE_MAX: u64 = 10;
/// Honest transactions per second: few, as what they wait for is to be seen and not what they cost.
const RATE: u32 = 20;
/// How long an attack goes on before anything is measured: the clients connect, and use up what their quotas allow at once.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long a row may take beyond its window: signing, and the decisions that are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(500);

/// An EVM chain with the default budget. Nobody floods it.
const QUIET: ChainId = ChainId(FIRST_CHAIN);
/// An opaque chain with [`SMALL_BYTES_PER_SECOND`].
const OPAQUE: ChainId = ChainId(FIRST_CHAIN + 1);
/// The same with a gateway.
const GATED: ChainId = ChainId(FIRST_CHAIN + 2);
/// An EVM chain with [`SMALL_GAS_PER_SECOND`].
const EVM: ChainId = ChainId(FIRST_CHAIN + 3);
/// A budget: a fiftieth of what floods it.
const SMALL_BYTES_PER_SECOND: u64 = 100_000;
/// A budget: 286 transfers a second, less than a tenth of what floods it.
const SMALL_GAS_PER_SECOND: u64 = 6_000_000;
/// Secret key of the gateway.
const GATEWAY: [u8; 32] = [0x6a; 32];
/// Gas of a transfer.
const TRANSFER_GAS: u64 = 21_000;

/// An attack, and the chain of the honest load beside it.
struct Row {
    name: &'static str,
    honest: ChainId,
    attack: Option<Attack>,
}

const fn row(name: &'static str, honest: ChainId, attack: Attack) -> Row {
    Row { name, honest, attack: Some(attack) }
}

const fn submit(content: Content, per_second: u64) -> Attack {
    Attack::Submit { content, per_second }
}

const BASELINE: Row = Row { name: "none", honest: QUIET, attack: None };

const ATTACKS: [Row; 10] = [
    row(
        "another chain 50 times over its budget, 5 MB/s",
        QUIET,
        submit(Content::Opaque(OPAQUE, 10_000), 500),
    ),
    row(
        "the same chain 50 times over its budget, 5 MB/s",
        OPAQUE,
        submit(Content::Opaque(OPAQUE, 10_000), 500),
    ),
    row(
        "open entries beside a gateway's, 5 MB/s",
        GATED,
        submit(Content::Opaque(GATED, 20_000), 250),
    ),
    row(
        "transfers of made-up signers, 3,000/s",
        QUIET,
        submit(Content::Transfers(EVM, TRANSFER_GAS), 3_000),
    ),
    row("a transfer with other expiries, 4,000/s", QUIET, submit(Content::Copies(EVM), 4_000)),
    row(
        "all of a chain's gas in each entry, 200/s",
        QUIET,
        submit(Content::Transfers(EVM, ENTRY_GAS_MAX), 200),
    ),
    row(
        "reads: states of unknown entries, 2,000/s",
        QUIET,
        Attack::Read { what: Reads::Unknown, chain: QUIET, per_second: 2_000 },
    ),
    row(
        "reads: slices of 1,000 heights, 100/s",
        QUIET,
        Attack::Read { what: Reads::Slices, chain: QUIET, per_second: 100 },
    ),
    row(
        "reads: 3,200 streams of slices, none is read",
        QUIET,
        Attack::Read { what: Reads::Streams, chain: QUIET, per_second: 1_000 },
    ),
    row("idle connections, up to 16,384", QUIET, Attack::Idle),
];

/// What was measured of one row. Rates are in hundredths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    /// What the attackers did per second: submissions, calls, connections.
    asked: u64,
    /// Of it, what nodes refused, in percent.
    refused_percent: u64,
    /// Heights per second, in hundredths.
    heights: u64,
    /// Half of the honest transactions took at most so long, from when a send was due to when its block, proven, reached
    /// the client.
    p50_ms: u64,
    /// 99 of 100 did, of those decided.
    p99_ms: u64,
    /// Honest transactions that the log did not take.
    lost: u64,
    /// Honest sends that were late.
    late_per_mille: u64,
    /// Greatest resident memory of a validator.
    resident_mib: u64,
    /// By how much the files of a validator grew, at most.
    disk_kib: u64,
    /// Entries that the attackers sent meanwhile.
    sent_kib: u64,
    /// CPU time of all validators, in milliseconds per second.
    cpu: u64,
    /// CPU time of this program: the attackers and the honest load.
    own_cpu: u64,
}

/// What of a row's figures does not pass.
fn faults(baseline: &Figures, figures: &Figures) -> Vec<&'static str> {
    let heights_min = baseline.heights.saturating_mul(HEIGHTS_PERCENT_MIN).div_ceil(100);
    let faults = [
        (figures.heights < heights_min, "heights"),
        (figures.p99_ms > p99_ms_max(baseline), "latency"),
        (figures.lost > 0, "lost"),
        (figures.resident_mib > RESIDENT_MIB_MAX, "memory"),
        (figures.late_per_mille > LATE_PER_MILLE_MAX, "load late"),
    ];
    faults.into_iter().filter(|(is_fault, _)| *is_fault).map(|(_, what)| what).collect()
}

const fn p99_ms_max(baseline: &Figures) -> u64 {
    baseline.p99_ms.saturating_mul(LATENCY_TIMES_MAX).saturating_add(INTERVAL_MS)
}

/// A number of hundredths.
struct Hundredths(u64);

impl Hundredths {
    /// `part` of `whole`.
    fn of(part: u64, whole: u64) -> Self {
        Self(part.saturating_mul(100).checked_div(whole).unwrap_or_default())
    }
}

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

/// A row of the table.
fn show(name: &str, baseline: &Figures, figures: &Figures, verdict: &str) -> String {
    let Figures {
        asked, refused_percent, p50_ms, p99_ms, lost, resident_mib, cpu, own_cpu, ..
    } = figures;
    let heights = Hundredths(figures.heights);
    let heights_ratio = Hundredths::of(figures.heights, baseline.heights);
    let p99_ratio = Hundredths::of(*p99_ms, baseline.p99_ms);
    let disk_mib = Hundredths::of(figures.disk_kib, 1_024);
    let of_sent = match figures.sent_kib {
        0 => "-".to_owned(),
        sent => Hundredths::of(figures.disk_kib, sent).to_string(),
    };
    format!(
        "| {name:<48} | {asked:6} | {refused_percent:5} | {heights:>9} | {heights_ratio:>5} | {p50_ms:6} | {p99_ms:6} \
         | {p99_ratio:>5} | {lost:4} | {resident_mib:7} | {disk_mib:>8} | {of_sent:>7} | {cpu:8} | {own_cpu:8} | {verdict} |"
    )
}

fn header(window: Duration) -> String {
    let name = format!("attack, {} s each", window.as_secs());
    let columns = "asked/s | ref'd % | heights/s | of it | p50 ms | p99 ms | times | lost | RSS MiB | disk MiB | of sent | CPU ms/s | own ms/s";
    let rule = "---|".repeat(columns.split('|').count());
    format!("| {name} | {columns} | verdict |\n|---|{rule}---|")
}

/// Measures the baseline, and the attacks with `name` in their names.
///
/// # Errors
/// If the baseline can't be measured, or an attack does not pass.
pub async fn all(args: &Args, name: &str, output: &mut Output) -> eyre::Result<()> {
    let baseline = measure_row(args, &BASELINE).await.wrap_err("the baseline")?;
    output.say(header(args.duration()))?;
    output.say(show(BASELINE.name, &baseline, &baseline, "baseline"))?;
    let mut failed = Vec::new();
    for row in ATTACKS.iter().filter(|row| row.name.contains(name)) {
        // What an attack breaks is a verdict like any other.
        let line = match measure_row(args, row).await {
            Err(error) => {
                failed.push(row.name);
                format!("| {:<48} | FAIL: {error:#} |", row.name)
            }
            Ok(figures) => {
                let faults = faults(&baseline, &figures);
                failed.extend((!faults.is_empty()).then_some(row.name));
                let verdict = match &faults[..] {
                    [] => "pass".to_owned(),
                    faults => format!("FAIL: {}", faults.join(", ")),
                };
                show(row.name, &baseline, &figures, &verdict)
            }
        };
        output.say(line)?;
    }
    output.say(format_args!(
        "to pass: {HEIGHTS_PERCENT_MIN} % of the heights, p99 at most {} ms, none lost, at most {RESIDENT_MIB_MAX} MiB",
        p99_ms_max(&baseline),
    ))?;
    ensure!(failed.is_empty(), "not passed: {}", failed.join("; "));
    Ok(())
}

fn options(args: &Args, gateway: &SigningKey) -> Options {
    let small = |id: ChainId, kind| {
        let bytes_per_second = SMALL_BYTES_PER_SECOND;
        ChainEntry { bytes_per_second, ..ChainEntry::new(id.0, kind) }
    };
    let gateways = vec![gateway.address().to_string()];
    let (evm, gas_per_second) = (ChainEntry::new(EVM.0, Kind::Evm), SMALL_GAS_PER_SECOND);
    let chains = vec![
        ChainEntry::new(QUIET.0, Kind::Evm),
        small(OPAQUE, Kind::Opaque),
        ChainEntry { gateways, ..small(GATED, Kind::Opaque) },
        ChainEntry { gas_per_second, ..evm },
    ];
    let (dir, quota) = (args.dir.clone(), QuotaOptions::default());
    Options { dir, interval_ms: INTERVAL_MS, chains, quota }
}

/// Validators of the row's own, its attack, and the honest load beside it.
async fn measure_row(args: &Args, row: &Row) -> eyre::Result<Figures> {
    let gateway = SigningKey::from_bytes(GATEWAY).wrap_err("the gateway's key")?;
    let mut cluster = Cluster::start(&options(args, &gateway)).await?;
    let target = Target {
        chains: vec![row.honest],
        kind: if row.honest == QUIET { ChainKind::Evm } else { ChainKind::Opaque },
        gateway: if row.honest == GATED { Some((cluster.network()?, gateway)) } else { None },
    };
    let limit = args.duration().saturating_add(PATIENCE);
    let figures = match timeout(limit, attacked(&cluster, row, &target, args.duration())).await {
        Ok(figures) => figures,
        Err(_) => Err(eyre::eyre!("the honest load hung")),
    };
    let ended: Vec<String> = cluster
        .validators
        .iter_mut()
        .filter_map(|process| (!process.is_running()).then(|| process.name().to_owned()))
        .collect();
    cluster.stop().await?;
    ensure!(ended.is_empty(), "{} ended", ended.join(", "));
    figures
}

/// The attack goes on until every honest transaction is decided, or given up.
async fn attacked(
    cluster: &Cluster,
    row: &Row,
    target: &Target,
    window: Duration,
) -> eyre::Result<Figures> {
    let attackers = row.attack.map(|attack| Attackers::start(attack, cluster)).transpose()?;
    sleep(WARM_UP).await;
    // The last send is due before the end of the window, and not at it.
    let duration = window.saturating_sub(Duration::from_millis(10));
    let load = Load { rate: RATE, duration, seed: 1 };
    let endpoints = cluster.endpoints();
    let (load, watched) = tokio::join!(
        flood::run_on(load, target, &endpoints),
        watch(cluster, window, attackers.as_ref())
    );
    Ok(watched?.with(&load.wrap_err("the honest load broke")?))
}

impl Figures {
    /// The same, with what became of the honest load.
    fn with(self, outcome: &Outcome) -> Self {
        let ms = |percentile| outcome.latency.value_at_quantile(percentile) / 1_000;
        Self {
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            lost: outcome.sent_in_all.saturating_sub(outcome.decided_in_all),
            late_per_mille: outcome.late_per_mille,
            ..self
        }
    }
}

/// What is counted from the validators' beginning, and the attackers'.
struct Counts {
    at: Instant,
    height: u64,
    cpu_ms: u64,
    own_cpu_ms: u64,
    /// Per validator.
    disk_bytes: Vec<u64>,
    asked: u64,
    refused: u64,
    sent_bytes: u64,
}

async fn counts(cluster: &Cluster, attackers: Option<&Attackers>) -> eyre::Result<Counts> {
    let port = cluster.layout.places.first().map_or(0, |place| place.ports.http);
    let height = measure::value(&measure::metrics(port).await?, "lockstep_height")?;
    let tally = attackers.map(|attackers| attackers.tally.read());
    let (asked, refused, sent_bytes) = tally.unwrap_or_default();
    let disk_bytes = cluster.data_dirs().iter().map(|dir| measure::disk_bytes(dir)).collect();
    Ok(Counts {
        at: Instant::now(),
        height,
        cpu_ms: measure::cpu_ms(&cluster.pids()),
        own_cpu_ms: measure::cpu_ms(&[std::process::id()]),
        disk_bytes,
        asked,
        refused,
        sent_bytes,
    })
}

/// What the validators and the attackers do within the window.
async fn watch(
    cluster: &Cluster,
    window: Duration,
    attackers: Option<&Attackers>,
) -> eyre::Result<Figures> {
    let (from, pids, mut resident_kib) = (counts(cluster, attackers).await?, cluster.pids(), 0);
    while from.at.elapsed() < window {
        sleep(SAMPLE).await;
        resident_kib = resident_kib.max(measure::resident_kib(&pids));
    }
    let to = counts(cluster, attackers).await?;
    let ms = to.at.duration_since(from.at).as_millis();
    let ms = u64::try_from(ms).unwrap_or(u64::MAX).max(1);
    let per_second = |from: u64, to: u64, units: u64| {
        let scaled = to.saturating_sub(from).saturating_mul(units).saturating_mul(1_000);
        scaled.checked_div(ms).unwrap_or_default()
    };
    let (asked, refused) =
        (to.asked.saturating_sub(from.asked), to.refused.saturating_sub(from.refused));
    let grown = from.disk_bytes.iter().zip(&to.disk_bytes).map(|(a, b)| b.saturating_sub(*a));
    Ok(Figures {
        asked: per_second(from.asked, to.asked, 1),
        refused_percent: refused.saturating_mul(100).checked_div(asked).unwrap_or_default(),
        heights: per_second(from.height, to.height, 100),
        resident_mib: resident_kib / 1_024,
        disk_kib: grown.max().unwrap_or_default() / 1_024,
        sent_kib: to.sent_bytes.saturating_sub(from.sent_bytes) / 1_024,
        cpu: per_second(from.cpu_ms, to.cpu_ms, 1),
        own_cpu: per_second(from.own_cpu_ms, to.own_cpu_ms, 1),
        ..Figures::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: Figures = Figures {
        asked: 0,
        refused_percent: 0,
        heights: 400,
        p50_ms: 150,
        p99_ms: 300,
        lost: 0,
        late_per_mille: 0,
        resident_mib: 90,
        disk_kib: 2_048,
        sent_kib: 0,
        cpu: 400,
        own_cpu: 30,
    };

    #[test]
    fn a_row_passes_up_to_every_bound_and_no_further() {
        let bound = Figures {
            heights: 360,
            p99_ms: 850,
            resident_mib: RESIDENT_MIB_MAX,
            late_per_mille: LATE_PER_MILLE_MAX,
            ..BASELINE
        };
        assert_eq!(faults(&BASELINE, &bound), [""; 0]);
        let cases = [
            (Figures { heights: 359, ..bound }, "heights"),
            (Figures { p99_ms: 851, ..bound }, "latency"),
            (Figures { lost: 1, ..bound }, "lost"),
            (Figures { resident_mib: RESIDENT_MIB_MAX + 1, ..bound }, "memory"),
            (Figures { late_per_mille: LATE_PER_MILLE_MAX + 1, ..bound }, "load late"),
        ];
        for (figures, fault) in cases {
            assert_eq!(faults(&BASELINE, &figures), [fault]);
        }
    }

    #[test]
    fn a_row_has_as_many_columns_as_the_header() {
        let columns = |line: &str| line.matches('|').count();
        let (header, shown) =
            (header(Duration::from_secs(20)), show("none", &BASELINE, &BASELINE, ""));
        assert_eq!(header.lines().map(columns).collect::<Vec<_>>(), [columns(&shown); 2]);
        assert!(shown.contains("|      4.00 |  1.00 |"), "{shown}");
    }
}
