//! Health and metrics over HTTP, on loopback unless the operator says otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200, or 503 where the node stopped for safety or stands still: for a person or a supervisor |
//! | `/readyz` | 200 where users may be sent here, else 503: for a load balancer |
//! | `/metrics` | Prometheus' text format |
//!
//! A connection carries one request: there are few of them, and none is worth keeping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use crate::config::{HttpConfig, ServeError, check_address};
use crate::connections::Bounds;
use crate::health::Health;
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PER_CLIENT_MAX, HTTP_TIMEOUT};
use crate::metrics::RpcMetrics;
use crate::server::Server;
use crate::server::accept::{Admission, Connection};

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

/// The listener, with a bound on its connections and on their time.
#[derive(Debug)]
struct Bounded {
    listener: TcpListener,
    admission: Admission,
}

impl Bounded {
    fn new(listener: TcpListener) -> Self {
        let bounds = Bounds {
            total_max: HTTP_CONNECTIONS_MAX,
            per_client_max: HTTP_CONNECTIONS_PER_CLIENT_MAX,
            reserved: 0,
        };
        // The metrics are those of gRPC's connections; nobody counts these. No call is told of, so the idle time is
        // that of the whole connection.
        let admission = Admission::new(bounds, HTTP_TIMEOUT, RpcMetrics::default());
        Self { listener, admission }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.admission.next(&self.listener).await;
        let address = connection.address();
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
        .layer(map_response(last_of_its_connection))
        .with_state(Shared { health, metrics });
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stopped = async {
            // The other end was dropped: the server is going, too.
            stopped.await.unwrap_or_default();
        };
        let listener = Bounded::new(listener);
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            error!(%error, "HTTP server ended");
        }
    });
    info!(%local_addr, "health and metrics listen");
    Ok(Server::start(local_addr, stop, task, None))
}

async fn last_of_its_connection(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
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
