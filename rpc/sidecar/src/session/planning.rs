//! What a job is built from: where its offer begins, and the offer once its window has closed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use alloy_primitives::B256;
use lockstep_core::cursor::L2Block;
use lockstep_core::reader::{Found, Unresolved};
use lockstep_core::record::{SealMode, Skipped};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{self, Begin, Offered, Window};
use lockstep_execution::attributes::Attributes;

use super::context::{Asking, Context, Pause, reply};
use super::effect::{Measure, Note, Question};
use super::error::{JobError, NotFound};
use super::finding::{Finding, Learning, slices};
use super::job::{BuiltJob, Taken};
use super::state::State;
use crate::build::Build;
use crate::feed::LogBlock;
use crate::limits::{LOOK_AGAIN, RECORD_PATIENCE};

/// What a job is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is offered.
    pub items: Arc<[Offered]>,
    passed: Vec<Skipped>,
    mode: SealMode,
    /// Where the next offer begins; `None` if the log was silent.
    begin: Option<Begin>,
    /// Log time up to which that holds; `None` if for good.
    until: Option<UnixMillis>,
    /// When the log block that closed the window was there.
    closed: Instant,
}

impl Plan {
    /// Nothing is offered. Where the next offer begins is for the log to say, once it goes on.
    #[must_use]
    pub fn closed(cx: &Context<'_>) -> Self {
        Self {
            items: Arc::new([]),
            passed: Vec::new(),
            mode: SealMode::Closed,
            begin: None,
            until: None,
            closed: cx.now.instant,
        }
    }

    /// The block that was made of it.
    #[must_use]
    pub fn built(self, build: Build, imported: Option<Arc<Taken>>) -> BuiltJob {
        let Self { items, passed, mode, begin, until, closed } = self;
        let refused = BTreeSet::new();
        BuiltJob { build, items, passed, mode, begin, until, refused, closed, imported }
    }
}

/// The way to a plan.
#[derive(Debug)]
pub struct Planning {
    parent: B256,
    /// The block, as far as it is known before it is built.
    block: L2Block,
    begun: Instant,
    /// Why the parent was not known last.
    reason: Option<String>,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Finding(Finding),
    Pausing(Pause),
    /// The word on a block that nobody recorded is brought to disk.
    Keeping(B256, Asking),
    Learning(Found, Learning),
    /// For the window to close; whether it was open before.
    Waiting(Found, bool),
    Reading(Found, Window, Instant, Asking),
}

impl Planning {
    /// Begins to plan a block of these attributes.
    #[must_use]
    pub fn new(cx: &Context<'_>, parent: B256, attributes: &Attributes) -> Self {
        let block = L2Block {
            number: 0,
            hash: B256::ZERO,
            parent,
            timestamp: attributes.timestamp,
            gas_limit: attributes.gas_limit,
            transactions: attributes.transactions.clone(),
        };
        let doing = Doing::Finding(Finding::new(parent));
        Self { parent, block, begun: cx.now.instant, reason: None, doing }
    }

    /// The block to build on.
    #[must_use]
    pub const fn parent(&self) -> B256 {
        self.parent
    }

    /// Goes on; the plan, or why there is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Plan, JobError>> {
        loop {
            state.expect_head(self.parent)?;
            match &mut self.doing {
                Doing::Finding(finding) => match ready!(finding.poll(cx, state)) {
                    Ok(found) => self.doing = Doing::Learning(found, Learning::default()),
                    Err(reason) => self.doing = self.put_off(cx, state, reason),
                },
                Doing::Pausing(pause) => {
                    ready!(pause.poll(cx));
                    self.doing = Doing::Finding(Finding::new(self.parent));
                }
                Doing::Keeping(hash, asking) => {
                    let Ok(_) = reply!(asking, cx, Kept) else { return Poll::Pending };
                    state.reader.take_closed(hash);
                    self.doing = Doing::Finding(Finding::new(self.parent));
                }
                Doing::Learning(found, learning) => {
                    ready!(learning.poll(cx, found.begin.cursor.height))?;
                    self.doing = Doing::Waiting(found.clone(), false);
                }
                Doing::Waiting(found, was_open) => {
                    // Each time anew: limits may have come in the last log block of the window.
                    let window = state.reader.window(cx.view(), &self.block)?;
                    if !cx.view().is_closed(window.end) {
                        *was_open = true;
                        return match cx.log.newest.is_forked {
                            true => Poll::Ready(Err(JobError::Forked)),
                            false => Poll::Pending,
                        };
                    }
                    if *was_open {
                        let due_ms = self.block.timestamp.saturating_mul(1_000);
                        cx.measure(Measure::WindowClosed { due_ms });
                    }
                    let (found, closed) = (found.clone(), cx.now.instant);
                    if window.closed.is_some() {
                        return Poll::Ready(plan(cx, found, &window, (&[], closed)));
                    }
                    let from = found.begin.cursor.height;
                    let asking = cx.ask(Question::Log { from, until: window.end });
                    self.doing = Doing::Reading(found, window, closed, asking);
                }
                Doing::Reading(found, window, closed, asking) => {
                    let Ok(blocks) = reply!(asking, cx, Log) else { return Poll::Pending };
                    let blocks = blocks.map_err(NotFound::from)?;
                    return Poll::Ready(plan(cx, found.clone(), window, (&blocks, *closed)));
                }
            }
        }
    }

    /// What is done where the parent's cursor is not known yet.
    fn put_off(&mut self, cx: &mut Context<'_>, state: &mut State, reason: NotFound) -> Doing {
        if let NotFound::Unresolved(Unresolved::Ambiguous(hash)) = reason
            && state.settings.has_key
            && cx.since(self.begun) >= RECORD_PATIENCE
        {
            cx.note(Note::Unrecorded(hash));
            return Doing::Keeping(hash, state.note_closed(cx, hash, BTreeSet::new()));
        }
        let words = reason.to_string();
        if self.reason.replace(words.clone()).is_none_or(|before| before != words) {
            cx.note(Note::ParentUnknown { parent: self.parent, reason: reason.into() });
        }
        Doing::Pausing(Pause::new(cx, LOOK_AGAIN))
    }
}

fn plan(
    cx: &mut Context<'_>,
    Found { begin, until }: Found,
    window: &Window,
    (blocks, closed): (&[Arc<LogBlock>], Instant),
) -> Result<Plan, JobError> {
    let offer = window::offer(begin, slices(blocks), window).map_err(Unresolved::from)?;
    cx.measure(Measure::Offered(offer.items.len()));
    let mode = match window.closed {
        Some(_) => SealMode::Closed,
        None => SealMode::Offered,
    };
    let begin = Some(offer.after());
    Ok(Plan { items: offer.items.into(), passed: offer.passed, mode, begin, until, closed })
}
