//! An offer before the engine that judges it: which of its items the next attempt holds, by what the engine said so far.
//! Pure; [`attempts`](crate::session::attempts) carries them out.
//!
//! An item is blamed if the engine names it. If it names none, nothing is blamed before a block without items shows that
//! the refusal is about items at all, and before the same list has been refused three times while the list without its
//! last item was taken. So two answers that are wrong cost no item.
//!
//! | phase | holds | taken | refused, no item named |
//! |---|---|---|---|
//! | `All` | all items that are left | done | `Empty` |
//! | `Empty` | no item | `AllAgain` | [`Stuck::NotItems`] |
//! | `AllAgain` | all that are left | done | `Halving` |
//! | `Halving` | the first half of what is unclear | the first bad item is behind it | it is in it |
//! | `Again` | up to the suspected item | a contradiction: `All` | the item is blamed |

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_core::window::Offered;
use lockstep_execution::refusal::Refused;

use crate::limits::{CONTRADICTIONS_MAX, REFUSALS_MAX};
use crate::precheck::{Checked, Guessing, Precheck};

/// Refusals of one list after which its last item is blamed, if the list without it is taken.
const CONFIRMATIONS: usize = 3;

/// What an attempt holds, and what its answer will mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    All,
    Empty,
    AllAgain,
    /// The first `taken` items that are left were taken, the first `refused` were refused.
    Halving {
        taken: usize,
        refused: usize,
    },
    /// The item at `place` among those that are left is suspected; the list up to it was refused `count` times.
    Again {
        place: usize,
        count: usize,
    },
}

/// Why no block of the offer is tried any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// The engine refuses a block without any item, too: what is wrong is not the items.
    NotItems,
    /// It refuses a list and takes the same list, again and again. Try again later.
    Contradictions,
    /// It refused too often. Offer nothing on this parent; these items were refused, or cannot be valid without those.
    TooManyRefusals(BTreeSet<usize>),
}

/// An offer on its way to a block.
#[derive(Clone, Debug)]
pub struct Trial {
    items: Arc<[Offered]>,
    /// Transactions in front of the items.
    deposits: usize,
    precheck: Precheck,
    guessing: Guessing,
    /// Items that the engine refused, or that were left out before.
    refused: BTreeSet<usize>,
    /// What else is left out because of that.
    checked: Checked,
    phase: Phase,
    refusals: usize,
    contradictions: usize,
}

impl Trial {
    /// A trial of `items` behind `deposits` other transactions. Those in `left_out` count as refused already.
    #[must_use]
    pub fn new(
        (items, deposits): (Arc<[Offered]>, usize),
        precheck: Precheck,
        guessing: Guessing,
        left_out: BTreeSet<usize>,
    ) -> Self {
        let checked = precheck.check(&left_out, &guessing);
        Self {
            items,
            deposits,
            precheck,
            guessing,
            refused: left_out,
            checked,
            phase: Phase::All,
            refusals: 0,
            contradictions: 0,
        }
    }

    /// The offer.
    #[must_use]
    pub const fn items(&self) -> &Arc<[Offered]> {
        &self.items
    }

    /// Items that the block does not hold.
    #[must_use]
    pub fn left_out(&self) -> BTreeSet<usize> {
        self.certain().chain(self.checked.guesses.keys()).copied().collect()
    }

    /// What is left out for reasons that the block itself must prove.
    #[must_use]
    pub const fn checked(&self) -> &Checked {
        &self.checked
    }

    /// How often the engine refused.
    #[must_use]
    pub const fn refusals(&self) -> usize {
        self.refusals
    }

    /// The items of the next attempt, by their place in the offer.
    #[must_use]
    pub fn attempt(&self) -> Vec<usize> {
        let mut kept = self.kept();
        match self.phase {
            Phase::All | Phase::AllAgain => {}
            Phase::Empty => kept.clear(),
            Phase::Halving { taken, refused } => kept.truncate(taken.midpoint(refused)),
            Phase::Again { place, .. } => kept.truncate(place.saturating_add(1)),
        }
        kept
    }

    /// The engine took the attempt. Whether it is the block.
    ///
    /// # Errors
    /// [`Stuck::Contradictions`].
    pub fn taken(&mut self) -> Result<bool, Stuck> {
        match self.phase {
            Phase::All | Phase::AllAgain => return Ok(true),
            Phase::Empty => self.phase = Phase::AllAgain,
            Phase::Halving { taken, refused } => {
                self.phase = self.halved(taken.midpoint(refused), refused);
            }
            Phase::Again { .. } => {
                self.contradictions = self.contradictions.saturating_add(1);
                self.phase = Phase::All;
                if self.contradictions > CONTRADICTIONS_MAX {
                    return Err(Stuck::Contradictions);
                }
            }
        }
        Ok(false)
    }

    /// The engine refused the attempt.
    ///
    /// # Errors
    /// [`Stuck`] if there is nothing more to try.
    pub fn refused(&mut self, which: Refused) -> Result<(), Stuck> {
        self.refusals = self.refusals.saturating_add(1);
        let tried = self.attempt();
        if tried.is_empty() {
            return Err(Stuck::NotItems);
        }
        if self.refusals > REFUSALS_MAX {
            return Err(Stuck::TooManyRefusals(self.certain().copied().collect()));
        }
        if let Some(named) = self.named(&tried, which) {
            self.blame(named);
            return Ok(());
        }
        self.phase = match self.phase {
            Phase::All => Phase::Empty,
            // An attempt without items ends above.
            Phase::Empty | Phase::AllAgain => self.halved(0, tried.len()),
            Phase::Halving { taken, .. } => self.halved(taken, tried.len()),
            Phase::Again { place, count } => Phase::Again { place, count: count.saturating_add(1) },
        };
        if let Phase::Again { place, count: CONFIRMATIONS.. } = self.phase
            && let Some(item) = self.kept().get(place)
        {
            self.blame(*item);
        }
        Ok(())
    }

    /// Halves what is unclear, or suspects the one item that is left of it.
    fn halved(&self, taken: usize, refused: usize) -> Phase {
        if refused.saturating_sub(taken) > 1 {
            return Phase::Halving { taken, refused };
        }
        // The whole list was refused twice on the way here, a part of it once.
        let is_whole = refused == self.kept().len();
        Phase::Again { place: taken, count: if is_whole { 2 } else { 1 } }
    }

    fn blame(&mut self, item: usize) {
        self.refused.insert(item);
        self.checked = self.precheck.check(&self.refused, &self.guessing);
        self.phase = Phase::All;
    }

    fn kept(&self) -> Vec<usize> {
        let left_out = self.left_out();
        (0..self.items.len()).filter(|index| !left_out.contains(index)).collect()
    }

    fn certain(&self) -> impl Iterator<Item = &usize> {
        self.refused.union(&self.checked.hopeless)
    }

    /// Which of the items that were tried the engine means.
    fn named(&self, tried: &[usize], which: Refused) -> Option<usize> {
        match which {
            Refused::Hash(hash) => tried.iter().copied().find(|index| {
                self.items.get(*index).is_some_and(|item| item.item.hashes.contains(&hash))
            }),
            Refused::Index(index) => {
                let mut place = index.checked_sub(self.deposits)?;
                tried.iter().copied().find(|tried| {
                    let count = self.items.get(*tried).map_or(0, |item| item.item.hashes.len());
                    let is_here = place < count;
                    place = place.saturating_sub(count);
                    is_here
                })
            }
            Refused::Unnamed => None,
        }
    }
}

#[cfg(test)]
mod tests;
