//! A block built from an offer with the engine as the judge: what it refuses is left out, the rest stays in order. Pure.
//!
//! Engines differ. op-geth refuses the whole build and names the first transaction that failed; op-reth leaves such
//! transactions out by itself (from its source, not verified against the program); a strict engine refuses and names
//! nothing. All three end with the same block: every item that is valid when its turn comes, a leg whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::window::{Offered, Place};
use lockstep_execution::attributes::Attributes;
use lockstep_execution::client::EngineError;
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;

use crate::limits::REFUSALS_MAX;
use crate::precheck::{Guess, Precheck};
use crate::session::error::NotHead;

/// A block that the engine has built, or is building.
#[derive(Clone, Debug)]
pub struct Build {
    /// The engine's payload id, as it came.
    pub payload_id: Box<RawValue>,
    /// Items that were left out, by their place among those given.
    pub left_out: BTreeSet<usize>,
    /// Those of them that only seem to be bad: the block must prove it.
    pub guesses: BTreeMap<usize, Guess>,
    /// How often the engine refused.
    pub refusals: usize,
    /// What was known of the offer.
    pub precheck: Precheck,
}

/// Why nothing was built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine is away, or answers something else. Try again.
    #[error("the engine cannot build: {0}")]
    Engine(#[from] EngineError),
    /// The engine begins no payload: it syncs. Try again.
    #[error("the engine cannot build: no payload, status {0}")]
    Status(String),
    /// The engine takes what it refused. Try again.
    #[error("the engine cannot build: it takes what it refused")]
    Contradictions,
    /// The engine refuses what op-node itself wants in the block. Nothing of ours is at fault.
    #[error("the engine refuses the deposits: {0}")]
    OwnTransactions(EngineError),
    /// The engine refused too often. Offer nothing on this parent; these items are bad on it.
    #[error("the engine refused {REFUSALS_MAX} times")]
    TooManyRefusals(BTreeSet<usize>),
    /// op-node has another head by now. The job is dead.
    #[error("{0}")]
    NotHead(#[from] NotHead),
}

impl BuildError {
    /// Whether the engine may build the same later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Engine(_) | Self::Status(_) | Self::Contradictions => true,
            Self::OwnTransactions(_) | Self::TooManyRefusals(_) | Self::NotHead(_) => false,
        }
    }
}

/// The items of an offer that are not left out, by their place.
#[must_use]
pub fn kept(items: &[Offered], left_out: &BTreeSet<usize>) -> Vec<usize> {
    (0..items.len()).filter(|index| !left_out.contains(index)).collect()
}

/// What became of the items in the block that the engine built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The block holds the kept items but these, which the engine left out by itself.
    Good(BTreeSet<usize>),
    /// The engine left out a part of these legs: they must be left out whole, and the block built again.
    Torn(BTreeSet<usize>),
    /// The block is not deposits and kept items in order. It must not be handed on.
    Foreign,
}

/// Compares a payload with what it was to be built from.
#[must_use]
pub fn outcome(
    payload: &Payload,
    attributes: &Attributes,
    items: &[Offered],
    left_out: &BTreeSet<usize>,
) -> Outcome {
    let Some(mut rest) = payload.transactions.strip_prefix(attributes.transactions.as_slice())
    else {
        return Outcome::Foreign;
    };
    let (mut missing, mut torn) = (BTreeSet::new(), BTreeSet::new());
    for index in kept(items, left_out) {
        let Some(item) = items.get(index) else { continue };
        let mut found = 0usize;
        let transactions = item.item.item.transactions();
        for transaction in transactions {
            if let Some((first, behind)) = rest.split_first()
                && first == transaction
            {
                rest = behind;
                found = found.saturating_add(1);
            }
        }
        if found == 0 {
            missing.insert(index);
        } else if found < transactions.len() {
            torn.insert(index);
        }
    }
    match (rest.is_empty(), torn.is_empty()) {
        (false, _) => Outcome::Foreign,
        (true, false) => Outcome::Torn(torn),
        (true, true) => Outcome::Good(missing),
    }
}

/// Where some of the items are in the log.
#[must_use]
pub fn places(items: &[Offered], which: &BTreeSet<usize>) -> BTreeSet<Place> {
    which.iter().filter_map(|index| items.get(*index)).map(|item| item.place).collect()
}
