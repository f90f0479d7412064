//! A committee of validators as processes, with full nodes beside it.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p::{Multiaddr, PeerId};
use lockstep_consensus::guard::Origin;
use lockstep_core::header::Header;
use lockstep_core::light_client::LightClient;
use lockstep_core::params::Genesis;
use lockstep_core::types::{BlockHash, Height};
use lockstep_node::clock;
use lockstep_node::config::{
    FaultOptions, FollowOptions, GrpcOptions, HttpOptions, LogOptions, NodeOptions, QuotaOptions,
    ValidatorOptions,
};
use lockstep_node::genesis::{
    ChainEntry, GenesisFile, Kind, ParamsEntry, entry, split_network_address,
};
use lockstep_node::keys::{self, VALIDATOR_KEY};
use lockstep_proto::convert::log::{BlockAt, SlicesQuery};
use lockstep_rpc::client::verified::VerifyingLog;
use tempfile::TempDir;

use crate::attacker::Attacker;
use crate::entries::{EVM_A, EVM_B, OPAQUE, SEQUENCED, TIGHT, TIGHT_BYTES_PER_SECOND, sequencer};
use crate::node::{Node, Ports};
use crate::wait::until;

/// Time between blocks of a cluster.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Below the ports that the system gives to connections, so that a stopped node finds its ports free again.
const PORTS: core::ops::Range<u16> = 12_000..32_000;
/// How long the first blocks may take.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a node that decides has to say that it serves.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
/// Heights asked for at once.
const RANGE: u64 = 200;

/// A cluster. All its processes end with it; its directory, too, unless the test fails.
#[derive(Debug)]
pub struct Cluster {
    /// Validators, then full nodes.
    pub nodes: Vec<Node>,
    /// The genesis.
    pub genesis: Genesis,
    program: PathBuf,
    directory: Option<TempDir>,
    /// Two clusters at once would only be late.
    _turn: File,
}

impl Cluster {
    /// Makes the files of so many validators, each with a fresh guard; none is started.
    pub async fn prepare(validators: usize) -> Self {
        Self::prepare_with(validators, params()).await
    }

    /// The same in a network with these parameters.
    pub async fn prepare_with(validators: usize, params: ParamsEntry) -> Self {
        let turn = tokio::task::spawn_blocking(take_turn).await.expect("a turn");
        let directory =
            tempfile::Builder::new().prefix("lockstep-").tempdir().expect("a directory");
        let mut ports = free_ports(validators);
        let mut nodes = Vec::new();
        let mut entries = Vec::new();
        for index in 0..validators {
            let own = directory.path().join(format!("validator-{index}"));
            fs::create_dir(&own).expect("a directory");
            keys::generate(&own.join("keys")).expect("keys");
            let ports = ports.pop().expect("enough ports");
            let address = format!("/ip4/127.0.0.1/tcp/{}", ports.mesh);
            entries.push(entry(&own.join("keys"), &address, 1).expect("keys"));
            let node = Node::new(format!("validator {index}"), own, ports);
            node.configure(&options(ports, Some(validator(ports))));
            nodes.push(node);
        }
        let chain = |id, kind| ChainEntry::new(id, kind);
        let file = GenesisFile {
            name: "scenario".to_owned(),
            timestamp_ms: clock::now().0,
            params,
            validators: entries,
            chains: vec![
                chain(EVM_A.0, Kind::Evm),
                chain(EVM_B.0, Kind::Evm),
                chain(OPAQUE.0, Kind::Opaque),
                ChainEntry {
                    sequencers: vec![sequencer().address().to_string()],
                    ..chain(SEQUENCED.0, Kind::Opaque)
                },
                ChainEntry {
                    bytes_per_second: TIGHT_BYTES_PER_SECOND,
                    ..chain(TIGHT.0, Kind::Opaque)
                },
            ],
        };
        let path = directory.path().join("genesis.toml");
        fs::write(&path, toml::to_string(&file).expect("TOML")).expect("the genesis is written");
        let genesis = GenesisFile::load(&path).expect("the genesis is valid");
        for node in &nodes {
            node.init(Origin::Fresh).expect("a guard");
        }
        Self { nodes, genesis, program: program(), directory: Some(directory), _turn: turn }
    }

    /// Four validators that have decided two heights, and vote. One that others left behind at the genesis does so only after
    /// the first second of the log.
    pub async fn of_four() -> Self {
        let mut cluster = Self::prepare(4).await;
        cluster.start(&[0, 1, 2, 3]).await;
        cluster.until_height(&[0, 1, 2, 3], Height(2), FIRST_PATIENCE).await;
        cluster.assert_healthy(&[0, 1, 2, 3]).await;
        cluster
    }

    /// The validators 1, 2 and 3, that have decided two heights, and a peer with the keys of validator 0.
    pub async fn of_three_and_an_attacker() -> (Self, Attacker) {
        Self::of_three_and_an_attacker_with(params()).await
    }

    /// The same in a network with these parameters.
    pub async fn of_three_and_an_attacker_with(params: ParamsEntry) -> (Self, Attacker) {
        let mut cluster = Self::prepare_with(4, params).await;
        let attacker = cluster.attacker(0).await;
        cluster.start(&[1, 2, 3]).await;
        cluster.until_height(&[1, 2, 3], Height(2), FIRST_PATIENCE).await;
        cluster.assert_healthy(&[1, 2, 3]).await;
        attacker.until_connected(3).await;
        (cluster, attacker)
    }

    /// A peer of the mesh with the keys of a validator that is not running.
    pub async fn attacker(&self, index: usize) -> Attacker {
        let node = self.node(index);
        assert!(!node.is_started(), "{} runs itself", node.name);
        Attacker::start(self.genesis.clone(), &self.keys(index), node.ports.mesh).await
    }

    /// A validator's address.
    #[must_use]
    pub fn address(&self, index: usize) -> Address {
        keys::read_validator_key(&self.keys(index).join(VALIDATOR_KEY)).expect("a key").address()
    }

    /// A validator's peer id, and where it is dialled.
    #[must_use]
    pub fn peer(&self, index: usize) -> (PeerId, Multiaddr) {
        let validator = self.genesis.validators.get(self.address(index)).expect("a validator");
        let at = split_network_address(&validator.network_address).expect("its address");
        (at.1, at.0)
    }

    /// Which validator has this address.
    #[must_use]
    pub fn index_of(&self, address: Address) -> usize {
        let mut indices = 0..self.genesis.validators.len();
        indices.find(|index| self.address(*index) == address).expect("a validator's address")
    }

    /// Directory of a validator's keys.
    #[must_use]
    pub fn keys(&self, index: usize) -> PathBuf {
        self.path().join(format!("validator-{index}/keys"))
    }

    /// The cluster's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.as_ref().expect("it is there until the end").path()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        self.nodes.get(index).expect("a node of the cluster")
    }

    /// A node.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        self.nodes.get_mut(index).expect("a node of the cluster")
    }

    /// Starts nodes with another program from now on; gives the one before.
    pub fn use_program(&mut self, program: PathBuf) -> PathBuf {
        mem::replace(&mut self.program, program)
    }

    /// Starts a node; it does not serve yet.
    pub fn spawn(&mut self, index: usize) {
        let program = self.program.clone();
        self.node_mut(index).spawn(&program);
    }

    /// Starts nodes and waits until they serve.
    pub async fn start(&mut self, indices: &[usize]) {
        for index in indices {
            self.spawn(*index);
        }
        for index in indices {
            self.node_mut(*index).until_serving().await;
        }
    }

    /// Writes a validator's first options, but for a change. It must not run.
    pub fn change(&self, index: usize, change: impl FnOnce(&mut NodeOptions)) {
        let ports = self.node(index).ports;
        let mut options = options(ports, Some(validator(ports)));
        change(&mut options);
        self.node(index).configure(&options);
    }

    /// Stops a validator and starts it again with other faults of its mesh.
    pub async fn restart_with(&mut self, index: usize, faults: FaultOptions) {
        self.restart_changed(index, |options| options.faults = faults).await;
    }

    /// Stops a validator and starts it again with its first options, but for a change.
    pub async fn restart_changed(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut NodeOptions) + Send,
    ) {
        let status = self.node_mut(index).stop().await;
        assert!(status.success(), "validator {index} ended with {status}");
        self.change(index, change);
        self.start(&[index]).await;
    }

    /// Adds a node with the keys, the guard and the port on the mesh of a validator, and a home of its own; it is not
    /// started. Gives its index.
    pub fn add_twin(&mut self, of: usize) -> usize {
        let index = self.nodes.len();
        let own = self.path().join(format!("twin-{index}"));
        fs::create_dir_all(own.join("home")).expect("a directory");
        symlink(self.keys(of), own.join("keys")).expect("a link");
        symlink(self.node(of).guard(), own.join("home/guard")).expect("a link");
        let free = free_ports(1).pop().expect("a port");
        let ports = Ports { mesh: self.node(of).ports.mesh, ..free };
        let node = Node::new(format!("twin of validator {of}"), own, ports);
        node.configure(&options(ports, Some(validator(ports))));
        self.nodes.push(node);
        index
    }

    /// Adds a full node that follows these endpoints, not started, and gives its index.
    pub fn add_full_node(&mut self, endpoints: Vec<String>) -> usize {
        let index = self.nodes.len();
        let own = self.path().join(format!("full-{index}"));
        fs::create_dir(&own).expect("a directory");
        let ports = free_ports(1).pop().expect("a port");
        let node = Node::new(format!("full node {index}"), own, ports);
        let follow = Some(FollowOptions { endpoints, ca: None, identity: None });
        node.configure(&NodeOptions { follow, ..options(ports, None) });
        self.nodes.push(node);
        index
    }

    /// Waits until these nodes have decided `height`.
    pub async fn until_height(&self, indices: &[usize], height: Height, patience: Duration) {
        for index in indices {
            self.node(*index).until_height(height, patience).await;
        }
    }

    /// Waits until these nodes have decided `count` heights more than the first of them has now.
    pub async fn until_more(&self, indices: &[usize], count: u64, patience: Duration) -> Height {
        let first = indices.first().expect("at least one");
        let height = Height(self.node(*first).height().await.0.saturating_add(count));
        self.until_height(indices, height, patience).await;
        height
    }

    /// Waits until a certificate from `height` on has a validator's vote, as another node tells.
    pub async fn until_votes(&self, index: usize, mut height: Height, patience: Duration) {
        let address = self.address(index);
        let teller = (0..self.nodes.len()).find(|other| *other != index).expect("another node");
        let what = format!("a certificate has the vote of {}", self.node(index).name);
        until(&what, patience, async || {
            let mut log = self.node(teller).log_client().await;
            let block = log.block(BlockAt::Height(height)).await.ok()?.certified;
            height = height.next();
            block.certificate.signatures.iter().any(|s| s.validator == address).then_some(())
        })
        .await;
    }

    /// A client that trusts the genesis and nothing else.
    #[must_use]
    pub fn light_client(&self) -> LightClient {
        LightClient::from_genesis(&self.genesis, clock::now()).expect("the genesis is valid")
    }

    /// A node's log, every answer verified from the genesis.
    pub async fn verified(&self, index: usize) -> VerifyingLog {
        VerifyingLog::new(self.node(index).log_client().await, self.light_client())
    }

    /// All headers of a node's log from height 1, each verified by a light client from the genesis.
    pub async fn headers(&self, index: usize) -> Vec<Header> {
        let mut log = self.node(index).log_client().await;
        let mut light = self.light_client();
        let head = self.node(index).height().await;
        let mut headers: Vec<Header> = Vec::new();
        while (headers.len() as u64) < head.0 {
            let from = Height(headers.len() as u64).next();
            let to = Height(from.0.saturating_add(RANGE)).min(head);
            let query = SlicesQuery { chain: EVM_A, from, to };
            let range = log.slices(query).await.expect("the node has the heights").proof;
            light
                .verify_range(&range, (EVM_A, from), &[], clock::now())
                .expect("the range is proved");
            headers.extend(range.blocks.into_iter().map(|block| block.header));
        }
        headers
    }

    /// Fails unless these nodes have the same verified block at every height that all have; gives the least height.
    pub async fn assert_agreement(&self, indices: &[usize]) -> Height {
        let mut logs: Vec<Vec<BlockHash>> = Vec::new();
        for index in indices {
            logs.push(self.headers(*index).await.iter().map(Header::hash).collect());
        }
        let least = logs.iter().map(Vec::len).min().unwrap_or_default();
        assert!(least > 0, "nothing is decided");
        for height in 0..least {
            let at: BTreeSet<_> = logs.iter().filter_map(|log| log.get(height)).collect();
            assert_eq!(
                at.len(),
                1,
                "nodes {indices:?} disagree at height {}: {at:?}",
                height.saturating_add(1)
            );
        }
        Height(least as u64)
    }

    /// Fails if a node saw anybody sign two conflicting messages.
    pub async fn assert_no_evidence(&self, indices: &[usize]) {
        for index in indices {
            let count = self.node(*index).metric("lockstep_evidence").await;
            assert_eq!(count, 0, "{} saw equivocation", self.node(*index).name);
        }
    }

    /// Fails if a node's health is not `serving`. A node looks at itself four times a second, so it has a moment.
    pub async fn assert_healthy(&self, indices: &[usize]) {
        for index in indices {
            let node = self.node(*index);
            until(&format!("{} serves", node.name), HEALTH_PATIENCE, async || {
                (node.get("/readyz").await.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Ends the scenario: all nodes stop in order, and none ever panicked.
    pub async fn finish(mut self) {
        for node in &mut self.nodes {
            if node.is_started() {
                let status = node.stop().await;
                assert!(status.success(), "{} ended with {status}", node.name);
            }
            assert!(!node.log().contains("panicked"), "{} panicked", node.name);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Some(directory) = self.directory.take() else { return };
        #[expect(
            clippy::print_stderr,
            reason = "who reads the test's failure must know where the logs are"
        )]
        for node in &self.nodes {
            eprintln!("---- {}: {}\n{}", node.name, node.log_file().display(), node.last_words());
        }
        // Kept for whoever looks at the failure.
        drop(directory.keep());
    }
}

/// The parameters of a cluster's network: the defaults, but for the time between blocks.
#[must_use]
pub fn params() -> ParamsEntry {
    ParamsEntry {
        block_interval_ms: INTERVAL.as_millis().try_into().expect("fits"),
        ..ParamsEntry::default()
    }
}

fn validator(ports: Ports) -> ValidatorOptions {
    ValidatorOptions {
        validator_key: format!("keys/{}", keys::VALIDATOR_KEY).into(),
        network_key: format!("keys/{}", keys::NETWORK_KEY).into(),
        listen: format!("/ip4/127.0.0.1/tcp/{}", ports.mesh),
        batch_delay_ms: 5,
        guard_dir: None,
        wal_dir: None,
        status_interval_ms: 0,
    }
}

fn options(ports: Ports, validator: Option<ValidatorOptions>) -> NodeOptions {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    NodeOptions {
        home: "home".into(),
        genesis: "../genesis.toml".into(),
        check_threads: 1,
        validator,
        follow: None,
        grpc: GrpcOptions {
            listen: loopback(ports.grpc),
            quota: QuotaOptions::default(),
            ..GrpcOptions::default()
        },
        http: HttpOptions { listen: loopback(ports.http), insecure: false },
        log: LogOptions { filter: "warn,lockstep=debug".to_owned(), ..LogOptions::default() },
        faults: FaultOptions::default(),
        chain_rpc: Vec::new(),
    }
}

/// The program under test: `LOCKSTEP_BIN`, else the one beside the tests' own directory.
#[must_use]
pub fn program() -> PathBuf {
    let program = env::var_os("LOCKSTEP_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let own = env::current_exe().expect("a path");
        own.ancestors().nth(2).unwrap_or(Path::new("/")).join("lockstep")
    });
    assert!(
        program.is_file(),
        "no program at {}: build it, or set LOCKSTEP_BIN",
        program.display()
    );
    program
}

/// Waits until no other cluster runs on this machine.
fn take_turn() -> File {
    let path = env::temp_dir().join("lockstep-scenarios.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.expect("the lock's file is opened");
    file.lock().expect("the lock is taken");
    file
}

/// Three ports for each of so many nodes, all free now.
fn free_ports(nodes: usize) -> Vec<Ports> {
    let mut free = Vec::new();
    let span = u32::from(PORTS.end.saturating_sub(PORTS.start));
    // Another run of the tests begins elsewhere.
    let offset =
        u16::try_from(process::id().wrapping_mul(97).checked_rem(span).unwrap_or_default())
            .unwrap_or_default();
    let first = PORTS.start.saturating_add(offset);
    let mut candidates = (first..PORTS.end).chain(PORTS.start..first);
    let mut next =
        || candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    while free.len() < nodes {
        let mut port = || next().expect("free ports");
        free.push(Ports { mesh: port(), grpc: port(), http: port() });
    }
    free
}
