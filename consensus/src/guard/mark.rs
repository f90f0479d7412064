//! Marks of a guard that has not signed yet: how it was made, and when it may sign.
//!
//! A validator whose guard is new knows nothing of what its key has signed. Two cases look alike on an empty disk, so
//! the operator names one when the guard is made:
//!
//! | mark | operator's claim | may sign |
//! |---|---|---|
//! | fresh | the key has never run | at height 1, once the network is shown to be at its genesis; else as lost |
//! | lost | the key may have signed | above the first height that is decided after the loss for certain |
//!
//! "After the loss for certain" is a rule over log time, not over what peers claim: see [`Mark::lost_until`]. The first
//! signature uses a fresh mark up, the floor a lost one. Decision note: `consensus/docs/0006-lost-guard.md`.

use lockstep_core::types::UnixMillis;

/// What the operator knows of the key when its guard is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The key has never signed.
    Fresh,
    /// The key may have signed, and the record of it is lost.
    Lost,
}

impl core::fmt::Display for Origin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Lost => "lost",
        })
    }
}

/// A mark that is in force: the guard has signed nothing since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The operator's claim.
    pub origin: Origin,
    /// When the guard was made, by this machine's clock, in milliseconds since 1970. Whatever this key signed before
    /// was signed earlier.
    pub made_at: UnixMillis,
}

impl Mark {
    /// A block with a later time was first judged after the guard was made, hence after the loss.
    ///
    /// A quorum prevotes a fresh block only if its time is at most `drift_ms` ahead of an honest validator's clock.
    /// That clock may itself be `drift_ms` ahead of the one that gave `made_at`. The sum of both is added.
    #[must_use]
    pub const fn lost_until(self, drift_ms: u64) -> UnixMillis {
        self.made_at.plus(drift_ms).plus(drift_ms)
    }
}
