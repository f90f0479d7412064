//! `forkchoiceUpdated`: passes, or starts a job. A job is answered at once with a payload id of the sidecar's own: the head
//! is set on the engine, the block is built when its window has closed.

use std::task::Poll;
use std::time::Instant;

use lockstep_execution::attributes::{Attributes, Forkchoice, JobId};
use lockstep_execution::client::EngineError;
use lockstep_execution::json_rpc::SERVER_ERROR;
use lockstep_execution::payload;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::context::{Asking, Context, reply};
use super::effect::{Answer, CallId, EngineCall, Note, Question};
use super::importing::result;
use super::input::{Call, Forwarded};
use super::job::Job;
use super::planning::Planning;
use super::restoring::is_lacking;
use super::state::State;
use crate::config::ExecutionMode;
use crate::limits::HOLD_MAX;
use crate::safe_head::Verdict;

/// The heads contradict each other: op-node resets and derives again.
const INVALID_FORKCHOICE: i64 = -38002;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    payload_status: &'a RawValue,
    payload_id: JobId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    payload_status: Box<RawValue>,
    #[serde(default)]
    payload_id: Option<Box<RawValue>>,
}

/// What a call leads to, beside its answer.
#[derive(Debug)]
pub enum Begun {
    /// Nothing.
    Nothing,
    /// A job, whose work is to begin.
    Job(JobId),
    /// A job that is planned without building anything.
    Rehearsal(Box<Planning>),
    /// The engine lacks a head that op-node brought through here: the call is to be made again once it has it.
    Doubt(Box<Call>),
}

/// A `forkchoiceUpdated` in work.
#[derive(Debug)]
pub struct Starting {
    call: CallId,
    method: String,
    forkchoice: Forkchoice,
    /// Of a sequencing job.
    attributes: Option<Attributes>,
    /// Whether it waited for something else than the engine's answer.
    is_held: bool,
    /// Whether the engine was given back what it lacks already.
    is_again: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// A job's call with heads is on its way: until it was answered, but not longer than that.
    Waiting(Instant),
    /// It passes.
    Forwarding(Asking),
    /// The parent's number is not known.
    Numbering(Asking),
    Setting(Asking),
}

impl Starting {
    /// Begins with the call, for the first time or again. The heads are noted already.
    #[must_use]
    pub fn new(
        cx: &Context<'_>,
        (call, is_again): (CallId, bool),
        method: String,
        forkchoice: Forkchoice,
        attributes: Option<Attributes>,
    ) -> Self {
        let doing = Doing::Waiting(cx.after(HOLD_MAX));
        let attributes = attributes.filter(Attributes::is_sequencing);
        Self { call, method, forkchoice, attributes, is_held: is_again, is_again, doing }
    }

    /// Goes on, to the answer.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Begun> {
        loop {
            match &mut self.doing {
                Doing::Waiting(until) => {
                    if state.heads.is_taken() {
                        self.is_held = true;
                        if !cx.is_past(*until) {
                            return Poll::Pending;
                        }
                        cx.note(Note::Overtaken);
                    }
                    if !self.is_rewritten(state) {
                        self.forward(cx);
                        continue;
                    }
                    let known = state.reader.get(&self.forkchoice.head).map(|known| known.number);
                    match known {
                        _ if state.safe.highest().is_none() => self.set(cx),
                        None => self.number(cx),
                        Some(number) if self.is_put_off(cx, state, number) => {
                            return Poll::Ready(self.refuse_old(cx));
                        }
                        Some(_) => self.set(cx),
                    }
                }
                Doing::Forwarding(asking) => {
                    let Ok(forwarded) = reply!(asking, cx, Forwarded) else {
                        return Poll::Pending;
                    };
                    let status = result(&forwarded).and_then(|raw| status(&raw));
                    if let Some(call) = self.doubts(state, status.as_deref()) {
                        return Poll::Ready(Begun::Doubt(call));
                    }
                    return Poll::Ready(self.passed(cx, state, forwarded));
                }
                Doing::Numbering(asking) => {
                    let Ok(header) = reply!(asking, cx, Header) else { return Poll::Pending };
                    // Without a number nothing is known against the job.
                    let number = header.ok().flatten().map(|header| header.number);
                    if number.is_some_and(|number| self.is_put_off(cx, state, number)) {
                        return Poll::Ready(self.refuse_old(cx));
                    }
                    self.set(cx);
                }
                Doing::Setting(asking) => {
                    let Ok(answer) = reply!(asking, cx, Called) else { return Poll::Pending };
                    let status = answer.as_ref().ok().and_then(|raw| status(raw));
                    if let Some(call) = self.doubts(state, status.as_deref()) {
                        return Poll::Ready(Begun::Doubt(call));
                    }
                    state.has_given_up &= status.as_deref() != Some("VALID");
                    return Poll::Ready(self.start(cx, state, answer));
                }
            }
        }
    }

    /// Whether a sequencing job is Lockstep's to fill: after the chain joined, and unless it is switched off.
    fn is_rewritten(&self, state: &State) -> bool {
        let joins_at = state.settings.params.joins_at;
        state.mode == ExecutionMode::Enabled
            && self.attributes.as_ref().is_some_and(|attributes| attributes.timestamp >= joins_at)
    }

    fn forward(&mut self, cx: &mut Context<'_>) {
        self.doing = Doing::Forwarding(cx.ask(Question::Forward(self.call)));
    }

    /// The call, to be made again, if the engine lacks a head that it can be given back.
    fn doubts(&self, state: &State, status: Option<&str>) -> Option<Box<Call>> {
        let head = self.forkchoice.head;
        let doubts = is_lacking(status) && !self.is_again && state.can_give_back(&head);
        let (method, forkchoice) = (self.method.clone(), self.forkchoice.clone());
        let attributes = self.attributes.clone();
        doubts.then(|| Box::new(Call::Forkchoice { method, forkchoice, attributes }))
    }

    fn passed(&self, cx: &mut Context<'_>, state: &State, forwarded: Forwarded) -> Begun {
        cx.answer(self.call, Answer::Engine { forwarded, is_held: self.is_held });
        match &self.attributes {
            Some(attributes) if state.mode == ExecutionMode::DryRun => {
                let planning = Planning::new(cx, self.forkchoice.head, attributes);
                Begun::Rehearsal(Box::new(planning))
            }
            Some(_) | None => Begun::Nothing,
        }
    }

    /// Finds out whether the parent is older than a safe head seen before.
    fn number(&mut self, cx: &mut Context<'_>) {
        self.doing = Doing::Numbering(cx.ask(Question::Header(self.forkchoice.head)));
    }

    fn is_put_off(&self, cx: &mut Context<'_>, state: &mut State, number: u64) -> bool {
        let safe = state.safe.highest().map_or(0, |(_, safe)| safe);
        match state.safe.judge(cx.now.instant, number) {
            Verdict::Go => false,
            Verdict::Wait { is_new } => {
                if is_new {
                    let parent = self.forkchoice.head;
                    cx.note(Note::PutOff { parent, number, safe });
                }
                true
            }
        }
    }

    fn refuse_old(&self, cx: &mut Context<'_>) -> Begun {
        let words = "the engine is behind a safe head seen before: derivation comes first";
        self.refuse(cx, SERVER_ERROR, words.to_owned())
    }

    fn refuse(&self, cx: &mut Context<'_>, code: i64, message: String) -> Begun {
        cx.answer(self.call, Answer::Error { code, message });
        Begun::Nothing
    }

    fn set(&mut self, cx: &mut Context<'_>) {
        let (method, forkchoice) = (self.method.clone(), self.forkchoice.raw.clone());
        let question = Question::Call(EngineCall::SetHeads { method, forkchoice });
        self.doing = Doing::Setting(cx.ask(question));
    }

    fn start(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
        answer: Result<Box<RawValue>, EngineError>,
    ) -> Begun {
        let raw = match answer {
            Ok(raw) => raw,
            Err(error) => {
                let (code, message) = refusal(&error);
                return self.refuse(cx, code, message);
            }
        };
        let Ok(Updated { payload_status, .. }) = serde_json::from_str(raw.get()) else {
            let words = "the engine's answer has no status";
            return self.refuse(cx, SERVER_ERROR, words.to_owned());
        };
        let parent = self.forkchoice.head;
        let status = payload::status(&payload_status).unwrap_or_default();
        if status != "VALID" {
            // SYNCING would make op-node wait for 30 s, INVALID end: a temporary error is tried again after 1 s.
            let words = format!("engine: head is {status}");
            cx.note(Note::HeadRefused { parent, status });
            return self.refuse(cx, SERVER_ERROR, words);
        }
        let Some(attributes) = self.attributes.take() else { return Begun::Nothing };
        let job = Job::new(&self.method, parent, attributes);
        let started = Started { payload_status: &payload_status, payload_id: job.id };
        cx.answer(self.call, Answer::Result(to_raw_value(&started).unwrap_or_default()));
        let id = job.id;
        match state.jobs.add(job) {
            true => Begun::Job(id),
            false => Begun::Nothing,
        }
    }
}

/// The status of the heads in an answer.
pub(super) fn status(raw: &RawValue) -> Option<String> {
    let Updated { payload_status, .. } = serde_json::from_str(raw.get()).ok()?;
    payload::status(&payload_status)
}

/// The id of a payload in an answer.
pub(super) fn payload_id(raw: &RawValue) -> Option<Box<RawValue>> {
    let updated: Updated = serde_json::from_str(raw.get()).ok()?;
    updated.payload_id.filter(|id| id.get() != "null")
}

/// What op-node is told when the engine refuses the head of a job: only what makes it reset, or try again.
fn refusal(error: &EngineError) -> (i64, String) {
    match error.refusal() {
        Some(refusal) if refusal.code == INVALID_FORKCHOICE => {
            (refusal.code, refusal.message.clone())
        }
        Some(_) | None => (SERVER_ERROR, error.to_string()),
    }
}
