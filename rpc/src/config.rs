//! Options of the listeners, and why one was refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::limits::CONNECTIONS_MAX;
use crate::quota::QuotaConfig;

/// Options of the gRPC listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen. Default 127.0.0.1:0, a free port.
    pub listen: SocketAddr,
    /// Certificate and key for TLS. Default none: plaintext, on loopback only.
    pub tls: Option<TlsConfig>,
    /// Allows plaintext off loopback: for networks that are private by other means. Default false.
    pub insecure: bool,
    /// Serves gRPC reflection, which tells anybody what can be called. Default false.
    pub reflection: bool,
    /// Connections at a time, 1..=[`CONNECTIONS_MAX`], which is the default: fewer where there are few file descriptors.
    pub connections_max: usize,
    /// What one client may submit.
    pub quota: QuotaConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            insecure: false,
            reflection: false,
            connections_max: CONNECTIONS_MAX,
            quota: QuotaConfig::default(),
        }
    }
}

/// Where the secrets of TLS are: PEM files, read once at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Certificate of the authority that signs the certificates of known clients, for whom places are reserved. Default
    /// none: no client is known.
    pub client_authority: Option<PathBuf>,
}

/// Options of the HTTP listener for health and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen. Default 127.0.0.1:0, a free port.
    pub listen: SocketAddr,
    /// Allows to listen off loopback: anybody there can read health and metrics. Default false.
    pub insecure: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), insecure: false }
    }
}

/// Why a listener did not start. The operator must change its options.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Plaintext off loopback, and the operator did not say that this is meant.
    #[error("{listen} is not a loopback address: give a certificate and key, or say `insecure`")]
    NotLoopback {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be listened on: most often, another process has the port.
    #[error("cannot listen on {listen}: {error}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A file of TLS cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Certificate and key are not usable, or do not belong together.
    #[error("certificate or key cannot be used: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The quota's rates are outside their ranges.
    #[error("quota {quota:?} is out of range")]
    Quota {
        /// The quota.
        quota: QuotaConfig,
    },
    /// The reflection service cannot read our own descriptors.
    #[error("reflection: {reason}")]
    Reflection {
        /// Why.
        reason: String,
    },
}

/// Whether `listen` may be served so.
pub(crate) const fn check_address(listen: SocketAddr, is_allowed: bool) -> Result<(), ServeError> {
    if is_allowed || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(ServeError::NotLoopback { listen })
}
