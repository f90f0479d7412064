//! Attempts at a block: carries a [`Trial`] out before the engine.
//!
//! Engines differ. op-geth refuses the whole build and names the first transaction that failed; op-reth leaves such
//! transactions out by itself (from its source, not verified against the program); a strict engine refuses and names
//! nothing, or not before it is asked for the block. All end with the same block: every item that is valid when its turn
//! comes, a leg whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_core::window::Offered;
use lockstep_execution::attributes::Attributes;
use lockstep_execution::client::EngineError;
use lockstep_execution::refusal::{self, Refused};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Question};
use super::state::State;
use crate::build::{Build, BuildError};
use crate::precheck::{Guessing, Precheck};
use crate::trial::{Stuck, Trial};

/// A block to be built.
#[derive(Clone, Debug)]
pub struct Order {
    /// The version of `forkchoiceUpdated` that op-node used.
    pub method: String,
    /// The block to build on.
    pub parent: B256,
    /// What op-node wants in it.
    pub attributes: Arc<Attributes>,
    /// Where an engine may find items bad only while it builds: the version of `getPayload` to ask for the block at
    /// once, so that an attempt shows it.
    pub probe: Option<String>,
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

/// Attempts, until one is the block.
#[derive(Debug)]
pub struct Attempts {
    order: Order,
    precheck: Precheck,
    trial: Trial,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// Until no other job's call with heads is on its way.
    Waiting,
    Building(Asking),
    Probing(Box<RawValue>, Asking),
}

/// What the engine said to an attempt.
enum Attempted {
    Taken(Box<RawValue>),
    Refused(Refused, EngineError),
}

impl Attempts {
    /// Attempts at a block of those of `items` that are not in `left_out`; those that the engine refuses are left out, too,
    /// and so is what follows from that.
    #[must_use]
    pub fn new(
        order: Order,
        items: Arc<[Offered]>,
        left_out: BTreeSet<usize>,
        precheck: Precheck,
        guessing: Guessing,
    ) -> Self {
        let deposits = order.attributes.transactions.len();
        let trial = Trial::new((items, deposits), precheck.clone(), guessing, left_out);
        Self { order, precheck, trial, doing: Doing::Waiting }
    }

    /// An attempt at a block of nothing but deposits.
    #[must_use]
    pub fn at_deposits(order: Order) -> Self {
        Self::new(order, Arc::new([]), BTreeSet::new(), Precheck::default(), Guessing::none())
    }

    /// Attempts at the block of `before` without some more of its items.
    #[must_use]
    pub fn again(
        order: Order,
        items: Arc<[Offered]>,
        before: &Build,
        torn: &BTreeSet<usize>,
    ) -> Self {
        let left_out = before.left_out.union(torn).copied().collect();
        Self::new(order, items, left_out, before.precheck.clone(), Guessing::none())
    }

    /// Goes on; the block, once the engine builds it, or why there is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Build, BuildError>> {
        loop {
            let attempted = ready!(self.attempt(cx, state));
            if let Err(BuildError::Engine(_) | BuildError::Status(_)) = &attempted {
                state.doubt();
            }
            match attempted? {
                Attempted::Taken(payload_id) => {
                    if self.trial.taken().map_err(|_| BuildError::Contradictions)? {
                        return Poll::Ready(Ok(Build {
                            payload_id,
                            left_out: self.trial.left_out(),
                            guesses: self.trial.checked().guesses.clone(),
                            refusals: self.trial.refusals(),
                            precheck: self.precheck.clone(),
                        }));
                    }
                }
                Attempted::Refused(which, error) => {
                    self.trial.refused(which).map_err(|stuck| match stuck {
                        // As it does where it lacks the parent's state.
                        Stuck::NotItems => {
                            state.doubt();
                            BuildError::OwnTransactions(error)
                        }
                        Stuck::Contradictions => BuildError::Contradictions,
                        Stuck::TooManyRefusals(refused) => BuildError::TooManyRefusals(refused),
                    })?;
                }
            }
        }
    }

    fn attempt(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Attempted, BuildError>> {
        loop {
            match &self.doing {
                Doing::Waiting => {
                    let call = self.call(state)?;
                    if state.heads.is_taken() || state.doubt.is_some() {
                        return Poll::Pending;
                    }
                    let asking = cx.ask(Question::Call(call));
                    state.heads.take_turn(asking.id());
                    self.doing = Doing::Building(asking);
                }
                Doing::Building(asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    self.doing = Doing::Waiting;
                    let attempted = begun(&self.order, answer)?;
                    let (Attempted::Taken(payload_id), Some(method)) =
                        (&attempted, &self.order.probe)
                    else {
                        return Poll::Ready(Ok(attempted));
                    };
                    let (method, payload_id) = (method.clone(), payload_id.clone());
                    let call = EngineCall::GetPayload { method, payload_id: payload_id.clone() };
                    self.doing = Doing::Probing(payload_id, cx.ask(Question::Call(call)));
                }
                Doing::Probing(payload_id, asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    let payload_id = payload_id.clone();
                    self.doing = Doing::Waiting;
                    return Poll::Ready(match answer {
                        Ok(_) => Ok(Attempted::Taken(payload_id)),
                        Err(error) if error.refusal().is_some() => {
                            Ok(Attempted::Refused(Refused::Unnamed, error))
                        }
                        Err(error) => Err(error.into()),
                    });
                }
            }
        }
    }

    /// The call of the next attempt, if op-node still wants a block on this parent.
    fn call(&self, state: &State) -> Result<EngineCall, BuildError> {
        let forkchoice = state.heads.on(self.order.parent)?.raw.clone();
        let (method, attributes) = (self.order.method.clone(), Arc::clone(&self.order.attributes));
        let (items, kept) = (Arc::clone(self.trial.items()), self.trial.attempt());
        Ok(EngineCall::Build { method, forkchoice, attributes, items, kept })
    }
}

/// What the engine said to `forkchoiceUpdated`.
fn begun(
    order: &Order,
    answer: Result<Box<RawValue>, EngineError>,
) -> Result<Attempted, BuildError> {
    let raw = match answer {
        Ok(raw) => raw,
        Err(error) => {
            let refused = error.refusal().and_then(refusal::refused);
            return match refused {
                Some(which) => Ok(Attempted::Refused(which, error)),
                None => Err(error.into()),
            };
        }
    };
    let updated: Updated = serde_json::from_str(raw.get()).map_err(|error| {
        let reason = format!("answer to {}: {error}", order.method);
        EngineError::Answer { status: 200, reason }
    })?;
    match (updated.payload_status.status.as_str(), updated.payload_id) {
        ("VALID", Some(payload_id)) => Ok(Attempted::Taken(payload_id)),
        (status, _) => Err(BuildError::Status(status.to_owned())),
    }
}
