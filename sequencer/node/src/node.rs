//! Wires one node: consensus (or a follower), gRPC, health and metrics. It decides nothing.

mod awaited;
mod follow;
mod ingress;
mod log;
mod outcomes;

use std::sync::Arc;
use std::time::Duration;

use eyre::WrapErr as _;
use lockstep_consensus::follower::Follower;
use lockstep_consensus::health::Health as NodeHealth;
use lockstep_consensus::ledger::Ledger;
use lockstep_consensus::validator::{Config, Validator};
use lockstep_core::params::Genesis;
use lockstep_core::types::Height;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::config::{HttpConfig, ServerConfig, TlsConfig};
use lockstep_rpc::health::{Health, HealthState};
use lockstep_rpc::metrics::RpcMetrics;
use lockstep_rpc::quota::QuotaConfig;
use lockstep_rpc::server::{Backend, Server};
use lockstep_rpc::{http, server};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use self::awaited::Awaited;
use self::ingress::{LaneIngress, NoIngress, Told};
use self::log::LogView;
use self::outcomes::Outcomes;
use crate::config::{NodeConfig, Role, ValidatorConfig};
use crate::descriptors::{self, Uses};
use crate::genesis::GenesisFile;
use crate::keys;

/// Longest that a stopping node waits for its services.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Runs a node until Ctrl-C or SIGTERM, then stops it in order.
///
/// # Errors
/// If it can't start; the message says what to mend.
pub async fn run(config: NodeConfig) -> eyre::Result<()> {
    let genesis = GenesisFile::load(&config.genesis)?;
    let connections_max = connections_max(&config, &genesis)?;
    match &config.role {
        Role::Validator(validator) => {
            run_validator(&config, validator, (genesis, connections_max)).await
        }
        Role::Follower { endpoints } => {
            run_follower(&config, endpoints, (genesis, connections_max)).await
        }
    }
}

/// How many gRPC connections there may be, so that the rest of the node always has descriptors.
fn connections_max(config: &NodeConfig, genesis: &Genesis) -> eyre::Result<usize> {
    let limit = descriptors::raise()?;
    let validators = match config.role {
        Role::Validator(_) => genesis.validators.len(),
        Role::Follower { .. } => 0,
    };
    let uses = Uses { validators, engines: config.chain_rpc.len() };
    let connections_max = descriptors::connections(limit, uses)?;
    info!(limit, connections_max, "file descriptors");
    Ok(connections_max)
}

async fn run_validator(
    config: &NodeConfig,
    options: &ValidatorConfig,
    (genesis, connections_max): (Genesis, usize),
) -> eyre::Result<()> {
    let mut registry = Registry::default();
    let start = validator_config(config, options, genesis)?;
    let address = start.key.address();
    let validator = Validator::start(start, &mut registry).await?;
    let log = LogView(validator.ledger.clone());
    let (told, _following) = tell(config, &log)?;
    let ingress = LaneIngress { lane: validator.ingress.clone(), told };
    let health = follow_health(validator.health.clone(), validator.ledger.clone());
    let server = server_config(config, connections_max);
    let backend = Backend {
        log: Arc::new(log),
        ingress: Arc::new(ingress),
        health,
        metrics: RpcMetrics::register(&mut registry),
    };
    let services = serve((server, http_config(config)), backend, registry).await?;
    info!(%address, grpc = %services.grpc.local_addr(), "validator runs");
    until_told().await?;
    info!("stopping");
    services.stop().await;
    validator.stop().await;
    Ok(())
}

async fn run_follower(
    config: &NodeConfig,
    endpoints: &[Endpoint],
    (genesis, connections_max): (Genesis, usize),
) -> eyre::Result<()> {
    let data = config.data_dir();
    let follower = Follower::open(genesis, &data, config.check_threads.get()).await?;
    let log = LogView(follower.ledger.clone());
    let first = Health {
        state: HealthState::CatchingUp,
        reason: "no block followed yet".to_owned(),
        height: follower.ledger.state().height,
    };
    let (health, watch) = watch::channel(first);
    let (told, _following) = tell(config, &log)?;
    let ingress = Arc::new(NoIngress(told));
    let mut registry = Registry::default();
    let server = server_config(config, connections_max);
    let metrics = RpcMetrics::register(&mut registry);
    let backend = Backend { log: Arc::new(log), ingress, health: watch, metrics };
    let services = serve((server, http_config(config)), backend, registry).await?;
    info!(grpc = %services.grpc.local_addr(), "full node runs");
    let following = follow::run(follower, endpoints.to_vec(), health);
    tokio::select! {
        told = until_told() => told?,
        failed = following => return Err(failed),
    }
    info!("stopping");
    services.stop().await;
    Ok(())
}

/// Begins to follow what becomes of entries. The tasks end with the set.
fn tell(config: &NodeConfig, log: &LogView) -> eyre::Result<(Told, JoinSet<()>)> {
    let (outcomes, mut following) =
        Outcomes::start(log.0.clone(), &config.chain_rpc).wrap_err("chain_rpc")?;
    let awaited = Awaited::default();
    following.spawn(awaited.clone().follow(log.clone()));
    Ok((Told { log: log.clone(), outcomes, awaited }, following))
}

fn validator_config(
    config: &NodeConfig,
    options: &ValidatorConfig,
    genesis: Genesis,
) -> eyre::Result<Config> {
    let faults = options.faults.to_mesh();
    Ok(Config {
        key: keys::read_validator_key(&options.validator_key)?,
        network_key: keys::read_network_key(&options.network_key)?,
        listen: options.listen.clone(),
        data_dir: config.data_dir(),
        guard_dir: options.guard_dir.clone(),
        wal_dir: options.wal_dir.clone(),
        check_threads: config.check_threads.get(),
        batch_delay: options.batch_delay,
        status_interval: options.status_interval,
        faults: faults.map_err(|(field, reason)| eyre::eyre!("faults.{field}: {reason}"))?,
        genesis,
    })
}

/// The listeners of a node.
struct Services {
    grpc: Server,
    http: Server,
}

impl Services {
    async fn stop(self) {
        let stop = async {
            self.grpc.shutdown().await;
            self.http.shutdown().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, stop).await.is_err() {
            info!("services did not end in time; streams are cut");
        }
    }
}

fn server_config(config: &NodeConfig, connections_max: usize) -> ServerConfig {
    let grpc = &config.grpc;
    ServerConfig {
        listen: grpc.listen,
        tls: grpc.tls.as_ref().map(|tls| TlsConfig {
            certificate: tls.cert.clone(),
            key: tls.key.clone(),
            client_authority: tls.client_ca.clone(),
        }),
        insecure: grpc.insecure,
        reflection: grpc.reflection,
        connections_max,
        quota: QuotaConfig {
            submissions_per_second: grpc.quota.submissions_per_second,
            bytes_per_second: grpc.quota.bytes_per_second,
        },
    }
}

const fn http_config(config: &NodeConfig) -> HttpConfig {
    HttpConfig { listen: config.http.listen, insecure: config.http.insecure }
}

async fn serve(
    (server, http): (ServerConfig, HttpConfig),
    backend: Backend,
    registry: Registry,
) -> eyre::Result<Services> {
    let health = backend.health.clone();
    let grpc = server::serve(server, backend).await.wrap_err("serving gRPC")?;
    let registry = Arc::new(registry);
    let render = move || render(&registry);
    let http = http::serve(http, health, Arc::new(render)).await;
    Ok(Services { grpc, http: http.wrap_err("serving health and metrics")? })
}

fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    prometheus_client::encoding::text::encode(&mut text, registry).ok();
    text
}

/// Translates the validator's health into the services' words, for as long as both live.
fn follow_health(
    mut node: watch::Receiver<NodeHealth>,
    ledger: Arc<Ledger>,
) -> watch::Receiver<Health> {
    let now = translate(&node.borrow_and_update(), ledger.state().height);
    let (to, health) = watch::channel(now);
    tokio::spawn(async move {
        let mut heads = ledger.heads();
        loop {
            tokio::select! {
                changed = node.changed() => if changed.is_err() { return },
                changed = heads.changed() => if changed.is_err() { return },
            }
            let now = translate(&node.borrow_and_update(), *heads.borrow_and_update());
            to.send_replace(now);
        }
    });
    health
}

fn translate(health: &NodeHealth, height: Height) -> Health {
    let state = match health {
        NodeHealth::Starting => HealthState::Starting,
        NodeHealth::Ok => HealthState::Serving,
        NodeHealth::Abstaining { .. } | NodeHealth::CatchingUp(_) => HealthState::CatchingUp,
        NodeHealth::Stalled { .. } => HealthState::Stalled,
        NodeHealth::Halted { .. } => HealthState::Stopped,
    };
    let reason = if state.is_ready() { String::new() } else { health.to_string() };
    Health { state, reason, height }
}

/// Waits for Ctrl-C or SIGTERM.
async fn until_told() -> eyre::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).wrap_err("listening for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.wrap_err("listening for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
