//! A replica's timers, in our words and in malachite's.

use lockstep_core::types::Round;
use malachitebft_app_channel::app::types::core as mc;

/// Which step a timer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerStep {
    /// Propose.
    Propose,
    /// Prevote.
    Prevote,
    /// Precommit.
    Precommit,
    /// None: the last votes are sent again.
    Rebroadcast,
}

/// A timer. Each runs at most once at a time; setting it again replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// The step.
    pub step: TimerStep,
    /// The round.
    pub round: Round,
}

impl Timer {
    pub(super) fn to_malachite(self) -> mc::Timeout {
        let round = mc::Round::new(self.round.0);
        match self.step {
            TimerStep::Propose => mc::Timeout::propose(round),
            TimerStep::Prevote => mc::Timeout::prevote(round),
            TimerStep::Precommit => mc::Timeout::precommit(round),
            TimerStep::Rebroadcast => mc::Timeout::rebroadcast(round),
        }
    }

    pub(super) fn of_malachite(timeout: mc::Timeout) -> Self {
        let step = match timeout.kind {
            mc::TimeoutKind::Propose => TimerStep::Propose,
            mc::TimeoutKind::Prevote => TimerStep::Prevote,
            mc::TimeoutKind::Precommit => TimerStep::Precommit,
            mc::TimeoutKind::Rebroadcast => TimerStep::Rebroadcast,
            mc::TimeoutKind::FinalizeHeight(_) => unreachable!("no height has a target time"),
        };
        let round = timeout.round.as_u32().expect("a timer is of a round");
        Self { step, round: Round(round) }
    }
}
