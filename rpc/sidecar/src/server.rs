//! The Engine API's listener for op-node: JWT, limits, and [`Proxy`] behind it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::jwt::Secret;
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
    let router = Router::new()
        .route("/", post(call))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared);
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "the listener for op-node ended");
    }
}

async fn call(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Err(error) = shared.secret.check(authorization) {
        warn!(%error, "refused a call on the Engine API");
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    let Ok(_permit) = shared.calls.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many calls").into_response();
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
