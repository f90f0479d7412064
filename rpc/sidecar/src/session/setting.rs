//! Sets the engine's head, and sees that it is set.
//!
//! op-geth that was killed under the path scheme comes up with an older head, and with the blocks above it, whose states are
//! lost. Told one of those, it says `VALID` and changes nothing, because that block is marked as canonical; and it takes no
//! block behind one without a state. It makes states again only where its head moves to a block that is not marked. So a
//! sibling of the first such block is built and made the head for a moment: that takes the marks away. Source:
//! `forkchoiceUpdated` in op-geth's `eth/catalyst/api.go`, `SetCanonical` and `reorg` in `core/blockchain.go`.

use std::sync::Arc;
use std::task::Poll;

use alloy_primitives::B256;
use lockstep_execution::attributes::Attributes;
use lockstep_execution::client::EngineError;
use lockstep_execution::payload::{self, Payload};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Note, Question};
use super::restoring::{Brought, is_lacking};
use super::starting::{payload_id, status};
use super::state::State;

/// The version that OP has used since Ecotone.
const SET_HEADS: &str = "engine_forkchoiceUpdatedV3";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Heads {
    head_block_hash: B256,
    safe_block_hash: B256,
    finalized_block_hash: B256,
}

/// What came of it.
#[derive(Debug)]
pub enum Set {
    /// The block is the engine's head.
    Done,
    /// The engine does not have the block.
    Lacking,
    /// It is not, and will not be.
    Refused,
    /// The engine is away.
    Away(String),
}

/// The setting of the head to a block. No job calls the engine meanwhile.
#[derive(Debug)]
pub struct Setting {
    target: B256,
    has_turned: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// The target is to be set.
    Waiting,
    Setting(Asking),
    /// The engine's head is asked for.
    Looking(Asking),
    Turning(Turn, Asking),
}

/// How a sibling of a block is made the head, and then the block: what is waited for.
#[derive(Clone, Debug)]
struct Turn {
    /// The block.
    block: B256,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// The engine begins to build the sibling.
    Building {
        get_payload: String,
    },
    Taking {
        get_payload: String,
    },
    Bringing {
        sibling: B256,
    },
    /// The sibling becomes the head.
    Leaving,
    /// The block becomes the head.
    Returning,
}

impl Setting {
    /// Begins.
    #[must_use]
    pub const fn new(target: B256) -> Self {
        Self { target, has_turned: false, doing: Doing::Waiting }
    }

    /// Goes on.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<Set> {
        loop {
            let doing = match &self.doing {
                Doing::Waiting if state.heads.is_taken() => return Poll::Pending,
                Doing::Waiting => Some(Doing::Setting(set(cx, state, self.target))),
                Doing::Setting(asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    let status = match answer {
                        Ok(raw) => status(&raw),
                        Err(error) => return Poll::Ready(failed(&error)),
                    };
                    match status.as_deref() {
                        lacking if is_lacking(lacking) => return Poll::Ready(Set::Lacking),
                        Some("VALID") => Some(Doing::Looking(cx.ask(Question::Head))),
                        Some(_) | None => None,
                    }
                }
                Doing::Looking(asking) => {
                    let Ok(head) = reply!(asking, cx, Header) else { return Poll::Pending };
                    let head = match head {
                        Ok(head) => head.map(|head| head.hash),
                        Err(error) => return Poll::Ready(failed(&error)),
                    };
                    if head == Some(self.target) {
                        return Poll::Ready(Set::Done);
                    }
                    head.and_then(|head| self.turn(cx, state, head))
                }
                Doing::Turning(turn, asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    match answer {
                        Ok(raw) => next(cx, state, turn.clone(), &raw),
                        Err(error) => return Poll::Ready(failed(&error)),
                    }
                }
            };
            let Some(doing) = doing else { return Poll::Ready(Set::Refused) };
            self.doing = doing;
        }
    }

    /// Begins to turn to the first block above the engine's head on the way to the target, once.
    fn turn(&mut self, cx: &mut Context<'_>, state: &State, head: B256) -> Option<Doing> {
        if self.has_turned {
            return None;
        }
        self.has_turned = true;
        let mut block = self.target;
        let brought = loop {
            let brought = state.brought.get(&block)?;
            if brought.parent == head {
                break brought;
            }
            block = brought.parent;
        };
        let (method, attributes) = (state.heads.newest()?.method.clone(), sibling(brought)?);
        let call = EngineCall::Build {
            method,
            forkchoice: heads(head),
            attributes: Arc::new(attributes),
            items: Arc::new([]),
            kept: Vec::new(),
        };
        cx.note(Note::Turned { head, block });
        let get_payload = brought.method.replace("newPayload", "getPayload");
        let turn = Turn { block, step: Step::Building { get_payload } };
        Some(Doing::Turning(turn, cx.ask(Question::Call(call))))
    }
}

/// What follows this answer; nothing if it is not what it must be.
fn next(cx: &mut Context<'_>, state: &State, turn: Turn, raw: &RawValue) -> Option<Doing> {
    let Turn { block, step } = turn;
    let (step, asking) = match step {
        Step::Building { get_payload } => {
            let (method, payload_id) = (get_payload.clone(), payload_id(raw)?);
            let call = EngineCall::GetPayload { method, payload_id };
            (Step::Taking { get_payload }, cx.ask(Question::Call(call)))
        }
        Step::Taking { get_payload } => {
            let sibling = Payload::in_envelope(raw)?.hash;
            let (method, params) = payload::import(&get_payload, raw)?;
            let call = EngineCall::NewPayload { method, params };
            (Step::Bringing { sibling }, cx.ask(Question::Call(call)))
        }
        Step::Bringing { sibling } => {
            let is_in = payload::status(raw).as_deref() == Some("VALID");
            (Step::Leaving, is_in.then(|| set(cx, state, sibling))?)
        }
        Step::Leaving => {
            let is_head = status(raw).as_deref() == Some("VALID");
            (Step::Returning, is_head.then(|| set(cx, state, block))?)
        }
        Step::Returning => return Some(Doing::Waiting),
    };
    Some(Doing::Turning(Turn { block, step }, asking))
}

/// Sets the head alone: op-node says itself what is safe.
fn set(cx: &mut Context<'_>, state: &State, head: B256) -> Asking {
    let wanted = state.heads.newest();
    let method = wanted.map_or_else(|| SET_HEADS.to_owned(), |wanted| wanted.method.clone());
    cx.ask(Question::Call(EngineCall::SetHeads { method, forkchoice: heads(head) }))
}

fn heads(head: B256) -> Box<RawValue> {
    let (safe, finalized) = (B256::ZERO, B256::ZERO);
    let heads =
        Heads { head_block_hash: head, safe_block_hash: safe, finalized_block_hash: finalized };
    to_raw_value(&heads).unwrap_or_default()
}

/// The attributes of a block that differs from this one in `prevRandao`, and has its deposits alone.
fn sibling(brought: &Brought) -> Option<Attributes> {
    let (payload, beacon_root) = (brought.params.first()?, brought.params.get(2));
    let raw = payload::attributes(payload, beacon_root.map(|raw| &**raw))?;
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
    let randao: B256 = serde_json::from_value(fields.get("prevRandao")?.clone()).ok()?;
    fields.insert("prevRandao".to_owned(), serde_json::to_value(!randao).ok()?);
    Attributes::read(&to_raw_value(&fields).ok()?).ok()
}

fn failed(error: &EngineError) -> Set {
    match error {
        // It has an opinion, which is op-node's to hear.
        EngineError::Refused(_) => Set::Refused,
        EngineError::Unreachable(_) | EngineError::Answer { .. } => Set::Away(error.to_string()),
    }
}
