//! Health and metrics over HTTP, on loopback unless the operator says otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200, or 503 where the node stopped for safety or stands still: for a person or a supervisor |
//! | `/readyz` | 200 where users may be sent here, else 503: for a load balancer |
//! | `/metrics` | Prometheus' text format |

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tower::limit::GlobalConcurrencyLimitLayer;
use tracing::{error, info};

use crate::config::{HttpConfig, ServeError, check_address};
use crate::health::Health;
use crate::limits::HTTP_REQUESTS_MAX;
use crate::server::Server;

/// Writes all metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Shared {
    health: watch::Receiver<Health>,
    metrics: RenderMetrics,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("health", &self.health).finish_non_exhaustive()
    }
}

/// Serves health and metrics as the options say.
///
/// # Errors
/// [`ServeError`] if the address is refused or taken. Nothing runs then.
pub async fn serve(
    config: HttpConfig,
    health: watch::Receiver<Health>,
    metrics: RenderMetrics,
) -> Result<Server, ServeError> {
    let listen = config.listen;
    check_address(listen, config.insecure)?;
    let bind_error = |error| ServeError::Bind { listen, error };
    let listener = TcpListener::bind(listen).await.map_err(bind_error)?;
    let local_addr = listener.local_addr().map_err(bind_error)?;
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .layer(GlobalConcurrencyLimitLayer::new(HTTP_REQUESTS_MAX))
        .with_state(Shared { health, metrics });
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stopped = async {
            // The other end was dropped: the server is going, too.
            stopped.await.unwrap_or_default();
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            error!(%error, "HTTP server ended");
        }
    });
    info!(%local_addr, "health and metrics listen");
    Ok(Server::start(local_addr, stop, task, None))
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let health = shared.health.borrow().clone();
    answer(&health, health.state.is_healthy())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let health = shared.health.borrow().clone();
    answer(&health, health.state.is_ready())
}

async fn render(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], (shared.metrics)()).into_response()
}

fn answer(health: &Health, is_good: bool) -> Response {
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(
        "{{\"state\":\"{}\",\"height\":{},\"reason\":{}}}\n",
        health.state.name(),
        health.height,
        json_string(&health.reason)
    );
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A JSON string (RFC 8259, section 7): quotes, backslashes and control characters are escaped.
fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
