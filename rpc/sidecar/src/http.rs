//! The operators' listener: health, readiness, metrics, the debug switch, and the batcher's throttling.
//!
//! | path | answer |
//! |---|---|
//! | `GET /healthz` | 200; 206 while the log is silent or the switch is not on `enabled`; 503 while the engine is away |
//! | `GET /readyz` | 200 once jobs can be filled, else 503 |
//! | `GET /metrics` | Prometheus' text format |
//! | `POST /` | JSON-RPC: `debug_setExecutionMode`, `debug_getExecutionMode` (rollup-boost's), `miner_setMaxDASize` (op-batcher's); reading calls of `eth_`, `net_` and `web3_` are the engine's to answer |
//!
//! `POST` takes `application/json` and no `Origin`, so no web page can drive the port by the browser of somebody who reaches it.
//! So op-conductor, which has one URL for the engine and for rollup-boost's health, is given this one. There is no
//! authentication: keep it on loopback or behind one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use lockstep_execution::json_rpc::{
    self, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Parsed, Request, SERVER_ERROR,
};
use lockstep_wallet::is_reading;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info};

use crate::config::ExecutionMode;
use crate::health::{Health, State as HealthState};
use crate::proxy::Proxy;

/// Bytes of one body.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Writes all metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Shared {
    proxy: Arc<Proxy>,
    health: watch::Receiver<Health>,
    metrics: RenderMetrics,
}

/// Serves operators until the task is dropped.
pub async fn serve(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    health: watch::Receiver<Health>,
    metrics: RenderMetrics,
) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .route("/", post(call))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared { proxy, health, metrics });
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "the listener for operators ended");
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let health = shared.health.borrow().clone();
    let status = match health.state {
        HealthState::Serving => StatusCode::OK,
        HealthState::Starting | HealthState::Partial => StatusCode::PARTIAL_CONTENT,
        HealthState::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    show(status, &health)
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let health = shared.health.borrow().clone();
    let status = match health.is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    show(status, &health)
}

fn show(status: StatusCode, health: &Health) -> Response {
    let body = serde_json::to_string(health).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn render(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], (shared.metrics)()).into_response()
}

/// Why a call is refused before it is read: a web page can send a body to any address that its reader's browser reaches.
/// Without asking first it sends no JSON by name, and with any call a browser says where the page is from.
fn from_a_page(headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    if headers.contains_key(header::ORIGIN) {
        return Some((StatusCode::FORBIDDEN, "no web page may call this port: it has an origin"));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json");
    (!is_json)
        .then_some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type is not application/json"))
}

async fn call(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = from_a_page(&headers) {
        return refusal.into_response();
    }
    let answer = match json_rpc::parse(&body) {
        Parsed::Single(request) if is_reading(&request.method) => {
            return read(&shared.proxy, &request, body.clone()).await;
        }
        Parsed::Single(request) => answer(&shared.proxy, &request).await,
        Parsed::Batch(_) => {
            json_rpc::error(None, INVALID_REQUEST, "expected one call, not a batch", None)
        }
        Parsed::Invalid(malformed) => malformed.answer(),
    };
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

/// The engine's answer, as it is.
async fn read(proxy: &Proxy, request: &Request<'_>, body: Bytes) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    match proxy.engine().forward(body).await {
        Ok(reply) => (reply.status, kind, reply.body).into_response(),
        Err(error) => {
            let words = json_rpc::error(request.id, SERVER_ERROR, &error.to_string(), None);
            (kind, words).into_response()
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Mode {
    execution_mode: String,
}

async fn answer(proxy: &Arc<Proxy>, request: &Request<'_>) -> String {
    match request.method.as_ref() {
        "miner_setMaxDASize" => return proxy.set_max_da_size(request).await,
        "debug_getExecutionMode" => {}
        "debug_setExecutionMode" => {
            let mode = request
                .positional()
                .first()
                .and_then(|raw| serde_json::from_str::<Mode>(raw.get()).ok())
                .and_then(|mode| ExecutionMode::from_name(&mode.execution_mode));
            let Some(mode) = mode else {
                let words =
                    "expected [{\"execution_mode\": \"enabled\" | \"dry_run\" | \"disabled\"}]";
                return json_rpc::error(request.id, INVALID_PARAMS, words, None);
            };
            info!(mode = mode.name(), "the execution mode was set");
            proxy.switch(mode);
        }
        other => {
            let words = format!("the method {other} does not exist here");
            return json_rpc::error(request.id, METHOD_NOT_FOUND, &words, None);
        }
    }
    let mode = Mode { execution_mode: proxy.mode().name().to_owned() };
    json_rpc::result(request.id, &to_raw_value(&mode).unwrap_or_default())
}
