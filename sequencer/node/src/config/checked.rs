//! From the file of options to a checked configuration: absolute paths, ranges, and relations between fields.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use lockstep_execution::chain::ChainRpc;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::quota::QuotaConfig;

use super::{
    ChainRpcOptions, FaultOptions, FollowOptions, GrpcOptions, HttpOptions, LogOptions,
    NodeOptions, QuotaOptions, ValidatorOptions,
};
use crate::toml_file::{self, FileError};

/// Threads that check signatures.
const CHECK_THREADS_MAX: usize = 256;
/// Longest that an entry waits for others to share its batch, in milliseconds.
const BATCH_DELAY_MS_MAX: u64 = 1_000;
/// Greatest `status_interval_ms`.
const STATUS_INTERVAL_MS_MAX: u64 = 10_000;
/// Engines of chains.
const CHAIN_RPC_MAX: usize = 64;
/// Endpoints of a follower.
const ENDPOINTS_MAX: usize = 16;
/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A node's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Directory of what the node writes.
    pub home: PathBuf,
    /// File of the genesis.
    pub genesis: PathBuf,
    /// Threads that check signatures, 1..=256.
    pub check_threads: NonZeroUsize,
    /// What the node is.
    pub role: Role,
    /// The listener for users.
    pub grpc: GrpcConfig,
    /// Where `/healthz` and `/metrics` are served. Loopback, or `insecure`.
    pub http: HttpOptions,
    /// What is logged, and how.
    pub log: LogOptions,
    /// 0..=64 engines of chains, each chain once.
    pub chain_rpc: Vec<ChainRpcOptions>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the mesh, which votes if the validator set has its key.
    Validator(ValidatorConfig),
    /// Follows the log over gRPC and does not vote.
    Follower {
        /// 1..=16 endpoints of other nodes, none of them trusted.
        endpoints: Vec<Endpoint>,
    },
}

/// A validator's part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorConfig {
    /// File of the validator key.
    pub validator_key: PathBuf,
    /// File of the network key.
    pub network_key: PathBuf,
    /// Where the mesh listens: an IP address and a TCP port.
    pub listen: Multiaddr,
    /// Longest that an entry waits for others to share its batch.
    pub batch_delay: Duration,
    /// Directory of the guard; apart from the data.
    pub guard_dir: PathBuf,
    /// Directory of the consensus log, if it is not that of the data.
    pub wal_dir: Option<PathBuf>,
    /// How often the node tells its height; zero after every block.
    pub status_interval: Duration,
    /// Lateness and loss made on purpose, for tests.
    pub faults: FaultOptions,
}

/// The gRPC listener's part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// Where to listen. Loopback, or with TLS, or `insecure`.
    pub listen: SocketAddr,
    /// Certificate and key; `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// Whether the operator wants plain text off loopback.
    pub insecure: bool,
    /// Whether the server describes its services.
    pub reflection: bool,
    /// What one client may use.
    pub quota: QuotaOptions,
}

/// Files of TLS, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authority of known clients, PEM; `None`: no client is known.
    pub client_ca: Option<PathBuf>,
}

impl NodeConfig {
    /// Directory of the log and, unless `wal_dir` says otherwise, of the consensus log.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.home)
    }

    /// Reads the file and checks it.
    ///
    /// # Errors
    /// [`FileError`] names the file, the field and the reason.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        let options: NodeOptions = toml_file::read(file, FILE_BYTES_MAX)?;
        let directory = std::path::absolute(file)
            .map_err(|source| FileError::Read { file: file.to_owned(), source })?;
        let directory = directory.parent().unwrap_or(Path::new("/"));
        options.validate(directory).map_err(|(field, reason)| FileError::Field {
            file: file.to_owned(),
            field: field.to_owned(),
            reason,
        })
    }
}

/// A field and what is wrong with it.
type Fault = (&'static str, String);

impl NodeOptions {
    /// Checks ranges and relations; relative paths are taken from `directory`, which must be absolute.
    ///
    /// # Errors
    /// The field at fault and the reason.
    pub fn validate(self, directory: &Path) -> Result<NodeConfig, Fault> {
        let home = directory.join(self.home);
        let role = role((self.validator, self.follow), self.faults, (directory, &home))?;
        let HttpOptions { listen, insecure } = self.http;
        if !listen.ip().is_loopback() && !insecure {
            let reason =
                format!("{listen} is not on loopback: set http.insecure = true if all may read it");
            return Err(("http.listen", reason));
        }
        let grpc = grpc(self.grpc, directory)?;
        check_ports(&role, grpc.listen, listen)?;
        Ok(NodeConfig {
            home,
            genesis: directory.join(self.genesis),
            check_threads: check_threads(self.check_threads)?,
            role,
            grpc,
            http: self.http,
            log: self.log,
            chain_rpc: chain_rpc(self.chain_rpc)?,
        })
    }
}

fn check_threads(threads: usize) -> Result<NonZeroUsize, Fault> {
    if threads > CHECK_THREADS_MAX {
        return Err(("check_threads", format!("{threads}, expected 0..={CHECK_THREADS_MAX}")));
    }
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Ok(NonZeroUsize::new(threads).unwrap_or_else(cores))
}

fn chain_rpc(engines: Vec<ChainRpcOptions>) -> Result<Vec<ChainRpcOptions>, Fault> {
    let count = engines.len();
    if count > CHAIN_RPC_MAX {
        return Err(("chain_rpc", format!("{count} engines, expected 0..={CHAIN_RPC_MAX}")));
    }
    let mut chains = BTreeSet::new();
    for ChainRpcOptions { chain, url } in &engines {
        if *chain == 0 {
            return Err(("chain_rpc.chain", "0 is the network's own, which has no engine".into()));
        }
        if !chains.insert(*chain) {
            return Err(("chain_rpc.chain", format!("{chain} has two engines")));
        }
        if let Err(error) = ChainRpc::new(url) {
            return Err(("chain_rpc.url", error.to_string()));
        }
    }
    Ok(engines)
}

fn role(
    (validator, follow): (Option<ValidatorOptions>, Option<FollowOptions>),
    faults: FaultOptions,
    places: (&Path, &Path),
) -> Result<Role, Fault> {
    match (validator, follow) {
        (Some(_), Some(_)) => Err((
            "follow",
            "a node is a validator or follows: remove [validator] or [follow]".into(),
        )),
        (None, None) => Err((
            "validator",
            "neither [validator] nor [follow]: one of them says what the node is".into(),
        )),
        (Some(options), None) => Ok(Role::Validator(validator_config(options, faults, places)?)),
        (None, Some(options)) => {
            if !faults.is_empty() {
                return Err(("faults", "they are the mesh's, which a follower has none of".into()));
            }
            Ok(Role::Follower { endpoints: endpoints(options, places.0)? })
        }
    }
}

fn validator_config(
    options: ValidatorOptions,
    faults: FaultOptions,
    (directory, home): (&Path, &Path),
) -> Result<ValidatorConfig, Fault> {
    let listen: Multiaddr = options
        .listen
        .parse()
        .map_err(|error| ("validator.listen", format!("{}: {error}", options.listen)))?;
    if tcp_address(&listen).is_none() {
        let reason = format!("{listen} is not /ip4/…/tcp/… or /ip6/…/tcp/…");
        return Err(("validator.listen", reason));
    }
    let ms = options.batch_delay_ms;
    if ms > BATCH_DELAY_MS_MAX {
        return Err((
            "validator.batch_delay_ms",
            format!("{ms}, expected 0..={BATCH_DELAY_MS_MAX}"),
        ));
    }
    let status_ms = options.status_interval_ms;
    if status_ms > STATUS_INTERVAL_MS_MAX {
        let reason = format!("{status_ms}, expected 0..={STATUS_INTERVAL_MS_MAX}");
        return Err(("validator.status_interval_ms", reason));
    }
    faults.validate()?;
    let guard_dir =
        options.guard_dir.map_or_else(|| home.join("guard"), |guard| directory.join(guard));
    let wal_dir = options.wal_dir.map(|wal_dir| directory.join(wal_dir));
    check_apart(&guard_dir, &data_dir(home))?;
    if let Some(wal_dir) = &wal_dir {
        check_apart(&guard_dir, wal_dir)?;
    }
    Ok(ValidatorConfig {
        validator_key: directory.join(options.validator_key),
        network_key: directory.join(options.network_key),
        listen,
        batch_delay: Duration::from_millis(ms),
        guard_dir,
        wal_dir,
        status_interval: Duration::from_millis(status_ms),
        faults,
    })
}

fn data_dir(home: &Path) -> PathBuf {
    home.join("data")
}

/// The guard must outlive the data: neither directory may contain the other.
fn check_apart(guard: &Path, data: &Path) -> Result<(), Fault> {
    let (plain_guard, plain_data) = (without_dots(guard), without_dots(data));
    if !plain_guard.starts_with(&plain_data) && !plain_data.starts_with(&plain_guard) {
        return Ok(());
    }
    let reason = format!(
        "the guard in {} and the data in {} must lie apart: removing the data must not remove the guard",
        plain_guard.display(),
        plain_data.display()
    );
    Err(("validator.guard_dir", reason))
}

/// An absolute path without `.` and `..`. Links are not followed.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// The socket address of `/ip4/…/tcp/…` or `/ip6/…/tcp/…`, `None` if it is anything else.
pub(crate) fn tcp_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let address = match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => (ip, port).into(),
        (Protocol::Ip6(ip), Protocol::Tcp(port)) => (ip, port).into(),
        _ => return None,
    };
    parts.next().is_none().then_some(address)
}

fn endpoints(options: FollowOptions, directory: &Path) -> Result<Vec<Endpoint>, Fault> {
    let FollowOptions { endpoints, ca, identity } = options;
    let count = endpoints.len();
    if count == 0 || count > ENDPOINTS_MAX {
        return Err((
            "follow.endpoints",
            format!("{count} endpoints, expected 1..={ENDPOINTS_MAX}"),
        ));
    }
    for endpoint in &endpoints {
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            let reason = format!("{endpoint:?} is not http://host:port or https://host:port");
            return Err(("follow.endpoints", reason));
        }
    }
    let authority = ca.map(|authority| directory.join(authority));
    let identity = identity.map(|files| (directory.join(files.cert), directory.join(files.key)));
    let endpoint = |url: String| Endpoint {
        authority: authority.clone(),
        identity: identity.clone(),
        ..Endpoint::new(url)
    };
    Ok(endpoints.into_iter().map(endpoint).collect())
}

fn grpc(options: GrpcOptions, directory: &Path) -> Result<GrpcConfig, Fault> {
    let GrpcOptions { listen, tls, insecure, reflection, quota } = options;
    if tls.is_some() && insecure {
        let reason = "plain text is asked for beside TLS: remove grpc.insecure or grpc.tls";
        return Err(("grpc.insecure", reason.into()));
    }
    if !listen.ip().is_loopback() && tls.is_none() && !insecure {
        let reason = format!(
            "{listen} is not on loopback: set grpc.tls, or grpc.insecure = true behind a proxy that speaks TLS"
        );
        return Err(("grpc.listen", reason));
    }
    let ranges = [
        (
            "grpc.quota.submissions_per_second",
            quota.submissions_per_second,
            QuotaConfig::SUBMISSIONS_PER_SECOND_MAX,
        ),
        ("grpc.quota.bytes_per_second", quota.bytes_per_second, QuotaConfig::BYTES_PER_SECOND_MAX),
    ];
    for (field, got, max) in ranges {
        if got == 0 || got > max {
            return Err((field, format!("{got}, expected 1..={max}")));
        }
    }
    let tls = tls.map(|tls| TlsFiles {
        cert: directory.join(tls.cert),
        key: directory.join(tls.key),
        client_ca: tls.client_ca.map(|authority| directory.join(authority)),
    });
    Ok(GrpcConfig { listen, tls, insecure, reflection, quota })
}

/// Two listeners cannot have one port. Port 0 takes a free one, so it is never taken.
fn check_ports(role: &Role, grpc: SocketAddr, http: SocketAddr) -> Result<(), Fault> {
    let mesh = match role {
        Role::Validator(validator) => tcp_address(&validator.listen),
        Role::Follower { .. } => None,
    };
    let mut taken = BTreeSet::new();
    let listeners =
        [("validator.listen", mesh), ("grpc.listen", Some(grpc)), ("http.listen", Some(http))];
    for (field, address) in listeners {
        let port = address.map_or(0, |address| address.port());
        if port != 0 && !taken.insert(port) {
            return Err((field, format!("port {port} is another listener's of this node already")));
        }
    }
    Ok(())
}
