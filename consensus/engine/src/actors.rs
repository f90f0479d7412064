//! Malachite's actors, spawned one by one and linked as its `EngineBuilder` does, but without its network.
//!
//! The builder can start malachite's own network, so all of that network (gossip, discovery, QUIC) would be compiled into our
//! program, where nothing runs it.

use std::path::PathBuf;
use std::sync::Arc;

use malachitebft_app_channel::app::config::{ConsensusConfig, ValueSyncConfig};
use malachitebft_app_channel::app::engine::network::NetworkRef;
use malachitebft_app_channel::app::engine::node::NodeRef;
use malachitebft_app_channel::app::engine::util::events::TxEvent;
use malachitebft_app_channel::app::engine::util::output_port::{
    OutputPort, OutputPortSubscriberTrait as _,
};
use malachitebft_app_channel::app::metrics::{Metrics, SharedRegistry};
use malachitebft_app_channel::app::spawn::{
    spawn_consensus_actor, spawn_node_actor, spawn_sync_actor,
};
use malachitebft_app_channel::spawn::spawn_host_actor;
use malachitebft_app_channel::{AppMsg, ConsensusContext};
use ractor::Actor;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::codec::EngineCodec;
use crate::context::Context;
use crate::start::StartError;
use crate::wal::Log;

/// The reason that actors log when a later one does not start.
const NOT_STARTED: &str = "the engine does not start";

/// The options and collaborators of the actors.
pub(crate) struct Parts {
    pub(crate) moniker: String,
    pub(crate) consensus_config: ConsensusConfig,
    pub(crate) sync_config: ValueSyncConfig,
    pub(crate) wal_path: PathBuf,
    pub(crate) consensus: Box<dyn FnOnce(Log) -> ConsensusContext<Context> + Send>,
    /// Ours. It runs already.
    pub(crate) network: NetworkRef<Context>,
}

/// The running actors.
pub(crate) struct Actors {
    /// Supervises the others: stopping it stops them.
    pub(crate) node: NodeRef,
    /// Ends with the supervisor.
    pub(crate) supervisor: JoinHandle<()>,
    /// Their requests to the application.
    pub(crate) requests: mpsc::Receiver<AppMsg<Context>>,
}

/// Spawns them all.
///
/// # Errors
/// [`StartError::Engine`]. No actor runs then, but for the network.
pub(crate) async fn spawn(parts: Parts) -> Result<Actors, StartError> {
    let registry = SharedRegistry::global().with_moniker(&parts.moniker);
    let metrics = Metrics::register(&registry);
    let (node, supervisor) =
        spawn_node_actor(metrics.clone()).await.map_err(|e| StartError::engine(&e))?;
    match spawn_children(parts, &node, &registry, metrics).await {
        Ok(requests) => Ok(Actors { node, supervisor, requests }),
        Err(error) => {
            node.get_cell().stop_children(Some(NOT_STARTED.to_owned()));
            node.stop(Some(NOT_STARTED.to_owned()));
            Err(error)
        }
    }
}

/// Each is linked as soon as it is there, so that a failure of a later one stops it.
async fn spawn_children(
    parts: Parts,
    node: &NodeRef,
    registry: &SharedRegistry,
    metrics: Metrics,
) -> Result<mpsc::Receiver<AppMsg<Context>>, StartError> {
    let Parts { network, sync_config, .. } = parts;
    network.link(node.get_cell());
    let open = tokio::task::spawn_blocking(move || Log::open(&parts.wal_path));
    let log = open.await.map_err(|e| StartError::engine(&e))?;
    let log = log.map_err(|e| StartError::engine(&e))?;
    let (wal, _) = Actor::spawn(None, log.clone(), ()).await.map_err(|e| StartError::engine(&e))?;
    wal.link(node.get_cell());
    let consensus = (parts.consensus)(log);
    let (host, requests) =
        spawn_host_actor(metrics.clone()).await.map_err(|e| StartError::engine(&e))?;
    host.link(node.get_cell());
    let commits = Arc::new(OutputPort::new());
    let consensus = spawn_consensus_actor(
        Context,
        consensus.address,
        parts.consensus_config,
        consensus.verifier,
        consensus.signer,
        network.clone(),
        host.clone(),
        wal,
        commits.clone(),
        metrics,
        TxEvent::new(),
        node.clone(),
    );
    let consensus = consensus.await.map_err(|e| StartError::engine(&e))?;
    consensus.link(node.get_cell());
    let sync =
        spawn_sync_actor(Context, network, host, consensus, EngineCodec, &sync_config, registry);
    if let Some(sync) = sync.await.map_err(|e| StartError::engine(&e))? {
        sync.link(node.get_cell());
        sync.subscribe_to_port(&commits);
    }
    Ok(requests)
}
