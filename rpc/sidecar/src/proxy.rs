//! What the sidecar does with each of op-node's calls. One thing is changed: a sequencing job. Everything else passes
//! through byte for byte, and is only looked at.
//!
//! Two rules stand above all. No answer may make op-node exit or wedge: `-38003` and `INVALID` never reach a sequencing
//! call. And no block is handed on that is not deposits and offered items in order. Source: design section 5.

mod building;
mod imports;
mod sealing;
mod sequencing;
mod verifying;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use bytes::Bytes;
use lockstep_core::record::{Limits, RecordBody, Sealed};
use lockstep_core::types::UnixMillis;
use lockstep_execution::attributes::{Attributes, Forkchoice, payload_id};
use lockstep_execution::client::{Engine, Reply};
use lockstep_execution::json_rpc::{self, Malformed, Parsed, Request};
use reqwest::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use crate::chain::Chain;
use crate::config::{ExecutionMode, Role, WhenSilent};
use crate::failing::Failing;
use crate::feed::RecordBook;
use crate::heads::Heads;
use crate::jobs::Jobs;
use crate::keeper::Keeper;
use crate::limits::{FAILURES_MAX, HOLD_MAX, PATIENCE_MIN};
use crate::metrics::Metrics;
use crate::records::Records;
use crate::safe_head::SafeHeads;

/// Everything that the proxy needs.
#[derive(Debug)]
pub struct Parts {
    /// The execution engine.
    pub engine: Engine,
    /// The chain's cursors.
    pub chain: Arc<Chain>,
    /// Where records go; `None` without a sequencer key.
    pub records: Option<Records>,
    /// What is kept for the next start.
    pub keeper: Keeper,
    /// The highest safe head before it, by hash and number.
    pub safe: Option<(B256, u64)>,
    /// Where the hashes of skipped transactions go.
    pub skipped: mpsc::Sender<Vec<B256>>,
    /// In front of a sequencer or of a replica.
    pub role: Role,
    /// What to do while the committee is silent.
    pub when_silent: WhenSilent,
    /// Numbers.
    pub metrics: Metrics,
}

/// The proxy between op-node and its engine.
#[derive(Debug)]
pub struct Proxy {
    engine: Engine,
    chain: Arc<Chain>,
    records: Option<Records>,
    keeper: Keeper,
    skipped: mpsc::Sender<Vec<B256>>,
    role: Role,
    when_silent: WhenSilent,
    metrics: Metrics,
    jobs: Jobs,
    heads: Arc<Heads>,
    mode: watch::Sender<ExecutionMode>,
    /// Taken by the judging of a block that the own engine built, and by the walk to a block that was imported.
    judging: Arc<Semaphore>,
    walking: Arc<Semaphore>,
    /// Told when op-node brought a closed block back.
    is_closed_taken: Notify,
    // Held for a look or an assignment: op-node's calls come one after the other, jobs read between them.
    seen: Mutex<Seen>,
}

/// What op-node said and the engine answered, as far as later calls need it.
#[derive(Debug, Default)]
struct Seen {
    /// The safe heads, for which jobs on older parents are put off.
    safe: SafeHeads,
    /// Blocks that were handed to op-node and not yet taken by the engine, and when their windows had closed.
    sealing: BTreeMap<B256, (Sealed, Instant)>,
    /// The version of `getPayload` that op-node used last, to take the next block with.
    get_payload: Option<String>,
    /// Since when jobs come to no block.
    failing: Failing,
    /// Hashes that came out of the engine's own `getPayload`.
    own: std::collections::VecDeque<B256>,
}

/// An answer to op-node.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
    /// How long the engine took, for an answer that is the engine's own.
    pub engine: Option<Duration>,
}

impl Proxy {
    /// A proxy of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { engine, chain, records, keeper, safe, skipped, role, when_silent, metrics } =
            parts;
        let seen = Seen { safe: SafeHeads::new(safe), ..Seen::default() };
        Self {
            engine,
            chain,
            records,
            keeper,
            skipped,
            role,
            when_silent,
            metrics,
            jobs: Jobs::default(),
            heads: Arc::default(),
            mode: watch::Sender::new(ExecutionMode::Enabled),
            judging: Arc::new(Semaphore::new(1)),
            walking: Arc::new(Semaphore::new(1)),
            is_closed_taken: Notify::new(),
            seen: Mutex::new(seen),
        }
    }

    /// The debug switch.
    pub const fn mode(&self) -> &watch::Sender<ExecutionMode> {
        &self.mode
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// How many records the log does not show yet.
    #[must_use]
    pub fn records_waiting(&self) -> usize {
        self.records.as_ref().map_or(0, Records::waiting_count)
    }

    /// Since when jobs have come to no block, and why the last one has not; `None` if all is well.
    #[must_use]
    pub fn failing(&self) -> Option<(Duration, String)> {
        self.seen().failing.since(Instant::now())
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers one body of op-node.
    pub async fn handle(self: &Arc<Self>, body: Bytes) -> Answer {
        let started = Instant::now();
        let answer = match json_rpc::parse(&body) {
            Parsed::Single(request) => self.route(&request, body.clone()).await,
            Parsed::Batch(calls) if calls.iter().flatten().any(is_ours) => self.each(&calls).await,
            Parsed::Batch(_) | Parsed::Invalid(_) => self.pass(body).await,
        };
        if let Some(engine) = answer.engine {
            self.metrics.added(started.elapsed().saturating_sub(engine));
        }
        answer
    }

    /// A batch with a call that is looked at: each by itself, the answers in order.
    async fn each(self: &Arc<Self>, calls: &[Result<Request<'_>, Malformed>]) -> Answer {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(match call {
                Ok(request) => {
                    let body = Bytes::copy_from_slice(request.raw.get().as_bytes());
                    in_batch(request.id, self.route(request, body).await)
                }
                Err(malformed) => malformed.answer().into(),
            });
        }
        ok(format!(
            "[{}]",
            answers
                .iter()
                .map(|answer| String::from_utf8_lossy(answer))
                .collect::<Vec<_>>()
                .join(",")
        ))
    }

    async fn route(self: &Arc<Self>, request: &Request<'_>, body: Bytes) -> Answer {
        let params = request.positional();
        let method = request.method.as_ref();
        if method.starts_with("engine_forkchoiceUpdated") {
            return self.forkchoice_updated(request, &params, body).await;
        }
        if method.starts_with("engine_getPayloadV") {
            let job =
                params.first().and_then(|raw| payload_id(raw)).and_then(|id| self.jobs.get(id));
            return match job {
                Some(job) => self.get_payload(request, &job).await,
                None => self.get_own_payload(body).await,
            };
        }
        if method.starts_with("engine_newPayload") {
            return self.new_payload(request, &params, body).await;
        }
        if method == "miner_setMaxDASize" {
            return ok(self.set_max_da_size(request));
        }
        self.pass(body).await
    }

    async fn forkchoice_updated(
        self: &Arc<Self>,
        request: &Request<'_>,
        params: &[&RawValue],
        body: Bytes,
    ) -> Answer {
        let forkchoice = params.first().and_then(|raw| Forkchoice::read(raw).ok());
        let Some(forkchoice) = forkchoice else {
            return self.pass(body).await;
        };
        self.note_forkchoice(&forkchoice);
        let is_held = self.heads.wait_for_jobs().await;
        let attributes = match params.get(1).filter(|raw| raw.get() != "null") {
            Some(raw) => Attributes::read(raw).ok().filter(Attributes::is_sequencing),
            None => None,
        };
        let answer = match attributes {
            Some(attributes) if self.is_rewritten(&attributes) => {
                self.start_job(request, forkchoice, attributes).await
            }
            Some(attributes) if *self.mode.borrow() == ExecutionMode::DryRun => {
                self.rehearse(forkchoice.head, attributes);
                self.pass(body).await
            }
            Some(_) | None => self.pass(body).await,
        };
        // A call that waited for its turn says nothing of what the sidecar adds.
        Answer { engine: answer.engine.filter(|_| !is_held), ..answer }
    }

    /// Whether a sequencing job is Lockstep's to fill: after the chain joined, and unless it is switched off.
    fn is_rewritten(&self, attributes: &Attributes) -> bool {
        attributes.timestamp >= self.chain.params().joins_at
            && *self.mode.borrow() == ExecutionMode::Enabled
    }

    fn note_forkchoice(self: &Arc<Self>, forkchoice: &Forkchoice) {
        let before = self.heads.note(forkchoice.clone());
        let is_new = forkchoice.safe != B256::ZERO
            && before.is_none_or(|before| before.safe != forkchoice.safe);
        if is_new {
            let (proxy, safe) = (Arc::clone(self), forkchoice.safe);
            tokio::spawn(async move { proxy.note_safe(safe).await });
        }
    }

    /// Remembers the number of the highest safe head.
    async fn note_safe(&self, safe: B256) {
        let known = self.chain.ledger().get(&safe).map(|known| known.number);
        let number = match known {
            Some(number) => Some(number),
            None => self.chain.blocks().info(safe).await.ok().flatten().map(|info| info.number()),
        };
        let Some(number) = number else { return };
        if self.seen().safe.note(safe, number) {
            self.keeper.note_safe((safe, number));
        }
    }

    /// Turns the batcher's throttling into a `Limits` record, which all who follow the chain can see.
    pub fn set_max_da_size(&self, request: &Request<'_>) -> String {
        let read = |raw: Option<&&RawValue>| {
            raw.and_then(|raw| {
                serde_json::from_str::<lockstep_execution::attributes::Quantity>(raw.get()).ok()
            })
        };
        let params = request.positional();
        let (Some(tx), Some(block)) = (read(params.first()), read(params.get(1))) else {
            let words = "expected [max transaction bytes, max block bytes] as quantities";
            return json_rpc::error(request.id, json_rpc::INVALID_PARAMS, words, None);
        };
        match &self.records {
            Some(records) => {
                let set_at_ms = UnixMillis(sequencing::now_ms());
                let limits = Limits { tx_bytes: tx.0, block_bytes: block.0, set_at_ms };
                let logged = self.chain.feed().with_book(RecordBook::newest_limits);
                records.limits(limits, logged);
            }
            None => tracing::warn!(
                "limits of the batcher are not recorded: this sidecar has no sequencer key"
            ),
        }
        let yes = RawValue::from_string("true".to_owned()).unwrap_or_default();
        json_rpc::result(request.id, &yes)
    }

    /// Carries a body to the engine and its answer back, as they are. 502 if the engine is away.
    async fn pass(&self, body: Bytes) -> Answer {
        let started = Instant::now();
        let (status, body) = match self.engine.forward(body).await {
            Ok(Reply { status, body }) => (status, body),
            Err(error) => {
                self.metrics.engine_errors.inc();
                (StatusCode::BAD_GATEWAY, Bytes::from(error.to_string()))
            }
        };
        Answer { status, body, engine: Some(started.elapsed()) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves what was seen whole: each change is one assignment.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, body: RecordBody) {
        if let Some(records) = &self.records {
            records.submit(body);
        }
    }

    /// How long jobs may come to no block before that is no hiccup: some block times, each job held for one.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.hold().saturating_mul(FAILURES_MAX).max(PATIENCE_MIN)
    }

    /// How long `getPayload` is held at most.
    fn hold(&self) -> Duration {
        Duration::from_millis(self.chain.params().block_time_ms).min(HOLD_MAX)
    }
}

fn ok(body: String) -> Answer {
    Answer { status: StatusCode::OK, body: body.into(), engine: None }
}

/// One answer among others: what is no JSON-RPC, because the engine is away, would spoil them all.
fn in_batch(id: Option<&RawValue>, Answer { status, body, .. }: Answer) -> Bytes {
    let is_json = serde_json::from_slice::<&RawValue>(&body).is_ok();
    if status == StatusCode::OK && is_json {
        return body;
    }
    let words = format!("the engine answered {status}");
    json_rpc::error(id, json_rpc::SERVER_ERROR, &words, None).into()
}

fn is_ours(request: &Request<'_>) -> bool {
    let method = request.method.as_ref();
    ["engine_forkchoiceUpdated", "engine_getPayloadV", "engine_newPayload"]
        .iter()
        .any(|ours| method.starts_with(ours))
        || method == "miner_setMaxDASize"
}
