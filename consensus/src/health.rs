//! What a node says of itself. Anything but [`Health::Ok`] is a 503 on `/healthz`, with the reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::types::Height;
use tokio::sync::watch;

use crate::abstention::Abstention;
use crate::app::Shared;
use crate::claims::Standing;
use crate::ledger::Ledger;

/// How often the node looks at itself.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// A log that stands still for so many block intervals is stalled.
const STALLED_INTERVALS: u32 = 12;
/// …but never before this long.
const STALLED_MIN: Duration = Duration::from_secs(2);
/// Heights that a node may lack and still be level with the others: what a second brings at the shortest interval.
const LEVEL_HEIGHTS: u64 = 20;

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
    /// It decides blocks that the other validators decided before.
    CatchingUp(Behind),
    /// It follows without voting, because it may have signed what it does not know.
    Abstaining {
        /// What it waits for.
        why: Abstention,
        /// How far it is behind, if it is.
        behind: Option<Behind>,
    },
    /// It stopped voting because going on could sign a contradiction, or lose what it signed. An operator must look.
    Halted {
        /// Why.
        reason: String,
    },
}

/// How far a node is behind the other validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The newest height that this node decided.
    pub height: Height,
    /// The highest that validators of more than a third of the voting power claim to have decided.
    pub reached: Height,
}

impl Behind {
    /// Whether a node at `height` is behind. Some heights less are ordinary: the claims come after every commit.
    const fn of(height: Height, reached: Height) -> Option<Self> {
        if reached.0.saturating_sub(height.0) > LEVEL_HEIGHTS {
            Some(Self { height, reached })
        } else {
            None
        }
    }
}

impl core::fmt::Display for Behind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "at height {} of {}", self.height, self.reached)
    }
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
            Self::CatchingUp(behind) => behind.fmt(f),
            Self::Abstaining { why, behind: None } => why.fmt(f),
            Self::Abstaining { why, behind: Some(behind) } => write!(f, "{why}; {behind}"),
            Self::Halted { reason } => write!(f, "halted for safety: {reason}"),
        }
    }
}

/// Looks at the node until it halts.
pub(crate) async fn watch(
    (ledger, application): (Arc<Ledger>, Shared),
    (last_commit, standing): (watch::Receiver<Instant>, watch::Receiver<Standing>),
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
        let behind = Behind::of(ledger.state().height, standing.borrow().reached);
        let now = match (is_still, behind) {
            (true, _) => stalled(&application),
            (false, Some(behind)) => Health::CatchingUp(behind),
            (false, None) if has_decided => Health::Ok,
            (false, None) => Health::Starting,
        };
        health.send_if_modified(|health| {
            let after = seen(health, now, behind);
            std::mem::replace(health, after.clone()) != after
        });
    }
}

/// The health after a look. What the supervisor says stays: only it knows when that is over.
fn seen(before: &Health, now: Health, behind: Option<Behind>) -> Health {
    match before {
        Health::Starting | Health::Ok | Health::Stalled { .. } | Health::CatchingUp(_) => now,
        Health::Abstaining { why, .. } => Health::Abstaining { why: *why, behind },
        Health::Halted { .. } => before.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const BEHIND: Behind = Behind { height: Height(30), reached: Height(51) };

    #[test]
    fn node_is_behind_when_it_lacks_more_heights_than_a_moment_brings() {
        let of = |reached| Behind::of(Height(30), Height(reached));
        for level in [0, 29, 30, 50] {
            assert_eq!(of(level), None, "{level}");
        }
        assert_eq!(of(51), Some(BEHIND));
        assert_eq!(Health::CatchingUp(BEHIND).to_string(), "at height 30 of 51");
    }

    #[test]
    fn look_replaces_what_a_look_found_and_nothing_that_the_supervisor_set() {
        for before in [Health::Starting, Health::Ok, Health::CatchingUp(BEHIND)] {
            assert_eq!(seen(&before, Health::Ok, None), Health::Ok);
        }
        let why = Abstention::Height(Height(9));
        let abstaining = Health::Abstaining { why, behind: None };
        let seen_behind = seen(&abstaining, Health::CatchingUp(BEHIND), Some(BEHIND));
        assert_eq!(seen_behind, Health::Abstaining { why, behind: Some(BEHIND) });
        let text = "abstaining until height 9 is decided; at height 30 of 51";
        assert_eq!(seen_behind.to_string(), text);
        assert_eq!(seen(&seen_behind, Health::Ok, None), abstaining);
        let halted = Health::Halted { reason: "a full disk".to_owned() };
        assert_eq!(seen(&halted, Health::Ok, None), halted);
    }
}
