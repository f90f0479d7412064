//! A node's own options: one TOML file, read and checked once.
//!
//! [`NodeOptions`] is the file as it is written; [`NodeConfig`] is what it means, checked, with absolute paths. None of
//! it can change what is valid: what all nodes must agree on is in the genesis. Secrets are paths of files.

mod checked;
mod faults;

pub use checked::{GrpcConfig, NodeConfig, Role, TlsFiles, ValidatorConfig};
pub use faults::{DelayOptions, FaultOptions, FrameClass, LossOptions};

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use lockstep_rpc::quota::QuotaConfig;
use serde::{Deserialize, Serialize};

/// The node's file. Relative paths are relative to the directory of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOptions {
    /// Directory of what the node writes, one node per directory: the log and the consensus log in `data`, a validator's
    /// guard of signatures in `guard` beside it.
    pub home: PathBuf,
    /// File of the genesis.
    pub genesis: PathBuf,
    /// Threads that check signatures, 0..=256. Default 0: as many as the machine has cores.
    #[serde(default)]
    pub check_threads: usize,
    /// What a validator has and a follower does not. Default: none, then `follow` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<ValidatorOptions>,
    /// What a follower has and a validator does not. Default: none, then `validator` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<FollowOptions>,
    /// The listener for users.
    #[serde(default)]
    pub grpc: GrpcOptions,
    /// The listener for operators.
    #[serde(default)]
    pub http: HttpOptions,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogOptions,
    /// Lateness and loss made on purpose, for tests. Default: none.
    #[serde(default, skip_serializing_if = "FaultOptions::is_empty")]
    pub faults: FaultOptions,
    /// Engines of chains, 0..=64: what became of entries on a chain is looked up there. Default: none, then the chains'
    /// records alone tell it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain_rpc: Vec<ChainRpcOptions>,
}

/// A chain's execution engine, whose word on the chain's blocks is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainRpcOptions {
    /// The chain's id; not 0, and each chain once.
    pub chain: u64,
    /// Its JSON-RPC, as `http://host:port`: on this machine or on a private network.
    pub url: String,
}

/// Options of a node that votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorOptions {
    /// File of the validator key (secp256k1), mode 0600.
    pub validator_key: PathBuf,
    /// File of the network key (ed25519), mode 0600.
    pub network_key: PathBuf,
    /// Where the other validators reach this one, as a multiaddr. Default `/ip4/0.0.0.0/tcp/26600`.
    #[serde(default = "default_mesh_listen")]
    pub listen: String,
    /// Longest time that an entry waits for others to share its batch, in milliseconds, 0..=1,000. Default 10.
    #[serde(default = "default_batch_delay_ms")]
    pub batch_delay_ms: u64,
    /// Directory of the guard: every signature this validator gave. `lockstep init` makes it; it must outlive the data, so
    /// neither directory may contain the other. Default: `guard` inside `home`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard_dir: Option<PathBuf>,
    /// Directory of the consensus log, on the fastest disk there is. Default: `data` inside `home`.
    #[serde(default)]
    pub wal_dir: Option<PathBuf>,
    /// How often the node tells its height, in milliseconds, 0..=10,000. 0, the default: after every block and each second, which is
    /// right wherever messages take time; on one machine 1,000 saves work.
    #[serde(default)]
    pub status_interval_ms: u64,
}

/// Options of a node that follows the log and does not vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowOptions {
    /// gRPC endpoints of other nodes, 1..=16, as `http://host:port` or `https://host:port`. None of them is trusted.
    pub endpoints: Vec<String>,
    /// File of the authority, PEM, that signed their certificates; needed for `https`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// By what they know this node (their `grpc.tls.client_ca`); only for `https`. Default: none, one client among many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityOptions>,
}

/// Files of a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityOptions {
    /// File of the certificate chain, PEM.
    pub cert: PathBuf,
    /// File of the private key, PEM, mode 0600.
    pub key: PathBuf,
}

/// Options of the gRPC listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcOptions {
    /// Where to listen. Default `127.0.0.1:26601`. Off loopback only with `tls`, or with `insecure = true`.
    pub listen: SocketAddr,
    /// Certificate and key for TLS. Default: none, plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsOptions>,
    /// Whether plain text is wanted off loopback, behind a proxy that speaks TLS for instance. Default false.
    pub insecure: bool,
    /// Whether the server describes its services (gRPC reflection). Default false.
    pub reflection: bool,
    /// What one client may use.
    pub quota: QuotaOptions,
}

/// Files of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// File of the certificate chain, PEM.
    pub cert: PathBuf,
    /// File of the private key, PEM, mode 0600.
    pub key: PathBuf,
    /// File of the authority, PEM, that signs the certificates of known clients; places are reserved for them. Default:
    /// none, no client is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// What one client address may use; over it, the answer is `RESOURCE_EXHAUSTED` with a retry hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaOptions {
    /// Submissions per second, 1..=1,000,000. Default 20,000.
    pub submissions_per_second: u64,
    /// Bytes submitted per second, 1..=1,073,741,824. Default 16,777,216.
    pub bytes_per_second: u64,
}

/// Options of the HTTP listener for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Where `/healthz` and `/metrics` are served. Default `127.0.0.1:26602`. Off loopback only with `insecure = true`.
    pub listen: SocketAddr,
    /// Whether anybody who reaches the listener off loopback may read health and metrics. Default false.
    pub insecure: bool,
}

/// What is logged to standard error, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// Directives as `tracing-subscriber`'s `EnvFilter` has them. Default
    /// `warn,lockstep=info,arc_malachitebft=error`: information of ours, warnings of the libraries. Malachite warns of whatever
    /// a peer sends, whole.
    pub filter: String,
    /// Lines for people, or one JSON object per line. Default `text`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged where nothing is configured. A directive names the beginning of a target, so `lockstep` is all crates
/// of ours.
pub const LOG_FILTER: &str = "warn,lockstep=info,arc_malachitebft=error";

fn default_mesh_listen() -> String {
    "/ip4/0.0.0.0/tcp/26600".to_owned()
}

const fn default_batch_delay_ms() -> u64 {
    10
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            listen: loopback(26_601),
            tls: None,
            insecure: false,
            reflection: false,
            quota: QuotaOptions::default(),
        }
    }
}

impl Default for QuotaOptions {
    fn default() -> Self {
        let QuotaConfig { submissions_per_second, bytes_per_second } = QuotaConfig::default();
        Self { submissions_per_second, bytes_per_second }
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { listen: loopback(26_602), insecure: false }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { filter: LOG_FILTER.to_owned(), format: LogFormat::Text }
    }
}

#[cfg(test)]
mod tests;
