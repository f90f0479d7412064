//! Which calls are public, which are answered here, and which the engine answers.
//!
//! Over HTTP and WebSocket alike. What needs nothing of ours is passed on as the bytes it came as; this file only says
//! so ([`Gate::passes`]). The rest is taken apart and answered here ([`Gate::answer`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use lockstep_execution::client::EngineError;
use lockstep_execution::json_rpc::{self, Malformed, Parsed, Request, parse};
use lockstep_rpc::quota::Client;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::engine::{Engine, quantity_of};
use crate::limits::{BATCH_MAX, BUFFERED_ANSWERS_MAX};
use crate::pool::Pool;
use crate::refused::Refused;
use crate::transaction::{data, quantity};

/// The namespaces that anybody may call.
const PUBLIC: [&str; 3] = ["eth_", "net_", "web3_"];
/// Calls of them that would reach the engine's own pool, or its keys: they begin with one of these. `eth_fillTransaction`
/// would choose a nonce that knows nothing of what is pending here.
const CLOSED: [&str; 4] = ["eth_send", "eth_sign", "eth_resend", "eth_fillTransaction"];

/// Whether a call of this method reads what the engine knows, and changes nothing there.
#[must_use]
pub fn is_reading(method: &str) -> bool {
    let begins_with = |names: &[&str]| names.iter().any(|name| method.starts_with(name));
    begins_with(&PUBLIC) && !begins_with(&CLOSED)
}

/// How a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Pass,
    Closed,
    Send,
    /// The next nonce of a sender of whom something is pending.
    PendingNonce(Address),
    /// A transaction that is pending here.
    Transaction(B256),
}

/// The public calls of one chain.
pub(crate) struct Gate {
    pool: Arc<Pool>,
    engine: Engine,
    buffered: Semaphore,
}

#[derive(Deserialize)]
struct AnswerId<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Gate {
    pub(crate) const fn new(pool: Arc<Pool>, engine: Engine) -> Self {
        Self { pool, engine, buffered: Semaphore::const_new(BUFFERED_ANSWERS_MAX) }
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The answer to what the engine should have answered, and could not.
    pub(crate) fn unavailable(text: &[u8], error: &EngineError) -> String {
        let id = match parse(text) {
            Parsed::Single(request) => request.id,
            Parsed::Batch(_) | Parsed::Invalid(_) => None,
        };
        unavailable(id, error)
    }

    fn route(&self, request: &Request<'_>) -> Route {
        let method = request.method.as_ref();
        if method == "eth_sendRawTransaction" {
            return Route::Send;
        }
        if !is_reading(method) {
            return Route::Closed;
        }
        let own = match method {
            "eth_getTransactionCount" => self.pending_nonce(request),
            "eth_getTransactionByHash" => self.pending_transaction(request),
            _ => None,
        };
        own.unwrap_or(Route::Pass)
    }

    fn pending_nonce(&self, request: &Request<'_>) -> Option<Route> {
        let params = params(request)?;
        let [Value::String(sender), Value::String(block), ..] = params.as_slice() else {
            return None;
        };
        let sender: Address = sender.parse().ok()?;
        let is_ours = block == "pending" && self.pool.overlay().knows_sender(sender);
        is_ours.then_some(Route::PendingNonce(sender))
    }

    fn pending_transaction(&self, request: &Request<'_>) -> Option<Route> {
        let params = params(request)?;
        let hash: B256 = params.first()?.as_str()?.parse().ok()?;
        let is_ours = self.pool.overlay().transaction(hash).is_some();
        is_ours.then_some(Route::Transaction(hash))
    }

    /// Whether the engine answers all of it.
    pub(crate) fn passes(&self, text: &[u8]) -> bool {
        let passes = |request: &Request<'_>| self.route(request) == Route::Pass;
        match parse(text) {
            Parsed::Invalid(_) => false,
            Parsed::Single(request) => passes(&request),
            Parsed::Batch(calls) => {
                (1..=BATCH_MAX).contains(&calls.len())
                    && calls.iter().all(|call| call.as_ref().is_ok_and(passes))
            }
        }
    }

    /// The answer to a call or a batch; empty if there is none to give.
    pub(crate) async fn answer(&self, client: Client, text: &[u8]) -> String {
        match parse(text) {
            Parsed::Invalid(malformed) => malformed.answer(),
            Parsed::Single(request) => self.answer_one(client, &request).await,
            Parsed::Batch(calls) if calls.is_empty() => {
                Malformed::NotARequest("empty batch".to_owned()).answer()
            }
            Parsed::Batch(calls) if calls.len() > BATCH_MAX => {
                let reason = format!("batch too large: {} calls, limit {BATCH_MAX}", calls.len());
                Malformed::NotARequest(reason).answer()
            }
            Parsed::Batch(calls) => self.answer_batch(client, &calls).await,
        }
    }

    async fn answer_one(&self, client: Client, request: &Request<'_>) -> String {
        match self.route(request) {
            Route::Closed => {
                let method = request.method.escape_debug();
                let message = format!("the method {method} does not exist/is not available");
                json_rpc::error(request.id, json_rpc::METHOD_NOT_FOUND, &message, None)
            }
            Route::Send => self.send(client, request).await,
            Route::Pass => self.ask(request).await,
            Route::PendingNonce(sender) => {
                let answer = self.ask(request).await;
                let Some(nonce) = result_of(&answer).and_then(|nonce| quantity_of(&nonce)) else {
                    return answer;
                };
                let nonce = u64::try_from(nonce).unwrap_or(u64::MAX);
                let next = self.pool.overlay().next_nonce(sender, nonce);
                succeed(request, &quantity(U256::from(next)))
            }
            Route::Transaction(hash) => {
                // Looked up first: it may be included while the engine answers that it is not.
                let pending = self.pool.overlay().transaction(hash);
                let answer = self.ask(request).await;
                match pending {
                    Some(pending) if result_of(&answer).is_some_and(|v| v.is_null()) => {
                        succeed(request, &pending.to_json())
                    }
                    _ => answer,
                }
            }
        }
    }

    async fn send(&self, client: Client, request: &Request<'_>) -> String {
        let bytes = params(request).and_then(|params| params.first()?.as_str()?.parse().ok());
        let sent = match bytes {
            Some(bytes) => self.pool.send(client, bytes).await,
            None => Err(Refused::Params("invalid argument 0: expected a transaction's bytes")),
        };
        match sent {
            Ok(hash) => succeed(request, &data(hash)),
            Err(refused) => json_rpc::error(request.id, refused.code(), &refused.to_string(), None),
        }
    }

    /// The engine's answer to one call, as it is.
    async fn ask(&self, request: &Request<'_>) -> String {
        self.buffer(request.raw.get().to_owned())
            .await
            .unwrap_or_else(|error| unavailable(request.id, &error))
    }

    async fn buffer(&self, body: String) -> Result<String, EngineError> {
        // The semaphore is never closed.
        let _permit = self.buffered.acquire().await;
        self.engine.ask(body).await
    }

    /// Ours one after the other, so that a sender's transactions are admitted in their order; the engine's as one batch
    /// meanwhile.
    async fn answer_batch(
        &self,
        client: Client,
        calls: &[Result<Request<'_>, Malformed>],
    ) -> String {
        let passed: Vec<&Request<'_>> =
            calls.iter().flatten().filter(|request| self.route(request) == Route::Pass).collect();
        let is_passed =
            |request: &Request<'_>| passed.iter().any(|other| std::ptr::eq(other.raw, request.raw));
        let own = async {
            let mut own = Vec::new();
            for call in calls {
                own.push(match call {
                    Err(malformed) => Some(malformed.answer()),
                    Ok(request) if is_passed(request) => None,
                    Ok(request) => Some(self.answer_one(client, request).await),
                });
            }
            own
        };
        let (engine, own) = futures::join!(self.ask_batch(&passed), own);
        let mut engine = engine.into_iter();
        let answers: Vec<String> = own
            .into_iter()
            .zip(calls)
            .filter_map(|(own, call)| match own {
                // A notification is carried out, and not answered.
                Some(_) if call.as_ref().is_ok_and(|request| request.id.is_none()) => None,
                Some(own) => Some(own),
                None => engine.next().flatten(),
            })
            .collect();
        if answers.is_empty() { String::new() } else { format!("[{}]", answers.join(",")) }
    }

    /// One answer per call in the order of the calls, `None` for a notification, however the engine orders them.
    async fn ask_batch(&self, calls: &[&Request<'_>]) -> Vec<Option<String>> {
        if calls.is_empty() {
            return Vec::new();
        }
        let bodies: Vec<&str> = calls.iter().map(|call| call.raw.get()).collect();
        let text = match self.buffer(format!("[{}]", bodies.join(","))).await {
            Ok(text) => text,
            Err(error) => {
                return calls
                    .iter()
                    .map(|call| Some(unavailable(Some(call.id?), &error)))
                    .collect();
            }
        };
        let mut answers = by_id(&text);
        let mut answer_of = |call: &&Request<'_>| {
            let id = call.id?;
            let answer = answers.get_mut(&meaning(id)).and_then(VecDeque::pop_front);
            Some(answer.map_or_else(|| unavailable(Some(id), &no_answer()), str::to_owned))
        };
        calls.iter().map(&mut answer_of).collect()
    }
}

/// The answers of a batch by their ids; equal ids in the order of the answers.
fn by_id(text: &str) -> BTreeMap<String, VecDeque<&str>> {
    let mut answers: BTreeMap<String, VecDeque<&str>> = BTreeMap::new();
    // Something else than a batch is an answer to none of the calls.
    for answer in serde_json::from_str::<Vec<&RawValue>>(text).unwrap_or_default() {
        if let Ok(AnswerId { id: Some(id) }) = serde_json::from_str(answer.get()) {
            answers.entry(meaning(id)).or_default().push_back(answer.get());
        }
    }
    answers
}

/// An id without its spelling: an engine may write `"\u0041"` as `"A"`.
fn meaning(id: &RawValue) -> String {
    serde_json::from_str::<Value>(id.get()).unwrap_or_default().to_string()
}

fn no_answer() -> EngineError {
    EngineError::Unreachable("the engine did not answer this call".to_owned())
}

fn unavailable(id: Option<&RawValue>, error: &EngineError) -> String {
    let message = Refused::Engine(error.to_string()).to_string();
    json_rpc::error(id, json_rpc::INTERNAL_ERROR, &message, None)
}

fn params(request: &Request<'_>) -> Option<Vec<Value>> {
    serde_json::from_str(request.params?.get()).ok()
}

/// The result of an answer, which may be null; `None` if it is an error.
fn result_of(answer: &str) -> Option<Value> {
    let fields: BTreeMap<String, Value> = serde_json::from_str(answer).ok()?;
    fields.get("result").cloned()
}

fn succeed(request: &Request<'_>, value: &Value) -> String {
    match serde_json::value::to_raw_value(value) {
        Ok(raw) => json_rpc::result(request.id, &raw),
        Err(error) => {
            json_rpc::error(request.id, json_rpc::INTERNAL_ERROR, &error.to_string(), None)
        }
    }
}

#[cfg(test)]
mod tests;
