//! A validator: opens what it keeps, joins the mesh, starts lanes and engine, and watches over them.
//!
//! Order of a start: guard, store, consensus log, mesh, lanes, engine. What was signed before a crash is known before
//! anything can be signed again; if the guard knows more than consensus does, the validator follows without voting
//! until the height in doubt is decided.

mod abstain;
mod open;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use lockstep_core::params::Genesis;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{Height, NetworkId, UnixMillis};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_engine::{Failure, Mode, SignError, SyncOptions, Transport};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::error;

use crate::abstention::Abstention;
use crate::app::{
    Context, Ended as ShellEnded, RESULTS_MAX, SUBMISSIONS_MAX, Shared, Shell, Sources, Watched,
};
use crate::application::effect::Stop;
use crate::application::peers::Peers;
use crate::application::{self, Application};
use crate::bridge;
use crate::checker::Checker;
use crate::claims::{self, Standing};
use crate::guard::GuardOpenError;
use crate::health::{self, Health};
use crate::ingress::Ingress;
use crate::ledger::Ledger;
use crate::mesh::faults::Faults;
use crate::mesh::{self, Mesh};
use crate::metrics::{MeshMetrics, Metrics};
use crate::signer::GuardSigner;
use crate::store::{OpenError, StoreError, Undecided};

pub use self::open::WAL_FILE;
use self::open::{first_abstention, load_lanes, open_guard, open_ledger};

/// How often the store tidies up what is decided.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(10);
/// Heights for which batches of passed-over runs are kept.
const PASSED_OVER_KEPT: u64 = 1_000;

/// What a validator is started with.
#[derive(Debug)]
pub struct Config {
    /// The network's genesis.
    pub genesis: Genesis,
    /// The validator's key.
    pub key: SigningKey,
    /// Its identity on the mesh.
    pub network_key: Keypair,
    /// Where the mesh listens.
    pub listen: Multiaddr,
    /// Directory of the store and of the consensus log.
    pub data_dir: PathBuf,
    /// Directory of the guard, which must be there; not inside `data_dir`, so that wiping that keeps it.
    pub guard_dir: PathBuf,
    /// Directory of the consensus log; `data_dir` if not given.
    pub wal_dir: Option<PathBuf>,
    /// Threads that check signatures; 0 for one per core.
    pub check_threads: usize,
    /// How long the first entry of a batch waits for others.
    pub batch_delay: Duration,
    /// How often a validator tells its height: zero after every commit.
    pub status_interval: Duration,
    /// Lateness and loss made on purpose, for tests.
    pub faults: Faults,
}

/// Why a validator could not start. The operator must act; each message says on what.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The genesis is wrong.
    #[error("genesis: {0}")]
    Genesis(#[from] lockstep_core::params::InvalidGenesis),
    /// The key is of no validator of the set.
    #[error("the key's address {address} is not in the validator set")]
    NotValidator {
        /// Its address.
        address: Address,
    },
    /// A validator's network address names no peer.
    #[error("network_address of validator {validator} does not end in /p2p/<peer id>: {address}")]
    NetworkAddress {
        /// Whose.
        validator: Address,
        /// What it says.
        address: String,
    },
    /// The network key is not the one that the genesis names for this validator.
    #[error("the network key is of peer {got}, the genesis names {expected} for this validator")]
    NetworkKey {
        /// The genesis'.
        expected: PeerId,
        /// The key's.
        got: PeerId,
    },
    /// The store can't be opened.
    #[error("store: {0}")]
    Open(#[from] OpenError),
    /// The store can't be read.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The guard can't be opened.
    #[error("guard: {0}")]
    Guard(#[from] GuardOpenError),
    /// This machine's clock went back behind the making of the guard, so what the guard waits for is not known to be
    /// late enough. Set the clock; if it was ahead when the guard was made, make the guard again.
    #[error(
        "the guard was made at {} ms since 1970, and this machine's clock is at {} ms: set the clock; if it was wrong \
         when the guard was made, see deploy/runbooks/lost-data.md",
        made_at.0, now.0
    )]
    Clock {
        /// When the guard was made.
        made_at: UnixMillis,
        /// This machine's clock.
        now: UnixMillis,
    },
    /// The guard can't be written.
    #[error("guard: {0}")]
    GuardWrite(#[from] crate::guard::SignError),
    /// The consensus log can't be read.
    #[error("consensus log: {0}")]
    Wal(#[from] lockstep_engine::WalError),
    /// The mesh can't listen.
    #[error("mesh: {0}")]
    Mesh(#[from] mesh::SpawnError),
    /// The engine can't start.
    #[error("engine: {0}")]
    Engine(#[from] lockstep_engine::StartError),
    /// Threads or directories can't be had.
    #[error("{doing}: {reason}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
}

fn io(doing: &'static str) -> impl Fn(&dyn core::fmt::Display) -> StartError {
    move |reason| StartError::Io { doing, reason: reason.to_string() }
}

/// A running validator. Dropping it stops its tasks; [`Validator::stop`] does so in order.
#[derive(Debug)]
pub struct Validator {
    /// The decided log.
    pub ledger: Arc<Ledger>,
    /// The way into its lane.
    pub ingress: Ingress,
    /// What it says of itself.
    pub health: watch::Receiver<Health>,
    /// Validators it is connected to, and what went over the mesh.
    pub mesh: mesh::handle::Handle,
    stop: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
}

/// Everything the supervisor keeps running.
#[derive(Debug)]
struct Parts {
    context: Arc<Context>,
    shell: Shell,
    transport: Transport,
    /// Bridge, health, maintenance and the mesh itself: they run as long as this is kept.
    _kept: (JoinSet<()>, mesh::Running),
    network: NetworkId,
    wal_path: PathBuf,
    sync: SyncOptions,
    heights_per_second: u64,
    abstains: Option<Abstention>,
    peers: claims::Peers,
    standing: watch::Sender<Standing>,
}

impl Validator {
    /// Starts a validator; it runs until it is stopped or halts.
    ///
    /// # Errors
    /// [`StartError`] says what to mend.
    #[expect(clippy::too_many_lines, reason = "one flat list of parts, in the order of a start")]
    pub async fn start(config: Config, registry: &mut Registry) -> Result<Self, StartError> {
        config.genesis.validate()?;
        let me = config.key.address();
        let peers = peers_of(&config.genesis.validators, me, &config.network_key)?;
        let network = config.genesis.network_id();
        let checker =
            Checker::new(network, config.check_threads).map_err(|e| io("checker threads")(&e))?;
        let wal_path = config.wal_dir.as_ref().unwrap_or(&config.data_dir).join(WAL_FILE);
        let guard = open_guard(&config).await?;
        let ledger = open_ledger(&config).await?;
        let abstains = first_abstention(&guard, &ledger, &wal_path).await?;
        let loaded = load_lanes(&ledger, &checker, me).await?;
        let Mesh { handle: mesh, votes, bulk, lanes: lane_frames, running } =
            mesh::spawn(mesh_config(&config, &peers, network)).await?;

        let mut tasks = JoinSet::new();
        let transport = bridge::spawn(&mesh, votes, bulk, &mut tasks);
        let validators: BTreeMap<PeerId, Address> =
            peers.into_iter().map(|(address, peer, _)| (peer, address)).collect();
        let peers = Arc::new(validators.clone());
        let interval_ms = config.genesis.params.block_interval_ms;
        let interval = Duration::from_millis(interval_ms);
        let heights_per_second = 1_000u64.div_ceil(interval_ms.max(1));
        let (table, own) = loaded;
        let (application, effects) = Application::new(application::Config {
            me,
            network,
            peers: Peers::new(me, validators),
            interval,
            batch_delay: config.batch_delay,
            state: ledger.state(),
            table,
            own,
        });
        let application = Shared::new(application);
        let metrics = Arc::new(Metrics::new(registry));
        registry.register_collector(Box::new(MeshMetrics(mesh.clone())));
        let (results, finished) = mpsc::channel(RESULTS_MAX);
        let context = Arc::new(Context {
            me,
            network,
            key: config.key,
            ledger: ledger.clone(),
            checker,
            guard,
            mesh: mesh.clone(),
            metrics: metrics.clone(),
            results,
        });
        let (submit, submissions) = mpsc::channel(SUBMISSIONS_MAX);
        let watchers = Watched::default();
        let standing = watch::Sender::new(Standing::default());
        let sources = Sources {
            results: finished,
            submissions,
            lanes: lane_frames,
            standing: standing.subscribe(),
        };
        let shell =
            Shell::new(context.clone(), application.clone(), watchers.clone(), sources, effects);
        let (to_health, health) = watch::channel(abstain::health(abstains));
        let about = (ledger.clone(), application.clone());
        let seen = (metrics.last_commit(), standing.subscribe());
        tasks.spawn(health::watch(about, seen, interval, to_health.clone()));
        tasks.spawn(maintain(ledger.clone()));
        let sync =
            SyncOptions { status_interval: config.status_interval, ..SyncOptions::default() };
        let parts = Parts {
            context,
            shell,
            transport,
            _kept: (tasks, running),
            network,
            wal_path,
            sync,
            heights_per_second,
            abstains,
            peers,
            standing,
        };
        let (stop, stopped) = watch::channel(false);
        let supervisor = tokio::spawn(supervise(parts, to_health, stopped));
        let ingress =
            Ingress { ledger: ledger.clone(), application, watchers, submissions: submit };
        Ok(Self { ledger, ingress, health, mesh, stop, supervisor })
    }

    /// Stops the validator: engine first, then lanes and mesh. What was persisted stays.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A supervisor that panicked has stopped, too.
        drop(self.supervisor.await);
    }
}

/// The other validators: address, peer, where to dial.
fn peers_of(
    set: &ValidatorSet,
    me: Address,
    network_key: &Keypair,
) -> Result<Vec<(Address, PeerId, Multiaddr)>, StartError> {
    if set.get(me).is_none() {
        return Err(StartError::NotValidator { address: me });
    }
    let mut peers = Vec::new();
    for validator in set.iter() {
        let address = validator.network_address.clone();
        let wrong = || StartError::NetworkAddress {
            validator: validator.address,
            address: address.clone(),
        };
        let at: Multiaddr = address.parse().map_err(|_| wrong())?;
        let Some(Protocol::P2p(peer)) = at.iter().last() else { return Err(wrong()) };
        if validator.address != me {
            peers.push((validator.address, peer, at));
            continue;
        }
        let got = network_key.public().to_peer_id();
        if got != peer {
            return Err(StartError::NetworkKey { expected: peer, got });
        }
    }
    Ok(peers)
}

fn mesh_config(
    config: &Config,
    peers: &[(Address, PeerId, Multiaddr)],
    network: NetworkId,
) -> mesh::Config {
    mesh::Config {
        keypair: config.network_key.clone(),
        listen: config.listen.clone(),
        network,
        peers: peers.iter().map(|(_, peer, at)| (*peer, at.clone())).collect(),
        faults: config.faults.clone(),
    }
}

async fn maintain(ledger: Arc<Ledger>) {
    let mut tick = tokio::time::interval(MAINTAIN_INTERVAL);
    loop {
        tick.tick().await;
        let ledger = ledger.clone();
        let work = move || {
            let before = ledger.state().height.0.saturating_sub(PASSED_OVER_KEPT);
            ledger.store().maintain(Height(before))
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            error!(%error, "the store can't tidy up");
        }
    }
}

/// What ended a run of the engine.
enum Ended {
    MayVote,
    Refused,
    Fatal(String),
    Stop,
}

/// Runs the engine, as a voter or not, until something ends it for good.
async fn supervise(
    mut parts: Parts,
    health: watch::Sender<Health>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let (ended, transport) = match run_engine(&mut parts, &mut stop).await {
            Ok(ended) => ended,
            Err(reason) => (Ended::Fatal(reason), None),
        };
        let is_refused = matches!(ended, Ended::Refused);
        match (ended, transport) {
            (Ended::Stop, _) => break,
            (Ended::MayVote | Ended::Refused, Some(transport)) => {
                parts.transport = transport;
                match abstain::after(&parts, is_refused).await {
                    Ok(abstains) => parts.abstains = abstains,
                    Err(reason) => return halt(parts, &health, stop, reason).await,
                }
                health.send_replace(abstain::health(parts.abstains));
            }
            (Ended::Fatal(reason), _) => return halt(parts, &health, stop, reason).await,
            (Ended::MayVote | Ended::Refused, None) => {
                let reason = "the engine did not stop".to_owned();
                return halt(parts, &health, stop, reason).await;
            }
        }
    }
}

/// Stays up, says why, and signs nothing, until the operator stops it. Who submits is told at once that it stops.
async fn halt(
    parts: Parts,
    health: &watch::Sender<Health>,
    mut stop: watch::Receiver<bool>,
    reason: String,
) {
    error!(%reason, "halted; see the runbook: deploy/runbooks/halted.md");
    parts.context.metrics.halt();
    health.send_replace(Health::Halted { reason });
    let Parts { context, shell, _kept: kept, .. } = parts;
    drop(shell);
    stopped(&mut stop).await;
    drop((context, kept));
}

async fn run_engine(
    parts: &mut Parts,
    stop: &mut watch::Receiver<bool>,
) -> Result<(Ended, Option<Transport>), String> {
    let context = parts.context.clone();
    let mode = match parts.abstains {
        Some(_) => Mode::Follower,
        None => {
            let signer = Arc::new(GuardSigner(context.guard.clone()));
            Mode::Validator { address: context.me, signer }
        }
    };
    let config = lockstep_engine::Config {
        network: parts.network,
        moniker: context.me.to_string(),
        wal_path: parts.wal_path.clone(),
        mode,
        sync: parts.sync,
        peers: parts.peers.clone(),
        heights_per_second: parts.heights_per_second,
    };
    let transport = std::mem::replace(&mut parts.transport, closed_transport());
    let (engine, mut requests) =
        lockstep_engine::start(config, transport).await.map_err(|e| e.to_string())?;
    let undecided = undecided(&context)?;
    // It ends with this run.
    let mut watching = JoinSet::new();
    let about = (parts.peers.clone(), context.me);
    let ledger = context.ledger.clone();
    watching.spawn(claims::watch(engine.clone(), about, ledger, parts.standing.clone()));
    let told = (parts.abstains, undecided);
    let ended = tokio::select! {
        ended = parts.shell.run(engine.clone(), &mut requests, told) => match ended {
            ShellEnded::Stopped(Stop::MayVote) => Ended::MayVote,
            ShellEnded::Stopped(stop @ Stop::InvalidDecided { .. }) => {
                Ended::Fatal(stop.to_string())
            }
            // The engine's own words on why are the better ones.
            ShellEnded::Engine => ended_by(engine.wait_failed().await),
            ShellEnded::Mesh => Ended::Fatal("the mesh stopped".to_owned()),
            ShellEnded::Failed(reason) => Ended::Fatal(reason),
        },
        failure = engine.wait_failed() => ended_by(failure),
        () = stopped(stop) => Ended::Stop,
    };
    // The channel must not be full of questions while the engine stops.
    drop(requests);
    let transport = match engine.stop().await {
        Ok(transport) => Some(transport),
        Err(error) => {
            error!(%error, "the engine did not stop in order");
            None
        }
    };
    Ok((ended, transport))
}

/// Waits until the validator is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn ended_by(failure: Failure) -> Ended {
    match failure {
        Failure::Signer(SignError::Refused(_)) => Ended::Refused,
        Failure::Signer(_)
        | Failure::Stopped { .. }
        | Failure::Unsafe { .. }
        | Failure::Transport => Ended::Fatal(failure.to_string()),
    }
}

fn closed_transport() -> Transport {
    let (outgoing, _) = mpsc::channel(1);
    let (_, incoming) = mpsc::channel(1);
    Transport::new(outgoing, incoming)
}

/// Blocks written before a crash: consensus may have voted for them.
fn undecided(context: &Context) -> Result<Vec<Undecided>, String> {
    let next = context.ledger.state().height.next();
    context.ledger.store().undecided(next).map_err(|e| format!("undecided blocks: {e}"))
}
