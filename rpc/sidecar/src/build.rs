//! Builds a block from an offer with the engine as the judge: what it refuses is left out, the rest stays in order.
//!
//! Engines differ. op-geth refuses the whole build and names the first transaction that failed; op-reth leaves such
//! transactions out by itself (from its source, not verified against the program); a strict engine refuses and names
//! nothing. All three end with the same block: every item that is valid when its turn comes, a leg whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_core::window::Offered;
use lockstep_execution::attributes::{Attributes, InvalidAttributes};
use lockstep_execution::client::{Engine, EngineError};
use lockstep_execution::payload::Payload;
use lockstep_execution::refusal::{self, Refused};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::heads::{Heads, NotHead};
use crate::limits::REFUSALS_MAX;
use crate::precheck::{Guess, Guessing, Precheck};
use crate::trial::{Stuck, Trial};

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

/// What was found out of an offer before it is built.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The rules that need no engine.
    pub precheck: &'a Precheck,
    /// What may be guessed.
    pub guessing: &'a Guessing,
}

/// Why nothing was built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine cannot build now: it is away, or syncs, or gives no payload. Try again.
    #[error("the engine cannot build: {0}")]
    Engine(String),
    /// The engine refuses what op-node itself wants in the block. Nothing of ours is at fault.
    #[error("the engine refuses the deposits: {0}")]
    OwnTransactions(String),
    /// The engine refused too often. Offer nothing on this parent; these items are bad on it.
    #[error("the engine refused {REFUSALS_MAX} times")]
    TooManyRefusals(BTreeSet<usize>),
    /// The attributes cannot be written.
    #[error("{0}")]
    Attributes(#[from] InvalidAttributes),
    /// op-node has another head by now. The job is dead.
    #[error("{0}")]
    NotHead(#[from] NotHead),
}

impl From<EngineError> for BuildError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error.to_string())
    }
}

/// The job, as op-node asked for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// The version of `forkchoiceUpdated` that op-node used.
    pub method: String,
    /// The block to build on.
    pub parent: B256,
    /// What op-node wants the heads to be, whenever the engine is called.
    pub heads: Arc<Heads>,
    /// The attributes.
    pub attributes: Attributes,
    /// Where an engine may find items bad only while it builds: the version of `getPayload` to ask for the block at
    /// once, so that an attempt shows it.
    pub get_payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    payload_status: Status,
    #[serde(default)]
    payload_id: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

/// One attempt: the engine's payload id, or what it refused.
enum Attempt {
    Building(Box<RawValue>),
    Refused(Refused, String),
}

/// Builds from those of `items` that are not in `left_out`; those that the engine refuses are left out, too, and so is what
/// follows from that.
///
/// # Errors
/// [`BuildError`] if there is no block.
pub async fn build(
    engine: &Engine,
    order: &Order,
    items: &[Offered],
    left_out: BTreeSet<usize>,
    known: Known<'_>,
) -> Result<Build, BuildError> {
    let offer = (items, order.attributes.transactions.len());
    let mut trial = Trial::new(offer, known.precheck, known.guessing, left_out);
    loop {
        let (stuck, words) = match attempt(engine, order, items, &trial.attempt()).await? {
            Attempt::Building(payload_id) => match trial.taken() {
                Ok(false) => continue,
                Ok(true) => {
                    return Ok(Build {
                        payload_id,
                        left_out: trial.left_out(),
                        guesses: trial.checked().guesses.clone(),
                        refusals: trial.refusals(),
                        precheck: known.precheck.clone(),
                    });
                }
                Err(stuck) => (stuck, "it takes what it refused".to_owned()),
            },
            Attempt::Refused(which, words) => match trial.refused(which) {
                Ok(()) => continue,
                Err(stuck) => (stuck, words),
            },
        };
        return Err(match stuck {
            Stuck::NotItems => BuildError::OwnTransactions(words),
            Stuck::Contradictions => BuildError::Engine(words),
            Stuck::TooManyRefusals(refused) => BuildError::TooManyRefusals(refused),
        });
    }
}

/// Builds the block of `before` again without some more of its items.
///
/// # Errors
/// [`BuildError`] if there is no block.
pub async fn rebuild(
    engine: &Engine,
    order: &Order,
    items: &[Offered],
    before: &Build,
    torn: &BTreeSet<usize>,
) -> Result<Build, BuildError> {
    let left_out = before.left_out.union(torn).copied().collect();
    let known = Known { precheck: &before.precheck, guessing: &Guessing::none() };
    let build = build(engine, order, items, left_out, known).await?;
    // What was guessed is still left out, so the block has to prove it still.
    Ok(Build { guesses: before.guesses.clone(), ..build })
}

fn kept(items: &[Offered], left_out: &BTreeSet<usize>) -> Vec<usize> {
    (0..items.len()).filter(|index| !left_out.contains(index)).collect()
}

async fn attempt(
    engine: &Engine,
    order: &Order,
    items: &[Offered],
    kept: &[usize],
) -> Result<Attempt, BuildError> {
    let transactions = kept
        .iter()
        .filter_map(|index| items.get(*index))
        .flat_map(|item| item.item.item.transactions());
    let attributes = order.attributes.with_items(transactions)?;
    let (forkchoice, turn) = order.heads.take_turn(order.parent).await?;
    let answer = engine.call(&order.method, (&forkchoice.raw, &attributes)).await;
    drop(turn);
    let raw = match answer {
        Ok(raw) => raw,
        Err(error) => {
            let refused = error.refusal().and_then(refusal::refused);
            return match refused {
                Some(which) => Ok(Attempt::Refused(which, error.to_string())),
                None => Err(error.into()),
            };
        }
    };
    let updated: Updated = serde_json::from_str(raw.get())
        .map_err(|error| BuildError::Engine(format!("answer to {}: {error}", order.method)))?;
    match (updated.payload_status.status.as_str(), updated.payload_id) {
        ("VALID", Some(payload_id)) => built(engine, order, payload_id).await,
        (status, _) => Err(BuildError::Engine(format!("no payload, status {status}"))),
    }
}

async fn built(
    engine: &Engine,
    order: &Order,
    payload_id: Box<RawValue>,
) -> Result<Attempt, BuildError> {
    let Some(method) = &order.get_payload else {
        return Ok(Attempt::Building(payload_id));
    };
    match engine.call(method, (&payload_id,)).await {
        Ok(_) => Ok(Attempt::Building(payload_id)),
        Err(error) if error.refusal().is_some() => {
            Ok(Attempt::Refused(Refused::Unnamed, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
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
