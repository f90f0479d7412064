//! Gives an engine the unsafe blocks back that it lost: one that was killed comes up with an older head, and op-node would
//! derive again what L1 has, and lose the rest.
//!
//! The payloads are the newest ones that op-node brought, more than reach back to the safe head as a rule. The newest is tried first; while the engine lacks a
//! parent, that is tried before it. What the engine has taken stays, so where op-node loses patience its next call goes on.

use std::task::Poll;
use std::time::Instant;

use alloy_primitives::B256;
use lockstep_execution::payload;
use serde_json::value::RawValue;

use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Note, Question};
use super::state::State;
use crate::limits::RESTORE_PATIENCE;

/// A payload as op-node brought it.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Hash of its parent.
    pub parent: B256,
    /// The version of `newPayload`.
    pub method: String,
    /// Its parameters.
    pub params: Vec<Box<RawValue>>,
}

impl Brought {
    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.params.iter().map(|raw| raw.get().len()).sum()
    }
}

/// The giving back of blocks up to one.
#[derive(Debug)]
pub struct Restoring {
    head: B256,
    /// Blocks that the engine lacks, the newest first; the last one is tried.
    path: Vec<B256>,
    begun: Instant,
    /// How many the engine took.
    count: usize,
    asking: Option<Asking>,
}

impl Restoring {
    /// Begins, if the payload of the block that the engine lacks is there.
    #[must_use]
    pub fn new(cx: &Context<'_>, state: &State, head: B256) -> Option<Self> {
        let (path, begun) = (vec![head], cx.now.instant);
        state.brought.contains(&head).then_some(Self { head, path, begun, count: 0, asking: None })
    }

    /// Goes on; whether the engine has the block in the end.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<bool> {
        loop {
            let Some(block) = self.path.last().copied() else {
                cx.note(Note::Restored { head: self.head, count: self.count });
                return Poll::Ready(true);
            };
            let Some(Brought { parent, method, params }) = state.brought.get(&block) else {
                return Poll::Ready(false);
            };
            let Some(asking) = &self.asking else {
                if cx.since(self.begun) >= RESTORE_PATIENCE {
                    return Poll::Ready(false);
                }
                let (method, params) = (method.clone(), params.clone());
                self.asking =
                    Some(cx.ask(Question::Call(EngineCall::NewPayload { method, params })));
                return Poll::Pending;
            };
            let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
            self.asking = None;
            let status = answer.ok().and_then(|raw| payload::status(&raw));
            match status.as_deref() {
                Some("VALID") => {
                    self.path.pop();
                    self.count = self.count.saturating_add(1);
                }
                // It lacks the parent, or the parent's state.
                Some("SYNCING" | "ACCEPTED")
                    if self.count == 0 && state.brought.contains(parent) =>
                {
                    self.path.push(*parent);
                }
                // It lacks more than is here, as an engine that syncs from nothing: it is not tried again with each call.
                Some("SYNCING" | "ACCEPTED") => {
                    state.brought.clear();
                    return Poll::Ready(false);
                }
                Some(_) | None => return Poll::Ready(false),
            }
        }
    }
}

/// Whether an engine's answer says that it lacks a block.
#[must_use]
pub fn is_lacking(status: Option<&str>) -> bool {
    matches!(status, Some("SYNCING" | "ACCEPTED"))
}
