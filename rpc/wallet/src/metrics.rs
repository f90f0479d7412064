//! What the wallets' port counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label: the reason in one word.
type Reason = [(&'static str, &'static str); 1];

/// Counters and gauges of the wallets' port; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct WalletMetrics {
    pub(crate) admitted: Counter,
    pub(crate) refused: Family<Reason, Counter>,
    pub(crate) dropped: Family<Reason, Counter>,
    pub(crate) resubmitted: Counter,
    pub(crate) pending: Gauge,
    pub(crate) connections: Gauge,
}

impl WalletMetrics {
    /// Registers everything under `lockstep_wallet_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("lockstep_wallet");
        let counters = [
            ("admitted", "Transactions admitted", &metrics.admitted),
            ("resubmitted", "Submissions after the first", &metrics.resubmitted),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let families = [
            ("refused", "Transactions refused, by reason", &metrics.refused),
            ("dropped", "Admitted transactions given up, by reason", &metrics.dropped),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        let gauges = [
            ("pending", "Admitted transactions that are not included yet", &metrics.pending),
            ("connections", "Open connections", &metrics.connections),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        metrics
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn drop_one(&self, reason: &'static str) {
        self.dropped.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn show_pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
