//! op-conductor: one beside each op-node of a chain with a standby. They agree by raft on whose turn it is, and start and stop
//! the op-nodes.
//!
//! A conductor asks the sidecar's port for operators for health and for blocks, as an operator is told to
//! (`deploy/runbooks/join-a-chain.md`). The group is made as op-conductor's own runbook says: the first member begins it and is
//! paused, its op-node is started by hand, the other joins, the first one goes on.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::l1::{shown, words};
use super::peers::Peers;
use super::rollup::{Rollup, Side};
use crate::json_rpc::{CallError, JsonRpc};
use crate::process::Program;

/// How old an op-node's newest block may be, in seconds, before its conductor calls it unhealthy.
pub const UNSAFE_INTERVAL_SECONDS: u64 = 8;

/// An op-conductor and its ports on 127.0.0.1.
#[derive(Clone, Debug)]
pub struct Conductor {
    /// Its name in the group.
    pub id: &'static str,
    rpc: JsonRpc,
    raft_port: u16,
    begins: bool,
}

/// What a conductor says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conducted {
    /// Whether it is its op-node's turn.
    pub is_leader: bool,
    /// Whether it takes what it watches for healthy.
    pub is_healthy: bool,
    /// Whether its op-node makes blocks.
    pub is_active: bool,
}

#[derive(Deserialize)]
struct Member {
    id: String,
}

#[derive(Deserialize)]
struct Members {
    servers: Vec<Member>,
}

impl Conductor {
    /// The conductor with the two ports from `first` on; one of a group begins it.
    pub(super) fn new(id: &'static str, first: u16, begins: bool) -> Self {
        let rpc = JsonRpc::new(&format!("http://127.0.0.1:{first}"));
        Self { id, rpc, raft_port: first.saturating_add(1), begins }
    }

    /// Its JSON-RPC, which also passes calls on to op-node and engine while it leads.
    #[must_use]
    pub const fn rpc(&self) -> &JsonRpc {
        &self.rpc
    }

    /// Where the others of the group find it.
    #[must_use]
    pub fn raft_address(&self) -> String {
        format!("127.0.0.1:{}", self.raft_port)
    }

    fn rpc_port(&self) -> u16 {
        self.raft_port.saturating_sub(1)
    }

    async fn says(&self, method: &str) -> Result<bool, CallError> {
        self.rpc.call(method, json!([])).await
    }

    /// How it and its op-node do.
    ///
    /// # Errors
    /// If one of them does not answer.
    pub async fn look(&self, side: &Side) -> Result<Conducted, CallError> {
        Ok(Conducted {
            is_leader: self.says("conductor_leader").await?,
            is_healthy: self.says("conductor_sequencerHealthy").await?,
            is_active: side.node().call("admin_sequencerActive", json!([])).await?,
        })
    }

    /// Hands leadership to another one of the group.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn transfer_leader(&self) -> Result<(), CallError> {
        self.rpc.call::<Value>("conductor_transferLeader", json!([])).await.map(drop)
    }

    /// One step on the way to a group in which `first`'s op-node makes blocks; to be called until it is true.
    ///
    /// # Errors
    /// If a step was too early: it is taken again by the next call.
    pub(super) async fn gather(&self, first: &Side, other: &Self) -> Result<bool, CallError> {
        if !self.says("conductor_leader").await? {
            return Ok(false);
        }
        let active: bool = first.node().call("admin_sequencerActive", json!([])).await?;
        if !active {
            let head = first.heads().await?.unsafe_head.hash;
            let _: Value = first.node().call("admin_startSequencer", json!([head])).await?;
        }
        let members: Members = self.rpc.call("conductor_clusterMembership", json!([])).await?;
        if !members.servers.iter().any(|member| member.id == other.id) {
            let joins = json!([other.id, other.raft_address(), 0]);
            let _: Value = self.rpc.call("conductor_addServerAsVoter", joins).await?;
        }
        if !self.says("conductor_sequencerHealthy").await? {
            return Ok(false);
        }
        let _: Value = self.rpc.call("conductor_resume", json!([])).await?;
        Ok(!self.says("conductor_paused").await?)
    }
}

/// op-node's options for a conductor: it stands still until it is told, and has each block agreed on.
pub(super) fn node_arguments(conductor: &Conductor) -> [String; 2] {
    ["--conductor.enabled".to_owned(), format!("--conductor.rpc={}", conductor.rpc.url())]
}

/// The program beside a side, if there is one.
pub(super) fn program(rollup: &Rollup, peers: &Peers, logs: &Path, side: &Side) -> Option<Program> {
    let conductor = side.conductor.as_ref()?;
    let directory: PathBuf = side.directory().join("op-conductor");
    let mut arguments = words(&[
        "--consensus.addr=127.0.0.1",
        "--rpc.addr=127.0.0.1",
        "--rollup-boost.enabled",
        "--healthcheck.interval=1",
        "--healthcheck.min-peer-count=1",
    ]);
    arguments.extend([
        format!("--consensus.port={}", conductor.raft_port),
        format!("--rpc.port={}", conductor.rpc_port()),
        format!("--raft.server.id={}", conductor.id),
        format!("--raft.storage.dir={}", shown(&directory)),
        format!("--healthcheck.unsafe-interval={UNSAFE_INTERVAL_SECONDS}"),
        format!("--node.rpc={}", side.node().url()),
        format!("--execution.rpc=http://127.0.0.1:{}", side.ports.health),
        format!("--rollup.config={}", shown(&rollup.config_file())),
    ]);
    if conductor.begins {
        arguments.push("--raft.bootstrap".to_owned());
    }
    let name = side.process("op-conductor");
    let log = logs.join(format!("{name}.log"));
    Some(Program { name, file: peers.file("op-conductor"), arguments, log, home: None })
}
