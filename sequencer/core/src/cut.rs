//! Cuts: what a proposal names. Per lane of the height's set, in address order, how far the log goes.
//!
//! A cut moves a lane forward along one chained run, or to a run of a higher incarnation, or not at all. What the
//! chain of batches between two cuts is follows from the two alone ([`LaneStep`]); its bounds are in
//! [`limits`](crate::limits).

use alloy_primitives::{Address, B256};
use alloy_rlp::{Encodable, RlpDecodable, RlpEncodable};

use crate::batch::BatchPosition;
use crate::encoding::{self, Canonical, tag};
use crate::limits::{CUT_BATCHES_MAX, CUT_BYTES_MAX, CUT_ENTRIES_MAX};
use crate::planted::{Bug, planted};
use crate::types::{BatchDigest, Incarnation, Sequence};
use crate::validator_set::ValidatorSet;

/// How far a lane is decided: the last batch, inclusive. Nothing decided yet is `(0, 0, zero digest)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct LanePosition {
    /// Whose lane.
    pub owner: Address,
    /// Run of the last decided batch.
    pub incarnation: Incarnation,
    /// Sequence of the last decided batch.
    pub sequence: Sequence,
    /// Digest of the last decided batch; zero if there is none.
    pub digest: BatchDigest,
}

impl LanePosition {
    /// The position of a lane of which nothing is decided.
    #[must_use]
    pub const fn start(owner: Address) -> Self {
        let (incarnation, sequence) = (Incarnation(0), Sequence(0));
        Self { owner, incarnation, sequence, digest: BatchDigest::ZERO }
    }

    /// Whether nothing of the lane is decided.
    #[must_use]
    pub fn is_start(&self) -> bool {
        *self == Self::start(self.owner)
    }

    /// The last decided batch's position.
    #[must_use]
    pub const fn batch(&self) -> BatchPosition {
        let Self { owner, incarnation, sequence, .. } = *self;
        BatchPosition { owner, incarnation, sequence }
    }
}

/// A proposal's cut: the new position of every lane of the height's set, in ascending order of owner.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Cut {
    /// One position per lane.
    pub lanes: Vec<LanePosition>,
}

impl Canonical for Cut {}

/// The batches a cut adds of one lane: sequences `first..=last` of `incarnation`, the first of which has `parent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStep {
    /// Whose lane.
    pub owner: Address,
    /// Which run.
    pub incarnation: Incarnation,
    /// First sequence, inclusive.
    pub first: Sequence,
    /// Last sequence, inclusive.
    pub last: Sequence,
    /// Parent digest of the first batch; zero where `first` is 0.
    pub parent: BatchDigest,
    /// Digest of the last batch.
    pub tip: BatchDigest,
}

/// Why a cut was refused. Objective: every honest validator refuses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCut {
    /// Not exactly the lanes of the height's set in address order.
    #[error(
        "cut names {got} lanes, or others than the {expected} of the height's set in address order"
    )]
    Lanes {
        /// Validators of the set.
        expected: usize,
        /// Lanes of the cut.
        got: usize,
    },
    /// A lane goes back, or names another batch at its decided position.
    #[error("cut moves the lane of {owner} back or sideways")]
    Backward {
        /// Whose lane.
        owner: Address,
    },
    /// A moved lane has a zero digest.
    #[error("cut moves the lane of {owner} to no batch")]
    NoDigest {
        /// Whose lane.
        owner: Address,
    },
    /// A lane moves that added too much for nothing.
    #[error("cut moves the lane of {owner}, which wasted more than it was forgiven")]
    Wasted {
        /// Whose lane.
        owner: Address,
    },
    /// More than [`CUT_BATCHES_MAX`] batches.
    #[error("cut adds {count} batches, at most {CUT_BATCHES_MAX} are allowed")]
    Batches {
        /// How many.
        count: u64,
    },
    /// More than [`CUT_ENTRIES_MAX`] entries.
    #[error("cut adds {count} entries, at most {CUT_ENTRIES_MAX} are allowed")]
    Entries {
        /// How many.
        count: usize,
    },
    /// More than [`CUT_BYTES_MAX`] bytes.
    #[error("cut adds {count} bytes, at most {CUT_BYTES_MAX} are allowed")]
    Bytes {
        /// How many.
        count: usize,
    },
}

impl LaneStep {
    /// How many batches.
    #[must_use]
    pub const fn batch_count(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }

    /// The step from one position of a lane to another; `None` if the lane does not move.
    ///
    /// # Errors
    /// [`InvalidCut::Backward`] and [`InvalidCut::NoDigest`].
    pub fn between(from: &LanePosition, to: &LanePosition) -> Result<Option<Self>, InvalidCut> {
        let owner = from.owner;
        if from == to {
            return Ok(None);
        }
        if to.digest == BatchDigest::ZERO {
            return Err(InvalidCut::NoDigest { owner });
        }
        let (first, parent) = if to.incarnation > from.incarnation {
            (Sequence(0), BatchDigest::ZERO)
        } else if to.incarnation == from.incarnation
            && to.sequence > from.sequence
            && !from.is_start()
        {
            (from.sequence.next(), from.digest)
        } else if planted(Bug::CutGoesBack) {
            return Ok(None);
        } else {
            return Err(InvalidCut::Backward { owner });
        };
        Ok(Some(Self {
            owner,
            incarnation: to.incarnation,
            first,
            last: to.sequence,
            parent,
            tip: to.digest,
        }))
    }
}

impl Cut {
    /// The cut of a height at which nothing is decided yet: all lanes of the set at their start.
    #[must_use]
    pub fn start(set: &ValidatorSet) -> Self {
        Self { lanes: set.iter().map(|v| LanePosition::start(v.address)).collect() }
    }

    /// Hash that the header commits to.
    #[must_use]
    pub fn hash(&self) -> B256 {
        let mut bytes = Vec::with_capacity(self.length());
        self.encode(&mut bytes);
        encoding::hash(tag::CUT, &[&bytes])
    }

    /// What this cut adds after `from` (the lanes as the parent left them, in address order): one step per lane that
    /// moves, in address order.
    ///
    /// # Errors
    /// [`InvalidCut`] if the lanes are not those of `from`, one goes back, or there are too many batches.
    pub fn steps(&self, from: &[LanePosition]) -> Result<Vec<LaneStep>, InvalidCut> {
        let is_same = self.lanes.len() == from.len()
            && self.lanes.iter().zip(from).all(|(to, from)| to.owner == from.owner);
        if !is_same {
            return Err(InvalidCut::Lanes { expected: from.len(), got: self.lanes.len() });
        }
        let mut steps = Vec::new();
        for (to, from) in self.lanes.iter().zip(from) {
            steps.extend(LaneStep::between(from, to)?);
        }
        let count = steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.batch_count()));
        if count > CUT_BATCHES_MAX as u64 {
            return Err(InvalidCut::Batches { count });
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests;
