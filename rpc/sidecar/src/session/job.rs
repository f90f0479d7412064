//! Sequencing jobs: from op-node's attributes to a block that the engine has built.
//!
//! A job waits until its window is closed, takes the offer, and lets the engine build and import. It is named by its parent and its
//! attributes, so op-node may ask twice, cancel, and come back: nothing is consumed. A job whose parent is no longer the
//! head is dead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use alloy_primitives::B256;
use lockstep_core::record::{SealMode, SkipReason, Skipped};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{Begin, Offered, Place};
use lockstep_execution::attributes::{Attributes, JobId};
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;

use super::attempts::{Attempts, Order};
use super::context::{Context, Pause};
use super::effect::Note;
use super::error::JobError;
use super::making::Making;
use super::planning::{Plan, Planning};
use super::state::State;
use crate::build::{self, Build, BuildError};
use crate::limits::{JOBS_MAX, LOOK_AGAIN};

/// A block that was built for a job.
#[derive(Clone, Debug)]
pub struct BuiltJob {
    /// What the engine built, and which of `items` it was not given.
    pub build: Build,
    /// What was offered, empty if the block is closed.
    pub items: Arc<[Offered]>,
    /// Items that no block will hold.
    pub passed: Vec<Skipped>,
    /// How it was built.
    pub mode: SealMode,
    /// Where its children's offers begin; `None` if it is closed by this sidecar, so that its record has to say.
    pub begin: Option<Begin>,
    /// Log time up to which that holds; `None` if for good.
    pub until: Option<UnixMillis>,
    /// What the engine refused to it, if it is closed for that.
    pub refused: BTreeSet<Place>,
    /// When the log block that closed its window was there.
    pub closed: Instant,
    /// The block itself, if the engine has imported it already.
    pub imported: Option<Arc<Taken>>,
}

/// A block as the engine gave it, compared with what it was built from.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The version of `getPayload` that it was taken with.
    pub method: String,
    /// The engine's answer, as it came.
    pub raw: Box<RawValue>,
    /// The block.
    pub payload: Payload,
    /// Items that the engine left out by itself.
    pub missing: BTreeSet<usize>,
}

impl BuiltJob {
    /// A block of deposits only, where no block with items can be had. What the engine refused on the way goes into the block's
    /// record: no later block is offered it, so the chain gets on.
    #[must_use]
    pub fn of_deposits(build: Build, refused: BTreeSet<Place>, closed: Instant) -> Self {
        Self {
            build,
            items: Arc::new([]),
            passed: Vec::new(),
            mode: SealMode::Closed,
            begin: None,
            until: None,
            refused,
            closed,
            imported: None,
        }
    }

    /// The places of all items that the block does not hold, `missing` being those that the engine left out by itself.
    pub fn absent<'a>(&'a self, missing: &'a BTreeSet<usize>) -> impl Iterator<Item = &'a usize> {
        self.build.left_out.union(missing)
    }

    /// All items that are not in the block, with reasons, in log order.
    #[must_use]
    pub fn skipped(&self, missing: &BTreeSet<usize>) -> Vec<Skipped> {
        let invalid =
            self.absent(missing).filter_map(|index| self.items.get(*index)).map(|item| Skipped {
                height: item.place.height,
                item: item.place.item,
                reason: SkipReason::Invalid,
            });
        let mut skipped: Vec<Skipped> = self.passed.iter().copied().chain(invalid).collect();
        skipped.sort_by_key(|skipped| (skipped.height, skipped.item));
        skipped
    }
}

/// A sequencing job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, which is the payload id that op-node knows.
    pub id: JobId,
    /// The block it builds on.
    pub parent: B256,
    /// What op-node wants in it.
    pub attributes: Arc<Attributes>,
    /// The version of `forkchoiceUpdated` that op-node used.
    pub method: String,
    /// What it came to; `None` while it is in work. One that failed begins anew when op-node asks again.
    pub outcome: Option<Result<Arc<BuiltJob>, JobError>>,
    /// Whether it shall wait no longer for its window and build a closed block.
    pub is_closing: bool,
}

impl Job {
    /// A new job.
    #[must_use]
    pub fn new(method: &str, parent: B256, attributes: Attributes) -> Self {
        let (id, method) = (attributes.job(parent), method.to_owned());
        let attributes = Arc::new(attributes);
        Self { id, parent, attributes, method, outcome: None, is_closing: false }
    }

    /// What the engine is to build.
    #[must_use]
    pub fn order(&self) -> Order {
        let (method, attributes) = (self.method.clone(), Arc::clone(&self.attributes));
        Order { method, parent: self.parent, attributes, probe: None }
    }
}

/// The newest jobs.
#[derive(Debug, Default)]
pub struct Jobs(VecDeque<Job>);

impl Jobs {
    /// The job with this name.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.0.iter().find(|job| job.id == id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.0.iter_mut().find(|job| job.id == id)
    }

    /// Adds a job, unless it is there and has not failed. Whether its work is to begin.
    pub fn add(&mut self, job: Job) -> bool {
        let is_good = |known: &&Job| !matches!(known.outcome, Some(Err(_)));
        if self.get(job.id).filter(is_good).is_some() {
            return false;
        }
        self.0.retain(|known| known.id != job.id);
        while self.0.len() >= JOBS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(job);
        true
    }

    /// A job has come to something.
    pub fn end(&mut self, id: JobId, outcome: Result<Arc<BuiltJob>, JobError>) {
        if let Some(job) = self.get_mut(id) {
            job.outcome = Some(outcome);
        }
    }

    /// Fails the jobs on a parent: they begin anew when op-node asks again.
    pub fn fail(&mut self, parent: B256, reason: &JobError) {
        for job in self.0.iter_mut().filter(|job| job.parent == parent) {
            job.outcome = Some(Err(reason.clone()));
        }
    }

    /// Whether a job is in work.
    #[must_use]
    pub fn is_in_work(&self, id: JobId) -> bool {
        self.get(id).is_some_and(|job| job.outcome.is_none())
    }
}

/// The work at one job.
#[derive(Debug)]
pub struct Working {
    job: JobId,
    /// Why the engine could not build, as it was said last.
    said: String,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Planning(Box<Planning>),
    Making(Plan, Box<Making>),
    /// The engine cannot build now.
    Pausing(Plan, Pause),
    /// The last resort: what the engine refused before.
    Closing(BTreeSet<Place>, Box<Attempts>),
}

impl Working {
    /// Begins the work at a job.
    #[must_use]
    pub fn new(cx: &Context<'_>, job: &Job) -> Self {
        let doing = Doing::Planning(Box::new(Planning::new(cx, job.parent, &job.attributes)));
        Self { job: job.id, said: String::new(), doing }
    }

    /// Goes on; what the job came to.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<BuiltJob, JobError>> {
        loop {
            let Some(job) = state.jobs.get(self.job).cloned() else {
                return Poll::Ready(Err(JobError::Ended));
            };
            match &mut self.doing {
                Doing::Planning(_) if job.is_closing => {
                    cx.note(Note::Silent { parent: job.parent });
                    self.make(cx, state, &job, Plan::closed(cx));
                }
                Doing::Planning(planning) => {
                    let plan = ready!(planning.poll(cx, state))?;
                    self.make(cx, state, &job, plan);
                }
                Doing::Making(plan, making) => match ready!(making.poll(cx, state)) {
                    Ok((build, imported)) => {
                        return Poll::Ready(Ok(plan.clone().built(build, imported)));
                    }
                    Err(reason) => {
                        let plan = plan.clone();
                        self.go_on(cx, &job, plan, reason)?;
                    }
                },
                Doing::Pausing(plan, pause) => {
                    ready!(pause.poll(cx));
                    let plan = plan.clone();
                    self.make(cx, state, &job, plan);
                }
                Doing::Closing(refused, attempts) => {
                    let build = ready!(attempts.poll(cx, state))?;
                    let refused = core::mem::take(refused);
                    return Poll::Ready(Ok(BuiltJob::of_deposits(build, refused, cx.now.instant)));
                }
            }
        }
    }

    fn make(&mut self, cx: &mut Context<'_>, state: &State, job: &Job, plan: Plan) {
        let (items, get_payload) = (Arc::clone(&plan.items), state.get_payload.clone());
        let making = Making::new(cx, job.order(), items, None, get_payload);
        self.doing = Doing::Making(plan, Box::new(making));
    }

    /// What is tried next where no block of a plan was made.
    fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        job: &Job,
        plan: Plan,
        reason: JobError,
    ) -> Result<(), JobError> {
        let refused = match &reason {
            JobError::Build(error) if error.is_temporary() => {
                // Once for each reason, not twenty times a second.
                let words = reason.to_string();
                if self.said != words {
                    self.said = words;
                    cx.note(Note::EngineAway { job: job.id, reason });
                }
                self.doing = Doing::Pausing(plan, Pause::new(cx, LOOK_AGAIN));
                return Ok(());
            }
            JobError::Build(BuildError::TooManyRefusals(refused)) => {
                build::places(&plan.items, refused)
            }
            JobError::NotImported(_) if !plan.items.is_empty() => BTreeSet::new(),
            JobError::NotHead(_)
            | JobError::NotFound(_)
            | JobError::NotDecided
            | JobError::Forked
            | JobError::Build(_)
            | JobError::NotImported(_)
            | JobError::NotTaken(_)
            | JobError::Lost
            | JobError::BroughtBack(_)
            | JobError::Ended => return Err(reason),
        };
        cx.note(Note::NothingOffered { parent: job.parent, refused: refused.len(), reason });
        self.doing = Doing::Closing(refused, Box::new(Attempts::at_deposits(job.order())));
        Ok(())
    }
}
