//! Rare shapes of a plan, for what single faults hardly ever show: few seeds have one. It has chance of its own, so that the
//! other seeds' plans do not depend on it.

use crate::attacker::Lie;
use crate::plan::{Crash, DiskFault, MS, Patience, Plan};
use crate::rng::Rng;
use crate::world::Micros;

/// The shape.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// Consensus hardly waits for a proposal, so that a height takes many rounds, with restarts in the midst of it and a
    /// liar that knows whose turn comes.
    ManyRounds,
    /// A validator's store loses what was written in a height, again and again, and its consensus log does not; who is
    /// asked for it lies or is not reached.
    TornStores,
}

impl Profile {
    /// Most seeds have none.
    #[must_use]
    pub(crate) fn draw(rng: &mut Rng) -> Option<Self> {
        match rng.below(1_000) {
            0..25 => Some(Self::ManyRounds),
            25..40 => Some(Self::TornStores),
            _ => None,
        }
    }

    /// How many validators there are, and how many of them lie.
    #[must_use]
    pub(crate) const fn validators(self, liars: usize) -> (usize, usize) {
        match self {
            Self::ManyRounds => (4, if liars > 1 { 1 } else { liars }),
            // One lies, the other one of the third lost its store's tail.
            Self::TornStores => (7, 1),
        }
    }

    /// Shapes a plan.
    pub(crate) fn shape(self, plan: &mut Plan, rng: &mut Rng) {
        // The first number was the shape.
        rng.bits();
        match self {
            Self::ManyRounds => {
                let propose_ms = 10 + rng.below(60);
                let vote_ms = 10 + rng.below(20);
                let delta_ms = 3 + rng.below(12);
                plan.patience = Some(Patience { propose_ms, vote_ms, delta_ms });
                plan.delay = MS + rng.below(10 * MS);
                plan.jitter = rng.below(15 * MS);
                plan.work = MS + rng.below(4 * MS);
                // Some answers to consensus come when it waits no longer.
                plan.slow = if rng.chance(500) { rng.below(100) } else { 0 };
                plan.heights = 6;
                plan.crashes = many_crashes(rng, plan);
                plan.lies = vec![Lie::FutureRounds, Lie::ForkedLane];
            }
            Self::TornStores => {
                plan.heights = 6;
                plan.crashes = torn_crashes(rng, plan);
                plan.loss = plan.loss.max(20 + rng.below(80));
                plan.lies = vec![Lie::WrongValues];
            }
        }
    }
}

fn moment(rng: &mut Rng, plan: &Plan) -> Micros {
    plan.calm + rng.below(plan.heal_at - plan.calm)
}

/// Whole disks, short times down.
fn many_crashes(rng: &mut Rng, plan: &Plan) -> Vec<Crash> {
    let count = 4 + rng.below(12);
    let crash = |_| Crash {
        at: moment(rng, plan),
        node: plan.liars + rng.place(plan.nodes - plan.liars),
        effects: u32::try_from(1 + rng.below(60)).expect("few"),
        down: rng.below(60 * MS),
        disk: DiskFault::Kept,
    };
    (0..count).map(crash).collect()
}

/// One validator's store is as it was shortly before.
fn torn_crashes(rng: &mut Rng, plan: &Plan) -> Vec<Crash> {
    let node = plan.liars + rng.place(plan.nodes - plan.liars);
    let count = 4 + rng.below(8);
    let crash = |_| Crash {
        at: moment(rng, plan),
        node,
        effects: u32::try_from(1 + rng.below(100)).expect("few"),
        down: rng.below(60 * MS),
        disk: DiskFault::Torn,
    };
    (0..count).map(crash).collect()
}
