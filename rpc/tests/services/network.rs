//! A node in one process: the log of `lockstep_test_log`, an ingress, and the server over both.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::light_client::LightClient;
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::record::{Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId, UnixMillis};
use lockstep_rpc::client::{Endpoint, IngressClient, LogClient};
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::health::{Health, HealthState};
use lockstep_rpc::metrics::RpcMetrics;
use lockstep_rpc::node::{Ingress, Log};
use lockstep_rpc::server::{Backend, Server, serve};
use lockstep_test_log::keys::{committee, set_of};
use lockstep_test_log::{MemoryLog, liar};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Channel;

mod ingress;

pub(crate) use ingress::MemoryIngress;

/// Lies of one who knows the log.
pub(crate) type Lies = lockstep_test_log::Lies<MemoryLog>;

/// EVM.
pub(crate) const EVM: ChainId = ChainId(901);
/// Opaque.
pub(crate) const A: ChainId = ChainId(902);
/// Opaque.
pub(crate) const B: ChainId = ChainId(903);
/// Not registered, and between the others.
pub(crate) const NONE: ChainId = ChainId(904);

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// The key that signs every chain's records.
pub(crate) fn sequencer() -> SigningKey {
    SigningKey::from_bytes([21; 32]).unwrap()
}

fn genesis() -> Genesis {
    let chain = |id, kind| ChainParams {
        id,
        kind,
        block_time_ms: 2_000,
        gas_per_second: 30_000_000,
        bytes_per_second: 1 << 24,
        sequencers: vec![sequencer().address()],
        gateways: Vec::new(),
        transaction_gas_max: 128_000_000,
        joins_at: 0,
    };
    let (evm, opaque) = (ChainKind::Evm, ChainKind::Opaque);
    Genesis {
        name: "services".to_owned(),
        timestamp: UnixMillis(now().0 - 20_000),
        params: NetworkParams::default(),
        validators: set_of(&committee()),
        chains: vec![chain(EVM, evm), chain(A, opaque), chain(B, opaque)],
    }
}

fn expires() -> UnixMillis {
    now().plus(30_000)
}

/// An opaque transaction of `chain` with these bytes.
pub(crate) fn transaction(chain: ChainId, bytes: &[u8]) -> Transaction {
    Transaction { chain, kind: ChainKind::Opaque, bytes: bytes.to_vec().into() }
}

pub(crate) fn entry(chain: ChainId, bytes: &[u8]) -> Entry {
    Entry::new(Body::Transaction(transaction(chain, bytes)), expires(), None).unwrap()
}

pub(crate) fn bundle(bytes: &[u8]) -> Bundle {
    let leg = |chain: ChainId| Leg {
        chain,
        kind: ChainKind::Opaque,
        transactions: vec![[bytes, &chain.0.to_be_bytes()].concat().into()],
    };
    Bundle::new(vec![leg(A), leg(B)], Guarantee::CoOrdered).unwrap()
}

/// A record of `chain`, signed by its sequencer.
pub(crate) fn record(network: NetworkId, chain: ChainId, body: RecordBody) -> Entry {
    let record = Record::sign(network, chain, body, &sequencer());
    Entry::new(Body::Record(record), expires(), None).unwrap()
}

/// Decides blocks with one transaction of [`A`] at each odd height, none at even ones, up to `height`.
pub(crate) fn fill(log: &MemoryLog, height: u64) {
    while log.height().0 < height {
        let next = log.height().next();
        match next.0 % 2 {
            1 => log.decide(&[entry(A, &next.0.to_be_bytes())]),
            _ => log.decide(&[]),
        };
    }
}

/// A light client that trusts the genesis.
pub(crate) fn light_client(log: &MemoryLog) -> LightClient {
    LightClient::from_genesis(&log.genesis(), now()).unwrap()
}

/// A node: a log, an ingress, a server over both.
pub(crate) struct Node {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) ingress: Arc<MemoryIngress>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) server: Server,
}

/// What a server is given, and the node's side of it.
pub(crate) fn parts() -> (Arc<MemoryLog>, Arc<MemoryIngress>, watch::Sender<Health>, Backend) {
    let log = Arc::new(MemoryLog::new(genesis()));
    let ingress = Arc::new(MemoryIngress::new(&log));
    let (health, receiver) = lockstep_rpc::health::channel();
    health.send_modify(|health| health.state = HealthState::Serving);
    let backend = Backend {
        log: Arc::clone(&log) as Arc<dyn Log>,
        ingress: Arc::clone(&ingress) as Arc<dyn Ingress>,
        health: receiver,
        metrics: RpcMetrics::default(),
    };
    (log, ingress, health, backend)
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default()).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        let (log, ingress, health, backend) = parts();
        let server = serve(config, backend).await.unwrap();
        Self { log, ingress, health, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.local_addr())
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::new(self.url()).connect().await.unwrap()
    }

    /// A client of a liar that asks this node. It serves as long as the test's runtime lives.
    pub(crate) async fn liar(&self, lies: Lies) -> LogClient {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(liar::serve(listener, self.channel().await, Arc::clone(&self.log), lies));
        LogClient::new(Endpoint::new(url).connect().await.unwrap())
    }

    pub(crate) async fn log_client(&self) -> LogClient {
        LogClient::new(self.channel().await)
    }

    pub(crate) async fn ingress_client(&self) -> IngressClient {
        IngressClient::new(self.channel().await)
    }
}
