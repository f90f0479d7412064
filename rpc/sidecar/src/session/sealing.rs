//! `getPayload` for a job: held until the block is there, but not for long.
//!
//! The engine's block is compared with what it was to be built from before it is handed on. A record goes to the log once
//! op-node brings the block back.

use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use lockstep_core::limits::RECORD_SKIPPED_MAX;
use lockstep_core::reader::{Found, Known};
use lockstep_core::record::{Sealed, Skipped};
use lockstep_core::window::Begin;
use lockstep_execution::attributes::JobId;
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;

use super::context::{Asking, Context, reply};
use super::effect::{Effect, Measure, Question};
use super::error::JobError;
use super::fetching::Fetching;
use super::job::{BuiltJob, Taken};
use super::state::State;
use crate::config::WhenSilent;

/// A `getPayload` in work.
#[derive(Debug)]
pub struct Sealing {
    method: String,
    job: JobId,
    begun: Instant,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// Until the job has come to something; whether it is told to close after that, and held once more.
    Holding {
        until: Instant,
        may_close: bool,
    },
    /// Whether the engine has the block still. One that was restarted may not, and op-node would bring it back for ever.
    Checking(Arc<BuiltJob>, Arc<Taken>, Asking),
    Fetching(Box<Fetching>),
    /// That the block is closed is brought to disk before it is handed out.
    Keeping(Box<RawValue>, Asking),
}

impl Sealing {
    /// Begins to hold the call.
    #[must_use]
    pub fn new(cx: &mut Context<'_>, state: &mut State, method: String, job: JobId) -> Self {
        state.get_payload = Some(method.clone());
        let hold = state.settings.hold();
        let may_close = state.settings.when_silent == WhenSilent::DepositsOnly;
        if may_close && cx.log.silence >= hold {
            close(cx, state, job);
        }
        let doing = Doing::Holding { until: cx.after(hold), may_close };
        Self { method, job, begun: cx.now.instant, doing }
    }

    /// Goes on; the block, or why there is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Box<RawValue>, JobError>> {
        loop {
            let (built, taken) = match &mut self.doing {
                Doing::Holding { until, may_close } => {
                    let held = ready!(hold(cx, state, self.job, (until, may_close)));
                    cx.measure(Measure::Held(cx.since(self.begun)));
                    self.check(cx, state, held?)?;
                    continue;
                }
                Doing::Checking(built, taken, asking) => match reply!(asking, cx, Header) {
                    Ok(Ok(Some(_))) => (Arc::clone(built), Arc::clone(taken)),
                    Ok(Ok(None) | Err(_)) | Err(_) => {
                        let built = Arc::clone(built);
                        self.fetch(cx, state, &built)?;
                        continue;
                    }
                },
                Doing::Fetching(fetching) => match ready!(fetching.poll(cx, state)) {
                    Ok((built, taken)) => {
                        let built = Arc::new(built);
                        state.jobs.end(self.job, Ok(Arc::clone(&built)));
                        (built, Arc::new(taken))
                    }
                    Err(reason) => {
                        state.jobs.end(self.job, Err(reason.clone()));
                        return Poll::Ready(Err(reason));
                    }
                },
                Doing::Keeping(raw, asking) => {
                    let Ok(_) = reply!(asking, cx, Kept) else { return Poll::Pending };
                    return Poll::Ready(Ok(raw.clone()));
                }
            };
            match note(cx, state, &built, &taken) {
                None => return Poll::Ready(Ok(taken.raw.clone())),
                Some(asking) => self.doing = Doing::Keeping(taken.raw.clone(), asking),
            }
        }
    }

    /// The block that the engine has imported already, if op-node asks for it in the same way; else one from the engine now.
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        state: &State,
        built: Arc<BuiltJob>,
    ) -> Result<(), JobError> {
        let imported = built.imported.as_ref().filter(|taken| taken.method == self.method);
        let Some(taken) = imported.map(Arc::clone) else {
            return self.fetch(cx, state, &built);
        };
        let question = Question::Header(taken.payload.hash);
        let asking = cx.ask_for(question, state.settings.hold());
        self.doing = Doing::Checking(built, taken, asking);
        Ok(())
    }

    fn fetch(
        &mut self,
        cx: &mut Context<'_>,
        state: &State,
        built: &BuiltJob,
    ) -> Result<(), JobError> {
        let order = state.jobs.get(self.job).ok_or(JobError::Ended)?.order();
        let fetching = Fetching::new(cx, state, &self.method, order, built);
        self.doing = Doing::Fetching(Box::new(fetching));
        Ok(())
    }
}

/// Waits until a job has come to something.
fn hold(
    cx: &mut Context<'_>,
    state: &mut State,
    job: JobId,
    (until, may_close): (&mut Instant, &mut bool),
) -> Poll<Result<Arc<BuiltJob>, JobError>> {
    let Some(outcome) = state.jobs.get(job).map(|job| job.outcome.clone()) else {
        return Poll::Ready(Err(JobError::Ended));
    };
    match outcome {
        Some(outcome) => Poll::Ready(outcome),
        None if !cx.is_past(*until) => Poll::Pending,
        None if !*may_close => Poll::Ready(Err(JobError::NotDecided)),
        None => {
            close(cx, state, job);
            (*until, *may_close) = (cx.after(state.settings.hold()), false);
            cx.is_past(*until);
            Poll::Pending
        }
    }
}

/// The committee is silent: the job shall build a block of deposits only.
fn close(cx: &mut Context<'_>, state: &mut State, job: JobId) {
    if let Some(job) = state.jobs.get_mut(job) {
        job.is_closing = true;
        cx.has_changed = true;
    }
}

/// Remembers a block before it is handed out. What is to be waited for first, if it is closed: it looks like one whose every
/// item was bad, so a sidecar that forgot it would take it for an offered one.
fn note(
    cx: &mut Context<'_>,
    state: &mut State,
    built: &BuiltJob,
    taken: &Taken,
) -> Option<Asking> {
    let absent = built.absent(&taken.missing).filter_map(|index| built.items.get(*index));
    let hashes: Vec<_> = absent.flat_map(|item| item.item.hashes.clone()).collect();
    if !hashes.is_empty() {
        cx.push(Effect::Skipped(hashes));
    }
    // The same block may have been built before in another way, and lost by the engine: what was said of it first stands.
    let hash = taken.payload.hash;
    let is_closed = state.reader.refused(&hash).is_some();
    match &built.begin {
        _ if cx.log.book.sealed(&hash).is_some() => None,
        Some(begin) if !is_closed => {
            note_offered(state, built, taken, begin);
            None
        }
        Some(_) | None => Some(state.note_closed(cx, hash, built.refused.clone())),
    }
}

/// Where the next offer begins is known as soon as the block is.
fn note_offered(state: &mut State, built: &BuiltJob, taken: &Taken, begin: &Begin) {
    let (cursor, refused) = (begin.cursor, begin.refused.iter().copied());
    let mut skipped = built.skipped(&taken.missing);
    skipped.truncate(RECORD_SKIPPED_MAX.saturating_sub(begin.refused.len()));
    skipped.extend(refused.map(Skipped::refused));
    let Payload { number, hash, parent, timestamp, .. } = taken.payload;
    let sealed = Sealed { number, hash, parent, timestamp, mode: built.mode, cursor, skipped };
    let found = Found { begin: begin.clone(), until: built.until };
    state.reader.insert(hash, Known { number, parent, timestamp, found });
    state.sealing.insert(hash, (sealed, built.closed));
}
