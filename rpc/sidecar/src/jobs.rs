//! Sequencing jobs: from op-node's attributes to a block that the engine has built.
//!
//! A job waits until its window is closed, takes the offer, and lets the engine build and import. It is named by its parent and its
//! attributes, so op-node may ask twice, cancel, and come back: nothing is consumed. A job whose parent is no longer the
//! head is dead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use alloy_primitives::B256;
use lockstep_core::cursor::L2Block;
use lockstep_core::record::{SealMode, SkipReason, Skipped};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{Begin, Offered, Place};
use lockstep_execution::attributes::{Attributes, JobId};
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

use crate::build::Build;
use crate::limits::JOBS_MAX;

/// A block that was built for a job.
#[derive(Clone, Debug)]
pub struct BuiltJob {
    /// What the engine built, and which of `items` it was not given.
    pub build: Build,
    /// What was offered, empty if the block is closed.
    pub items: Vec<Offered>,
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
#[derive(Debug)]
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

/// How far a job is.
#[derive(Clone, Debug)]
pub enum JobState {
    /// Its window is not closed, or the engine builds.
    Waiting,
    /// The engine has its block.
    Built(Arc<BuiltJob>),
    /// It failed, for this reason; the same job begins anew when op-node asks again.
    Failed(String),
}

/// A sequencing job.
#[derive(Debug)]
pub struct Job {
    /// Its name, which is the payload id that op-node knows.
    pub id: JobId,
    /// The block it builds on.
    pub parent: B256,
    /// What op-node wants in it.
    pub attributes: Attributes,
    /// The version of `forkchoiceUpdated` that op-node used.
    pub method: String,
    /// How far it is.
    pub state: watch::Sender<JobState>,
    /// Told when it shall wait no longer for its window and build a closed block.
    pub close: Notify,
}

impl Job {
    /// A new job.
    #[must_use]
    pub fn new(method: &str, parent: B256, attributes: Attributes) -> Self {
        Self {
            id: attributes.job(parent),
            parent,
            attributes,
            method: method.to_owned(),
            state: watch::Sender::new(JobState::Waiting),
            close: Notify::new(),
        }
    }

    /// The block, as far as it is known before it is built.
    #[must_use]
    pub fn block(&self) -> L2Block {
        L2Block {
            number: 0,
            hash: B256::ZERO,
            parent: self.parent,
            timestamp: self.attributes.timestamp,
            gas_limit: self.attributes.gas_limit,
            transactions: self.attributes.transactions.clone(),
        }
    }

    /// Whether it failed, so that it may begin anew.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(*self.state.borrow(), JobState::Failed(_))
    }
}

/// The newest jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    // Held for a look or an insertion.
    jobs: Mutex<VecDeque<Arc<Job>>>,
}

impl Jobs {
    /// The job with this name.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<Arc<Job>> {
        self.lock().iter().find(|job| job.id == id).cloned()
    }

    /// Adds a job, unless it is there and has not failed. Gives it if its work is to begin.
    #[must_use]
    pub fn add(&self, job: Job) -> Option<Arc<Job>> {
        let mut jobs = self.lock();
        if jobs.iter().any(|known| known.id == job.id && !known.has_failed()) {
            return None;
        }
        jobs.retain(|known| known.id != job.id);
        while jobs.len() >= JOBS_MAX {
            jobs.pop_front();
        }
        let job = Arc::new(job);
        jobs.push_back(Arc::clone(&job));
        Some(job)
    }

    /// Fails the jobs on a parent: they begin anew when op-node asks again.
    pub fn fail(&self, parent: B256, reason: &str) {
        for job in self.lock().iter().filter(|job| job.parent == parent) {
            job.state.send_replace(JobState::Failed(reason.to_owned()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
