//! Sealing: what op-node gets for its payload id, and what is remembered and recorded of it.
//!
//! `getPayload` is held until the block is there, but not for long. The engine's block is compared with what it was to be
//! built from before it is handed on. A record goes to the log once op-node brings the block back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use lockstep_core::limits::RECORD_SKIPPED_MAX;
use lockstep_core::record::{RecordBody, Sealed, Skipped};
use lockstep_core::window::{Begin, Place};
use lockstep_execution::client::EngineError;
use lockstep_execution::json_rpc::{self, Request, SERVER_ERROR};
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::building::places;
use super::sequencing::now_ms;
use super::{Answer, Proxy, ok};
use crate::build::{self, BuildError, Order};
use crate::chain::Unresolved;
use crate::config::WhenSilent;
use crate::jobs::{BuiltJob, Job, JobState, Taken};
use crate::ledger::Known;
use crate::limits::JOBS_MAX;

/// There is no such payload, or no longer.
const UNKNOWN_PAYLOAD: i64 = -38001;
/// Builds of one block at most, where an engine loses each.
const REBUILDS_MAX: usize = 8;
/// Between two looks at whether a block that was sealed without the log can be recorded.
const RECORD_LATER: Duration = Duration::from_millis(500);

/// Why a block could not be taken from the engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    /// The engine is away, or has no payload.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// No answer.
    #[error("the engine gives no payload in time")]
    Silent,
    /// What it gave is no payload.
    #[error("the engine's payload cannot be read")]
    Unreadable,
    /// It holds something else than deposits and offered items.
    #[error("the engine's payload is not what was to be built")]
    Foreign,
    /// A block without torn legs cannot be built.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The same, however often it is tried.
    #[error("the engine tears legs without end")]
    Torn,
}

impl Proxy {
    /// Answers a `getPayload` for a job: holds it until the block is there, but not for long.
    pub(super) async fn get_payload(
        self: &Arc<Self>,
        request: &Request<'_>,
        job: &Arc<Job>,
    ) -> Answer {
        if self.expect_head(job).is_err() {
            return ok(json_rpc::error(request.id, UNKNOWN_PAYLOAD, "Unknown payload", None));
        }
        self.seen().get_payload = Some(request.method.clone().into_owned());
        let started = Instant::now();
        let built = self.wait_until_built(job).await;
        self.metrics.held(started.elapsed());
        let sealed = match built {
            Ok(built) => self.seal(request, job, built).await,
            Err(reason) => Err(reason),
        };
        self.seen().failing.note(Instant::now(), sealed.as_ref().err());
        ok(match sealed {
            Ok(raw) => json_rpc::result(request.id, &raw),
            Err(reason) => {
                self.metrics.unsealed.inc();
                json_rpc::error(request.id, SERVER_ERROR, &reason, None)
            }
        })
    }

    async fn wait_until_built(&self, job: &Job) -> Result<Arc<BuiltJob>, String> {
        let mut state = job.state.subscribe();
        let hold = self.hold();
        let is_silent = self.chain.feed().silence() >= hold;
        if self.when_silent == WhenSilent::DepositsOnly && is_silent {
            job.close.notify_one();
        }
        let mut waited = timeout(hold, ended(&mut state)).await;
        if waited.is_err() && self.when_silent == WhenSilent::DepositsOnly {
            job.close.notify_one();
            waited = timeout(hold, ended(&mut state)).await;
        }
        match waited {
            Ok(ended) => ended,
            Err(_) => Err("the log is not decided up to this block's window yet".to_owned()),
        }
    }

    /// The block that a job came to: the one that the engine has imported already, or from the engine now.
    async fn seal(
        &self,
        request: &Request<'_>,
        job: &Job,
        built: Arc<BuiltJob>,
    ) -> Result<Box<RawValue>, String> {
        let method = request.method.as_ref();
        if let Some(taken) = built.imported.as_ref().filter(|taken| taken.method == method)
            && self.has(taken.payload.hash).await
        {
            self.note_sealed(&built, taken).await;
            return Ok(taken.raw.clone());
        }
        match self.take_or_rebuild(method, job, &built).await {
            Ok((built, taken)) => {
                self.note_sealed(&built, &taken).await;
                job.state.send_replace(JobState::Built(Arc::new(built)));
                Ok(taken.raw)
            }
            Err(reason) => {
                job.state.send_replace(JobState::Failed(reason.clone()));
                Err(reason)
            }
        }
    }

    /// Whether the engine has a block still. One that was restarted may not, and op-node would bring it back for ever.
    async fn has(&self, block: B256) -> bool {
        matches!(timeout(self.hold(), self.chain.blocks().info(block)).await, Ok(Ok(Some(_))))
    }

    async fn take_or_rebuild(
        &self,
        method: &str,
        job: &Job,
        built: &BuiltJob,
    ) -> Result<(BuiltJob, Taken), String> {
        let order = self.order(job);
        let mut built = BuiltJob { imported: None, ..built.clone() };
        for _ in 0..REBUILDS_MAX {
            let how = (method, self.hold());
            match self.take(how, &order, &built.items, &built.build).await {
                Ok((build, taken)) => return Ok((BuiltJob { build, ..built }, taken)),
                Err(NotTaken::Engine(error)) if error.refusal().is_some() => {
                    built = self.rebuild(method, job, built).await?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the engine gives no payload of what it builds".to_owned())
    }

    /// The engine has no payload for a job: it was restarted, or it is strict and found the items bad while it built.
    async fn rebuild(&self, method: &str, job: &Job, built: BuiltJob) -> Result<BuiltJob, String> {
        let order = Order { get_payload: Some(method.to_owned()), ..self.order(job) };
        let none = BTreeSet::new();
        match build::rebuild(&self.engine, &order, &built.items, &built.build, &none).await {
            Ok(build) => Ok(BuiltJob { build, ..built }),
            Err(error) => {
                let reason = error.to_string();
                let BuildError::TooManyRefusals(refused) = error else { return Err(reason) };
                let refused = places(&built.items, &refused);
                self.build_closed(job, &order, refused, &reason).await
            }
        }
    }

    /// Remembers a block before it is handed out.
    async fn note_sealed(&self, built: &BuiltJob, taken: &Taken) {
        self.tell_skipped(built, &taken.missing);
        match &built.begin {
            Some(begin) => self.note_offered(built, taken, begin),
            None => self.note_closed(taken.payload.hash, built.refused.clone()).await,
        }
    }

    /// Remembers that a block was sealed closed. It looks like one whose every item was bad, so this is on disk before the
    /// block is handed out: a sidecar that forgot it would take it for an offered one.
    pub(super) async fn note_closed(&self, hash: B256, refused: BTreeSet<Place>) {
        self.chain.note_closed(hash, refused);
        self.keeper.write().await;
    }

    /// Where the next offer begins is known as soon as the block is.
    fn note_offered(&self, built: &BuiltJob, taken: &Taken, begin: &Begin) {
        let (cursor, refused) = (begin.cursor, begin.refused.iter().copied());
        let mut skipped = built.skipped(&taken.missing);
        skipped.truncate(RECORD_SKIPPED_MAX.saturating_sub(begin.refused.len()));
        skipped.extend(refused.map(Skipped::refused));
        let Payload { number, hash, parent, timestamp, .. } = taken.payload;
        let sealed = Sealed { number, hash, parent, timestamp, mode: built.mode, cursor, skipped };
        let known = Known { number, parent, timestamp, begin: begin.clone(), until: built.until };
        self.chain.ledger().insert(hash, known);
        let mut seen = self.seen();
        seen.sealing.insert(hash, (sealed, built.closed));
        while seen.sealing.len() > JOBS_MAX {
            seen.sealing.pop_first();
        }
    }

    fn tell_skipped(&self, built: &BuiltJob, missing: &BTreeSet<usize>) {
        let absent = built.absent(missing).filter_map(|index| built.items.get(*index));
        let hashes: Vec<_> = absent.flat_map(|item| item.item.hashes.clone()).collect();
        if !hashes.is_empty() && self.skipped.try_send(hashes).is_err() {
            debug!("the wallets' port does not hear of skipped items");
        }
    }

    /// A block that was handed to op-node is the chain's now: its record goes to the log.
    pub(super) fn note_taken(self: &Arc<Self>, payload: &Payload) {
        let sealed = self.seen().sealing.remove(&payload.hash);
        let (sealed, closed) = match sealed {
            Some(sealed) => sealed,
            None if self.chain.take_closed(&payload.hash) => {
                self.metrics.closed.inc();
                return self.is_closed_taken.notify_one();
            }
            None => return,
        };
        self.metrics.sealing(closed.elapsed());
        self.metrics.sealed(&sealed, now_ms());
        info!(number = sealed.number, hash = %sealed.hash, transactions = payload.transactions.len(),
            skipped = sealed.skipped.len(), "sealed a block");
        self.submit(RecordBody::Sealed(sealed));
    }

    /// Records the blocks that were sealed closed, the oldest first, each once the log tells what it would have been offered.
    /// Runs for ever. While the log is silent it looks at one block, however many wait.
    pub(crate) async fn record_closed(self: Arc<Self>) {
        let mut recorded = BTreeSet::new();
        loop {
            let closed = self.chain.closed_taken();
            recorded.retain(|hash| closed.contains(hash));
            for hash in closed {
                if recorded.contains(&hash) {
                    continue;
                }
                match self.chain.record_of(hash).await {
                    Ok(Some(sealed)) => {
                        recorded.insert(hash);
                        self.submit(RecordBody::Sealed(sealed));
                    }
                    Ok(None) => {}
                    // The log is not there yet for any later one.
                    Err(Unresolved::AheadOfLog { .. }) => break,
                    Err(reason) => {
                        debug!(block = %hash, %reason, "a closed block is not recorded yet");
                    }
                }
            }
            tokio::select! {
                () = self.is_closed_taken.notified() => {}
                () = sleep(RECORD_LATER) => {}
            }
        }
    }
}

async fn ended(
    state: &mut tokio::sync::watch::Receiver<JobState>,
) -> Result<Arc<BuiltJob>, String> {
    let ended = state.wait_for(|state| !matches!(state, JobState::Waiting)).await;
    match ended.as_deref() {
        Ok(JobState::Built(built)) => Ok(Arc::clone(built)),
        Ok(JobState::Failed(reason)) => Err(reason.clone()),
        Ok(JobState::Waiting) | Err(_) => Err("the job has ended".to_owned()),
    }
}
