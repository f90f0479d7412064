//! `newPayload`: passes, in front of a replica once it was compared with the log, and is remembered, so that the next block's
//! cursor needs no question to the engine.

use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_execution::client::{Reply, result_of};
use lockstep_execution::json_rpc::SERVER_ERROR;
use lockstep_execution::payload::{self, Imported, Payload};
use serde_json::value::{RawValue, to_raw_value};

use super::context::{Asking, Context, reply};
use super::effect::{Answer, CallId, Note, Question};
use super::error::JobError;
use super::input::Forwarded;
use super::restoring::{Brought as Kept, Restoring, is_lacking};
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
}

/// A `newPayload` in work.
#[derive(Debug)]
pub struct Importing {
    call: CallId,
    method: String,
    payload: Payload,
    params: Vec<Box<RawValue>>,
    /// Whether the engine was given back what it lacks already.
    has_restored: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Verifying(Box<Verifying>),
    Forwarding(Asking),
    /// The engine lacks the parent.
    Restoring(Restoring),
}

impl Importing {
    /// Begins with the call; with what is to be compared first, if so.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        call: CallId,
        method: String,
        (payload, params): (Payload, Vec<Box<RawValue>>),
        verifying: Option<Verifying>,
    ) -> Self {
        let doing = match verifying {
            Some(verifying) => Doing::Verifying(Box::new(verifying)),
            None => Doing::Forwarding(cx.ask(Question::Forward(call))),
        };
        Self { call, method, payload, params, has_restored: false, doing }
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
                    match self.to_restore(cx, state, &forwarded) {
                        Some(restoring) => self.doing = Doing::Restoring(restoring),
                        None => return Poll::Ready(self.forwarded(cx, state, forwarded)),
                    }
                }
                Doing::Restoring(restoring) => {
                    ready!(restoring.poll(cx, state));
                    self.has_restored = true;
                    self.doing = Doing::Forwarding(cx.ask(Question::Forward(self.call)));
                }
            }
        }
    }

    /// What is given back to the engine before the call is made again, if it lacks the parent.
    fn to_restore(
        &self,
        cx: &Context<'_>,
        state: &State,
        forwarded: &Forwarded,
    ) -> Option<Restoring> {
        let status = result(forwarded).and_then(|raw| payload::status(&raw));
        let is_wanted = is_lacking(status.as_deref()) && !self.has_restored;
        is_wanted.then(|| Restoring::new(cx, state, self.payload.parent)).flatten()
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

    fn keep_brought(&self, state: &mut State) {
        let Payload { hash, parent, .. } = self.payload;
        let (method, params) = (self.method.clone(), self.params.clone());
        let kept = Kept { parent, method, params };
        let bytes = kept.bytes();
        state.brought.insert_weighed(hash, kept, bytes);
    }

    fn forwarded(&self, cx: &mut Context<'_>, state: &mut State, forwarded: Forwarded) -> Brought {
        let parent = self.payload.parent;
        let result = result(&forwarded);
        cx.answer(self.call, Answer::Engine { forwarded, is_held: self.has_restored });
        match result.and_then(|raw| payload::imported(&raw, parent)) {
            Some(Imported::Valid) => {
                state.keep(&self.payload);
                self.keep_brought(state);
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
