//! One OP chain of a world: where its programs are, how they are run, what they can be asked.
//!
//! A *side* is an execution engine with the op-node that drives it: the sequencer's, with a sidecar between the two, and
//! perhaps a verifier's.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accounts::Account;
use super::conductor::{self, Conductor};
use super::l1::{L1, listed, numbered, shown, words};
use super::options::StateScheme;
use super::peers::Peers;
use crate::json_rpc::{self, CallError, JsonRpc};
use crate::process::Program;

/// What a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainOptions {
    /// Its id.
    pub id: u64,
    /// Seconds between two of its blocks: 1, 2 or 4.
    pub block_time_seconds: u64,
}

/// What a side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the chain's blocks.
    Sequencer,
    /// Follows them, by gossip and from L1.
    Verifier,
    /// Follows them, and makes them once it is told to.
    Standby,
}

/// The ports of a side on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidePorts {
    /// op-geth, HTTP.
    pub http: u16,
    /// op-geth, WebSocket.
    pub ws: u16,
    /// op-geth, authenticated.
    pub engine: u16,
    /// The sidecar, for op-node.
    pub sidecar: u16,
    /// The sidecar, for wallets.
    pub wallet: u16,
    /// The sidecar's health and metrics.
    pub health: u16,
    /// op-node, JSON-RPC.
    pub node: u16,
    /// op-node, gossip.
    pub gossip: u16,
    /// op-batcher.
    pub batcher: u16,
}

impl SidePorts {
    /// The ports of a block that begins with `first`.
    pub(super) fn of(first: u16) -> Option<Self> {
        let port = |offset| first.checked_add(offset);
        Some(Self {
            http: first,
            ws: port(1)?,
            engine: port(2)?,
            sidecar: port(3)?,
            wallet: port(4)?,
            health: port(5)?,
            node: port(6)?,
            gossip: port(7)?,
            batcher: port(8)?,
        })
    }
}

/// An execution engine and its op-node.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it does.
    pub role: Role,
    /// Its ports.
    pub ports: SidePorts,
    /// Whether a sidecar is between the two.
    pub has_sidecar: bool,
    /// Who starts and stops its op-node; `None`: nobody but the caller.
    pub conductor: Option<Conductor>,
    chain: u64,
    directory: PathBuf,
    gossip_key: Account,
    engine: JsonRpc,
    node: JsonRpc,
}

/// Where op-node sees the heads of its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Heads {
    /// The newest block.
    #[serde(rename(deserialize = "unsafe_l2"))]
    pub unsafe_head: Block,
    /// The newest block that was derived from L1.
    #[serde(rename(deserialize = "safe_l2"))]
    pub safe_head: Block,
    /// The newest block that was derived from a finalized L1 block.
    #[serde(rename(deserialize = "finalized_l2"))]
    pub finalized_head: Block,
}

/// A block, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    #[serde(deserialize_with = "json_rpc::hash", serialize_with = "json_rpc::show_hash")]
    pub hash: B256,
}

impl Side {
    pub(super) fn new(
        role: Role,
        chain: u64,
        directory: &Path,
        ports: SidePorts,
        has_sidecar: bool,
    ) -> Self {
        let name = match role {
            Role::Sequencer => "sequencer",
            Role::Verifier => "verifier",
            Role::Standby => "standby",
        };
        let url = |port| JsonRpc::new(&format!("http://127.0.0.1:{port}"));
        Self {
            role,
            ports,
            has_sidecar,
            conductor: None,
            chain,
            directory: directory.join(name),
            gossip_key: Account::random(),
            engine: url(ports.http),
            node: url(ports.node),
        }
    }

    /// The name of one of its processes: `op-geth-901`, `verifier-op-geth-901`.
    #[must_use]
    pub fn process(&self, program: &str) -> String {
        match self.role {
            Role::Sequencer => format!("{program}-{}", self.chain),
            Role::Verifier => format!("verifier-{program}-{}", self.chain),
            Role::Standby => format!("standby-{program}-{}", self.chain),
        }
    }

    /// Directory of its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The execution engine's public JSON-RPC.
    #[must_use]
    pub const fn engine(&self) -> &JsonRpc {
        &self.engine
    }

    /// op-node's JSON-RPC.
    #[must_use]
    pub const fn node(&self) -> &JsonRpc {
        &self.node
    }

    /// Its heads.
    ///
    /// # Errors
    /// If op-node does not answer.
    pub async fn heads(&self) -> Result<Heads, CallError> {
        self.node.call("optimism_syncStatus", json!([])).await
    }

    /// The number of the block that a transaction is in, `None` if it is in none.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn landed(&self, transaction: B256) -> Result<Option<u64>, CallError> {
        let receipt: Option<Value> =
            self.engine.call("eth_getTransactionReceipt", json!([transaction.to_string()])).await?;
        let number = receipt.as_ref().and_then(|receipt| receipt.get("blockNumber")?.as_str());
        Ok(number.and_then(json_rpc::quantity))
    }

    /// The next nonce of an account, by the newest block.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn nonce(&self, account: Address) -> Result<u64, CallError> {
        self.engine
            .quantity("eth_getTransactionCount", json!([account.to_string(), "latest"]))
            .await
    }

    pub(super) const fn gossip_key(&self) -> &Account {
        &self.gossip_key
    }

    pub(super) fn gossip_key_file(&self) -> PathBuf {
        self.directory.join("gossip.key")
    }

    pub(super) fn sidecar_config(&self) -> PathBuf {
        self.directory.join("sidecar.toml")
    }

    fn gossip_address(&self) -> Option<String> {
        let peer = self.gossip_key.peer_id()?;
        Some(format!("/ip4/127.0.0.1/tcp/{}/p2p/{peer}", self.ports.gossip))
    }

    /// Where op-node finds its engine.
    const fn engine_port(&self) -> u16 {
        if self.has_sidecar { self.ports.sidecar } else { self.ports.engine }
    }
}

/// An OP chain.
#[derive(Clone, Debug)]
pub struct Rollup {
    /// What it is.
    pub options: ChainOptions,
    /// Directory of its files.
    pub directory: PathBuf,
    /// The side that makes its blocks.
    pub sequencer: Side,
    /// A side that follows, if there is one.
    pub verifier: Option<Side>,
    /// Signs its records.
    pub sequencer_key: Account,
    /// Admits its entries.
    pub gateway_key: Account,
    /// Posts its batches.
    pub batcher: Account,
    /// Signs its unsafe blocks.
    pub signer: Account,
    /// How its engines keep states.
    pub state_scheme: StateScheme,
}

impl Rollup {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.options.id
    }

    /// Both sides, or the one there is.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        [&self.sequencer].into_iter().chain(&self.verifier)
    }

    /// Where wallets find it, HTTP.
    #[must_use]
    pub fn wallet_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.sequencer.ports.wallet)
    }

    /// Where wallets find it, WebSocket.
    #[must_use]
    pub fn wallet_ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.sequencer.ports.wallet)
    }

    /// Its portal on L1.
    #[must_use]
    pub fn portal(&self) -> Address {
        numbered(0x11, self.id())
    }

    /// Its rollup configuration, for op-node.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("rollup.json")
    }

    /// The secret that op-node, sidecar and engine share.
    #[must_use]
    pub fn jwt_file(&self) -> PathBuf {
        self.directory.join("jwt.hex")
    }

    pub(super) fn key_file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn genesis(
        &self,
        peers: &Peers,
        logs: &Path,
        l1: (&L1, B256),
        funded: &[Address],
    ) -> Program {
        let (l1, l1_hash) = l1;
        let ChainOptions { id, block_time_seconds } = self.options;
        let mut arguments = words(&["l2", "-out", &shown(&self.directory)]);
        arguments.extend([
            format!("-chain={id}"),
            format!("-block-time={block_time_seconds}"),
            format!("-batcher={}", self.batcher.address()),
            format!("-l1-hash={l1_hash}"),
            format!("-l1-time={}", l1.genesis_time),
            format!("-fund={}", listed(funded)),
        ]);
        Program {
            name: format!("genesis of {id}"),
            file: peers.file("genesis"),
            arguments,
            log: logs.join("genesis.log"),
            home: None,
        }
    }

    pub(super) fn engine_init(&self, peers: &Peers, logs: &Path, side: &Side) -> Program {
        let data = format!("--datadir={}", shown(&side.directory.join("op-geth")));
        let genesis = shown(&self.directory.join("genesis.json"));
        let arguments = words(&["init", &data, self.state_scheme.flag(), &genesis]);
        let name = side.process("op-geth");
        let log = logs.join(format!("{name}.log"));
        Program { name, file: peers.file("op-geth"), arguments, log, home: None }
    }

    pub(super) fn engine_program(&self, peers: &Peers, logs: &Path, side: &Side) -> Program {
        let ports = side.ports;
        let mut arguments = words(&[
            self.state_scheme.flag(),
            self.state_scheme.collection_flag(),
            "--syncmode=full",
            "--cache=64",
            "--http",
            "--http.addr=127.0.0.1",
            "--http.api=eth,net,web3,debug,txpool,miner",
            "--ws",
            "--ws.addr=127.0.0.1",
            "--ws.api=eth,net,web3,debug,txpool",
            "--authrpc.addr=127.0.0.1",
            "--port=0",
            "--nodiscover",
            "--maxpeers=0",
            "--ipcdisable",
            "--rollup.disabletxpoolgossip",
        ]);
        arguments.extend([
            format!("--datadir={}", shown(&side.directory.join("op-geth"))),
            format!("--networkid={}", self.id()),
            format!("--http.port={}", ports.http),
            format!("--ws.port={}", ports.ws),
            format!("--authrpc.port={}", ports.engine),
            format!("--authrpc.jwtsecret={}", shown(&self.jwt_file())),
        ]);
        if side.role == Role::Verifier {
            // What its users send goes where wallets of the chain send.
            arguments.push(format!("--rollup.sequencerhttp={}", self.wallet_url()));
        }
        let name = side.process("op-geth");
        let log = logs.join(format!("{name}.log"));
        Program { name, file: peers.file("op-geth"), arguments, log, home: None }
    }

    pub(super) fn sidecar_program(&self, lockstep: &Path, logs: &Path, side: &Side) -> Program {
        let name = side.process("sidecar");
        let log = logs.join(format!("{name}.log"));
        let arguments = words(&["sidecar", "--config", &shown(&side.sidecar_config())]);
        Program { name, file: lockstep.to_owned(), arguments, log, home: None }
    }

    pub(super) fn node_program(&self, peers: &Peers, logs: &Path, l1: &L1, side: &Side) -> Program {
        let mut arguments = words(&[
            "--l1.rpckind=standard",
            "--l1.beacon.ignore",
            "--l1.http-poll-interval=500ms",
            "--l1.epoch-poll-interval=4s",
            "--verifier.l1-confs=0",
            "--l2.enginekind=geth",
            "--rpc.addr=127.0.0.1",
            "--rpc.enable-admin",
            "--p2p.listen.ip=127.0.0.1",
            "--p2p.no-discovery",
            // A blank record: it would look up the names of the public ones, and end if there is no DNS.
            "--p2p.bootnodes= ",
            "--p2p.peerstore.path=memory",
            "--p2p.discovery.path=memory",
        ]);
        arguments.extend([
            format!("--l1={}", l1.rpc().url()),
            format!("--rollup.l1-chain-config={}", shown(&l1.config_file())),
            format!("--rollup.config={}", shown(&self.config_file())),
            format!("--l2=http://127.0.0.1:{}", side.engine_port()),
            format!("--l2.jwt-secret={}", shown(&self.jwt_file())),
            format!("--rpc.port={}", side.ports.node),
            format!("--p2p.listen.tcp={}", side.ports.gossip),
            format!("--p2p.priv.path={}", shown(&side.gossip_key_file())),
        ]);
        if side.role != Role::Verifier {
            arguments.extend(words(&["--sequencer.enabled", "--sequencer.l1-confs=0"]));
            arguments.push(format!("--p2p.sequencer.key={}", self.signer.secret_hex()));
        }
        if side.role != Role::Sequencer {
            let peer = self.sequencer.gossip_address();
            arguments.extend(peer.map(|peer| format!("--p2p.static={peer}")));
        }
        if side.role == Role::Standby {
            arguments.push("--sequencer.stopped".to_owned());
        }
        arguments.extend(side.conductor.iter().flat_map(conductor::node_arguments));
        let name = side.process("op-node");
        let log = logs.join(format!("{name}.log"));
        Program { name, file: peers.file("op-node"), arguments, log, home: None }
    }

    pub(super) fn batcher_program(&self, peers: &Peers, logs: &Path, l1: &L1) -> Program {
        let ports = self.sequencer.ports;
        // Conductors answer for the side that leads.
        let conductors: Vec<&str> =
            self.sides().filter_map(|side| Some(side.conductor.as_ref()?.rpc().url())).collect();
        let (engine, node) = match conductors.is_empty() {
            true => (self.sequencer.engine.url().to_owned(), self.sequencer.node.url().to_owned()),
            false => (conductors.join(","), conductors.join(",")),
        };
        let mut arguments = words(&[
            "--data-availability-type=calldata",
            "--max-channel-duration=1",
            "--sub-safety-margin=4",
            "--num-confirmations=1",
            "--poll-interval=500ms",
            "--txmgr.receipt-query-interval=500ms",
            "--rpc.addr=127.0.0.1",
        ]);
        arguments.extend([
            format!("--l1-eth-rpc={}", l1.rpc().url()),
            format!("--l2-eth-rpc={engine}"),
            format!("--rollup-rpc={node}"),
            format!("--private-key={}", self.batcher.secret_hex()),
            format!("--rpc.port={}", ports.batcher),
            // Nothing is profiled: the path tells it from another devnet's.
            format!("--pprof.path={}", shown(&self.directory.join("op-batcher.pprof"))),
            // It sets limits of its own at the engine (`miner_setMaxDASize`), which the sidecar has to learn of.
            format!("--throttle.additional-endpoints=http://127.0.0.1:{}", ports.health),
        ]);
        let name = format!("op-batcher-{}", self.id());
        let log = logs.join(format!("{name}.log"));
        Program { name, file: peers.file("op-batcher"), arguments, log, home: None }
    }
}
