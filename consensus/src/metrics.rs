//! What the consensus side counts, and the mesh under it, for Prometheus. Names begin with `lockstep_`.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::types::{Height, Round};
use lockstep_engine::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::ledger::DecidedBlock;
use crate::mesh::handle::Handle;

/// Bounds of the histogram of block intervals, in seconds.
const INTERVAL_SECONDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 5.0];

/// Bounds of the histogram of decisions: each half millisecond to 20 ms, each millisecond to 150 ms, and some.
fn decision_seconds() -> impl Iterator<Item = f64> {
    let micros = (1u32..=40).map(|n| n.saturating_mul(500));
    let millis = (21u32..=150).map(|n| n.saturating_mul(1_000));
    let rest = [200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000];
    micros.chain(millis).chain(rest).map(|us| Duration::from_micros(us.into()).as_secs_f64())
}

/// The counters of one validator.
#[derive(Debug)]
pub struct Metrics {
    height: Gauge<u64, AtomicU64>,
    taken: Counter,
    left_out: Counter,
    batches: Counter,
    late_rounds: Counter,
    evidence: Counter,
    halted: Gauge<u64, AtomicU64>,
    interval: Histogram,
    decision: Histogram,
    last: watch::Sender<Instant>,
    // A lock, because the metrics are shared; only the application's task takes it.
    proposed: Mutex<Option<(Height, Instant)>>,
    engine: EngineMetrics,
}

/// What engines refused of their peers' frames, over their runs.
#[derive(Debug, Default)]
struct EngineMetrics {
    over_quota: Counter,
    undecodable: Counter,
    unserved: Counter,
    // A lock for the same reason.
    last: Mutex<Counters>,
}

impl EngineMetrics {
    fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "lockstep_engine_frames_over_quota",
            "Frames of peers beyond their quotas: votes, parts, value sync",
            metrics.over_quota.clone(),
        );
        registry.register(
            "lockstep_engine_frames_undecodable",
            "Frames of peers that are malformed or wrongly signed; each disconnects its sender",
            metrics.undecodable.clone(),
        );
        registry.register(
            "lockstep_engine_requests_unserved",
            "Requests of value sync that were not served because too many waited",
            metrics.unserved.clone(),
        );
        metrics
    }

    /// What an engine has counted since its start. A smaller count is another engine's.
    fn note(&self, counted: Counters) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, counted);
        let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        self.over_quota.inc_by(more(counted.over_quota, before.over_quota));
        self.undecodable.inc_by(more(counted.refused, before.refused));
        self.unserved.inc_by(more(counted.requests_refused, before.requests_refused));
    }
}

impl Metrics {
    /// Counters that `registry` serves.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            height: Gauge::default(),
            taken: Counter::default(),
            left_out: Counter::default(),
            batches: Counter::default(),
            late_rounds: Counter::default(),
            evidence: Counter::default(),
            halted: Gauge::default(),
            interval: Histogram::new(INTERVAL_SECONDS),
            decision: Histogram::new(decision_seconds()),
            proposed: Mutex::new(None),
            engine: EngineMetrics::new(registry),
            last: watch::Sender::new(Instant::now()),
        };
        registry.register(
            "lockstep_height",
            "Height of the newest decided block",
            metrics.height.clone(),
        );
        registry.register("lockstep_entries_decided", "Entries decided", metrics.taken.clone());
        registry.register(
            "lockstep_entries_left_out",
            "Entries left out of decided blocks",
            metrics.left_out.clone(),
        );
        registry.register("lockstep_batches_decided", "Batches decided", metrics.batches.clone());
        registry.register(
            "lockstep_rounds_above_zero",
            "Rounds after the first of their height",
            metrics.late_rounds.clone(),
        );
        registry.register(
            "lockstep_evidence",
            "Pairs of conflicting signed messages seen",
            metrics.evidence.clone(),
        );
        registry.register(
            "lockstep_block_interval_seconds",
            "Time between two commits",
            metrics.interval.clone(),
        );
        registry.register(
            "lockstep_halted",
            "1 if the node stopped voting for safety; see the runbook",
            metrics.halted.clone(),
        );
        registry.register(
            "lockstep_proposal_to_decision_seconds",
            "At the proposer, from being asked for a block to its decision",
            metrics.decision.clone(),
        );
        metrics
    }

    /// This validator was asked for a block of this height.
    pub(crate) fn proposing(&self, height: Height) {
        *self.proposed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((height, Instant::now()));
    }

    /// A height is decided, and about to be committed.
    pub(crate) fn deciding(&self, height: Height) {
        let proposed = self.proposed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, at)) = proposed.filter(|(of, _)| *of == height) {
            self.decision.observe(at.elapsed().as_secs_f64());
        }
    }

    /// A block was committed.
    pub(crate) fn decided(&self, decided: &DecidedBlock) {
        self.height.set(decided.header.height.0);
        self.taken.inc_by(decided.assembly.taken.len() as u64);
        self.left_out.inc_by(decided.assembly.left_out.len() as u64);
        self.batches.inc_by(decided.batches.len() as u64);
        let now = Instant::now();
        let before = self.last.send_replace(now);
        self.interval.observe(now.duration_since(before).as_secs_f64());
    }

    /// A round began.
    pub(crate) fn round(&self, round: Round) {
        if round > Round(0) {
            self.late_rounds.inc();
        }
    }

    /// What the running engine has counted since its start.
    pub(crate) fn engine(&self, counted: Counters) {
        self.engine.note(counted);
    }

    /// The node stopped voting for safety.
    pub(crate) fn halt(&self) {
        self.halted.set(1);
    }

    /// A validator was seen to equivocate.
    pub(crate) fn evidence(&self) {
        self.evidence.inc();
    }

    /// When the newest block was committed, now and whenever it changes.
    #[must_use]
    pub fn last_commit(&self) -> watch::Receiver<Instant> {
        self.last.subscribe()
    }
}

/// The mesh's own counters, read whenever somebody asks for the metrics.
#[derive(Debug)]
pub(crate) struct MeshMetrics(pub(crate) Handle);

impl Collector for MeshMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), core::fmt::Error> {
        let mut penalties = encoder.encode_descriptor(
            "lockstep_mesh_penalties",
            "How often a validator was disconnected and kept out for sending garbage.",
            None,
            MetricType::Counter,
        )?;
        for (peer, stats) in self.0.stats().peers {
            let labels = [("peer", peer.to_string())];
            ConstCounter::new(stats.penalties).encode(penalties.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_counted_is_added_up_over_their_runs() {
        let metrics = EngineMetrics::new(&mut Registry::default());
        for (over_quota, refused) in [(0, 0), (5, 1), (7, 1), (2, 0), (2, 3)] {
            metrics.note(Counters { over_quota, refused, ..Counters::default() });
        }
        assert_eq!((metrics.over_quota.get(), metrics.undecodable.get()), (9, 4));
        assert_eq!(metrics.unserved.get(), 0);
    }
}
