//! The sidecar's numbers.

use std::time::Duration;

use lockstep_core::record::{Sealed, SkipReason, Skipped};
use lockstep_core::window::Place;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters, gauges and histograms; cheap to clone. All times are seconds.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) jobs: Counter,
    pub(crate) offered: Counter,
    pub(crate) unsealed: Counter,
    pub(crate) foreign: Counter,
    pub(crate) engine_errors: Counter,
    pub(crate) closed: Counter,
    refusals: Counter,
    sealed: Counter,
    skipped: Family<Reason, Counter>,
    margin: Histogram,
    hold: Histogram,
    build: Histogram,
    late: Histogram,
    sealing: Histogram,
    added: Histogram,
    pub(crate) log_height: Gauge,
    pub(crate) head_number: Gauge,
    pub(crate) backlog_ms: Gauge,
    pub(crate) endpoints_serving: Gauge,
    pub(crate) records_waiting: Gauge,
}

const SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0];
const SEALING: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 2.0, 5.0];
const SMALL: [f64; 8] = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02];

impl Metrics {
    /// Registers everything under `lockstep_sidecar_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::new();
        let registry = registry.sub_registry_with_prefix("lockstep_sidecar");
        let counters = [
            ("jobs", "Sequencing jobs begun", &metrics.jobs),
            ("offered", "Items offered to jobs", &metrics.offered),
            ("unsealed", "getPayload calls that gave no block", &metrics.unsealed),
            ("foreign", "Blocks that left their slice", &metrics.foreign),
            ("engine_errors", "Calls that the engine did not answer", &metrics.engine_errors),
            (
                "closed",
                "Blocks of deposits only, sealed while the committee was silent",
                &metrics.closed,
            ),
            ("refusals", "Builds that the engine refused for an item", &metrics.refusals),
            ("sealed", "Blocks sealed", &metrics.sealed),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("skipped", "Offered items that no block holds", metrics.skipped.clone());
        let histograms = [
            ("margin_seconds", "From a window's close to its block's timestamp", &metrics.margin),
            ("hold_seconds", "How long getPayload was held", &metrics.hold),
            ("build_seconds", "How long the engine built", &metrics.build),
            ("late_seconds", "From a block's timestamp until it was sealed", &metrics.late),
            (
                "sealing_seconds",
                "From the arrival of a window's last log block until its block was sealed",
                &metrics.sealing,
            ),
            ("added_seconds", "Time the sidecar adds to a call that nothing holds", &metrics.added),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
        let gauges = [
            ("log_height", "Newest verified height of the log", &metrics.log_height),
            ("head_number", "Number of the newest block with a known cursor", &metrics.head_number),
            ("backlog_milliseconds", "Age of the oldest item not offered yet", &metrics.backlog_ms),
            ("endpoints_serving", "Committee nodes that serve", &metrics.endpoints_serving),
            ("records_waiting", "Records that the log does not show yet", &metrics.records_waiting),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        metrics
    }

    fn new() -> Self {
        Self {
            jobs: Counter::default(),
            offered: Counter::default(),
            unsealed: Counter::default(),
            foreign: Counter::default(),
            engine_errors: Counter::default(),
            closed: Counter::default(),
            refusals: Counter::default(),
            sealed: Counter::default(),
            skipped: Family::default(),
            margin: Histogram::new([-2.0, -1.0, -0.5, 0.0].into_iter().chain(SECONDS)),
            hold: Histogram::new(SECONDS),
            build: Histogram::new(SECONDS),
            late: Histogram::new([-1.0, -0.05, -0.01, 0.0].into_iter().chain(SECONDS)),
            sealing: Histogram::new(SEALING),
            added: Histogram::new(SMALL),
            log_height: Gauge::default(),
            head_number: Gauge::default(),
            backlog_ms: Gauge::default(),
            endpoints_serving: Gauge::default(),
            records_waiting: Gauge::default(),
        }
    }

    /// A window closed at `now_ms`, whose block is due at `due_ms`.
    pub(crate) fn margin(&self, due_ms: u64, now_ms: u64) {
        self.margin.observe(seconds_between(now_ms, due_ms));
    }

    pub(crate) fn held(&self, time: Duration) {
        self.hold.observe(time.as_secs_f64());
    }

    pub(crate) fn added(&self, time: Duration) {
        self.added.observe(time.as_secs_f64());
    }

    pub(crate) fn built(&self, time: Duration, refusals: usize) {
        self.build.observe(time.as_secs_f64());
        self.refusals.inc_by(refusals as u64);
    }

    /// A block was sealed so long after the log block that closed its window had come.
    pub(crate) fn sealing(&self, time: Duration) {
        self.sealing.observe(time.as_secs_f64());
    }

    pub(crate) fn sealed(&self, sealed: &Sealed, now_ms: u64) {
        self.sealed.inc();
        self.late.observe(seconds_between(sealed.timestamp.saturating_mul(1_000), now_ms));
        let is_new = |skipped: &&Skipped| !Place::from(**skipped).is_behind(sealed.cursor);
        for skipped in sealed.skipped.iter().filter(is_new) {
            let reason = match skipped.reason {
                SkipReason::Invalid => "invalid",
                SkipReason::Stale => "stale",
                SkipReason::TooLarge => "too_large",
                SkipReason::OverLimit => "over_limit",
            };
            self.skipped.get_or_create(&Reason { reason }).inc();
        }
        self.head_number.set(i64::try_from(sealed.number).unwrap_or(i64::MAX));
    }
}

/// Seconds from `from_ms` to `to_ms`, negative if it is earlier.
#[expect(clippy::float_arithmetic, reason = "a metric, not a rule")]
fn seconds_between(from_ms: u64, to_ms: u64) -> f64 {
    let after = Duration::from_millis(to_ms.saturating_sub(from_ms)).as_secs_f64();
    let before = Duration::from_millis(from_ms.saturating_sub(to_ms)).as_secs_f64();
    after - before
}
