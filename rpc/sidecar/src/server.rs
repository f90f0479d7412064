//! The Engine API's listener for op-node: JWT, limits, and [`Proxy`] behind it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lockstep_execution::jwt::Secret;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::limits::{BODY_BYTES_MAX, CALLS_MAX};
use crate::proxy::Proxy;

#[derive(Clone, Debug)]
struct Shared {
    proxy: Arc<Proxy>,
    secret: Secret,
    calls: Arc<Semaphore>,
}

/// Serves op-node until the task is dropped.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, secret: Secret) {
    let shared = Shared { proxy, secret, calls: Arc::new(Semaphore::new(CALLS_MAX)) };
    let router = Router::new().route("/", post(call)).with_state(shared);
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "the listener for op-node ended");
    }
}

async fn call(State(shared): State<Shared>, request: Request) -> Response {
    // Before the body is read: whoever has no token may not make us hold their bytes.
    let token = request.headers().get(header::AUTHORIZATION);
    let authorization = token.and_then(|value| value.to_str().ok());
    if let Err(error) = shared.secret.check(authorization) {
        shared.proxy.note_knock(false);
        warn!(%error, "refused a call on the Engine API");
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    shared.proxy.note_knock(true);
    let Ok(_permit) = shared.calls.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many calls").into_response();
    };
    let Ok(body) = to_bytes(request.into_body(), BODY_BYTES_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or was cut off")
            .into_response();
    };
    // A call goes on when its caller hangs up: what the engine did must be seen.
    let proxy = Arc::clone(&shared.proxy);
    match tokio::spawn(async move { proxy.handle(body).await }).await {
        Ok(answer) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (answer.status, kind, Body::from(answer.body)).into_response()
        }
        Err(error) => {
            error!(%error, "a call ended early");
            (StatusCode::INTERNAL_SERVER_ERROR, "the call ended early").into_response()
        }
    }
}
