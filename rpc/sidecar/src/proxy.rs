//! The proxy between op-node and its engine: carries out what the [`Session`] wants. Calls that are nothing to it pass through
//! byte for byte.
//!
//! It decides nothing. Effects are begun in the order in which the session gives them; what is asked runs in tasks of its
//! own, and comes back as an input.

mod asking;
mod notes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use bytes::Bytes;
use lockstep_core::reader::{Known, Rules};
use lockstep_execution::attributes::Quantity;
use lockstep_execution::blocks::Blocks;
use lockstep_execution::client::{Engine, Reply};
use lockstep_execution::json_rpc::{self, Malformed, Parsed, Request};
use reqwest::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error};

use crate::config::ExecutionMode;
use crate::feed::Feed;
use crate::keeper::Keeper;
use crate::limits::PATIENCE_MIN;
use crate::metrics::Metrics;
use crate::payloads::Payloads;
use crate::records::Records;
use crate::session::Session;
use crate::session::effect::{self, CallId, Effect};
use crate::session::input::{Call, Forwarded, Input, Log, Now};

/// Everything that the proxy needs.
#[derive(Debug)]
pub struct Parts {
    /// The execution engine.
    pub engine: Engine,
    /// The log.
    pub feed: Feed,
    /// The session, at its start.
    pub session: Arc<Mutex<Session>>,
    /// Where records go; `None` without a sequencer key.
    pub records: Option<Records>,
    /// What is kept for the next start.
    pub keeper: Keeper,
    /// Where payloads are kept.
    pub payloads: Payloads,
    /// Where the hashes of skipped transactions go.
    pub skipped: mpsc::Sender<Vec<B256>>,
    /// Numbers.
    pub metrics: Metrics,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    parts: Parts,
    blocks: Blocks,
    /// op-node's calls that the session has.
    calls: Mutex<BTreeMap<CallId, Waiting>>,
    next_call: AtomicU64,
    wake: watch::Sender<Option<Instant>>,
    modes: watch::Sender<ExecutionMode>,
    knocks: Mutex<Knocks>,
}

/// When op-node called last.
#[derive(Clone, Copy, Debug, Default)]
struct Knocks {
    taken: Option<Instant>,
    /// With another secret.
    refused: Option<Instant>,
}

/// A call of op-node that waits for its answer.
#[derive(Debug)]
struct Waiting {
    body: Bytes,
    answer: oneshot::Sender<effect::Answer>,
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
        let blocks = Blocks::new(parts.engine.clone());
        Self {
            parts,
            blocks,
            calls: Mutex::default(),
            next_call: AtomicU64::new(0),
            wake: watch::Sender::new(None),
            modes: watch::Sender::new(ExecutionMode::Enabled),
            knocks: Mutex::default(),
        }
    }

    /// The debug switch.
    #[must_use]
    pub fn mode(&self) -> ExecutionMode {
        self.session().mode()
    }

    /// Sets the debug switch.
    pub fn switch(self: &Arc<Self>, mode: ExecutionMode) {
        self.step(Input::Switched(mode));
        self.modes.send_replace(mode);
    }

    /// The debug switch, whenever it is set.
    #[must_use]
    pub fn modes(&self) -> watch::Receiver<ExecutionMode> {
        self.modes.subscribe()
    }

    /// A call on the Engine API was taken, or refused for its secret.
    pub fn note_knock(&self, is_taken: bool) {
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        let last = if is_taken { &mut knocks.taken } else { &mut knocks.refused };
        *last = Some(Instant::now());
    }

    /// Whether calls are refused for their secret, and none was taken for a while.
    #[must_use]
    pub fn is_locked_out(&self) -> bool {
        let knocks = *self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < PATIENCE_MIN);
        is_recent(knocks.refused) && !is_recent(knocks.taken)
    }

    /// The log.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.parts.feed
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    /// The engine's blocks.
    #[must_use]
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The rules of the chain's blocks.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.session().rules()
    }

    /// What is known of a block.
    #[must_use]
    pub fn known(&self, hash: &B256) -> Option<Known> {
        self.session().known(hash).cloned()
    }

    /// The highest block with a known cursor.
    #[must_use]
    pub fn newest(&self) -> Option<(B256, Known)> {
        self.session().newest()
    }

    /// How many records the log does not show yet.
    #[must_use]
    pub fn records_waiting(&self) -> usize {
        self.parts.records.as_ref().map_or(0, Records::waiting_count)
    }

    /// How long jobs have come to no block, and why the last one has not; `None` if that is no more than a hiccup.
    #[must_use]
    pub fn failing(&self) -> Option<(Duration, String)> {
        let session = self.session();
        session.failing(Instant::now()).map(|(since, reason)| (since, reason.to_string()))
    }

    /// Tells the session of the log and of time, for ever.
    pub async fn run(self: Arc<Self>) {
        let (mut newest, mut wake) = (self.parts.feed.newest(), self.wake.subscribe());
        loop {
            let at = *wake.borrow_and_update();
            let timer = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = newest.changed() => self.step(Input::LogAdvanced),
                Ok(()) = wake.changed() => {}
                () = timer => self.step(Input::Tick),
            }
        }
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
            self.parts.metrics.added(started.elapsed().saturating_sub(engine));
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
        if request.method == "miner_setMaxDASize" {
            return ok(self.set_max_da_size(request).await);
        }
        let call = Call::read(&request.method, &request.positional());
        match call {
            Some(call) => self.call(request.id, call, body).await,
            None => self.pass(body).await,
        }
    }

    /// Turns the batcher's throttling into a record.
    pub async fn set_max_da_size(self: &Arc<Self>, request: &Request<'_>) -> String {
        let read = |raw: Option<&&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<Quantity>(raw.get()).ok())
        };
        let params = request.positional();
        let (Some(tx), Some(block)) = (read(params.first()), read(params.get(1))) else {
            let words = "expected [max transaction bytes, max block bytes] as quantities";
            return json_rpc::error(request.id, json_rpc::INVALID_PARAMS, words, None);
        };
        let call = Call::MaxDaSize { tx_bytes: tx.0, block_bytes: block.0 };
        let answer = self.call(request.id, call, Bytes::new()).await;
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// Has the session answer a call.
    async fn call(self: &Arc<Self>, id: Option<&RawValue>, call: Call, body: Bytes) -> Answer {
        let (answer, answered) = oneshot::channel();
        let name = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        self.calls().insert(name, Waiting { body, answer });
        self.step(Input::Called(name, call));
        match answered.await {
            Ok(answer) => show(id, answer),
            Err(_) => {
                error!("the session gave a call no answer");
                ok(json_rpc::error(id, json_rpc::SERVER_ERROR, "the call has no answer", None))
            }
        }
    }

    /// One step of the session. What it wants is begun before another step is taken.
    fn step(self: &Arc<Self>, input: Input) {
        let mut effects = Vec::new();
        let mut session = self.session();
        self.parts.feed.with_log(|book, newest, silence| {
            session.step(now(), Log { book, newest, silence }, input, &mut effects);
        });
        let at = session.wake();
        self.wake.send_if_modified(|wake| std::mem::replace(wake, at) != at);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(self: &Arc<Self>, effect: Effect) {
        let Parts { records, keeper, payloads, skipped, metrics, .. } = &self.parts;
        match effect {
            Effect::Ask(ask, question) => {
                let proxy = Arc::clone(self);
                tokio::spawn(async move {
                    let reply = proxy.find_out(question).await;
                    proxy.step(Input::Replied(ask, reply));
                });
            }
            Effect::Answer(call, answer) => self.answer(call, answer),
            Effect::Record(body) => {
                if let Some(records) = records {
                    records.submit(body);
                }
            }
            Effect::Limit { limits, logged } => {
                if let Some(records) = records {
                    records.limits(limits, logged);
                }
            }
            Effect::KeepSafe(hash, number) => keeper.note_safe((hash, number)),
            Effect::KeepPayload(hash, payload) => payloads.keep(hash, payload),
            Effect::KeepHeads(wanted) => payloads.keep_heads(wanted),
            Effect::Skipped(hashes) => {
                if skipped.try_send(hashes).is_err() {
                    debug!("the wallets' port does not hear of skipped items");
                }
            }
            Effect::Note(note) => notes::take(note, metrics, now().unix_ms),
            Effect::Measure(measure) => notes::measure(measure, metrics, now().unix_ms),
        }
    }

    fn answer(&self, call: CallId, answer: effect::Answer) {
        // Nobody waits for it if op-node's call was torn down with its task.
        if let Some(waiting) = self.calls().remove(&call) {
            waiting.answer.send(answer).unwrap_or_default();
        }
    }

    /// The engine did not answer something that was not the session's.
    pub fn note_engine_away(self: &Arc<Self>) {
        self.step(Input::EngineAway);
    }

    /// Carries a body to the engine and its answer back, as they are. 502 if the engine is away.
    async fn pass(self: &Arc<Self>, body: Bytes) -> Answer {
        if self.session().is_in_doubt() {
            return self.call(None, Call::Other, body).await;
        }
        let Forwarded { status, body, time } = self.forward(body).await;
        if status == StatusCode::BAD_GATEWAY {
            self.note_engine_away();
        }
        Answer { status, body, engine: Some(time) }
    }

    async fn forward(&self, body: Bytes) -> Forwarded {
        let started = Instant::now();
        let answer = self.parts.engine.forward(body).await;
        let time = started.elapsed();
        match answer {
            Ok(Reply { status, body }) => Forwarded { status, body, time },
            Err(error) => {
                self.parts.metrics.engine_errors.inc();
                Forwarded::away(error.to_string(), time)
            }
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // A panic in a step is a fault of ours; what was known before it holds.
        self.parts.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<CallId, Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(id: Option<&RawValue>, answer: effect::Answer) -> Answer {
    match answer {
        effect::Answer::Engine { forwarded: Forwarded { status, body, time }, is_held } => {
            Answer { status, body, engine: (!is_held).then_some(time) }
        }
        effect::Answer::Result(raw) => ok(json_rpc::result(id, &raw)),
        effect::Answer::Error { code, message } => ok(json_rpc::error(id, code, &message, None)),
    }
}

fn ok(body: String) -> Answer {
    Answer { status: StatusCode::OK, body: body.into(), engine: None }
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Now { instant: Instant::now(), unix_ms }
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
