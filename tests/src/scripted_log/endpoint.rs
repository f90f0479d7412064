//! A committee node of a scripted log: one address, behind which it is honest, lies, is silent, or is gone.
//!
//! Each runs on a runtime of its own, so that when it goes, its connections go with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::health::{Health, HealthState};
use lockstep_rpc::metrics::RpcMetrics;
use lockstep_rpc::node::{Ingress, Log};
use lockstep_rpc::server::{Backend, Server, serve};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use lockstep_rpc::client::Endpoint;
use lockstep_test_log::liar;

use super::{Lie, ScriptedLog};
use crate::wait::until;

/// How long an address may take to be free again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It says what is.
    Honest,
    /// It lies in one way, and says the truth else.
    Lying(Lie),
    /// It takes connections and says nothing.
    Silent,
    /// Nobody listens.
    Gone,
}

/// What lives as long as the endpoint's manner.
#[derive(Debug)]
struct Running {
    runtime: Option<Runtime>,
    _server: Option<Server>,
    _health: Option<watch::Sender<Health>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One address of the committee.
#[derive(Debug)]
pub struct ScriptedEndpoint {
    log: Arc<ScriptedLog>,
    address: SocketAddr,
    running: Option<Running>,
}

impl ScriptedEndpoint {
    /// An endpoint of a log.
    pub async fn start(log: &Arc<ScriptedLog>, manner: Manner) -> Self {
        let log = Arc::clone(log);
        let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut endpoint = Self { log, address, running: None };
        endpoint.turn(manner).await;
        endpoint
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it does so. Its connections end.
    pub async fn turn(&mut self, manner: Manner) {
        self.running = None;
        if manner != Manner::Gone {
            let running = until("its address is free", PATIENCE, async || self.serve(manner).await);
            self.running = Some(running.await);
        }
    }

    /// `None` while the address is taken.
    async fn serve(&self, manner: Manner) -> Option<Running> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut running =
            Running { runtime: Some(runtime.expect("a runtime")), _server: None, _health: None };
        let handle = running.runtime.as_ref()?.handle().clone();
        let address = self.address;
        let bind = handle.spawn(async move { TcpListener::bind(address).await });
        let listener = bind.await.expect("it binds").ok()?;
        let (health, receiver) = lockstep_rpc::health::channel();
        health.send_modify(|health| {
            health.state = HealthState::Serving;
            health.height = Height(1);
        });
        let backend = Backend {
            log: Arc::clone(&self.log.log) as Arc<dyn Log>,
            ingress: Arc::clone(&self.log.ingress) as Arc<dyn Ingress>,
            health: receiver,
            metrics: RpcMetrics::default(),
        };
        running._health = Some(health);
        match manner {
            Manner::Gone => {}
            Manner::Silent => drop(handle.spawn(say_nothing(listener))),
            Manner::Honest => {
                drop(listener);
                let config = ServerConfig { listen: address, ..ServerConfig::default() };
                running._server = Some(serve_on(&handle, config, backend).await?);
            }
            Manner::Lying(lie) => {
                // The truth is behind an address that nobody else knows.
                let server = serve_on(&handle, ServerConfig::default(), backend).await?;
                let honest = format!("http://{}", server.local_addr());
                running._server = Some(server);
                drop(handle.spawn(async move {
                    let honest = Endpoint::new(honest).connect().await;
                    let honest = honest.expect("the honest node listens");
                    liar::serve(listener, honest, Arc::new(()), lie.lies()).await;
                }));
            }
        }
        Some(running)
    }
}

/// Starts a server whose tasks are of that runtime; `None` if its address is taken.
async fn serve_on(handle: &Handle, config: ServerConfig, backend: Backend) -> Option<Server> {
    let handle = handle.clone();
    let start = move || handle.block_on(serve(config, backend));
    tokio::task::spawn_blocking(start).await.expect("it starts").ok()
}

async fn say_nothing(listener: TcpListener) {
    let mut held = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        held.push(stream);
    }
}
