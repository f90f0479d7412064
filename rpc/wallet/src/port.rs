//! Opens the wallets' port: its options, its tasks, and the handle that closes it.
//!
//! It answers nothing itself: a call goes through `listener`, `server` or `socket`, and `gate`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId};
use lockstep_execution::client::InvalidUrl;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::client::submitter::{Submitter, Validators};
use lockstep_rpc::connections::Bounds;
use lockstep_rpc::quota::QuotaConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::engine::Engine;
use crate::gate::Gate;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX, ENDPOINTS_MAX, IDLE_TIMEOUT, SHUTDOWN_TIMEOUT,
};
use crate::listener::{Capped, Peer};
use crate::metrics::WalletMetrics;
use crate::pool::{Gateway, Pool};
use crate::server::{Port, router};

/// Options of the wallets' port.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 is a free one.
    pub listen: SocketAddr,
    /// The engine's public JSON-RPC, `http://host:port`.
    pub rpc_url: String,
    /// The engine's WebSocket, `ws://host:port`; without it there is none here.
    pub ws_url: Option<String>,
    /// The chain whose transactions are taken; EVM.
    pub chain: ChainId,
    /// The network of the log.
    pub network: NetworkId,
    /// A key that the network knows as the chain's gateway.
    pub gateway: SigningKey,
    /// The validators, 1..=[`ENDPOINTS_MAX`]: all of them, so that with 3f+1 of them f may fail.
    pub endpoints: Vec<Endpoint>,
    /// Least tip, in wei per gas. 0 takes every tip.
    pub tip_min: u128,
    /// The greatest gas that the network takes of one transaction, in the chain's parameters.
    pub gas_max: u64,
    /// What one client may submit.
    pub quota: QuotaConfig,
}

/// Why the port did not open. The operator must change its options.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on: most often, another process has the port.
    #[error("cannot listen on {listen}: {error}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The engine's address is not usable.
    #[error("engine at {url} cannot be used: {reason}")]
    Engine {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// There is no validator, or there are too many.
    #[error("{count} validators, expected 1..={ENDPOINTS_MAX}")]
    Endpoints {
        /// How many there are.
        count: usize,
    },
    /// The quota's rates are outside their ranges.
    #[error(
        "quota: submissions_per_second is {}, expected 1..={}; bytes_per_second is {}, expected 1..={}",
        quota.submissions_per_second,
        QuotaConfig::SUBMISSIONS_PER_SECOND_MAX,
        quota.bytes_per_second,
        QuotaConfig::BYTES_PER_SECOND_MAX
    )]
    Quota {
        /// The quota.
        quota: QuotaConfig,
    },
}

/// The open port. Dropping it closes it at once; [`Handle::shutdown`] lets calls end first.
pub struct Handle {
    local_addr: SocketAddr,
    pool: Arc<Pool>,
    is_stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
    background: [JoinHandle<()>; 2],
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Handle {
    /// Where it listens; tells the port where the operator asked for any.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The chain passed these transactions over, as it says itself: their nonces are free again at once, instead of
    /// after some time. Unknown hashes change nothing.
    pub fn skipped(&self, hashes: &[B256]) {
        self.pool.skipped(hashes);
    }

    /// Admits nothing from now on, because blocks are made past the log in this mode; or everything again.
    pub fn set_closed(&self, mode: Option<&'static str>) {
        self.pool.set_closed(mode);
    }

    /// Takes no new connections, ends WebSockets, waits for calls to end, but not longer than
    /// [`SHUTDOWN_TIMEOUT`].
    pub async fn shutdown(mut self) {
        self.is_stopping.send_replace(true);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.server).await.is_err() {
            info!(listen = %self.local_addr, "calls were cut by the shutdown");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.is_stopping.send_replace(true);
        self.server.abort();
        for task in &self.background {
            task.abort();
        }
    }
}

/// Opens the port as the options say. Neither the engine nor any validator needs to be there yet.
///
/// # Errors
/// [`ServeError`]. Nothing runs then.
pub async fn serve(config: Config, metrics: WalletMetrics) -> Result<Handle, ServeError> {
    let validators = Arc::new(Validators::new(config.endpoints.clone()));
    serve_to(validators, config, metrics).await
}

/// The same with another way to the validators; `config.endpoints` is not looked at.
///
/// # Errors
/// [`ServeError`]. Nothing runs then.
pub async fn serve_to(
    submitter: Arc<dyn Submitter>,
    config: Config,
    metrics: WalletMetrics,
) -> Result<Handle, ServeError> {
    let count = submitter.count();
    if !(1..=ENDPOINTS_MAX).contains(&count) {
        return Err(ServeError::Endpoints { count });
    }
    let Config { listen, rpc_url, ws_url, quota, .. } = config;
    if !quota.is_valid() {
        return Err(ServeError::Quota { quota });
    }
    let engine = Engine::new(&rpc_url).map_err(|InvalidUrl { url }| {
        let reason = "it is not http://host:port, with or without a path".to_owned();
        ServeError::Engine { url, reason }
    })?;
    match engine.is_of(config.chain.0).await {
        Ok(true) => {}
        Ok(false) => {
            let reason = format!("it is not of chain {}", config.chain);
            return Err(ServeError::Engine { url: rpc_url, reason });
        }
        Err(error) => {
            warn!(%error, url = %rpc_url, "whether the engine is of this chain is not known")
        }
    }
    if let Some(url) = ws_url.as_ref().filter(|url| !url.starts_with("ws://")) {
        let reason = "it does not begin with ws://".to_owned();
        return Err(ServeError::Engine { url: url.clone(), reason });
    }
    let bind_error = |error| ServeError::Bind { listen, error };
    let socket = TcpListener::bind(listen).await.map_err(bind_error)?;
    let local_addr = socket.local_addr().map_err(bind_error)?;

    let gateway = Gateway {
        chain: config.chain,
        network: config.network,
        key: config.gateway,
        tip_min: config.tip_min,
        gas_max: config.gas_max,
    };
    let connections = metrics.connections.clone();
    let pool = Arc::new(Pool::new(gateway, engine.clone(), submitter, quota, metrics));
    let (is_stopping, stopping) = watch::channel(false);
    let gate = Arc::new(Gate::new(Arc::clone(&pool), engine));
    let port = Port::new(gate, ws_url, stopping.clone());
    let bounds = Bounds {
        total_max: CONNECTIONS_MAX,
        per_client_max: CONNECTIONS_PER_CLIENT_MAX,
        reserved: 0,
    };
    let listener = Capped::new(socket, bounds, IDLE_TIMEOUT, connections);
    let server = tokio::spawn(answer(listener, port, stopping));
    let background = [
        tokio::spawn(Arc::clone(&pool).resubmit_for_ever()),
        tokio::spawn(Arc::clone(&pool).observe_for_ever()),
    ];
    info!(%local_addr, chain = %config.chain, validators = count, "wallets' port listens");
    Ok(Handle { local_addr, pool, is_stopping, server, background })
}

async fn answer(listener: Capped, port: Port, mut is_stopping: watch::Receiver<bool>) {
    let stopped = async move {
        // The other end was dropped: the port is closing, too.
        is_stopping.wait_for(|is_stopping| *is_stopping).await.map_or((), drop)
    };
    let service = router(port).into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stopped).await {
        error!(%error, "wallets' port ended");
    }
}

#[cfg(test)]
mod tests;
