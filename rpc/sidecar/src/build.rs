//! A block built from an offer with the engine as the judge: what it refuses is left out, the rest stays in order. Pure.
//!
//! Engines differ. op-geth refuses the whole build and names the first transaction that failed; op-reth leaves such
//! transactions out by itself (from its source, not verified against the program); a strict engine refuses and names
//! nothing. All three end with the same block: every item that is valid when its turn comes, a leg whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Bytes;
use lockstep_core::landing::{Landed, land};
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

/// Compares a payload with what it was to be built from. What is in it, core's [`landing`](lockstep_core::landing) says, as to
/// everybody who reads the chain.
#[must_use]
pub fn outcome(
    payload: &Payload,
    attributes: &Attributes,
    items: &[Offered],
    left_out: &BTreeSet<usize>,
) -> Outcome {
    let Some(users) = payload.transactions.strip_prefix(attributes.transactions.as_slice()) else {
        return Outcome::Foreign;
    };
    let kept: Vec<(usize, &[Bytes])> = kept(items, left_out)
        .into_iter()
        .filter_map(|index| Some((index, items.get(index)?.item.item.transactions())))
        .collect();
    let transactions: Vec<&[Bytes]> = kept.iter().map(|(_, transactions)| *transactions).collect();
    match land(users, &transactions) {
        Landed::Whole(landed) => {
            let missing = kept.iter().zip(landed).filter(|(_, first)| first.is_none());
            Outcome::Good(missing.map(|((index, _), _)| *index).collect())
        }
        Landed::Torn { items: torn, .. } => {
            let index = |item: usize| kept.get(item).map(|(index, _)| *index);
            Outcome::Torn(torn.into_iter().filter_map(index).collect())
        }
        Landed::Foreign { .. } => Outcome::Foreign,
    }
}

/// Where some of the items are in the log.
#[must_use]
pub fn places(items: &[Offered], which: &BTreeSet<usize>) -> BTreeSet<Place> {
    which.iter().filter_map(|index| items.get(*index)).map(|item| item.place).collect()
}
