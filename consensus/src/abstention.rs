//! Why a validator follows without voting, and when that ends: the log, and what the mesh shows, are arguments.
//!
//! The rule behind each case is in `consensus/docs/0006-lost-guard.md`.

use lockstep_core::planted::{Bug, planted};
use lockstep_core::state::State;
use lockstep_core::types::{Height, UnixMillis};

use crate::guard::{Guard, Mark, Origin, SignError};

/// What a validator that may have signed something it does not know waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abstention {
    /// Guard and consensus log disagree, or the guard refused a signature: this height must be decided.
    Height(Height),
    /// The guard is new: a block with a later time must be decided. At its genesis a fresh one waits for the network to be
    /// there, too, instead.
    Marked {
        /// The operator's claim.
        origin: Origin,
        /// The log time, in milliseconds since 1970; see [`Mark::lost_until`].
        until: UnixMillis,
    },
}

impl core::fmt::Display for Abstention {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Height(height) => write!(f, "abstaining until height {height} is decided"),
            Self::Marked { origin: Origin::Lost, until } => write!(
                f,
                "abstaining until a block with a time after {} ms is decided: the guard was lost",
                until.0
            ),
            Self::Marked { origin: Origin::Fresh, until } => write!(
                f,
                "abstaining until a quorum is connected at height 0, or a block with a time after {} ms is decided: \
                 the guard is fresh",
                until.0
            ),
        }
    }
}

impl Abstention {
    /// What a guard with this mark waits for, in a network whose honest clocks differ by at most `drift_ms`.
    #[must_use]
    pub const fn of(mark: Mark, drift_ms: u64) -> Self {
        Self::Marked { origin: mark.origin, until: mark.lost_until(drift_ms) }
    }

    /// Whether the validator may vote above `decided`, the newest decided height, whose block has the time `timestamp`.
    /// `may_begin`: the network is shown to be at its genesis.
    #[must_use]
    pub fn is_over(self, decided: Height, timestamp: UnixMillis, may_begin: bool) -> bool {
        match self {
            Self::Height(height) => decided >= height,
            Self::Marked { .. } if planted(Bug::LostGuardVotes) => true,
            // No validator judged the genesis' time, so it ends no wait.
            Self::Marked { origin, .. } if decided == Height::GENESIS => {
                origin == Origin::Fresh && may_begin
            }
            Self::Marked { until, .. } => timestamp > until,
        }
    }
}

/// Lifts a guard's mark if what it waits for is over, durably where the log is beyond its genesis; else why the validator
/// does not vote. `None` for a guard without a mark. Blocks on the disk.
///
/// # Errors
/// [`SignError::Io`] and [`SignError::Stopped`].
pub fn use_mark_up(
    guard: &Guard,
    state: &State,
    may_begin: bool,
) -> Result<Option<Abstention>, SignError> {
    let Some(mark) = guard.mark() else { return Ok(None) };
    let why = Abstention::of(mark, state.committed.params.drift_ms);
    if !why.is_over(state.height, state.timestamp, may_begin) {
        return Ok(Some(why));
    }
    if state.height == Height::GENESIS {
        guard.begin();
    } else {
        guard.raise_floor(state.height)?;
    }
    Ok(None)
}

/// Why the validator does not vote, after what it waited for is over or the guard refused a signature. Blocks on the disk.
///
/// A fresh guard that began with the network and was too late to sign at its first height refuses at the next for its mark
/// alone: with the mark lifted it votes.
///
/// # Errors
/// [`SignError::Io`] and [`SignError::Stopped`].
pub fn after(
    guard: &Guard,
    state: &State,
    may_begin: bool,
    is_refused: bool,
) -> Result<Option<Abstention>, SignError> {
    let was_marked = guard.mark().is_some();
    let marked = use_mark_up(guard, state, may_begin)?;
    if marked.is_some() || !is_refused || was_marked {
        return Ok(marked);
    }
    let next = state.height.next();
    guard.abstain_until_decided(next);
    Ok(Some(Abstention::Height(next)))
}

#[cfg(test)]
mod tests {
    use lockstep_core::certificate::{Vote, VoteType};
    use lockstep_core::types::Round;

    use super::*;
    use crate::fixtures::Net;

    const FRESH: Mark = Mark { origin: Origin::Fresh, made_at: UnixMillis(10_000) };
    const LOST: Mark = Mark { origin: Origin::Lost, made_at: UnixMillis(10_000) };

    fn is_over(why: Abstention, decided: u64, timestamp: u64, may_begin: bool) -> bool {
        why.is_over(Height(decided), UnixMillis(timestamp), may_begin)
    }

    #[test]
    fn height_in_doubt_ends_when_it_is_decided() {
        let why = Abstention::Height(Height(7));
        assert!(!is_over(why, 6, u64::MAX, true));
        assert!(is_over(why, 7, 0, false));
    }

    #[test]
    fn lost_guard_waits_for_a_block_that_is_later_than_its_making_by_twice_the_drift() {
        let why = Abstention::of(LOST, 500);
        for (decided, timestamp) in [(1, 10_000), (9, 10_500), (900, 11_000)] {
            assert!(!is_over(why, decided, timestamp, true), "{decided} {timestamp}");
        }
        assert!(is_over(why, 1, 11_001, false));
    }

    #[test]
    fn genesis_ends_no_wait_of_a_lost_guard_whatever_its_time_is() {
        assert!(!is_over(Abstention::of(LOST, 500), 0, u64::MAX, true));
    }

    #[test]
    fn fresh_guard_begins_at_the_genesis_of_a_network_that_is_there_and_waits_as_a_lost_one_above()
    {
        let why = Abstention::of(FRESH, 500);
        assert!(is_over(why, 0, 0, true));
        assert!(!is_over(why, 0, u64::MAX, false));
        assert!(!is_over(why, 1, 11_000, true));
        assert!(is_over(why, 1, 11_001, false));
    }

    /// The answer for a guard with this mark, or one that has signed height 1, and what it then signs at height 8.
    fn after_refusal(mark: Option<Mark>) -> (Option<Abstention>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let net = Net::new(4);
        let (network, key) = (net.state.network_id, net.keys[0].clone());
        let made = mark.unwrap_or(FRESH);
        Guard::create(folder.path(), network, key.address(), made).unwrap();
        let (guard, _) = Guard::open(folder.path(), network, key).unwrap();
        let sign = |height| {
            let vote_type = VoteType::Prevote;
            guard.sign_vote(&Vote { height, round: Round(0), vote_type, block: None })
        };
        guard.begin();
        if mark.is_none() {
            sign(Height(1)).unwrap();
        }
        let state = State { height: Height(7), ..(*net.state).clone() };
        let why = after(&guard, &state, false, true).unwrap();
        (why, sign(Height(8)).is_ok())
    }

    #[test]
    fn refusal_for_a_mark_that_is_over_ends_with_the_mark() {
        assert_eq!(after_refusal(Some(FRESH)), (None, true));
    }

    #[test]
    fn refusal_for_a_mark_in_force_waits_for_what_the_mark_waits_for() {
        let late = Mark { made_at: UnixMillis(u64::MAX / 2), ..FRESH };
        let drift_ms = Net::new(4).state.committed.params.drift_ms;
        assert_eq!(after_refusal(Some(late)), (Some(Abstention::of(late, drift_ms)), false));
    }

    #[test]
    fn any_other_refusal_waits_for_the_height() {
        assert_eq!(after_refusal(None), (Some(Abstention::Height(Height(8))), false));
    }
}
