//! The port over HTTP: bodies in, answers out, and what a browser wants to know first.
//!
//! One call or batch per POST, as JSON-RPC over HTTP has it; a GET is a health check, or the beginning of a WebSocket.
//! It knows no method. Pages of every origin may call: nothing here depends on cookies or addresses.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use lockstep_execution::json_rpc;
use lockstep_rpc::quota::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::gate::Gate;
use crate::limits::{BODY_BYTES_MAX, BODY_TIMEOUT, IN_FLIGHT_MAX, SOCKETS_MAX};
use crate::listener::Peer;
use crate::refused::Refused;
use crate::socket;

/// What each request sees; cheap to clone.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) gate: Arc<Gate>,
    /// The engine's WebSocket address, if there is one.
    pub(crate) ws_url: Option<Arc<str>>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) is_stopping: watch::Receiver<bool>,
}

impl Port {
    pub(crate) fn new(
        gate: Arc<Gate>,
        ws_url: Option<String>,
        is_stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            gate,
            ws_url: ws_url.map(Arc::from),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            sockets: Arc::new(Semaphore::new(SOCKETS_MAX)),
            is_stopping,
        }
    }
}

pub(crate) fn router(port: Port) -> Router {
    Router::new().fallback(handle).with_state(port)
}

async fn handle(
    State(port): State<Port>,
    ConnectInfo(Peer(client)): ConnectInfo<Peer>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let mut response = match (request.method().clone(), upgrade) {
        (Method::GET, Ok(upgrade)) => socket::upgrade(port, client, upgrade).await,
        (Method::GET | Method::HEAD, _) => StatusCode::OK.into_response(),
        (Method::POST, _) => post(port, client, request.into_body()).await,
        (Method::OPTIONS, _) => preflight(request.headers()),
        _ => {
            let allow = HeaderValue::from_static("GET, POST, OPTIONS");
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allow)]).into_response()
        }
    };
    let anybody = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
    response
}

/// Tells a browser that a page may call with whatever headers it asks for.
fn preflight(headers: &HeaderMap) -> Response {
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            wanted.unwrap_or_else(|| HeaderValue::from_static("content-type")),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn post(port: Port, client: Client, body: Body) -> Response {
    let Ok(permit) = Arc::clone(&port.in_flight).try_acquire_owned() else {
        let busy = Refused::Quota(format!("{IN_FLIGHT_MAX} requests are being answered"));
        let error = json_rpc::error(None, busy.code(), &busy.to_string(), None);
        return (StatusCode::TOO_MANY_REQUESTS, json(error)).into_response();
    };
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        // A client that went away does not see the answer.
        Ok(Err(_)) => {
            let reason = format!("body of more than {BODY_BYTES_MAX} bytes\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, reason).into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    match port.gate.passes(&body) {
        true => pass(&port.gate, body, permit).await,
        false => json(port.gate.answer(client, &body).await),
    }
}

async fn pass(gate: &Gate, body: Bytes, permit: OwnedSemaphorePermit) -> Response {
    match gate.engine().forward(body.clone()).await {
        Ok(answer) => streamed(answer, permit),
        Err(error) => json(Gate::unavailable(&body, &error)),
    }
}

/// The engine's answer as it comes. Its place among the requests is free when the last byte is.
fn streamed(answer: reqwest::Response, permit: OwnedSemaphorePermit) -> Response {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let chunks = stream::try_unfold((answer, permit), |(mut answer, permit)| async {
        let chunk = answer.chunk().await?;
        Ok::<_, reqwest::Error>(chunk.map(|chunk| (chunk, (answer, permit))))
    });
    let mut response = (status, Body::from_stream(chunks)).into_response();
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
