//! What the sidecar does, as a function: op-node's call, an answer of the engine, the log that went on, or time → the next
//! question, answer and record. One thing of op-node's calls is changed: a sequencing job.
//!
//! Two rules stand above all. No answer may make op-node exit or wedge: `-38003` and `INVALID` never reach a sequencing
//! call. And no block is handed on that is not deposits and offered items in order. Source: design section 5.
//!
//! It does no IO and has no task, clock or lock: time and the log are arguments, and [`Effect`]s say what to do.
//!
//! | call | |
//! |---|---|
//! | `forkchoiceUpdated` without attributes, with `noTxPool`, before the chain joined, switched off | passes |
//! | `forkchoiceUpdated` of a sequencing job | [`starting`]: the heads go to the engine, the job is named, [`job`] begins |
//! | `getPayload` of a job | [`sealing`]: held until the job has come to something |
//! | `getPayload` of a job whose parent is no longer the head | −38001 |
//! | `getPayload` of the engine's own | [`passing`] |
//! | `newPayload` | [`importing`], in front of a replica after [`verifying`] |
//! | either of the two for which the engine lacks a block that op-node brought | [`restoring`] first |
//! | `miner_setMaxDASize` | a `Limits` record |
//! | any, after the engine was away | [`reviving`] first |
//!
//! A part that is on its way to something is polled at each step, and asks one question at a time.

pub mod attempts;
pub mod context;
pub mod effect;
pub mod error;
pub mod fetching;
pub mod finding;
pub mod heads;
pub mod importing;
pub mod input;
pub mod job;
pub mod making;
pub mod passing;
pub mod planning;
pub mod recording;
pub mod restoring;
pub mod reviving;
pub mod sealing;
pub mod setting;
pub mod starting;
pub mod state;
pub mod taking;
pub mod verifying;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use lockstep_core::reader::{Known, LogView, Rules};
use lockstep_core::record::{Limits, RecordBody};
use lockstep_core::types::UnixMillis;
use lockstep_execution::attributes::{Forkchoice, JobId};
use lockstep_execution::json_rpc::SERVER_ERROR;
use lockstep_execution::payload::Payload;
use serde_json::value::to_raw_value;

use crate::config::{ExecutionMode, Role};
use crate::failing::Failing;
use crate::limits::LOOK_AGAIN;
use context::{Asking, Context, reply};
use effect::{Answer, CallId, Effect, Kept, Measure, Note, Question};
use error::JobError;
use finding::Finding;
use heads::Wanted;
use importing::{Brought, Importing};
use input::{Call, Forwarded, Input, Log, Now};
use job::Working;
use passing::Passing;
use planning::Planning;
use recording::Recording;
use reviving::{Held, Revived, Reviving};
use sealing::Sealing;
use starting::{Begun, Starting};
use state::{Before, Settings, State};
use verifying::{Verdict, Verifying};

/// There is no such payload, or no longer.
const UNKNOWN_PAYLOAD: i64 = -38001;

/// The session of one op-node with its engine.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Calls of op-node that are not answered yet.
    calls: BTreeMap<CallId, Answering>,
    /// Those that wait for an engine in doubt, in order.
    held: Vec<Held>,
    reviving: Option<Reviving>,
    /// The engine was away when it was looked at last.
    revive_after: Option<Instant>,
    works: BTreeMap<JobId, Working>,
    rehearsal: Option<Box<Planning>>,
    /// To a block that somebody else made, so that the next one's cursor is near.
    following: Option<Finding>,
    /// A block that the own engine built in front of a replica, for the alarm alone.
    watching: Option<Verifying>,
    /// The safe head whose number is asked for.
    numbering: Option<(B256, Asking)>,
    recording: Recording,
    next_ask: u64,
    wake: Option<Instant>,
}

/// A call in work.
#[derive(Debug)]
enum Answering {
    Starting(Box<Starting>),
    Sealing(Box<Sealing>),
    Passing(Passing),
    Importing(Box<Importing>),
}

impl Session {
    /// A session at its start, with what was on disk.
    #[must_use]
    pub fn new(settings: Settings, before: Before) -> Self {
        Self {
            state: State::new(settings, before),
            calls: BTreeMap::new(),
            held: Vec::new(),
            reviving: None,
            revive_after: None,
            works: BTreeMap::new(),
            rehearsal: None,
            following: None,
            watching: None,
            numbering: None,
            recording: Recording::default(),
            next_ask: 0,
            wake: None,
        }
    }

    /// Takes one input and appends what the sidecar must do, in the order in which it must be begun.
    pub fn step(&mut self, now: Now, log: Log<'_>, input: Input, effects: &mut Vec<Effect>) {
        let mut next_ask = self.next_ask;
        let mut cx = Context::new(now, log, effects, &mut next_ask);
        match input {
            Input::Called(id, call) => match self.state.doubt {
                Some(_) => self.held.push(Held { id, call, is_again: false }),
                None => self.call(&mut cx, Held { id, call, is_again: false }),
            },
            Input::EngineAway => self.note_away(),
            Input::Replied(ask, reply) => {
                self.state.heads.end_turn(ask);
                if reply.is_away() {
                    self.note_away();
                }
                cx.reply = Some((ask, reply));
            }
            Input::Switched(mode) => self.state.mode = mode,
            Input::LogAdvanced | Input::Tick => {}
        }
        self.run(&mut cx);
        let wake = cx.wake;
        (self.wake, self.next_ask) = (wake, next_ask);
    }

    /// The engine is away: it may come back with an older head.
    fn note_away(&mut self) {
        self.state.has_given_up = false;
        self.state.doubt();
    }

    /// Whether calls that are nothing to the session are to come here, too, because the engine may have an older head than
    /// op-node wants.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.state.doubt.is_some()
    }

    /// When [`Input::Tick`] is to come, if nothing else does before.
    #[must_use]
    pub const fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// The switch.
    #[must_use]
    pub const fn mode(&self) -> ExecutionMode {
        self.state.mode
    }

    /// How long jobs have come to no block, and why the last one has not; `None` if that is no more than a hiccup.
    #[must_use]
    pub fn failing(&self, now: Instant) -> Option<(Duration, &JobError)> {
        let patience = self.state.settings.patience();
        self.state.failing.since(now).filter(|(since, _)| *since >= patience)
    }

    /// What is kept for the next start.
    pub fn kept(&mut self, log: LogView<'_>) -> Kept {
        self.state.kept(log)
    }

    /// The rules of the chain's blocks.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.state.reader.rules()
    }

    /// What is known of a block.
    #[must_use]
    pub fn known(&self, hash: &B256) -> Option<&Known> {
        self.state.reader.get(hash)
    }

    /// The highest block with a known cursor.
    #[must_use]
    pub fn newest(&self) -> Option<(B256, Known)> {
        self.state.reader.newest(1).into_iter().next()
    }

    fn call(&mut self, cx: &mut Context<'_>, Held { id, call, is_again }: Held) {
        let answering = match call {
            Call::Forkchoice { method, forkchoice, attributes } => {
                self.note_forkchoice(cx, &method, &forkchoice);
                let starting = Starting::new(cx, (id, is_again), method, forkchoice, attributes);
                Answering::Starting(Box::new(starting))
            }
            Call::GetPayload { method, id: job } => {
                match job.and_then(|id| self.state.jobs.get(id)) {
                    None => Answering::Passing(Passing::new(cx, id)),
                    Some(job) if self.state.expect_head(job.parent).is_err() => {
                        let message = "Unknown payload".to_owned();
                        return cx.answer(id, Answer::Error { code: UNKNOWN_PAYLOAD, message });
                    }
                    Some(job) => {
                        let job = job.id;
                        let sealing = Sealing::new(cx, &mut self.state, method, job);
                        Answering::Sealing(Box::new(sealing))
                    }
                }
            }
            Call::NewPayload { method, payload, params } => {
                let verifying = Verifying::new(method.clone(), payload.clone(), params.clone());
                let verifying = self.verifying(&payload, verifying);
                let importing =
                    Importing::new(cx, (id, is_again), method, (payload, params), verifying);
                Answering::Importing(Box::new(importing))
            }
            Call::Other => Answering::Passing(Passing::new(cx, id)),
            Call::MaxDaSize { tx_bytes, block_bytes } => {
                self.limit(cx, tx_bytes, block_bytes);
                let yes = to_raw_value(&true).unwrap_or_default();
                return cx.answer(id, Answer::Result(yes));
            }
        };
        self.calls.insert(id, answering);
    }

    fn note_forkchoice(&mut self, cx: &mut Context<'_>, method: &str, forkchoice: &Forkchoice) {
        let safe = forkchoice.safe;
        let wanted = Wanted { method: method.to_owned(), forkchoice: forkchoice.clone() };
        let before = self.state.heads.note(wanted.clone()).map(|before| before.forkchoice);
        if before.as_ref().is_some_and(|before| before.head != forkchoice.head) {
            // Nobody asks any more for the block that could not be made: the chain goes on from another one.
            self.state.failing = Failing::default();
        }
        let is_new = before.as_ref().is_none_or(|before| before.head != forkchoice.head);
        if is_new && self.state.brought.contains(&forkchoice.head) {
            cx.push(Effect::KeepHeads(wanted));
        }
        if safe == B256::ZERO || before.is_some_and(|before| before.safe == safe) {
            return;
        }
        match self.state.reader.get(&safe).map(|known| known.number) {
            Some(number) => self.note_safe(cx, safe, number),
            None => self.numbering = Some((safe, cx.ask(Question::Header(safe)))),
        }
    }

    /// Remembers the number of the highest safe head.
    fn note_safe(&mut self, cx: &mut Context<'_>, safe: B256, number: u64) {
        if self.state.safe.note(safe, number) {
            cx.push(Effect::KeepSafe(safe, number));
        }
    }

    /// What is compared with the log before the engine gets it. What the own engine built passes whatever it is, so nothing is
    /// waited for; it is compared for the alarm alone, unless another one is: a replica that derives a long chain builds
    /// faster than that.
    fn verifying(&mut self, payload: &Payload, verifying: Verifying) -> Option<Verifying> {
        let State { settings, mode, own, .. } = &self.state;
        if settings.role != Role::Verifying || *mode != ExecutionMode::Enabled {
            return None;
        }
        if !own.contains(&payload.hash) {
            return Some(verifying);
        }
        self.watching.get_or_insert(verifying);
        None
    }

    /// Turns the batcher's throttling into a `Limits` record, which all who follow the chain can see.
    fn limit(&self, cx: &mut Context<'_>, tx_bytes: u64, block_bytes: u64) {
        if !self.state.settings.has_key {
            return cx.note(Note::LimitsIgnored);
        }
        let limits = Limits { tx_bytes, block_bytes, set_at_ms: UnixMillis(cx.now.unix_ms) };
        let logged = cx.log.book.newest_limits();
        cx.push(Effect::Limit { limits, logged });
    }

    /// Lets every part go on as far as it can.
    fn run(&mut self, cx: &mut Context<'_>) {
        loop {
            cx.has_changed = false;
            self.revive(cx);
            let mut calls = core::mem::take(&mut self.calls);
            calls.retain(|id, answering| !self.answer(cx, *id, answering));
            self.calls = calls;
            self.work(cx);
            self.look_around(cx);
            if !cx.has_changed {
                return;
            }
        }
    }

    /// Makes an engine in doubt sure before the calls that wait for that.
    fn revive(&mut self, cx: &mut Context<'_>) {
        let Some(doubt) = self.state.doubt else { return };
        // For jobs alone it is looked at now and then.
        let is_due = match &self.reviving {
            None if self.held.is_empty() => {
                !self.works.is_empty() && self.revive_after.is_none_or(|after| cx.is_past(after))
            }
            None | Some(_) => true,
        };
        if !is_due {
            return;
        }
        let state = &self.state;
        let reviving = self.reviving.get_or_insert_with(|| Reviving::new(cx, state, doubt));
        let Poll::Ready(revived) = reviving.poll(cx, &mut self.state) else { return };
        self.reviving = None;
        self.revive_after = Some(cx.after(LOOK_AGAIN));
        let held = core::mem::take(&mut self.held);
        match revived {
            Revived::Whole => {
                self.state.doubt = None;
                cx.has_changed = true;
                for held in held {
                    self.call(cx, held);
                }
            }
            Revived::Away(words) => {
                for Held { id, .. } in held {
                    let forwarded = Forwarded::away(words.clone(), Duration::ZERO);
                    cx.answer(id, Answer::Engine { forwarded, is_held: true });
                }
            }
        }
    }

    /// Goes on with a call; whether it is answered.
    fn answer(&mut self, cx: &mut Context<'_>, id: CallId, answering: &mut Answering) -> bool {
        match answering {
            Answering::Starting(starting) => match starting.poll(cx, &mut self.state) {
                Poll::Pending => return false,
                Poll::Ready(begun) => self.begin(cx, id, begun),
            },
            Answering::Passing(passing) => return passing.poll(cx, &mut self.state).is_ready(),
            Answering::Importing(importing) => match importing.poll(cx, &mut self.state) {
                Poll::Pending => return false,
                Poll::Ready(Brought::In(payload)) => self.note_taken(cx, &payload),
                Poll::Ready(Brought::Out) => {}
                Poll::Ready(Brought::Doubt(call)) => self.hold(cx, id, *call),
            },
            Answering::Sealing(sealing) => match sealing.poll(cx, &mut self.state) {
                Poll::Pending => return false,
                Poll::Ready(sealed) => {
                    self.state.failing.note(cx.now.instant, sealed.as_ref().err());
                    let answer = match sealed {
                        Ok(raw) => Answer::Result(raw),
                        Err(reason) => {
                            cx.measure(Measure::Unsealed);
                            Answer::Error { code: SERVER_ERROR, message: reason.to_string() }
                        }
                    };
                    cx.answer(id, answer);
                }
            },
        }
        true
    }

    /// The engine lacks what a call names: it is made again once that is there.
    fn hold(&mut self, cx: &mut Context<'_>, id: CallId, call: Call) {
        self.state.doubt();
        self.held.push(Held { id, call, is_again: true });
        cx.has_changed = true;
    }

    fn begin(&mut self, cx: &mut Context<'_>, id: CallId, begun: Begun) {
        match begun {
            Begun::Nothing => {}
            Begun::Doubt(call) => self.hold(cx, id, *call),
            Begun::Rehearsal(planning) => self.rehearsal = Some(planning),
            Begun::Job(id) => {
                cx.measure(Measure::JobBegun);
                if let Some(job) = self.state.jobs.get(id) {
                    self.works.insert(id, Working::new(cx, job));
                }
            }
        }
    }

    /// Goes on with the jobs.
    fn work(&mut self, cx: &mut Context<'_>) {
        let Self { state, works, .. } = self;
        works.retain(|id, working| {
            if !state.jobs.is_in_work(*id) {
                return false;
            }
            let Poll::Ready(outcome) = working.poll(cx, state) else { return true };
            if let (Err(reason), Some(job)) = (&outcome, state.jobs.get(*id)) {
                let (job, parent, reason) = (job.id, job.parent, reason.clone());
                cx.note(Note::JobEnded { job, parent, reason });
            }
            state.jobs.end(*id, outcome.map(Arc::new));
            cx.has_changed = true;
            false
        });
    }

    /// Goes on with what nobody waits for.
    fn look_around(&mut self, cx: &mut Context<'_>) {
        if let Some(planning) = &mut self.rehearsal
            && let (parent, Poll::Ready(plan)) =
                (planning.parent(), planning.poll(cx, &mut self.state))
        {
            cx.note(Note::Rehearsed { parent, items: plan.map(|plan| plan.items.len()) });
            self.rehearsal = None;
        }
        if let Some(finding) = &mut self.following
            && let (block, Poll::Ready(found)) = (finding.goal(), finding.poll(cx, &mut self.state))
        {
            if let Err(reason) = found {
                cx.note(Note::NotFound { block, reason: reason.into() });
            }
            self.following = None;
        }
        if let Some(verifying) = &mut self.watching
            && let (block, Poll::Ready(verdict)) =
                (verifying.block(), verifying.poll(cx, &mut self.state))
        {
            if let Verdict::Bad(reason) = verdict {
                cx.note(Note::Foreign { block, reason, is_refused: false });
            }
            self.watching = None;
        }
        if let Some((safe, number)) = self.numbered(cx) {
            self.note_safe(cx, safe, number);
        }
        self.recording.go_on(cx, &mut self.state);
    }

    fn numbered(&mut self, cx: &mut Context<'_>) -> Option<(B256, u64)> {
        let (safe, asking) = self.numbering.as_ref()?;
        let Poll::Ready(header) = header(asking, cx) else { return None };
        let safe = *safe;
        self.numbering = None;
        header.map(|number| (safe, number))
    }

    /// A block that was handed to op-node is the chain's now: its record goes to the log.
    fn note_taken(&mut self, cx: &mut Context<'_>, payload: &Payload) {
        let State { reader, sealing, .. } = &mut self.state;
        if let Some((sealed, closed)) = sealing.remove(&payload.hash) {
            let (time, transactions) = (cx.since(closed), payload.transactions.len());
            cx.note(Note::Sealed { sealed: sealed.clone(), transactions, time });
            cx.push(Effect::Record(RecordBody::Sealed(sealed)));
        } else if reader.take_closed(&payload.hash) {
            cx.measure(Measure::SealedClosed);
            self.state.has_taken_closed = true;
        }
        // A standby, a replica, or a sidecar that is switched on later need not walk far then. Where the log does not know enough
        // yet, or another walk is on its way, a later block finds it.
        if self.state.reader.get(&payload.hash).is_none() {
            self.following.get_or_insert_with(|| Finding::new(payload.hash));
        }
    }
}

/// The number in the header that was asked for.
fn header(asking: &Asking, cx: &mut Context<'_>) -> Poll<Option<u64>> {
    let header = reply!(asking, cx, Header);
    Poll::Ready(header.ok().and_then(Result::ok).flatten().map(|header| header.number))
}
