//! Sealing: what op-node gets for its payload id, and what is remembered and recorded of it.
//!
//! `getPayload` is held until the block is built, but not for long. The engine's block is compared with what it was to be
//! built from before it is handed on. A record goes to the log once op-node brings the block back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use lockstep_core::limits::RECORD_SKIPPED_MAX;
use lockstep_core::record::{Cursor, RecordBody, Sealed};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info};

use super::sequencing::now_ms;
use super::{Answer, Proxy, ok};
use crate::build::{self, BuildError, Order, Outcome};
use crate::config::WhenSilent;
use crate::engine::EngineError;
use crate::jobs::{BuiltJob, Job, JobState};
use crate::json_rpc::{self, Request, SERVER_ERROR};
use crate::ledger::Known;
use crate::limits::JOBS_MAX;
use crate::payload::Payload;

/// There is no such payload, or no longer.
const UNKNOWN_PAYLOAD: i64 = -38001;
/// Builds of one block at most, where an engine tears legs.
const REBUILDS_MAX: usize = 64;
/// Between two looks at whether a block that was sealed without the log can be recorded.
const RECORD_LATER: Duration = Duration::from_millis(500);
/// How long such a block is remembered: the log may be silent for a day.
const WORD_KEPT: Duration = Duration::from_secs(24 * 3_600);

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
        let started = Instant::now();
        let built = self.wait_until_built(job).await;
        self.metrics.held(started.elapsed());
        let sealed = match built {
            Ok(built) => self.seal(request, job, built).await,
            Err(reason) => Err(reason),
        };
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

    /// Takes the block from the engine, and checks it before it is handed on.
    async fn seal(
        &self,
        request: &Request<'_>,
        job: &Job,
        built: Arc<BuiltJob>,
    ) -> Result<Box<RawValue>, String> {
        let mut built = (*built).clone();
        for _ in 0..REBUILDS_MAX {
            let asked = self.engine.call(&request.method, (&built.payload_id,));
            let answer = timeout(self.hold(), asked).await;
            let raw = match answer.map_err(|_| "the engine gives no payload in time")? {
                Ok(raw) => raw,
                Err(error) => {
                    self.rebuild(request, job, &mut built, &error).await?;
                    continue;
                }
            };
            let payload =
                Payload::in_envelope(&raw).ok_or("the engine's payload cannot be read")?;
            match build::outcome(&payload, &job.attributes, &built.items, &built.left_out) {
                Outcome::Good(missing) => {
                    self.note_sealed(&payload, &built, &missing);
                    return Ok(raw);
                }
                Outcome::Torn(torn) => {
                    built.left_out.extend(torn);
                    let order = self.order(job);
                    let left_out = built.left_out.clone();
                    let build = build::build(&self.engine, &order, &built.items, left_out).await;
                    let build = build.map_err(|error| error.to_string())?;
                    (built.payload_id, built.left_out) = (build.payload_id, build.left_out);
                }
                Outcome::Foreign => {
                    error!(hash = %payload.hash, "the engine built something else than deposits and offered items");
                    job.state.send_replace(JobState::Failed("foreign payload".to_owned()));
                    return Err("the engine's payload is not what was to be built".to_owned());
                }
            }
        }
        Err("the engine tears legs without end".to_owned())
    }

    /// The engine has no payload for a job: it was restarted, or it is strict and found the items bad while it built.
    async fn rebuild(
        &self,
        request: &Request<'_>,
        job: &Job,
        built: &mut BuiltJob,
        error: &EngineError,
    ) -> Result<(), String> {
        job.state.send_replace(JobState::Failed(error.to_string()));
        if error.refusal().is_none() {
            return Err(error.to_string());
        }
        let order = Order { get_payload: Some(request.method.to_string()), ..self.order(job) };
        match build::build(&self.engine, &order, &built.items, built.left_out.clone()).await {
            Ok(build) => (built.payload_id, built.left_out) = (build.payload_id, build.left_out),
            Err(BuildError::TooManyRefusals) => *built = self.build_closed(job, &order).await?,
            Err(error) => return Err(error.to_string()),
        }
        job.state.send_replace(JobState::Built(Arc::new(built.clone())));
        Ok(())
    }

    fn note_sealed(&self, payload: &Payload, built: &BuiltJob, missing: &BTreeSet<usize>) {
        self.tell_skipped(built, missing);
        match built.cursor {
            Some(cursor) => self.note_offered(payload, built, (cursor, missing)),
            None => self.chain.give_word(payload.hash, built.mode),
        }
    }

    /// Where the next offer begins is known as soon as the block is.
    fn note_offered(
        &self,
        payload: &Payload,
        built: &BuiltJob,
        (cursor, missing): (Cursor, &BTreeSet<usize>),
    ) {
        let mut skipped = built.skipped(missing);
        skipped.truncate(RECORD_SKIPPED_MAX);
        let Payload { number, hash, parent, timestamp, .. } = *payload;
        let sealed = Sealed { number, hash, parent, timestamp, mode: built.mode, cursor, skipped };
        self.chain.ledger().insert(hash, Known { number, parent, timestamp, cursor });
        let mut seen = self.seen();
        seen.sealing.insert(hash, (sealed, built.closed));
        while seen.sealing.len() > JOBS_MAX {
            seen.sealing.pop_first();
        }
    }

    fn tell_skipped(&self, built: &BuiltJob, missing: &BTreeSet<usize>) {
        let left_out = built.left_out.union(missing).filter_map(|index| built.items.get(*index));
        let hashes: Vec<_> = left_out.flat_map(|item| item.item.hashes.clone()).collect();
        if !hashes.is_empty() && self.skipped.try_send(hashes).is_err() {
            debug!("the wallets' port does not hear of skipped items");
        }
    }

    /// A block that was handed to op-node is the chain's now: its record goes to the log.
    pub(super) fn note_taken(self: &Arc<Self>, payload: &Payload) {
        let sealed = self.seen().sealing.remove(&payload.hash);
        let (sealed, closed) = match sealed {
            Some(sealed) => sealed,
            None if self.chain.has_word(&payload.hash) => {
                self.metrics.closed.inc();
                let (proxy, hash) = (Arc::clone(self), payload.hash);
                tokio::spawn(async move { proxy.record_later(hash).await });
                return;
            }
            None => return,
        };
        self.metrics.sealing(closed.elapsed());
        self.metrics.sealed(&sealed, now_ms());
        info!(number = sealed.number, hash = %sealed.hash, transactions = payload.transactions.len(),
            skipped = sealed.skipped.len(), "sealed a block");
        self.submit(RecordBody::Sealed(sealed));
    }

    /// Records a block that was sealed without the log, once the log goes on and tells what it would have been offered.
    pub(crate) async fn record_later(&self, hash: B256) {
        let deadline = Instant::now().checked_add(WORD_KEPT);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) {
            match self.chain.record_of(hash).await {
                Ok(Some(sealed)) => return self.submit(RecordBody::Sealed(sealed)),
                Ok(None) => return,
                Err(reason) => debug!(block = %hash, %reason, "a closed block is not recorded yet"),
            }
            sleep(RECORD_LATER).await;
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
