//! A validator's view of one lane: the batches behind the decided position, and how far they reach.
//!
//! Batches come in any order, of several runs, and from a lying owner. The view keeps the first batch it sees at each
//! position, names what is missing, and says how far a chain of digests reaches: that far the validator may acknowledge
//! and a proposer may cut. It holds checked batches and does no IO; the caller stores a batch before it acknowledges it.

mod book;
mod reach;

use std::collections::BTreeMap;

use alloy_primitives::Address;
use alloy_rlp::{RlpDecodable, RlpEncodable};

pub use book::{AckBook, Acknowledgers};
pub use reach::{CutLimits, build_cut, quorum_reach};

use crate::batch::{Acknowledged, BatchPosition, CheckedBatch};
use crate::cut::{LanePosition, LaneStep};
use crate::encoding::Canonical;
use crate::limits::{LANE_AHEAD_BATCHES_MAX, LANE_AHEAD_BYTES_MAX, LANE_AHEAD_ENTRIES_MAX};
use crate::planted::{Bug, planted};
use crate::types::{BatchDigest, Incarnation, Sequence};

/// Batches of one run of a lane, to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct BatchRange {
    /// Whose lane.
    pub owner: Address,
    /// Which run.
    pub incarnation: Incarnation,
    /// First sequence, inclusive.
    pub first: Sequence,
    /// Last sequence, inclusive.
    pub last: Sequence,
}

impl Canonical for BatchRange {}

/// What became of a batch that was offered to the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Held, and the batch before it is held or decided.
    New,
    /// Held, but batches before it are not.
    Gap {
        /// The nearest of those; at most [`LANE_AHEAD_BATCHES_MAX`].
        missing: BatchRange,
    },
    /// The same batch is held already.
    Known,
    /// At or below the decided position, or of a run that can't be decided any more. Not held.
    Decided,
    /// Another batch is held at the position, which stays: its owner signed both. Not held.
    Equivocation(Box<Evidence>),
    /// The batch before it is held or decided, with another digest than it names: its owner's fault. Not held.
    WrongParent {
        /// Digest of the batch before it.
        expected: BatchDigest,
        /// The parent it names.
        got: BatchDigest,
    },
    /// The lane is as far ahead of the log as is allowed. Not held; it can come again when the log has moved on.
    TooFarAhead,
    /// Of another owner's lane: a mistake of the caller. Not held.
    OtherLane,
}

/// Two batches at one position, both signed by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The one that came first.
    pub held: CheckedBatch,
    /// The one that came later.
    pub got: CheckedBatch,
}

/// Why the batches of a cut's step are not all at hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Some are not held. Ask for them.
    #[error("{} ranges of batches are missing", ranges.len())]
    Missing {
        /// In ascending order, not empty.
        ranges: Vec<BatchRange>,
    },
    /// Another batch is held where the cut names this one. Ask for it by its digest, and pass it as attached.
    #[error("batch {held} is held at {position:?}, the cut names {expected}")]
    Fork {
        /// The place.
        position: BatchPosition,
        /// Digest that the cut, or the batch behind, names.
        expected: BatchDigest,
        /// Digest of the one held.
        held: BatchDigest,
    },
    /// The chain from the step's tip leads elsewhere than to its parent: no batches make this step.
    #[error(
        "the chain of the step does not lead from its tip to its parent: wrong at {position:?}"
    )]
    Broken {
        /// Where it leaves the step.
        position: BatchPosition,
    },
}

/// What more a lane may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    batches: usize,
    entries: usize,
    bytes: usize,
}

impl Room {
    /// Whether there is room for a batch, which then is taken.
    pub fn take(&mut self, batch: &CheckedBatch) -> bool {
        let (entries, bytes) = (batch.entries().len(), batch.raw().len());
        let has_room = self.batches > 0 && entries <= self.entries && bytes <= self.bytes;
        if has_room {
            self.batches = self.batches.saturating_sub(1);
            self.entries = self.entries.saturating_sub(entries);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        has_room
    }
}

/// One lane, as far as it is ahead of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    decided: LanePosition,
    held: BTreeMap<(Incarnation, Sequence), CheckedBatch>,
    entries: usize,
    bytes: usize,
}

impl Lane {
    /// The lane behind its decided position; nothing is held.
    #[must_use]
    pub const fn new(decided: LanePosition) -> Self {
        Self { decided, held: BTreeMap::new(), entries: 0, bytes: 0 }
    }

    /// The last decided position.
    #[must_use]
    pub const fn decided(&self) -> &LanePosition {
        &self.decided
    }

    /// How many batches are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no batch is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes of the batches that are held, at most [`LANE_AHEAD_BYTES_MAX`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch held at a place of the lane.
    #[must_use]
    pub fn get(&self, incarnation: Incarnation, sequence: Sequence) -> Option<&CheckedBatch> {
        self.held.get(&(incarnation, sequence))
    }

    /// The batches held, by run and sequence.
    pub fn iter(&self) -> impl Iterator<Item = &CheckedBatch> {
        self.held.values()
    }

    /// Offers a batch. See [`Inserted`] for what becomes of it.
    pub fn insert(&mut self, batch: CheckedBatch) -> Inserted {
        let position = batch.position();
        let key = (position.incarnation, position.sequence);
        if position.owner != self.decided.owner {
            return Inserted::OtherLane;
        }
        if self.is_decided(&position) {
            return Inserted::Decided;
        }
        if let Some(held) = self.held.get(&key) {
            if held.digest() == batch.digest() {
                return Inserted::Known;
            }
            let held = held.clone();
            if planted(Bug::SecondBatchHeld) {
                self.held.insert(key, batch.clone());
            }
            return Inserted::Equivocation(Box::new(Evidence { held, got: batch }));
        }
        if !self.reaches(&batch.position()) || !self.room().take(&batch) {
            return Inserted::TooFarAhead;
        }
        let (expected, got) = (self.parent_of(&position), batch.header().parent);
        let inserted = match expected {
            None => Inserted::Gap { missing: self.gap_before(&position) },
            Some(expected) if expected != got => return Inserted::WrongParent { expected, got },
            Some(_) => Inserted::New,
        };
        self.entries = self.entries.saturating_add(batch.entries().len());
        self.bytes = self.bytes.saturating_add(batch.raw().len());
        self.held.insert(key, batch);
        inserted
    }

    /// The greatest batch up to which the chain of digests is complete: what may be acknowledged and cut. It is of the
    /// run of the decided position, or if nothing follows there, of the highest run whose first batch is held.
    #[must_use]
    pub fn tip(&self) -> Option<Acknowledged> {
        self.chain()
            .last()
            .map(|batch| Acknowledged { position: batch.position(), digest: batch.digest() })
    }

    /// The batches up to the [tip](Self::tip), in order: what a cut may add.
    pub fn chain(&self) -> impl Iterator<Item = &CheckedBatch> {
        let here = (self.decided.incarnation, self.decided.sequence.next(), self.decided.digest);
        let (incarnation, mut sequence, mut parent) = match self.held.get(&(here.0, here.1)) {
            Some(next) if next.header().parent == here.2 => here,
            _ => (self.highest_run(), Sequence(0), BatchDigest::ZERO),
        };
        core::iter::from_fn(move || {
            let batch = self.held.get(&(incarnation, sequence))?;
            if batch.header().parent != parent {
                return None;
            }
            (sequence, parent) = (sequence.next(), batch.digest());
            Some(batch)
        })
    }

    /// What is missing between the decided position and the greatest batch held in its run, and before the greatest
    /// batch held in each run that is not below the highest one begun. In ascending order; each at most
    /// [`LANE_AHEAD_BATCHES_MAX`] long.
    #[must_use]
    pub fn missing(&self) -> Vec<BatchRange> {
        let (mut missing, mut next) = (Vec::new(), self.first_of(self.decided.incarnation));
        let (mut run, highest) = (self.decided.incarnation, self.highest_run());
        for &(incarnation, sequence) in self.held.keys() {
            if incarnation != run {
                (run, next) = (incarnation, self.first_of(incarnation));
            }
            let is_wanted = run == self.decided.incarnation || run >= highest;
            if is_wanted && sequence > next {
                missing.push(self.range(run, next, sequence));
            }
            next = sequence.next();
        }
        missing
    }

    /// The batches of a cut's step, in order, each taken from `attached` (by digest) or from the view.
    ///
    /// # Errors
    /// [`Unresolved`] says what to ask for, or that the step can never be made.
    pub fn batches(
        &self,
        step: &LaneStep,
        attached: &BTreeMap<BatchDigest, CheckedBatch>,
    ) -> Result<Vec<CheckedBatch>, Unresolved> {
        let (mut batches, mut digest, mut sequence) = (Vec::new(), step.tip, step.last);
        loop {
            let position =
                BatchPosition { owner: step.owner, incarnation: step.incarnation, sequence };
            let held = self.held.get(&(step.incarnation, sequence));
            let batch = match (attached.get(&digest), held) {
                (Some(batch), _) => batch,
                (None, Some(batch)) if batch.digest() == digest => batch,
                (None, Some(other)) => {
                    let held = other.digest();
                    return Err(Unresolved::Fork { position, expected: digest, held });
                }
                (None, None) => return Err(self.missing_to(step, sequence)),
            };
            if batch.position() != position {
                return Err(Unresolved::Broken { position });
            }
            digest = batch.header().parent;
            batches.push(batch.clone());
            if sequence <= step.first {
                break;
            }
            sequence = Sequence(sequence.0.saturating_sub(1));
        }
        if digest != step.parent {
            let LaneStep { owner, incarnation, first: sequence, .. } = *step;
            let position = BatchPosition { owner, incarnation, sequence };
            return Err(Unresolved::Broken { position });
        }
        batches.reverse();
        Ok(batches)
    }

    /// Moves the decided position, and gives what is no longer held: all at or below it, all of lower runs, and what
    /// follows it in its run on another branch. A position that is not ahead changes nothing.
    pub fn advance(&mut self, to: &LanePosition) -> Vec<CheckedBatch> {
        let before = (self.decided.incarnation, self.decided.sequence);
        if to.owner != self.decided.owner || (to.incarnation, to.sequence) <= before {
            return Vec::new();
        }
        self.decided = *to;
        let ahead = self.held.split_off(&(to.incarnation, to.sequence.next()));
        let mut removed: Vec<_> = core::mem::replace(&mut self.held, ahead).into_values().collect();
        let mut next = to.sequence.next();
        let is_fork = self
            .held
            .get(&(to.incarnation, next))
            .is_some_and(|batch| batch.header().parent != to.digest);
        while is_fork && let Some(batch) = self.held.remove(&(to.incarnation, next)) {
            removed.push(batch);
            next = next.next();
        }
        for batch in &removed {
            self.entries = self.entries.saturating_sub(batch.entries().len());
            self.bytes = self.bytes.saturating_sub(batch.raw().len());
        }
        removed
    }

    /// Runs must have a higher incarnation than 0, the start's.
    fn is_decided(&self, position: &BatchPosition) -> bool {
        let decided = &self.decided;
        let place = (position.incarnation, position.sequence);
        place <= (decided.incarnation, decided.sequence)
            || (decided.is_start() && position.incarnation == decided.incarnation)
    }

    /// Whether a position is near enough to what is decided to be held.
    #[must_use]
    pub fn reaches(&self, position: &BatchPosition) -> bool {
        let first = self.first_of(position.incarnation);
        position.sequence.0.saturating_sub(first.0) < LANE_AHEAD_BATCHES_MAX as u64
    }

    /// What the lane may hold beside what it holds.
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            batches: LANE_AHEAD_BATCHES_MAX.saturating_sub(self.held.len()),
            entries: LANE_AHEAD_ENTRIES_MAX.saturating_sub(self.entries),
            bytes: LANE_AHEAD_BYTES_MAX.saturating_sub(self.bytes),
        }
    }

    /// The first sequence of a run that is not decided.
    fn first_of(&self, incarnation: Incarnation) -> Sequence {
        if incarnation == self.decided.incarnation && !self.decided.is_start() {
            self.decided.sequence.next()
        } else {
            Sequence(0)
        }
    }

    /// Digest that a batch at this position must name as its parent, if that is known.
    fn parent_of(&self, position: &BatchPosition) -> Option<BatchDigest> {
        let Some(before) = position.sequence.0.checked_sub(1).map(Sequence) else {
            return Some(BatchDigest::ZERO);
        };
        if (position.incarnation, before) == (self.decided.incarnation, self.decided.sequence) {
            return Some(self.decided.digest);
        }
        self.get(position.incarnation, before).map(CheckedBatch::digest)
    }

    /// The batches not held right before a position.
    fn gap_before(&self, position: &BatchPosition) -> BatchRange {
        let run = position.incarnation;
        let first = self.first_of(run);
        let held = self.held.range((run, first)..(run, position.sequence)).next_back();
        let next = held.map_or(first, |((_, sequence), _)| sequence.next());
        self.range(run, next, position.sequence)
    }

    /// The range from `first` up to, but without, `end`.
    fn range(&self, incarnation: Incarnation, first: Sequence, end: Sequence) -> BatchRange {
        let last = Sequence(end.0.saturating_sub(1));
        BatchRange { owner: self.decided.owner, incarnation, first, last }
    }

    /// The highest run whose first batch is held, above the decided one; else the decided one.
    fn highest_run(&self) -> Incarnation {
        let mut above = (Incarnation(u64::MAX), Sequence(u64::MAX));
        while let Some((&(run, first), _)) = self.held.range(..=above).next_back() {
            if run <= self.decided.incarnation {
                break;
            }
            if first == Sequence(0) || self.held.contains_key(&(run, Sequence(0))) {
                return run;
            }
            above = (Incarnation(run.0.saturating_sub(1)), Sequence(u64::MAX));
        }
        self.decided.incarnation
    }

    /// All of the step that is not held, at or below `sequence`.
    fn missing_to(&self, step: &LaneStep, sequence: Sequence) -> Unresolved {
        let run = step.incarnation;
        let (mut ranges, mut next) = (Vec::new(), step.first);
        let held = self.held.range((run, step.first)..(run, sequence)).map(|((_, s), _)| *s);
        for sequence in held.chain([sequence.next()]) {
            if sequence > next {
                ranges.push(self.range(run, next, sequence));
            }
            next = sequence.next();
        }
        Unresolved::Missing { ranges }
    }
}

#[cfg(test)]
mod tests;
