//! The rows, in their order: calibration, offers of a chain, throughput, latency at half of it, decisions on an idle
//! network, CPU of an idle height, memory and disk under load. The attacks are a table of their own.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use eyre::{WrapErr as _, ensure, eyre};
use futures::StreamExt as _;
use lockstep_core::types::ChainId;
use lockstep_node::output::Output;
use lockstep_rpc::client::{Endpoint, LogClient};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Args;
use super::attacks;
use super::calibrate::Calibration;
use super::cluster::{Cluster, Options, VALIDATORS};
use super::delayed::{self, Line};
use super::flood::{self, Load, Outcome};
use super::measure;
use super::offers::{Offers, Size};
use crate::layout::FIRST_CHAIN;

/// Chains of every row.
const CHAINS: [ChainId; 2] = [ChainId(FIRST_CHAIN), ChainId(FIRST_CHAIN + 1)];
/// Block interval of the loaded rows.
pub(super) const INTERVAL_MS: u64 = 250;
/// Block interval of the decision rows: short, and yet one height is over before the next begins.
const SHORT_INTERVAL_MS: u64 = 50;
/// Offered rates of the throughput row, in percent of the crypto bound.
const OFFERED_PERCENT: [u64; 4] = [50, 65, 72, 80];
/// Late sends that a latency row bears, per mille.
const LATE_PER_MILLE_MAX: u64 = 10;
/// How long an idle network is watched.
const IDLE: Duration = Duration::from_secs(20);

/// Measures the rows that are wanted.
///
/// # Errors
/// If a row can't be measured.
pub async fn all(args: &Args, output: &mut Output) -> eyre::Result<()> {
    if args.delay_line {
        return delayed_inside(args, output).await;
    }
    if let Some(name) = args.attacks() {
        return attacks::all(args, name, output).await;
    }
    let calibration =
        tokio::task::spawn_blocking(|| Calibration::measure(Duration::from_secs(3))).await?;
    let bound = calibration.bound(VALIDATORS.into());
    row(
        output,
        "calibration",
        format_args!(
            "{} checks/s of one core, {} cores: crypto bound {bound} tx/s for {VALIDATORS} validators that check everything",
            calibration.checks_per_second, calibration.cores,
        ),
    )?;
    if args.wants("offers") {
        let offers = tokio::task::spawn_blocking(|| Offers::measure(Size::ROW)).await?;
        row(output, "offers", offers.wrap_err("offers")?)?;
    }
    let mut best = percent(bound, 40);
    if args.wants("throughput") {
        best = throughput(args, output, bound).await?;
    }
    if args.wants("latency") {
        latency(args, output, best.checked_div(2).unwrap_or_default()).await?;
    }
    if args.wants("decision") {
        decision(args, output).await?;
    }
    if args.wants("delayed") {
        let text = delayed::outside(args).await;
        let text = text.unwrap_or_else(|reason| format!("not measured: {reason}"));
        row(output, "delayed", text)?;
    }
    if args.wants("idle") {
        idle(args, output).await?;
    }
    if args.wants("soak") {
        soak(args, output, best.checked_div(2).unwrap_or_default()).await?;
    }
    Ok(())
}

fn row(output: &mut Output, name: &str, text: impl Display) -> eyre::Result<()> {
    Ok(output.say(format_args!("{name:<12} {text}"))?)
}

fn percent(of: u64, percent: u64) -> u64 {
    of.saturating_mul(percent).checked_div(100).unwrap_or_default()
}

fn rate(of: u64) -> u32 {
    u32::try_from(of.max(1)).unwrap_or(u32::MAX)
}

fn loaded(args: &Args) -> Options {
    Options::unbounded(args.dir.clone(), INTERVAL_MS)
}

/// Ordered transactions per second, at offered rates around the crypto bound; the best of them.
async fn throughput(args: &Args, output: &mut Output, bound: u64) -> eyre::Result<u64> {
    let mut best = 0;
    for (seed, offered) in (1u8..).zip(OFFERED_PERCENT) {
        let cluster = Cluster::start(&loaded(args)).await?;
        let cpu = measure::cpu_ms(&cluster.pids());
        let load = Load { rate: rate(percent(bound, offered)), duration: args.duration(), seed };
        let outcome = flood::run(load, &CHAINS, &cluster.endpoints()).await?;
        let cpu = measure::cpu_ms(&cluster.pids()).saturating_sub(cpu);
        cluster.stop().await?;
        let share = outcome.decided.saturating_mul(100).checked_div(bound).unwrap_or_default();
        let each = cpu.saturating_mul(1_000).checked_div(outcome.decided_in_all.max(1));
        row(
            output,
            "throughput",
            format_args!(
                "{} tx/s ordered = 0.{share:02} of the crypto bound; {}; {} us of CPU per tx over all validators",
                outcome.decided,
                generator(&outcome),
                each.unwrap_or_default(),
            ),
        )?;
        best = best.max(outcome.decided);
    }
    Ok(best)
}

fn generator(outcome: &Outcome) -> String {
    let Outcome { offered, sent, late_per_mille, refused, sent_in_all, decided_in_all, .. } =
        outcome;
    format!(
        "offered {offered}/s, sent {sent}/s ({late_per_mille} per mille late), refused {refused}, \
         decided {decided_in_all} of {sent_in_all}"
    )
}

/// Submit to decided, at half of the best throughput.
async fn latency(args: &Args, output: &mut Output, at: u64) -> eyre::Result<()> {
    let cluster = Cluster::start(&loaded(args)).await?;
    let load = Load { rate: rate(at), duration: args.duration(), seed: 11 };
    let outcome = flood::run(load, &CHAINS, &cluster.endpoints()).await?;
    cluster.stop().await?;
    let ms = |percentile| outcome.latency.value_at_quantile(percentile) / 1_000;
    row(
        output,
        "latency",
        format_args!(
            "submit to decided, proven at the client: p50 {} ms, p99 {} ms at {at} tx/s, block interval {INTERVAL_MS} ms; {}",
            ms(0.5),
            ms(0.99),
            generator(&outcome),
        ),
    )?;
    ensure!(
        outcome.late_per_mille <= LATE_PER_MILLE_MAX,
        "latency: the generator lagged itself: {} per mille of its sends were late",
        outcome.late_per_mille
    );
    Ok(())
}

/// Proposal to decision at the proposer, empty pool, all files in memory; then the same on disk.
async fn decision(args: &Args, output: &mut Output) -> eyre::Result<()> {
    for dir in [in_memory(args), args.dir.clone()] {
        let place = dir.display().to_string();
        let (p50, p99) = proposal_to_decision(dir).await?;
        row(
            output,
            "decision",
            format_args!(
                "proposal to decision, empty pool, loopback, block interval {SHORT_INTERVAL_MS} ms, \
                 all files in {place}: p50 <= {p50} us, p99 <= {p99} us",
            ),
        )?;
    }
    Ok(())
}

/// A directory in memory.
fn in_memory(args: &Args) -> PathBuf {
    args.memory_dir.join(format!("lockstep-bench-{}", std::process::id()))
}

/// The same, every packet held for a while.
async fn delayed_inside(args: &Args, output: &mut Output) -> eyre::Result<()> {
    let line = Line::start().await?;
    let (p50, p99) = proposal_to_decision(in_memory(args)).await?;
    let delta = line.measured.as_micros();
    let rest = u128::from(p50).saturating_sub(delta.saturating_mul(3));
    Ok(output.say(format_args!(
        "proposal to decision behind a delay line of {} ms one way (measured {delta} us): \
         p50 <= {p50} us = 3 delays + {rest} us, p99 <= {p99} us",
        delayed::ONE_WAY.as_millis(),
    ))?)
}

/// p50 and p99 in microseconds, on an idle network.
async fn proposal_to_decision(dir: PathBuf) -> eyre::Result<(u64, u64)> {
    const NAME: &str = "lockstep_proposal_to_decision_seconds";
    let options = Options::unbounded(dir, SHORT_INTERVAL_MS);
    let cluster = Cluster::start(&options).await?;
    let port = cluster.layout.places.first().map_or(0, |place| place.ports.http);
    let before = measure::metrics(port).await?;
    sleep(IDLE).await;
    let after = measure::metrics(port).await?;
    cluster.stop().await?;
    let (from, to) = (measure::buckets(&before, NAME), measure::buckets(&after, NAME));
    let at = |percent| {
        measure::percentile(&from, &to, percent)
            .ok_or_else(|| eyre!("no height was decided within {} s", IDLE.as_secs()))
    };
    Ok((at(50)?, at(99)?))
}

/// CPU of an idle height, while each chain's slices are followed as its sidecar does.
async fn idle(args: &Args, output: &mut Output) -> eyre::Result<()> {
    let cluster = Cluster::start(&loaded(args)).await?;
    let mut followers = JoinSet::new();
    for (chain, endpoint) in CHAINS.into_iter().zip(cluster.endpoints()) {
        followers.spawn(follow(chain, endpoint));
    }
    sleep(Duration::from_secs(2)).await;
    let port = cluster.layout.places.first().map_or(0, |place| place.ports.http);
    let height = |text: String| measure::value(&text, "lockstep_height");
    let (from, cpu) = (height(measure::metrics(port).await?)?, measure::cpu_ms(&cluster.pids()));
    sleep(IDLE).await;
    let (to, after) = (height(measure::metrics(port).await?)?, measure::cpu_ms(&cluster.pids()));
    ensure!(followers.try_join_next().is_none(), "a follower ended");
    drop(followers);
    cluster.stop().await?;
    let heights = to.saturating_sub(from).max(1);
    let each = after.saturating_sub(cpu).saturating_mul(1_000).checked_div(heights);
    row(
        output,
        "idle",
        format_args!(
            "{} us of CPU per idle height over {VALIDATORS} validators, two chains followed ({heights} heights of {INTERVAL_MS} ms)",
            each.unwrap_or_default(),
        ),
    )
}

/// Reads a chain's slices for ever.
async fn follow(chain: ChainId, url: String) -> eyre::Result<()> {
    let mut log = LogClient::new(Endpoint::new(url).connect().await?);
    let mut slices = log.stream_slices(chain, None).await?;
    while let Some(slice) = slices.next().await {
        slice?;
    }
    Ok(())
}

/// Memory and disk under half of the best throughput.
async fn soak(args: &Args, output: &mut Output, at: u64) -> eyre::Result<()> {
    let cluster = Cluster::start(&loaded(args)).await?;
    let pids = cluster.pids();
    let begin = measure::resident_kib(&pids);
    let duration = Duration::from_secs(args.soak_seconds);
    let load = Load { rate: rate(at), duration, seed: 21 };
    let outcome = flood::run(load, &CHAINS, &cluster.endpoints()).await.wrap_err("soak")?;
    let (end, disk) = (measure::resident_kib(&pids), cluster.data_dirs());
    let bytes = disk.iter().map(|dir| measure::disk_bytes(dir)).max().unwrap_or_default();
    cluster.stop().await?;
    let each = bytes.checked_div(outcome.decided_in_all.max(1)).unwrap_or_default();
    row(
        output,
        "soak",
        format_args!(
            "{} s: resident memory of a validator {} MiB at the start, {} MiB at the end; {each} bytes on disk per tx; {}",
            args.soak_seconds,
            begin / 1_024,
            end / 1_024,
            generator(&outcome),
        ),
    )
}
