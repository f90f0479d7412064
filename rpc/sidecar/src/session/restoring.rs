//! Gives an engine the unsafe blocks back that it lost: one that was killed comes up with an older head, and op-node would
//! derive again what L1 has, and lose the rest.
//!
//! The payloads are the newest ones that op-node brought, more than reach back to the safe head as a rule. The newest is tried first; while the engine lacks a
//! parent, that is tried before it. What the engine has taken stays, so where op-node loses patience its next call goes on.

use std::task::{Poll, ready};
use std::time::Instant;

use alloy_primitives::B256;
use lockstep_execution::payload;
use serde_json::value::RawValue;

use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Note, Question};
use super::setting::{Set, Setting};
use super::state::State;
use crate::limits::RESTORE_PATIENCE;

/// A payload as op-node brought it.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Its number.
    pub number: u64,
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

/// What came of giving back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The engine has the block.
    Whole,
    /// It has not, and will not have it from here.
    Lacking,
    /// It took too long for one call: the next one goes on.
    Unfinished,
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
    /// Whether the engine's head is still to be moved to the first block that it has: op-geth takes no payload after a start
    /// until its head was set.
    may_set: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Choosing,
    Asking(Asking),
    Setting(Setting),
}

impl Restoring {
    /// Begins, if the payload of the block that the engine lacks is there.
    #[must_use]
    pub fn new(cx: &Context<'_>, state: &State, head: B256) -> Option<Self> {
        let (path, begun) = (vec![head], cx.now.instant);
        let doing = Doing::Choosing;
        let is_there = state.brought.contains(&head);
        is_there.then_some(Self { head, path, begun, count: 0, may_set: true, doing })
    }

    /// Goes on.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<Restored> {
        loop {
            match &mut self.doing {
                Doing::Choosing => {
                    let Some(brought) = self.path.last().map(|block| state.brought.get(block))
                    else {
                        cx.note(Note::Restored { head: self.head, count: self.count });
                        return Poll::Ready(Restored::Whole);
                    };
                    let Some(brought) = brought else { return Poll::Ready(Restored::Lacking) };
                    if cx.since(self.begun) >= RESTORE_PATIENCE {
                        return Poll::Ready(Restored::Unfinished);
                    }
                    let (method, params) = (brought.method.clone(), brought.params.clone());
                    let call = EngineCall::NewPayload { method, params };
                    self.doing = Doing::Asking(cx.ask(Question::Call(call)));
                }
                Doing::Asking(asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    let status = answer.ok().and_then(|raw| payload::status(&raw));
                    match self.answered(state, status.as_deref()) {
                        Some(doing) => self.doing = doing,
                        None => return Poll::Ready(Restored::Lacking),
                    }
                }
                Doing::Setting(setting) => match ready!(setting.poll(cx, state)) {
                    Set::Done => self.doing = Doing::Choosing,
                    Set::Away(_) => return Poll::Ready(Restored::Unfinished),
                    Set::Lacking | Set::Refused => return Poll::Ready(Restored::Lacking),
                },
            }
        }
    }

    /// What follows an answer.
    fn answered(&mut self, state: &State, status: Option<&str>) -> Option<Doing> {
        let block = self.path.last().copied()?;
        let parent = state.brought.get(&block)?.parent;
        let may_set = core::mem::take(&mut self.may_set);
        match status {
            Some("VALID") => {
                self.path.pop();
                self.count = self.count.saturating_add(1);
                let sets = may_set && !self.path.is_empty();
                Some(if sets { Doing::Setting(Setting::new(block)) } else { Doing::Choosing })
            }
            // It lacks the parent, or the parent's state.
            lacking
                if is_lacking(lacking) && self.count == 0 && state.brought.contains(&parent) =>
            {
                self.may_set = may_set;
                self.path.push(parent);
                Some(Doing::Choosing)
            }
            lacking if is_lacking(lacking) && may_set => Some(Doing::Setting(Setting::new(parent))),
            Some(_) | None => None,
        }
    }
}

/// Whether an engine's answer says that it lacks a block.
#[must_use]
pub fn is_lacking(status: Option<&str>) -> bool {
    matches!(status, Some("SYNCING" | "ACCEPTED"))
}
