//! The node's health, as it says of itself: shown over HTTP and over gRPC's health service.

use lockstep_core::types::Height;
use tokio::sync::watch;

/// In which state the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It opens its store and finds its peers.
    Starting,
    /// It follows the log and is behind.
    CatchingUp,
    /// It takes part.
    Serving,
    /// It runs, but no block was decided for longer than there should be.
    Stalled,
    /// It stopped for safety; a person must look.
    Stopped,
}

impl HealthState {
    /// The state's name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::CatchingUp => "catching_up",
            Self::Serving => "serving",
            Self::Stalled => "stalled",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the process does what it should: `/healthz` answers 200. A restart would not help one that starts or
    /// catches up.
    #[must_use]
    pub const fn is_healthy(self) -> bool {
        match self {
            Self::Starting | Self::CatchingUp | Self::Serving => true,
            Self::Stalled | Self::Stopped => false,
        }
    }

    /// Whether users should be sent here: `/readyz` answers 200.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Serving)
    }
}

/// What the node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// In which state it is.
    pub state: HealthState,
    /// Why, for people; empty while all is well.
    pub reason: String,
    /// Newest decided height; 0 before the first.
    pub height: Height,
}

impl Health {
    /// The health of a node that has just begun.
    #[must_use]
    pub const fn starting() -> Self {
        Self { state: HealthState::Starting, reason: String::new(), height: Height::GENESIS }
    }
}

/// The node updates the sender; every listener reads.
#[must_use]
pub fn channel() -> (watch::Sender<Health>, watch::Receiver<Health>) {
    watch::channel(Health::starting())
}
