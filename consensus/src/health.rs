//! What a node says of itself. Anything but [`Health::Ok`] is a 503 on `/healthz`, with the reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::types::Height;
use tokio::sync::watch;

use crate::app::Shared;
use crate::ledger::Ledger;

/// How often the node looks at itself.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// A log that stands still for so many block intervals is stalled.
const STALLED_INTERVALS: u32 = 12;
/// …but never before this long.
const STALLED_MIN: Duration = Duration::from_secs(2);

/// A node's own view of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It starts, and has not decided a block yet.
    Starting,
    /// It decides blocks.
    Ok,
    /// No block was decided for a while. `peers` of `others` validators are connected.
    Stalled {
        /// The newest decided height.
        height: Height,
        /// Validators connected.
        peers: usize,
        /// Other validators of the set.
        others: usize,
        /// Whether those connected are a quorum with this one.
        has_quorum: bool,
    },
    /// The guard knows more signatures than the log of consensus: it follows without voting until this height is
    /// decided.
    Abstaining {
        /// The height.
        until: Height,
    },
    /// It stopped voting because going on could sign a contradiction, or lose what it signed. An operator must look.
    Halted {
        /// Why.
        reason: String,
    },
}

impl core::fmt::Display for Health {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: no block decided yet"),
            Self::Ok => f.write_str("ok"),
            Self::Stalled { height, peers, others, has_quorum } => {
                let quorum = if *has_quorum { "a quorum" } else { "no quorum" };
                write!(
                    f,
                    "stalled at height {height}: {quorum}, {peers} of {others} other validators connected"
                )
            }
            Self::Abstaining { until } => write!(f, "abstaining until height {until} is decided"),
            Self::Halted { reason } => write!(f, "halted for safety: {reason}"),
        }
    }
}

/// Looks at the node until it halts.
pub(crate) async fn watch(
    (ledger, application): (Arc<Ledger>, Shared),
    last_commit: watch::Receiver<Instant>,
    interval: Duration,
    health: watch::Sender<Health>,
) {
    let stalled_after = interval.saturating_mul(STALLED_INTERVALS).max(STALLED_MIN);
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    let mut heads = ledger.heads();
    heads.mark_unchanged();
    let mut has_decided = false;
    loop {
        tick.tick().await;
        has_decided |= heads.has_changed().unwrap_or(false);
        let is_still = last_commit.borrow().elapsed() > stalled_after;
        let now = match (has_decided, is_still) {
            (_, true) => stalled(&application),
            (true, false) => Health::Ok,
            (false, false) => Health::Starting,
        };
        health.send_if_modified(|health| {
            let may_change =
                matches!(health, Health::Starting | Health::Ok | Health::Stalled { .. });
            let is_changed = may_change && *health != now;
            if is_changed {
                *health = now;
            }
            is_changed
        });
    }
}

fn stalled(application: &Shared) -> Health {
    let application = application.lock();
    let state = application.state();
    Health::Stalled {
        height: state.height,
        peers: application.peers_up(),
        others: state.committed.validators.len().saturating_sub(1),
        has_quorum: application.has_quorum(),
    }
}
