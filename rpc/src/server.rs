//! The gRPC listener: binds first, sets every limit explicitly, serves ingress, log, health and perhaps reflection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_proto::v1::ingress_server::IngressServer;
use lockstep_proto::v1::log_server::LogServer;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tracing::{error, info};

use crate::config::{ServeError, ServerConfig, TlsConfig, check_address};
use crate::connections::Bounds;
use crate::health::Health;
use crate::ingress::IngressService;
use crate::limits;
use crate::log::LogService;
use crate::metrics::RpcMetrics;
use crate::node::{Ingress, Log};
use crate::quota::{QuotaConfig, Quotas};
use crate::reads::Reads;
use crate::streams::Streams;

pub(crate) mod accept;
mod refusals;

pub(crate) use refusals::{client_of, with_details};

/// Names under which gRPC health is asked: the server as a whole, and each service.
const HEALTH_NAMES: [&str; 3] = ["", "lockstep.v1.Ingress", "lockstep.v1.Log"];

/// What the services are made of.
#[derive(Clone)]
pub struct Backend {
    /// The log to read.
    pub log: Arc<dyn Log>,
    /// Where submissions go.
    pub ingress: Arc<dyn Ingress>,
    /// What the node says of itself.
    pub health: watch::Receiver<Health>,
    /// Where the services count.
    pub metrics: RpcMetrics,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("health", &self.health).finish_non_exhaustive()
    }
}

/// A running listener. Dropping it stops it at once; [`Server::shutdown`] lets calls end first.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    grpc: Option<Grpc>,
}

/// What only a gRPC server has to end.
#[derive(Debug)]
pub(crate) struct Grpc {
    /// Ends the streams, which would go on for ever.
    closing: watch::Sender<bool>,
    health: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(
        local_addr: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
        grpc: Option<Grpc>,
    ) -> Self {
        Self { local_addr, stop: Some(stop), task, grpc }
    }

    /// Where it listens; tells the port where the operator asked for any.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no new connections, ends the streams, waits for calls to end, but not longer than
    /// [`SHUTDOWN_TIMEOUT`](limits::SHUTDOWN_TIMEOUT).
    pub async fn shutdown(mut self) {
        if let Some(grpc) = &self.grpc {
            grpc.closing.send_replace(true);
        }
        // The task may have ended already; then nobody listens.
        let is_running = self.stop.take().is_some_and(|stop| stop.send(()).is_ok());
        if is_running
            && tokio::time::timeout(limits::SHUTDOWN_TIMEOUT, &mut self.task).await.is_err()
        {
            info!(listen = %self.local_addr, "calls were cut by the shutdown");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(grpc) = &self.grpc {
            grpc.health.abort();
        }
    }
}

/// Serves gRPC as the options say.
///
/// # Errors
/// [`ServeError`] if the address is refused or taken, or a file of TLS is not usable. Nothing runs then.
pub async fn serve(config: ServerConfig, backend: Backend) -> Result<Server, ServeError> {
    let listen = config.listen;
    check_address(listen, config.tls.is_some() || config.insecure)?;
    if !config.quota.is_valid() {
        return Err(ServeError::Quota { quota: config.quota });
    }
    let tls = config.tls.as_ref().map(read_tls).transpose()?;
    let reflection = config.reflection.then(reflection).transpose()?;
    let bind_error = |error| ServeError::Bind { listen, error };
    let listener = TcpListener::bind(listen).await.map_err(bind_error)?;
    let local_addr = listener.local_addr().map_err(bind_error)?;

    let reporter = HealthReporter::new();
    set_health(&reporter, backend.health.borrow().state.is_ready()).await;
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let mut server = builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).map_err(|e| ServeError::Tls { reason: chain(&e) })?;
    }
    let (closing, is_closing) = watch::channel(false);
    let (ingress, log) = services(&backend, config.quota, is_closing);
    let router = server
        .layer(refusals::TypedRefusals { timeout: limits::CALL_TIMEOUT })
        .add_service(ingress)
        .add_service(log)
        .add_service(health)
        .add_optional_service(reflection);
    let bounds = Bounds {
        total_max: config.connections_max.min(limits::CONNECTIONS_MAX),
        per_client_max: limits::CONNECTIONS_PER_CLIENT_MAX,
        reserved: 0,
    };
    let admission =
        accept::Admission::new(bounds, limits::CONNECTION_IDLE_TIMEOUT, backend.metrics);
    let incoming = accept::incoming(listener, admission);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stopped = async {
            // The other end was dropped: the server is going, too.
            stopped.await.unwrap_or_default();
        };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
            error!(error = %chain(&error), "gRPC server ended");
        }
    });
    info!(%local_addr, tls = config.tls.is_some(), "gRPC listens");
    let health = tokio::spawn(follow_health(reporter, backend.health));
    Ok(Server::start(local_addr, stop, task, Some(Grpc { closing, health })))
}

/// Every limit, explicitly: a default of the library's may change.
fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(limits::CALLS_PER_CONNECTION_BACKSTOP)
        .load_shed(true)
        .timeout(limits::CALL_TIMEOUT_BACKSTOP)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_connection_age(limits::CONNECTION_AGE_MAX)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESET_STREAMS_MAX))
        .http2_max_local_error_reset_streams(Some(limits::LOCAL_RESET_STREAMS_MAX))
}

fn services(
    backend: &Backend,
    quota: QuotaConfig,
    is_closing: watch::Receiver<bool>,
) -> (IngressServer<IngressService>, LogServer<LogService>) {
    let reads = Reads::new(Arc::clone(&backend.log));
    let streams = Streams::new(&backend.metrics, is_closing);
    let quotas = Quotas::new(quota);
    let log = LogService::new(&backend.log, reads.clone(), streams.clone());
    let ingress = IngressService::new(backend, reads, streams, quotas);
    let ingress = IngressServer::new(ingress)
        .max_decoding_message_size(limits::MESSAGE_IN_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_OUT_BYTES_MAX);
    let log = LogServer::new(log)
        .max_decoding_message_size(limits::MESSAGE_IN_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_OUT_BYTES_MAX);
    (ingress, log)
}

fn read_tls(config: &TlsConfig) -> Result<ServerTlsConfig, ServeError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| ServeError::TlsFile { path: path.clone(), error })
    };
    let identity = Identity::from_pem(read(&config.certificate)?, read(&config.key)?);
    let tls = ServerTlsConfig::new().identity(identity).timeout(limits::FIRST_BYTES_TIMEOUT);
    let Some(authority) = &config.client_authority else { return Ok(tls) };
    // Others are served, too; a certificate of another authority is refused.
    let authority = Certificate::from_pem(read(authority)?);
    Ok(tls.client_ca_root(authority).client_auth_optional(true))
}

fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, ServeError> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lockstep_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Reflection { reason: error.to_string() })
}

async fn set_health(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}

async fn follow_health(reporter: HealthReporter, mut health: watch::Receiver<Health>) {
    while health.changed().await.is_ok() {
        let is_ready = health.borrow_and_update().state.is_ready();
        set_health(&reporter, is_ready).await;
    }
    // Nobody knows any more how the node is.
    set_health(&reporter, false).await;
}

/// An error with all its causes: the library's own texts say little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
