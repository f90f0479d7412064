//! Sequencing jobs: answered at once with a payload id of the sidecar's own, filled when their window closes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use lockstep_core::record::{SealMode, Skipped};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{Begin, Offered};
use lockstep_execution::attributes::{Attributes, Forkchoice, JobId};
use lockstep_execution::client::EngineError;
use lockstep_execution::json_rpc::{self, Request, SERVER_ERROR};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::{Answer, Proxy, ok};
use crate::chain::{Found, Unresolved};
use crate::jobs::{BuiltJob, Job, JobState};
use crate::limits::RECORD_PATIENCE;
use crate::safe_head::Verdict;

/// The heads contradict each other: op-node resets and derives again.
const INVALID_FORKCHOICE: i64 = -38002;
/// Between two looks at a parent whose cursor is not known yet.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    payload_status: &'a RawValue,
    payload_id: JobId,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    payload_status: Box<RawValue>,
}

/// What a job is built from.
pub(super) struct Plan {
    pub(super) items: Vec<Offered>,
    pub(super) passed: Vec<Skipped>,
    pub(super) mode: SealMode,
    /// Where the next offer begins; `None` if the log was silent.
    pub(super) begin: Option<Begin>,
    /// Log time up to which that holds; `None` if for good.
    pub(super) until: Option<UnixMillis>,
    /// When the log block that closed its window was there.
    pub(super) closed: Instant,
}

impl Proxy {
    /// Answers the call that starts a job: the head is set on the engine at once, the block is built when its window
    /// has closed.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        request: &Request<'_>,
        forkchoice: Forkchoice,
        attributes: Attributes,
    ) -> Answer {
        let parent = forkchoice.head;
        if self.is_too_old(parent).await {
            let words = "the engine is behind a safe head seen before: derivation comes first";
            return ok(json_rpc::error(request.id, SERVER_ERROR, words, None));
        }
        let status = match self.engine.call(&request.method, (&forkchoice.raw, ())).await {
            Ok(raw) => serde_json::from_str::<Updated>(raw.get()).ok(),
            Err(error) => return ok(refused(request, &error)),
        };
        let Some(Updated { payload_status }) = status else {
            return ok(json_rpc::error(
                request.id,
                SERVER_ERROR,
                "the engine's answer has no status",
                None,
            ));
        };
        let name = lockstep_execution::payload::status(&payload_status).unwrap_or_default();
        if name != "VALID" {
            // SYNCING would make op-node wait for 30 s, INVALID end: a temporary error is tried again after 1 s.
            warn!(%parent, status = %name, "the engine does not take the head of a sequencing job");
            return ok(json_rpc::error(
                request.id,
                SERVER_ERROR,
                &format!("engine: head is {name}"),
                None,
            ));
        }
        let job = Job::new(&request.method, parent, attributes);
        let started = Started { payload_status: &payload_status, payload_id: job.id };
        let answer = to_raw_value(&started).unwrap_or_default();
        if let Some(job) = self.jobs.add(job) {
            self.metrics.jobs.inc();
            let proxy = Arc::clone(self);
            tokio::spawn(async move { proxy.run(job).await });
        }
        ok(json_rpc::result(request.id, &answer))
    }

    /// Counts what a job would have been offered; nothing is built.
    pub(super) fn rehearse(self: &Arc<Self>, parent: B256, attributes: Attributes) {
        let job = Job::new("engine_forkchoiceUpdatedV3", parent, attributes);
        let proxy = Arc::clone(self);
        tokio::spawn(async move {
            match proxy.plan(&job).await {
                Ok(plan) => {
                    info!(parent = %job.parent, items = plan.items.len(), "dry run: would be offered")
                }
                Err(reason) => debug!(parent = %job.parent, %reason, "dry run: no offer"),
            }
        });
    }

    /// Whether a parent is older than a safe head seen before, and jobs on it are still put off.
    async fn is_too_old(&self, parent: B256) -> bool {
        let Some((_, safe)) = self.seen().safe.highest() else {
            return false;
        };
        let known = self.chain.ledger().get(&parent).map(|known| known.number);
        let number = match known {
            Some(number) => number,
            None => match self.chain.blocks().info(parent).await {
                Ok(Some(info)) => info.number(),
                Ok(None) | Err(_) => return false,
            },
        };
        match self.seen().safe.judge(Instant::now(), number) {
            Verdict::Go => false,
            Verdict::Wait { is_new } => {
                if is_new {
                    warn!(%parent, number, safe, "a job on a parent older than a safe head: it is put off");
                }
                true
            }
        }
    }

    async fn run(self: Arc<Self>, job: Arc<Job>) {
        let state = match self.work(&job).await {
            Ok(built) => JobState::Built(Arc::new(built)),
            Err(reason) => {
                debug!(job = %job.id, parent = %job.parent, %reason, "a job ended without a block");
                JobState::Failed(reason)
            }
        };
        job.state.send_replace(state);
    }

    async fn work(&self, job: &Job) -> Result<BuiltJob, String> {
        let plan = tokio::select! {
            plan = self.plan(job) => plan?,
            () = job.close.notified() => self.closed_plan(job),
        };
        self.make(job, plan).await
    }

    /// Waits until the job's window has closed, and takes its offer.
    async fn plan(&self, job: &Job) -> Result<Plan, String> {
        let Found { begin, until } = self.parent_begin(job).await?;
        let (block, cursor) = (job.block(), begin.cursor);
        let window = self.chain.window(&block, cursor).await;
        let window = window.map_err(|error| error.to_string())?;
        self.wait_until_closed(job, window.end).await?;
        let closed = Instant::now();
        // Again: limits may have come in the last log block of the window.
        let window = self.chain.window(&block, cursor).await;
        let window = window.map_err(|error| error.to_string())?;
        let offer = self.chain.offer(begin, &window).await.map_err(|error| error.to_string())?;
        self.metrics.offered.inc_by(offer.items.len() as u64);
        let mode = match window.closed {
            Some(_) => SealMode::Closed,
            None => SealMode::Offered,
        };
        let begin = Some(offer.after());
        Ok(Plan { items: offer.items, begin, until, passed: offer.passed, mode, closed })
    }

    async fn parent_begin(&self, job: &Job) -> Result<Found, String> {
        let (started, mut said) = (Instant::now(), String::new());
        loop {
            match self.chain.begin_of(job.parent).await {
                Ok(found) => return Ok(found),
                Err(Unresolved::Ambiguous(hash))
                    if self.records.is_some() && started.elapsed() >= RECORD_PATIENCE =>
                {
                    warn!(block = %hash, "no record says how this block was built: it is recorded as closed");
                    self.note_closed(hash, BTreeSet::new()).await;
                    self.chain.take_closed(&hash);
                    self.is_closed_taken.notify_one();
                }
                Err(error) if error.to_string() != said => {
                    said = error.to_string();
                    warn!(parent = %job.parent, reason = %said, "the cursor of a job's parent is not known yet");
                }
                Err(_) => {}
            }
            self.expect_head(job)?;
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn wait_until_closed(&self, job: &Job, end: UnixMillis) -> Result<(), String> {
        let mut newest = self.chain.feed().newest();
        let started = now_ms();
        while !self.chain.is_closed(end) {
            // A new head ends the wait; the log alone does not tell of it.
            if let Ok(changed) = timeout(Duration::from_secs(1), newest.changed()).await {
                changed.map_err(|_| "the feed has ended".to_owned())?;
            }
            self.expect_head(job)?;
            if newest.borrow().is_forked {
                return Err("the committee's safety has failed".to_owned());
            }
        }
        if now_ms() > started {
            let due = job.attributes.timestamp.saturating_mul(1_000);
            self.metrics.margin(due, now_ms());
        }
        Ok(())
    }

    /// Nothing is offered. Where the next offer begins is for the log to say, once it goes on.
    fn closed_plan(&self, job: &Job) -> Plan {
        info!(parent = %job.parent, "the committee is silent: a block of deposits only");
        let (mode, closed) = (SealMode::Closed, Instant::now());
        Plan { items: Vec::new(), passed: Vec::new(), mode, begin: None, until: None, closed }
    }

    pub(super) fn expect_head(&self, job: &Job) -> Result<Forkchoice, String> {
        self.heads.on(job.parent).map_err(|error| error.to_string())
    }
}

/// What op-node hears when the engine refuses the head of a job: only what makes it reset, or try again.
fn refused(request: &Request<'_>, error: &EngineError) -> String {
    match error.refusal() {
        Some(refusal) if refusal.code == INVALID_FORKCHOICE => {
            json_rpc::error(request.id, refusal.code, &refusal.message, None)
        }
        Some(_) | None => json_rpc::error(request.id, SERVER_ERROR, &error.to_string(), None),
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
