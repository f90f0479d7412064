//! `newPayload`: passes, in front of a replica once it was compared with the log, and is remembered, so that the next block's
//! cursor needs no question to the engine.

use std::sync::Arc;
use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_execution::client::{Reply, result_of};
use lockstep_execution::json_rpc::SERVER_ERROR;
use lockstep_execution::payload::{self, Imported, Payload};
use serde_json::value::{RawValue, to_raw_value};

use super::context::{Asking, Context, reply};
use super::effect::{Answer, CallId, Effect, Note, Question};
use super::error::JobError;
use super::input::{Call, Forwarded};
use super::restoring::{Brought as Kept, is_lacking};
use super::state::State;
use super::verifying::{Verdict, Verifying};

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    status: &'a str,
    latest_valid_hash: Option<B256>,
    validation_error: &'a str,
}

/// What became of a block.
#[derive(Debug)]
pub enum Brought {
    /// The engine has it.
    In(Payload),
    /// It has not, or that is not known.
    Out,
    /// The engine lacks a parent that op-node brought through here: the call is to be made again once it has it.
    Doubt(Box<Call>),
}

/// A `newPayload` in work.
#[derive(Debug)]
pub struct Importing {
    call: CallId,
    method: String,
    payload: Payload,
    params: Vec<Box<RawValue>>,
    /// Whether the engine was given back what it lacks already.
    is_again: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Verifying(Box<Verifying>),
    Forwarding(Asking),
}

impl Importing {
    /// Begins with the call, for the first time or again; with what is to be compared first, if so.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        (call, is_again): (CallId, bool),
        method: String,
        (payload, params): (Payload, Vec<Box<RawValue>>),
        verifying: Option<Verifying>,
    ) -> Self {
        let doing = match verifying {
            Some(verifying) => Doing::Verifying(Box::new(verifying)),
            None => Doing::Forwarding(cx.ask(Question::Forward(call))),
        };
        Self { call, method, payload, params, is_again, doing }
    }

    /// Goes on, to the answer.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Brought> {
        loop {
            match &mut self.doing {
                Doing::Verifying(verifying) => {
                    match ready!(verifying.poll(cx, state)) {
                        Verdict::Good => {}
                        Verdict::Bad(reason) => return Poll::Ready(self.refuse(cx, reason)),
                        Verdict::Unknown(reason) => return Poll::Ready(self.put_off(cx, reason)),
                    }
                    self.doing = Doing::Forwarding(cx.ask(Question::Forward(self.call)));
                }
                Doing::Forwarding(asking) => {
                    let Ok(forwarded) = reply!(asking, cx, Forwarded) else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(match self.doubts(state, &forwarded) {
                        Some(call) => Brought::Doubt(call),
                        None => self.forwarded(cx, state, forwarded),
                    });
                }
            }
        }
    }

    /// The call, to be made again, if the engine lacks a parent that it can be given back.
    fn doubts(&self, state: &State, forwarded: &Forwarded) -> Option<Box<Call>> {
        let status = result(forwarded).and_then(|raw| payload::status(&raw));
        let is_known = state.can_give_back(&self.payload.parent);
        let doubts = is_lacking(status.as_deref()) && !self.is_again && is_known;
        let (method, payload) = (self.method.clone(), self.payload.clone());
        let params = self.params.clone();
        doubts.then(|| Box::new(Call::NewPayload { method, payload, params }))
    }

    fn refuse(&self, cx: &mut Context<'_>, reason: String) -> Brought {
        let status =
            Status { status: "INVALID", latest_valid_hash: None, validation_error: &reason };
        let answer = to_raw_value(&status).unwrap_or_default();
        cx.answer(self.call, Answer::Result(answer));
        cx.note(Note::Foreign { block: self.payload.hash, reason, is_refused: true });
        Brought::Out
    }

    fn put_off(&self, cx: &mut Context<'_>, reason: JobError) -> Brought {
        let message = reason.to_string();
        cx.answer(self.call, Answer::Error { code: SERVER_ERROR, message });
        cx.note(Note::NotComparable { block: self.payload.hash, reason });
        Brought::Out
    }

    fn keep_brought(&self, cx: &mut Context<'_>, state: &mut State) {
        let Payload { number, hash, parent, .. } = self.payload;
        let (method, params) = (self.method.clone(), self.params.clone());
        let kept = Arc::new(Kept { number, parent, method, params });
        state.brought.insert_weighed(hash, Arc::clone(&kept), kept.bytes());
        cx.push(Effect::KeepPayload(hash, kept));
    }

    fn forwarded(&self, cx: &mut Context<'_>, state: &mut State, forwarded: Forwarded) -> Brought {
        let parent = self.payload.parent;
        let result = result(&forwarded);
        cx.answer(self.call, Answer::Engine { forwarded, is_held: self.is_again });
        match result.and_then(|raw| payload::imported(&raw, parent)) {
            Some(Imported::Valid) => {
                state.keep(&self.payload);
                self.keep_brought(cx, state);
                Brought::In(self.payload.clone())
            }
            // The same job would come to the same block, so it begins anew and finds out ahead of op-node.
            Some(Imported::Invalid(words)) => {
                state.jobs.fail(parent, &JobError::BroughtBack(words));
                cx.has_changed = true;
                Brought::Out
            }
            None => Brought::Out,
        }
    }
}

/// The result in an answer of the engine, if there is one.
pub(super) fn result(forwarded: &Forwarded) -> Option<Box<RawValue>> {
    let reply = Reply { status: forwarded.status, body: forwarded.body.clone() };
    result_of(&reply).ok()
}
