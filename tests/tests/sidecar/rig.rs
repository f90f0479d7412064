//! A sidecar with doubles on every side, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::record::Sealed;
use lockstep_core::signing::SigningKey;
use lockstep_core::transaction;
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_devnet::load::wallet::Wallet;
use lockstep_execution::jwt::Secret;
use lockstep_rpc::client::Endpoint;
use lockstep_sidecar::config::{Config, Role, WhenSilent};
use lockstep_sidecar::sidecar::{self, Sidecar};
use lockstep_test_log::keys::{committee, set_of};
use lockstep_tests::scripted_engine::{EngineKind, ScriptedEngine};
use lockstep_tests::scripted_log::{Manner, ScriptedEndpoint, ScriptedLog};
use lockstep_tests::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::op_node::{Block, Head, OpNode, Reply};

/// The chain.
pub(crate) const CHAIN: ChainId = ChainId(901);
/// Another chain, for the other legs of bundles.
const OTHER: ChainId = ChainId(902);
/// The secret between op-node and the sidecar.
pub(crate) const SECRET: B256 = B256::repeat_byte(0x11);
/// The secret between the sidecar and the engine.
const ENGINE_SECRET: B256 = B256::repeat_byte(0x22);
/// Milliseconds from a window's end to its block's timestamp.
const LEAD_MS: u64 = 700;
/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What is chosen for a rig.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: EngineKind,
    pub(crate) role: Role,
    pub(crate) when_silent: WhenSilent,
    /// The endpoints of the committee.
    pub(crate) manners: Vec<Manner>,
    /// By how much the sidecar's clock is ahead of the log's, in milliseconds.
    pub(crate) skew_ms: i64,
    pub(crate) block_time: u64,
    pub(crate) gas_limit: u64,
    pub(crate) footprint_scalar: u16,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            kind: EngineKind::OpGeth,
            role: Role::Sequencing,
            when_silent: WhenSilent::Halt,
            manners: vec![Manner::Honest],
            skew_ms: 0,
            block_time: 1,
            gas_limit: 30_000_000,
            footprint_scalar: 400,
        }
    }
}

impl Setup {
    pub(crate) fn of(kind: EngineKind) -> Self {
        Self { kind, ..Self::default() }
    }
}

/// A sidecar on a runtime of its own: when it is killed, all that it does ends.
struct Running {
    runtime: Option<Runtime>,
    sidecar: Sidecar,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.take().expect("one runtime").shutdown_background();
    }
}

/// All of it.
pub(crate) struct Rig {
    pub(crate) engine: ScriptedEngine,
    pub(crate) log: Arc<ScriptedLog>,
    pub(crate) endpoints: Vec<ScriptedEndpoint>,
    pub(crate) node: OpNode,
    pub(crate) http: reqwest::Client,
    running: Option<Running>,
    genesis: Genesis,
    setup: Setup,
    data: TempDir,
    /// Timestamp of block 0, seconds.
    start: u64,
    users: u64,
}

/// The key that signs the chain's records.
pub(crate) fn sequencer() -> SigningKey {
    SigningKey::from_bytes([0x21; 32]).unwrap()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn genesis(start: u64, block_time: u64) -> Genesis {
    let chain = |id| ChainParams {
        id,
        kind: ChainKind::Evm,
        block_time_ms: block_time * 1_000,
        gas_per_second: 60_000_000,
        bytes_per_second: 1 << 24,
        sequencers: vec![sequencer().address()],
        gateways: Vec::new(),
        transaction_gas_max: 1 << 24,
        joins_at: start + 1,
    };
    Genesis {
        name: "sidecar".to_owned(),
        timestamp: UnixMillis(start * 1_000),
        params: NetworkParams { lead_ms: LEAD_MS, ..NetworkParams::default() },
        validators: set_of(&committee()),
        chains: vec![chain(CHAIN), chain(OTHER)],
    }
}

impl Rig {
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut rig = Self::prepare(setup).await;
        rig.revive().await;
        rig
    }

    /// Everything but the sidecar.
    pub(crate) async fn prepare(setup: Setup) -> Self {
        let start = u64::try_from((now_ms() - setup.skew_ms) / 1_000).unwrap();
        let genesis = genesis(start, setup.block_time);
        let log = ScriptedLog::new(genesis.clone());
        log.decide_at(UnixMillis(start * 1_000 + 10), &[]);
        let engine = ScriptedEngine::start(setup.kind, start, setup.gas_limit, ENGINE_SECRET).await;
        let mut endpoints = Vec::new();
        for manner in &setup.manners {
            endpoints.push(ScriptedEndpoint::start(&log, *manner).await);
        }
        let head = Head { hash: engine.head(), timestamp: start };
        let mut node = OpNode::new(String::new(), SECRET, head);
        node.block_time = setup.block_time;
        node.gas_limit = setup.gas_limit;
        node.footprint_scalar = setup.footprint_scalar;
        let http = reqwest::Client::builder().timeout(SOON).no_proxy().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        Self {
            engine,
            log,
            endpoints,
            node,
            http,
            running: None,
            genesis,
            setup,
            data,
            start,
            users: 0,
        }
    }

    fn config(&self) -> Config {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        Config {
            chain: CHAIN,
            genesis: self.genesis.clone(),
            endpoints: self.endpoints.iter().map(|it| Endpoint::new(it.url())).collect(),
            listen: local,
            secret: Secret::new(SECRET),
            engine_url: self.engine.url(),
            engine_secret: Secret::new(ENGINE_SECRET),
            http_listen: local,
            public: None,
            sequencer: Some(sequencer()),
            role: self.setup.role,
            when_silent: self.setup.when_silent,
            data: self.data.path().to_owned(),
        }
    }

    /// Ends the sidecar as a kill does.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Takes its disk away.
    pub(crate) fn lose_disk(&mut self) {
        assert!(self.running.is_none(), "it has its disk while it runs");
        self.data = tempfile::tempdir().unwrap();
    }

    /// Starts the sidecar, with the disk that is there.
    pub(crate) async fn revive(&mut self) {
        self.running = None;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started = runtime.spawn(sidecar::start(self.config())).await.unwrap();
        let sidecar = started.unwrap_or_else(|error| panic!("the sidecar does not start: {error}"));
        self.node.url = format!("http://{}", sidecar.engine_address());
        self.running = Some(Running { runtime: Some(runtime), sidecar });
    }

    fn operators(&self) -> String {
        let running = self.running.as_ref().expect("the sidecar runs");
        format!("http://{}", running.sidecar.http_address())
    }

    /// Asks the operators' port.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.operators())).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Calls the operators' port.
    pub(crate) async fn operate(&self, method: &str, params: Value) -> Reply {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let request = self.http.post(self.operators()).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        Reply { status, body: response.bytes().await.unwrap().into() }
    }

    /// Sends the operators' port a body of this type, from this origin. Gives the status.
    pub(crate) async fn operate_as(&self, kind: &str, origin: Option<&str>, body: &Value) -> u16 {
        let mut request = self.http.post(self.operators()).body(body.to_string());
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// `/healthz`, once it shows what is looked for.
    pub(crate) async fn until_health(
        &self,
        what: &str,
        fits: impl Fn(u16, &Value) -> bool,
    ) -> Value {
        until(what, SOON, async || {
            let (status, text) = self.get("/healthz").await;
            let shown: Value = serde_json::from_str(&text).unwrap();
            fits(status, &shown).then_some(shown)
        })
        .await
    }

    /// Waits until jobs can be filled.
    pub(crate) async fn until_ready(&self) {
        self.until_health("the sidecar is ready", |status, _| status == 200).await;
    }

    /// Waits until what is on disk knows a block.
    pub(crate) async fn until_kept(&self, block: &Block) {
        self.until_on_disk(&block.hash.to_string()).await;
    }

    /// Waits until the file on disk holds some text.
    pub(crate) async fn until_on_disk(&self, wanted: &str) {
        let path = self.data.path().join("sidecar.json");
        until(&format!("{wanted} is on disk"), SOON, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.contains(wanted).then_some(())
        })
        .await;
    }

    /// Until the record of a block is submitted.
    pub(crate) async fn until_sealed(&self, block: &Block) -> Sealed {
        until("the block's record is submitted", SOON, async || {
            self.log.sealed().into_iter().find(|sealed| sealed.hash == block.hash)
        })
        .await
    }

    /// Until the sidecar knows the log up to a time.
    pub(crate) async fn until_log_time(&self, time: UnixMillis) {
        assert!(self.log.time() >= time, "it is decided");
        let height = self.log.height().0;
        self.until_health("the log is read", |_, health| health["log_height"] == json!(height))
            .await;
    }

    /// When the window of block `number` ends.
    pub(crate) fn end(&self, number: u64) -> UnixMillis {
        UnixMillis((self.start + number * self.setup.block_time) * 1_000 - LEAD_MS)
    }

    /// Decides entries in the window of block `number`.
    pub(crate) fn offer(&self, number: u64, entries: &[Entry]) -> Height {
        self.log.decide_at(UnixMillis(self.end(number).0 - 100), entries)
    }

    /// Decides all records that were submitted, in the window of block `number`.
    pub(crate) fn offer_records(&self, number: u64) -> Height {
        self.log.decide_submitted(UnixMillis(self.end(number).0 - 100))
    }

    /// Decides the block that closes the window of block `number`.
    pub(crate) fn close(&self, number: u64) -> Height {
        self.log.decide_at(UnixMillis(self.end(number).0 + 50), &[])
    }

    /// Fresh transfers of users who never sent anything.
    pub(crate) fn transfers(&mut self, count: usize) -> Vec<Bytes> {
        (0..count).map(|_| self.transfer_on(CHAIN)).collect()
    }

    /// As many transfers of one fresh user, with nonces from 0 on.
    pub(crate) fn transfers_of_one(&mut self, count: usize) -> Vec<Bytes> {
        self.users += 1;
        let mut wallet = Wallet::new(CHAIN, 1, B256::from(U256::from(self.users)));
        (0..count).map(|_| wallet.transfer()).collect()
    }

    fn transfer_on(&mut self, chain: ChainId) -> Bytes {
        self.users += 1;
        Wallet::new(chain, 1, B256::from(U256::from(self.users))).transfer()
    }

    pub(crate) fn entries(&self, transactions: &[Bytes]) -> Vec<Entry> {
        let entry = |bytes: &Bytes| {
            let transaction =
                Transaction { chain: CHAIN, kind: ChainKind::Evm, bytes: bytes.clone() };
            Entry::new(Body::Transaction(transaction), self.expires(), None).unwrap()
        };
        transactions.iter().map(entry).collect()
    }

    /// A bundle whose leg on the chain has these transactions.
    pub(crate) fn bundle(&mut self, mine: &[Bytes]) -> Entry {
        let leg = |chain, transactions| Leg { chain, kind: ChainKind::Evm, transactions };
        let theirs = vec![self.transfer_on(OTHER)];
        let legs = vec![leg(CHAIN, mine.to_vec()), leg(OTHER, theirs)];
        let bundle = Bundle::new(legs, Guarantee::CoOrdered).unwrap();
        Entry::new(Body::Bundle(bundle), self.expires(), None).unwrap()
    }

    fn expires(&self) -> UnixMillis {
        self.log.time().plus(30_000)
    }

    /// Decides `count` fresh transfers in the window of block `number`, and closes it. Gives the transfers.
    pub(crate) fn fill(&mut self, number: u64, count: usize) -> Vec<Bytes> {
        let transfers = self.transfers(count);
        self.offer(number, &self.entries(&transfers));
        self.close(number);
        transfers
    }

    /// Builds block `number` with `count` fresh transfers.
    pub(crate) async fn filled_block(&mut self, number: u64, count: usize) -> Block {
        let expected = self.fill(number, count);
        let block = self.node.block().await;
        assert_eq!((block.number, &block.users), (number, &expected), "block {number}");
        block
    }
}

/// The hash of a transaction.
pub(crate) fn hash_of(transaction: &Bytes) -> B256 {
    keccak256(transaction)
}

/// Who signed a transaction.
pub(crate) fn sender_of(transaction: &Bytes) -> Address {
    let checked = transaction::check(CHAIN, ChainKind::Evm, transaction).unwrap();
    checked.sender.unwrap()
}
