//! Starting, stopping and watching the nodes of one network.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_core::signing::SigningKey;
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_engine::{
    Config, EngineHandle, Mode, Peers, StartError, SyncOptions, Transport, start,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{App, NETWORK, Store, TestSigner};
use crate::router::{Router, peer};

/// No scenario waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) struct Node {
    pub(crate) place: usize,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) signer: Arc<TestSigner>,
    pub(crate) wal_path: PathBuf,
    /// While it does not run.
    pub(crate) transport: Option<Transport>,
    /// While it runs.
    pub(crate) handle: Option<EngineHandle>,
    app: Option<JoinHandle<()>>,
}

pub(crate) struct Cluster {
    pub(crate) router: Router,
    pub(crate) nodes: Vec<Node>,
    pub(crate) validators: ValidatorSet,
    pub(crate) sync: SyncOptions,
    _folder: TempDir,
}

impl Cluster {
    /// Nodes that are linked but do not run yet.
    pub(crate) async fn new(count: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut keys: Vec<_> =
            (1..=count).map(|i| SigningKey::from_bytes([i; 32]).unwrap()).collect();
        keys.sort_by_key(SigningKey::address);
        let validators = keys.iter().map(|key| Validator {
            address: key.address(),
            public_key: key.public_key(),
            power: 1,
            network_address: String::new(),
        });
        let validators = ValidatorSet::new(validators.collect()).unwrap();
        let router = Router::default();
        let mut nodes = Vec::new();
        for key in keys {
            let (place, transport) = router.add();
            router.link(place).await;
            let signer = TestSigner { key, refuse_from: Mutex::default(), votes: Mutex::default() };
            nodes.push(Node {
                place,
                store: Store::new(),
                signer: Arc::new(signer),
                wal_path: folder.path().join(format!("{place}.wal")),
                transport: Some(transport),
                handle: None,
                app: None,
            });
        }
        Self { router, nodes, validators, sync: SyncOptions::default(), _folder: folder }
    }

    /// Starts all nodes as validators.
    pub(crate) async fn start_all(&mut self) {
        for place in 0..self.nodes.len() {
            self.start(place).await;
        }
    }

    pub(crate) async fn start(&mut self, place: usize) {
        let mode = self.validator(place);
        self.start_as(place, mode).await.unwrap();
    }

    /// The validators behind all peers.
    fn peers(&self) -> Peers {
        let of = |node: &Node| (peer(node.place), node.signer.key.address());
        Arc::new(self.nodes.iter().map(of).collect())
    }

    pub(crate) fn validator(&self, place: usize) -> Mode {
        let signer = self.nodes[place].signer.clone();
        Mode::Validator { address: signer.key.address(), signer }
    }

    pub(crate) async fn start_as(&mut self, place: usize, mode: Mode) -> Result<(), StartError> {
        let config = Config {
            network: NETWORK,
            moniker: format!("node-{place}"),
            wal_path: self.nodes[place].wal_path.clone(),
            mode,
            sync: self.sync,
            peers: self.peers(),
            heights_per_second: 250,
        };
        let node = &mut self.nodes[place];
        let (handle, requests) = start(config, node.transport.take().unwrap()).await?;
        let me = node.signer.key.address();
        let app = App::new(node.store.clone(), self.validators.clone(), me, handle.clone());
        node.app = Some(tokio::spawn(app.run(requests)));
        node.handle = Some(handle);
        Ok(())
    }

    /// Stops a node; its links stay.
    pub(crate) async fn stop(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let handle = node.handle.take().unwrap();
        node.transport = Some(handle.stop().await.unwrap());
        // The requests end with the engine, and the application with them.
        timeout(DEADLINE, node.app.take().unwrap()).await.unwrap().unwrap();
    }

    /// Waits until a node has decided `height`.
    pub(crate) async fn decided(&self, place: usize, height: u64) {
        let mut tip = self.nodes[place].store.lock().unwrap().tip.subscribe();
        let reached = timeout(DEADLINE, tip.wait_for(|tip| *tip >= height)).await;
        let failure = self.nodes[place].handle.as_ref().and_then(EngineHandle::failure);
        assert!(reached.is_ok(), "node {place} did not reach {height}: {failure:?}");
    }

    pub(crate) async fn all_decided(&self, height: u64) {
        for node in &self.nodes {
            self.decided(node.place, height).await;
        }
    }

    /// No two nodes decided different blocks at a height.
    pub(crate) fn check_agreement(&self) {
        let first = self.nodes[0].store.lock().unwrap();
        for node in &self.nodes[1..] {
            let other = node.store.lock().unwrap();
            for (height, (bytes, certificate)) in &other.decided {
                if let Some((first_bytes, first_certificate)) = first.decided.get(height) {
                    assert_eq!(first_bytes, bytes, "height {height}");
                    assert_eq!(first_certificate.block, certificate.block, "height {height}");
                }
            }
        }
    }

    /// Nobody signed two votes for one (height, round, kind).
    pub(crate) fn check_no_double_vote(&self) {
        for node in &self.nodes {
            let votes = node.signer.votes.lock().unwrap();
            for (i, a) in votes.iter().enumerate() {
                let twin = votes[i + 1..].iter().find(|b| {
                    (a.height, a.round, a.vote_type) == (b.height, b.round, b.vote_type)
                        && a.block != b.block
                });
                assert_eq!(twin, None, "node {} also signed {a:?}", node.place);
            }
        }
    }
}
