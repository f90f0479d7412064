//! An execution engine that does as it is told: a small Engine API server over an in-memory chain of blocks.
//!
//! It executes nothing. A transaction is bad because a test said so ([`ScriptedEngine::refuse`]), and what a bad one does
//! depends on the program that is played ([`EngineKind`]). Its words and shapes are those recorded from op-geth
//! (`fixtures/engine/`). Every call is written down, byte for byte; a [`Fault`] takes the place of an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lockstep_execution::jwt::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub mod chain;

use chain::{Chain, Failure};

/// Which program is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Builds a job without pool before it answers, and refuses it for the first bad transaction, which it names.
    OpGeth,
    /// Leaves bad transactions out and says nothing. (From its source; not verified against the program.)
    OpReth,
    /// Takes every job and refuses to give the payload, without naming anything.
    Strict,
}

/// How a bad transaction is bad, on op-geth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It fails when it is executed: named by its hash.
    Execution,
    /// It cannot be decoded: named by its place, deposits counted.
    Decoding,
    /// The handler crashes, as for a blob transaction: not named.
    Crash,
}

/// Which calls a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of the method.
    Any,
    /// Those with payload attributes.
    WithAttributes,
    /// Those without payload attributes.
    WithoutAttributes,
}

/// What happens in the place of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    /// A JSON-RPC error with this code.
    Error(i64),
    /// This HTTP status, and a body that is not JSON.
    Http(u16),
    /// 200, and a body that is not JSON.
    Garbage,
    /// A payload status with this word, and no payload id.
    Status(&'static str),
    /// This result.
    Result(Value),
    /// The connection breaks in the middle of the answer.
    Cut,
    /// No answer, ever.
    Silence,
    /// The true answer, but so much later.
    Delay(Duration),
}

/// A fault of the next calls of a method.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method's name, or its beginning; `batch` for several calls in one body.
    pub method: &'static str,
    /// Which of its calls.
    pub which: Which,
    /// How many of them.
    pub times: usize,
    /// Whether the call does its work first, so that only its answer is lost.
    pub is_done: bool,
    /// What is answered.
    pub instead: Instead,
}

impl Fault {
    /// A fault of the next call of a method.
    #[must_use]
    pub const fn once(method: &'static str, instead: Instead) -> Self {
        Self { method, which: Which::Any, times: 1, is_done: false, instead }
    }

    /// A fault of all calls of a method, until [`ScriptedEngine::mend`].
    #[must_use]
    pub const fn always(method: &'static str, instead: Instead) -> Self {
        Self { method, which: Which::Any, times: usize::MAX, is_done: false, instead }
    }

    /// The same for some of the calls only.
    #[must_use]
    pub fn of(self, which: Which) -> Self {
        Self { which, ..self }
    }

    /// The same for so many calls.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// The same, but the call does its work.
    #[must_use]
    pub fn after_the_work(self) -> Self {
        Self { is_done: true, ..self }
    }
}

/// A call that the engine got.
#[derive(Clone, Debug)]
pub struct Call {
    /// When its answer was ready.
    pub at: Instant,
    /// The method; `batch` for several in one body.
    pub method: String,
    /// The parameters.
    pub params: Value,
    /// The body as it came.
    pub body: Bytes,
    /// The answer's body; empty if a fault gave none.
    pub answer: Bytes,
}

impl Call {
    /// Whether it asks for a block: a `forkchoiceUpdated` with attributes.
    #[must_use]
    pub fn is_job(&self) -> bool {
        has_attributes(&self.method, &self.params)
    }

    /// The transactions in its payload attributes.
    #[must_use]
    pub fn transactions(&self) -> Vec<Bytes> {
        let found = self.params.pointer("/1/transactions").cloned().unwrap_or_default();
        serde_json::from_value(found).unwrap_or_default()
    }

    /// The head that a `forkchoiceUpdated` names.
    #[must_use]
    pub fn head(&self) -> Option<B256> {
        self.params.pointer("/0/headBlockHash")?.as_str()?.parse().ok()
    }
}

#[derive(Debug)]
struct Script {
    chain: Chain,
    faults: VecDeque<Fault>,
    calls: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Shared {
    secret: Secret,
    // Held for a look or for one call's work, never across an await.
    script: Arc<Mutex<Script>>,
}

/// A running engine. It ends with this value.
#[derive(Debug)]
pub struct ScriptedEngine {
    shared: Shared,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedEngine {
    /// Starts an engine whose genesis block has this timestamp, in seconds, and gas limit.
    pub async fn start(kind: EngineKind, timestamp: u64, gas_limit: u64, secret: B256) -> Self {
        let script = Script {
            chain: Chain::new(kind, timestamp, gas_limit),
            faults: VecDeque::new(),
            calls: Vec::new(),
        };
        let shared = Shared { secret: Secret::new(secret), script: Arc::new(Mutex::new(script)) };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/", post(call))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the listener lives");
        });
        Self { shared, address, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The transaction with this hash is bad from now on.
    pub fn refuse(&self, hash: B256, how: Refusal) {
        self.script().chain.refused.insert(hash, how);
    }

    /// The transaction with this hash is good again.
    pub fn accept(&self, hash: B256) {
        self.script().chain.refused.remove(&hash);
    }

    /// Transactions that the engine puts into blocks by itself, where it may.
    pub fn fill_pool(&self, transactions: Vec<Bytes>) {
        self.script().chain.pool = transactions;
    }

    /// An account has nothing in the state of blocks up to this number. All others have one ether.
    pub fn impoverish(&self, account: Address, number: u64) {
        self.script().chain.poor.insert(account, number);
    }

    /// Gas that each estimated byte counts for in its own check of a payload. None by default.
    pub fn check_footprint(&self, scalar: u64) {
        self.script().chain.footprint_scalar = scalar;
    }

    /// Adds a fault behind those that are there. The first that fits a call takes it.
    pub fn fault(&self, fault: Fault) {
        self.script().faults.push_back(fault);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.script().faults.clear();
    }

    /// Plays a crash: all payloads are lost, and so are blocks with a number above `number`.
    pub fn restart(&self, number: u64) {
        self.script().chain.restart(number);
    }

    /// Every call since the start, or since [`ScriptedEngine::forget`].
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.script().calls.clone()
    }

    /// Those of one method, or with this beginning.
    #[must_use]
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method.starts_with(method)).collect()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.script().calls.clear();
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> B256 {
        self.script().chain.head
    }

    /// The transactions of a block that it took.
    #[must_use]
    pub fn transactions(&self, hash: B256) -> Option<Vec<Bytes>> {
        let script = self.script();
        script.chain.blocks.get(&hash).map(|block| block.transactions.clone())
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script()
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a body: a call, or several.
    fn answer(&self, request: &Value) -> Value {
        if let Some(calls) = request.as_array() {
            return calls.iter().map(|call| self.answer(call)).collect();
        }
        let id = request.get("id").cloned().unwrap_or_default();
        let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
        let params = request.get("params").cloned().unwrap_or_default();
        let result = self.script().chain.call(method, &params);
        match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(failure) => error(&id, &failure),
        }
    }

    fn take_fault(&self, method: &str, params: &Value) -> Option<Fault> {
        let has_attributes = has_attributes(method, params);
        let mut script = self.script();
        let fits = |fault: &Fault| {
            let is_meant = match fault.which {
                Which::Any => true,
                Which::WithAttributes => has_attributes,
                Which::WithoutAttributes => !has_attributes,
            };
            is_meant && method.starts_with(fault.method)
        };
        let place = script.faults.iter().position(fits)?;
        let fault = script.faults.get_mut(place)?;
        fault.times = fault.times.saturating_sub(1);
        let taken = fault.clone();
        if taken.times == 0 {
            script.faults.remove(place);
        }
        Some(taken)
    }

    fn note(&self, request: &Value, body: &Bytes, answer: &Bytes) {
        let method = request.get("method").and_then(Value::as_str).unwrap_or("batch").to_owned();
        let params = request.get("params").cloned().unwrap_or_default();
        let call =
            Call { at: Instant::now(), method, params, body: body.clone(), answer: answer.clone() };
        self.script().calls.push(call);
    }
}

fn has_attributes(method: &str, params: &Value) -> bool {
    method.starts_with("engine_forkchoiceUpdated")
        && params.get(1).is_some_and(|attributes| !attributes.is_null())
}

fn error(id: &Value, failure: &Failure) -> Value {
    let mut error = json!({ "code": failure.code, "message": failure.message });
    if let (Some(words), Some(object)) = (&failure.data, error.as_object_mut()) {
        object.insert("data".to_owned(), json!({ "err": words }));
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

async fn call(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let body = Bytes(body);
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shared.secret.check(token).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(_) => {
            shared.note(&json!({ "method": "not json" }), &body, &Bytes::new());
            let failure = Failure::new(-32700, "parse error");
            return sent(&error(&Value::Null, &failure).to_string().into());
        }
    };
    let method = match request.is_array() {
        true => "batch",
        false => request.get("method").and_then(Value::as_str).unwrap_or_default(),
    };
    let params = request.get("params").cloned().unwrap_or_default();
    let Some(fault) = shared.take_fault(method, &params) else {
        let answer: Bytes = shared.answer(&request).to_string().into_bytes().into();
        shared.note(&request, &body, &answer);
        return sent(&answer.0);
    };
    faulty(&shared, &request, &body, fault).await
}

async fn faulty(shared: &Shared, request: &Value, body: &Bytes, fault: Fault) -> Response {
    if fault.is_done {
        shared.answer(request);
    }
    let id = request.get("id").cloned().unwrap_or_default();
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let answer = match fault.instead {
        Instead::Error(code) => error(&id, &Failure::new(code, "as the script says")),
        Instead::Status(status) if method.starts_with("engine_forkchoiceUpdated") => {
            let status = chain::status(status, None, None);
            result(json!({ "payloadStatus": status, "payloadId": null }))
        }
        Instead::Status(status) => result(chain::status(status, None, None)),
        Instead::Result(value) => result(value),
        Instead::Delay(time) => {
            tokio::time::sleep(time).await;
            shared.answer(request)
        }
        Instead::Http(status) => {
            shared.note(request, body, &Bytes::new());
            let status = StatusCode::from_u16(status).expect("an HTTP status");
            return (status, "as the script says").into_response();
        }
        Instead::Garbage => {
            shared.note(request, body, &Bytes::new());
            return "{\"jsonrpc\": \"2.0\", as the script says".into_response();
        }
        Instead::Cut => {
            shared.note(request, body, &Bytes::new());
            let cut = std::io::Error::other("as the script says");
            return Body::from_stream(futures::stream::iter([Err::<Vec<u8>, _>(cut)]))
                .into_response();
        }
        Instead::Silence => {
            shared.note(request, body, &Bytes::new());
            std::future::pending::<()>().await;
            Value::Null
        }
    };
    let answer: Bytes = answer.to_string().into_bytes().into();
    shared.note(request, body, &answer);
    sent(&answer.0)
}

fn sent(body: &axum::body::Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.clone()).into_response()
}
