//! Starts malachite: the one place that instantiates it. All of its generic code is compiled here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::Address;
use bytesize::ByteSize;
use lockstep_core::limits::{SYNC_RESPONSE_BYTES_MAX, VALIDATORS_MAX};
use malachitebft_app_channel::ConsensusContext;
use malachitebft_app_channel::app::config::{ConsensusConfig, ValuePayload, ValueSyncConfig};
use malachitebft_app_channel::app::types::PeerId as MalachitePeerId;
use ractor::Actor;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::actor::Network;
use crate::actors::{self, Actors, Parts};
use crate::app;
use crate::config::{Config, Mode, SYNC_HEIGHTS_MAX, SyncOptions};
use crate::context::{Context, ValidatorAddress};
use crate::failure::{Failure, Failures};
use crate::gate::Gate;
use crate::handle::{EngineHandle, Running};
use crate::hub::Hub;
use crate::inbox::inbox;
use crate::locks::Locks;
use crate::network::Transport;
use crate::outbox::{outbox, pump};
use crate::quota::Pace;
use crate::reader::Reader;
use crate::request::Request;
use crate::signing::{SignerAdapter, Verifier};
use crate::wal::Log;

/// Requests that may wait for the application. Malachite asks one at a time, but for `Decided` and `Finalized`.
const REQUESTS_QUEUE: usize = 16;
/// Heights ahead of ours whose messages are kept.
pub(crate) const FUTURE_HEIGHTS_MAX: usize = 10;
/// Messages kept per such height: all that the quotas of a third of the peers let in while it lasts, and those of the others.
pub(crate) const FUTURE_MESSAGES_MAX: usize = 20 * VALIDATORS_MAX;
/// Sync requests of peers that are answered at a time, so at most so many responses are in memory.
const SERVED_AT_A_TIME: usize = 4;
/// Sync requests of peers that may wait for that.
const SERVED_WAITING_MAX: usize = 64;
/// Greatest count of sync requests of ours at a time.
const PARALLEL_MAX: usize = 16;
/// The peer id of no key: an identity hash of nothing.
const NOBODY: [u8; 2] = [0, 0];
/// How often the status is told while nothing is committed.
const STATUS_REMINDER: Duration = Duration::from_secs(1);
/// How long malachite's supervisor may outlive its network actor before that is a halt for safety.
const HALT_AFTER: Duration = Duration::from_secs(1);

/// Why an engine was not started. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option is out of its range.
    #[error("{option} is {got}, expected 1..={max}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: usize,
        /// The greatest.
        max: usize,
    },
    /// The log can't be opened (another engine may hold its lock), or an actor does not start.
    #[error("engine does not start: {reason}")]
    Engine {
        /// Malachite's words.
        reason: String,
    },
}

impl StartError {
    /// Malachite's own error.
    pub(crate) fn engine(error: &dyn fmt::Display) -> Self {
        Self::Engine { reason: format!("{error:#}") }
    }
}

/// Starts an engine. It asks [`Request::Ready`] once the transport listens.
///
/// Call [`crate::inspect_wal`] before a validator's first start in a process.
///
/// # Errors
/// [`StartError`]; the transport is lost then.
pub async fn start(
    config: Config,
    transport: Transport,
) -> Result<(EngineHandle, mpsc::Receiver<Request>), StartError> {
    check(&config.sync)?;
    let span = tracing::error_span!("engine", moniker = %config.moniker);
    start_in(config, transport).instrument(span).await
}

async fn start_in(
    config: Config,
    transport: Transport,
) -> Result<(EngineHandle, mpsc::Receiver<Request>), StartError> {
    let nobody =
        MalachitePeerId::from_bytes(&NOBODY).map_err(|error| StartError::engine(&error))?;
    let failures = Failures::new();
    let peers = config.peers.len() as u64;
    let pace = Pace { heights_per_second: config.heights_per_second, peers };
    let hub = Arc::new(Hub::new(&transport, pace));
    let (outbox, queues) = outbox();
    let (inbox, waiting) = inbox();

    let (stopped, network_stopped) = oneshot::channel();
    let verifier = Verifier::new(config.network);
    let locks = Arc::new(Locks::new(verifier.clone()));
    let gate = Gate::new(config.peers.clone(), verifier.clone());
    let actor = Network { hub: hub.clone(), outbox: outbox.clone(), locks: locks.clone() };
    let (network, _) =
        Actor::spawn(None, actor, stopped).await.map_err(|error| StartError::engine(&error))?;

    let wal_path = wal_path(&config);
    if matches!(config.mode, Mode::Follower) {
        forget(&wal_path).await?;
    }
    let parts = Parts {
        moniker: config.moniker.clone(),
        consensus_config: consensus_config(),
        sync_config: sync_config(&config.sync),
        wal_path: wal_path.clone(),
        consensus: Box::new(consensus_context(&config, verifier, &failures)),
        network: network.clone(),
    };
    let Actors { node, supervisor, requests: asked } =
        actors::spawn(parts).await.inspect_err(|_| network.kill())?;

    let node = node.get_cell();
    let supervisor = tokio::spawn(supervise(supervisor, network_stopped, failures.clone()));
    let pump = tokio::spawn(pump(queues, transport.outgoing.clone(), failures.clone()));
    let (stop_reader, stop) = oneshot::channel();
    // The sync actor that tells its status after every commit tells it no more when nothing is committed. A peer that
    // missed the last one would not learn that it is behind, and without it a quorum may commit nothing.
    let reminder = config.sync.status_interval.is_zero().then_some(STATUS_REMINDER);
    let reader = Reader { hub: hub.clone(), outbox: outbox.clone(), inbox, gate, locks, reminder };
    let reader = tokio::spawn(reader.run(transport, stop, failures.clone()));
    let (requests, receiver) = mpsc::channel(REQUESTS_QUEUE);
    tokio::spawn(app::forward(asked, waiting, requests));

    let running = Running { node, wal_path, stop_reader, reader, pump, supervisor };
    let running = Arc::new(Mutex::new(Some(running)));
    Ok((EngineHandle { hub, outbox, failures, nobody, running }, receiver))
}

/// A follower leaves the validator's log alone: malachite resets the log of a node that does not vote.
fn wal_path(config: &Config) -> PathBuf {
    match config.mode {
        Mode::Validator { .. } => config.wal_path.clone(),
        Mode::Follower => {
            let mut path = config.wal_path.clone().into_os_string();
            path.push(".follower");
            path.into()
        }
    }
}

/// Removes a follower's log: it holds nothing that is needed, and a torn one would keep malachite from starting.
async fn forget(path: &Path) -> Result<(), StartError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StartError::Engine { reason: format!("removing {}: {error}", path.display()) })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Who this node is to consensus, over its log.
fn consensus_context(
    config: &Config,
    verifier: Verifier,
    failures: &Failures,
) -> impl FnOnce(Log) -> ConsensusContext<Context> + Send + use<> {
    let (mode, failures) = (config.mode.clone(), failures.clone());
    let verifier = Box::new(verifier);
    |log| match mode {
        Mode::Validator { address, signer } => {
            let signer = SignerAdapter { signer, failures, log };
            let address = ValidatorAddress(address);
            ConsensusContext::new_validator(address, verifier, Box::new(signer))
        }
        // Nobody has the key of the zero address, so it is in no set.
        Mode::Follower => {
            ConsensusContext::new_full_node(ValidatorAddress(Address::ZERO), verifier)
        }
    }
}

/// Tells how malachite ended. Its supervisor ends with the first actor that does; only when it halts for safety does it
/// stop the others, the network among them, and live on.
async fn supervise(
    mut node: JoinHandle<()>,
    network_stopped: oneshot::Receiver<()>,
    failures: Failures,
) {
    let halted = async {
        match network_stopped.await {
            Ok(()) => tokio::time::sleep(HALT_AFTER).await,
            // Killed, with the supervisor.
            Err(_) => std::future::pending().await,
        }
    };
    let failure = tokio::select! {
        biased;
        _ = &mut node => stopped(),
        () = halted => Failure::Unsafe {
            reason: "its write-ahead log can't be written or replayed; its log says more".into(),
        },
    };
    failures.report(failure);
}

fn stopped() -> Failure {
    Failure::Stopped { reason: "an actor ended; its log says why".into() }
}

fn check(options: &SyncOptions) -> Result<(), StartError> {
    let heights_max = usize::try_from(SYNC_HEIGHTS_MAX).unwrap_or(usize::MAX);
    in_range("sync.batch", options.batch, heights_max)?;
    in_range("sync.parallel", options.parallel, PARALLEL_MAX)?;
    let ms = usize::try_from(options.request_timeout.as_millis()).unwrap_or(usize::MAX);
    in_range("sync.request_timeout in ms", ms, 60_000)
}

fn in_range(option: &'static str, got: usize, max: usize) -> Result<(), StartError> {
    if (1..=max).contains(&got) { Ok(()) } else { Err(StartError::Option { option, got, max }) }
}

fn consensus_config() -> ConsensusConfig {
    ConsensusConfig {
        enabled: true,
        value_payload: ValuePayload::ProposalAndParts,
        queue_capacity: FUTURE_HEIGHTS_MAX,
        queue_per_height_capacity: FUTURE_MESSAGES_MAX,
        ..ConsensusConfig::default()
    }
}

fn sync_config(options: &SyncOptions) -> ValueSyncConfig {
    ValueSyncConfig {
        enabled: true,
        status_update_interval: options.status_interval,
        request_timeout: options.request_timeout,
        max_response_size: ByteSize::b(SYNC_RESPONSE_BYTES_MAX as u64),
        parallel_requests: options.parallel,
        batch_size: options.batch,
        max_concurrent_inbound_requests: SERVED_AT_A_TIME,
        max_pending_inbound_requests: SERVED_WAITING_MAX,
        ..ValueSyncConfig::default()
    }
}
