//! The crate's numbers, in a registry that the node gives.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of the gRPC services; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RpcMetrics {
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Connections refused because there were too many.
    pub(crate) connections_refused: Counter,
    /// Submissions accepted.
    pub(crate) submissions_accepted: Counter,
    /// Submissions refused, those over quota included.
    pub(crate) submissions_refused: Counter,
    /// Submissions refused over quota.
    pub(crate) submissions_over_quota: Counter,
    /// Server streams that are open.
    pub(crate) streams: Gauge,
}

impl RpcMetrics {
    /// Registers everything under `lockstep_rpc_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("lockstep_rpc");
        let gauges = [
            ("connections", "Open gRPC connections", &metrics.connections),
            ("streams", "Open server streams", &metrics.streams),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("connections_refused", "Connections over the cap", &metrics.connections_refused),
            ("submissions_accepted", "Submissions accepted", &metrics.submissions_accepted),
            ("submissions_refused", "Submissions refused", &metrics.submissions_refused),
            (
                "submissions_over_quota",
                "Submissions refused over the client's quota",
                &metrics.submissions_over_quota,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}

/// Counts one more as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
