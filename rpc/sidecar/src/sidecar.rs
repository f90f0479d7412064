//! The whole sidecar: finds where its chain is in the log, then serves op-node, wallets and operators.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use lockstep_core::light_client::{InvalidStart, LightClient};
use lockstep_core::params::ChainParams;
use lockstep_core::records::{begins, sealed};
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_execution::client::{Engine, EngineError, InvalidUrl};
use lockstep_proto::convert::log::RecordKind;
use lockstep_rpc::client::committee::Committee;
use lockstep_rpc::client::submitter::Validators;
use lockstep_wallet::{self as wallet, WalletMetrics};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::config::{Config, ExecutionMode, Role};
use crate::feed::{Feed, FeedError};
use crate::health::{self, Health};
use crate::http;
use crate::keeper::Keeper;
use crate::limits::{RECORDS_LOOKED_AT_MAX, SKIPS_WAITING_MAX};
use crate::metrics::Metrics;
use crate::payloads;
use crate::proxy::{Parts, Proxy};
use crate::records::Records;
use crate::server;
use crate::session::Session;
use crate::session::state::{Before, Settings};
use crate::state_file::StateFile;

/// Between two attempts to find where the chain is.
const START_RETRY: Duration = Duration::from_millis(500);

/// Why the sidecar cannot start. The operator must mend something.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The chain is not in the genesis.
    #[error("chain {0} is not registered in the genesis")]
    UnknownChain(ChainId),
    /// A key is not one that the genesis registers.
    #[error("{field} {got} is not a key of chain {chain} in the genesis")]
    Key {
        /// `sequencer_key` or `gateway_key`.
        field: &'static str,
        /// Its address.
        got: Address,
        /// The chain.
        chain: ChainId,
    },
    /// The genesis is none.
    #[error("{0}")]
    Genesis(#[from] InvalidStart),
    /// An address is taken.
    #[error("cannot listen on {listen} ({field}): {error}")]
    Bind {
        /// The option.
        field: &'static str,
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The wallets' port cannot be opened.
    #[error("public_listen: {0}")]
    Wallet(#[from] wallet::ServeError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory: {0}")]
    Data(std::io::Error),
    /// The engine's address is not usable.
    #[error("engine_url: {0}")]
    Engine(#[from] InvalidUrl),
}

/// A running sidecar. Dropping it stops everything.
#[derive(Debug)]
pub struct Sidecar {
    tasks: JoinSet<()>,
    engine_address: SocketAddr,
    http_address: SocketAddr,
    health: watch::Receiver<Health>,
}

impl Sidecar {
    /// Where op-node calls.
    #[must_use]
    pub const fn engine_address(&self) -> SocketAddr {
        self.engine_address
    }

    /// Where operators call.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Runs until a task ends, which it does only on a fault of ours.
    pub async fn run(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            error!(%error, "a part of the sidecar ended");
        }
    }
}

/// Starts a sidecar. It listens when this returns; jobs are filled once the chain's place in the log is found.
///
/// # Errors
/// [`StartError`] names what is wrong with the options.
pub async fn start(config: Config) -> Result<Sidecar, StartError> {
    let params = chain_params(&config)?;
    let network = config.genesis.network_id();
    let file = StateFile::new(&config.data, network, config.chain.0).map_err(StartError::Data)?;
    let kept = file.read();
    let trust = match kept.trust {
        Some(trust) => trust,
        None => LightClient::from_genesis(&config.genesis, now())?,
    };
    let gas_max = params.transaction_gas_max;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let wallets = WalletMetrics::register(&mut registry);
    let engine = Engine::new(&config.engine_url, Some(config.engine_secret.clone()))?;
    let feed = Feed::new((config.chain, params.kind), config.endpoints.clone(), trust);
    let settings = Settings {
        params,
        lead_ms: config.genesis.params.lead_ms,
        role: config.role,
        when_silent: config.when_silent,
        has_key: config.sequencer.is_some(),
    };
    let (payloads, found) =
        payloads::Store::open(&config.data.join("payloads")).map_err(StartError::Data)?;
    let (payloads, keeping) = payloads.run();
    let payloads::Found { payloads: brought, heads } = found;
    let before = Before { safe: kept.safe, kept: kept.kept, heads, brought };
    let session = Arc::new(Mutex::new(Session::new(settings, before)));
    let records = config.sequencer.clone().map(|key| Records::new(network, config.chain, key));
    for body in kept.records {
        if let Some(records) = &records {
            records.submit(body);
        }
    }
    let (session_, safe) = (Arc::clone(&session), kept.safe);
    let keeper = Keeper::new(feed.clone(), session_, records.clone(), file, safe);
    let (skipped, skips) = mpsc::channel(SKIPS_WAITING_MAX);
    let proxy = Arc::new(Proxy::new(Parts {
        engine,
        feed,
        session,
        skipped,
        records: records.clone(),
        keeper: keeper.clone(),
        payloads,
        metrics: metrics.clone(),
    }));
    let parts =
        Running { config, gas_max, proxy, records, metrics, keeper, registry, wallets, skips };
    let mut sidecar = parts.listen().await?;
    sidecar.tasks.spawn(keeping);
    Ok(sidecar)
}

/// Everything that is put to work.
struct Running {
    config: Config,
    gas_max: u64,
    proxy: Arc<Proxy>,
    records: Option<Records>,
    metrics: Metrics,
    keeper: Keeper,
    registry: Registry,
    wallets: WalletMetrics,
    skips: mpsc::Receiver<Vec<B256>>,
}

impl Running {
    async fn listen(self) -> Result<Sidecar, StartError> {
        let Self { config, gas_max, proxy, records, metrics, keeper, registry, wallets, skips } =
            self;
        let wallet = match wallet_config(&config, gas_max) {
            Some(options) => Some(wallet::serve(options, wallets).await?),
            None => None,
        };
        let engine = bind("listen", config.listen).await?;
        let operators = bind("http_listen", config.http_listen).await?;
        let address = |listener: &TcpListener, field, listen| {
            listener.local_addr().map_err(|error| StartError::Bind { field, listen, error })
        };
        let engine_address = address(&engine, "listen", config.listen)?;
        let http_address = address(&operators, "http_listen", config.http_listen)?;
        let looking = "looking for where the chain is in the log".to_owned();
        let (starting, not_started) = watch::channel(Some(looking));
        let (health_sender, health) = watch::channel(Health::default());
        let registry = Arc::new(registry);
        let render: http::RenderMetrics = Arc::new(move || {
            let mut text = String::new();
            // A string takes everything.
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap_or_default();
            text
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(engine, Arc::clone(&proxy), config.secret.clone()));
        tasks.spawn(http::serve(operators, Arc::clone(&proxy), health.clone(), render));
        tasks.spawn(health::run(Arc::clone(&proxy), not_started, health_sender, metrics));
        let feed = proxy.feed().clone();
        if let Some(records) = records {
            let validators = Arc::new(Validators::new(config.endpoints.clone()));
            let committee = Arc::new(Committee::new(validators));
            tasks.spawn(records.run(committee, feed));
        }
        tasks.spawn(tell_wallets(wallet, skips, proxy.modes()));
        tasks.spawn(keeper.run());
        tasks.spawn(Arc::clone(&proxy).run());
        tasks.spawn(async move {
            let mut followers = find(&proxy, &starting).await;
            starting.send_replace(None);
            // Followers end only where their endpoint lied; the rest of the sidecar goes on without a log.
            while followers.join_next().await.is_some() {}
            std::future::pending::<()>().await;
        });
        info!(%engine_address, %http_address, role = ?config.role, "the sidecar listens");
        Ok(Sidecar { tasks, engine_address, http_address, health })
    }
}

fn chain_params(config: &Config) -> Result<ChainParams, StartError> {
    let chain = config.chain;
    let params = config.genesis.chains.iter().find(|params| params.id == chain);
    let params = params.ok_or(StartError::UnknownChain(chain))?.clone();
    let keys = [
        ("sequencer_key", config.sequencer.as_ref(), &params.sequencers),
        ("gateway_key", config.public.as_ref().map(|public| &public.gateway), &params.gateways),
    ];
    for (field, key, registered) in keys {
        if let Some(got) =
            key.map(|key| key.address()).filter(|got| !is_known(field, registered, got))
        {
            return Err(StartError::Key { field, got, chain });
        }
    }
    if config.role == Role::Sequencing && config.sequencer.is_none() {
        warn!(
            "no sequencer key: blocks are sealed without records, and a standby cannot tell closed ones"
        );
    }
    Ok(params)
}

fn wallet_config(config: &Config, gas_max: u64) -> Option<wallet::Config> {
    let public = config.public.clone()?;
    Some(wallet::Config {
        listen: public.listen,
        rpc_url: public.rpc_url,
        ws_url: public.ws_url,
        chain: config.chain,
        network: config.genesis.network_id(),
        gateway: public.gateway,
        endpoints: config.endpoints.clone(),
        tip_min: 0,
        gas_max,
        quota: public.quota,
    })
}

/// Tells the wallets' port which transactions were passed over, and whether anybody executes what it admits; keeps it open.
async fn tell_wallets(
    wallet: Option<wallet::Handle>,
    mut skips: mpsc::Receiver<Vec<B256>>,
    mut modes: watch::Receiver<ExecutionMode>,
) {
    let Some(wallet) = wallet else { return std::future::pending().await };
    loop {
        let mode = *modes.borrow_and_update();
        wallet.set_closed((mode != ExecutionMode::Enabled).then(|| mode.name()));
        tokio::select! {
            Some(hashes) = skips.recv() => wallet.skipped(&hashes),
            Ok(()) = modes.changed() => {}
            else => return std::future::pending().await,
        }
    }
}

/// Whether the genesis knows a key. A chain without gateways takes entries from anybody.
fn is_known(field: &str, registered: &[Address], got: &Address) -> bool {
    registered.contains(got) || (field == "gateway_key" && registered.is_empty())
}

async fn bind(field: &'static str, listen: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(listen).await.map_err(|error| StartError::Bind { field, listen, error })
}

/// Why the chain's place in the log is not found yet.
#[derive(Debug, thiserror::Error)]
enum NotFound {
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Feed(#[from] FeedError),
    #[error("the engine has no head")]
    NoHead,
    #[error("engine_url: {url} is not of chain {chain}")]
    WrongChain { url: String, chain: ChainId },
}

/// Finds from which height on the log is needed, and follows it. Why it is not found yet goes to `reason`.
async fn find(proxy: &Proxy, reason: &watch::Sender<Option<String>>) -> JoinSet<()> {
    let mut said = String::new();
    loop {
        match first_height(proxy).await {
            Ok(height) => {
                info!(%height, "the log is followed from here");
                return proxy.feed().follow(height);
            }
            Err(error) if error.to_string() != said => {
                said = error.to_string();
                reason.send_replace(Some(said.clone()));
                warn!(reason = %said, "the chain's place in the log is not found yet");
            }
            Err(_) => {}
        }
        sleep(START_RETRY).await;
    }
}

async fn first_height(proxy: &Proxy) -> Result<Height, NotFound> {
    let (engine, chain) = (proxy.engine(), proxy.feed().chain());
    if !engine.is_of(chain.0).await? {
        return Err(NotFound::WrongChain { url: engine.url().to_owned(), chain });
    }
    let head = proxy.blocks().head().await?.ok_or(NotFound::NoHead)?;
    if let Some(known) = proxy.known(&head.hash) {
        return Ok(known.found.begin.cursor.height);
    }
    let count = u32::try_from(RECORDS_LOOKED_AT_MAX).unwrap_or(u32::MAX);
    let feed = proxy.feed();
    let newest_first = feed.records(RecordKind::Sealed, None, count).await?;
    let in_order: Vec<_> = newest_first.iter().rev().cloned().collect();
    feed.note_records(&in_order);
    let newest = newest_first.iter().find_map(|(_, record)| sealed(record));
    for sealed in begins(&newest_first, head.number()) {
        if proxy.blocks().is_canonical(sealed.hash, sealed.number).await? {
            return Ok(sealed.cursor.height);
        }
    }
    // An engine that is behind the newest record comes by there; what a block before it needs is asked for.
    if let Some(sealed) = newest {
        return Ok(sealed.cursor.height);
    }
    // The block before the chain joined is at most one block time, a minute, older.
    let rules = proxy.rules();
    let end = rules.end(head.timestamp().min(rules.joins_at.saturating_sub(60)));
    let newest = feed.head().await?;
    if newest.timestamp_ms <= end {
        return Ok(newest.height.next());
    }
    Ok(feed.height_after(end).await?)
}

fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}
