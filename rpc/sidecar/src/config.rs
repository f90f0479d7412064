//! The sidecar's options, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use lockstep_core::params::Genesis;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::ChainId;
use lockstep_execution::jwt::Secret;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::quota::QuotaConfig;

/// In front of which op-node the sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A sequencer: its jobs are filled from the log.
    Sequencing,
    /// A replica: what gossip brings is compared with the log.
    Verifying,
}

/// What a chain does while the committee is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenSilent {
    /// It makes no block until the log goes on.
    Halt,
    /// It makes closed blocks, of deposits only; what the log has is offered later.
    DepositsOnly,
}

/// The debug switch, as operators know it from rollup-boost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Jobs are filled from the log.
    Enabled,
    /// Jobs pass through; what would have been offered is counted.
    DryRun,
    /// Jobs pass through.
    Disabled,
}

impl ExecutionMode {
    /// The mode's name in the debug API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::DryRun => "dry_run",
            Self::Disabled => "disabled",
        }
    }

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Enabled, Self::DryRun, Self::Disabled].into_iter().find(|mode| mode.name() == name)
    }
}

/// The wallets' port.
#[derive(Clone, Debug)]
pub struct Public {
    /// Where wallets call.
    pub listen: SocketAddr,
    /// The engine's public JSON-RPC over HTTP.
    pub rpc_url: String,
    /// The engine's public JSON-RPC over WebSocket, if it has one.
    pub ws_url: Option<String>,
    /// Signs what is admitted; a gateway of the chain, if it has any.
    pub gateway: SigningKey,
    /// What one client may submit.
    pub quota: QuotaConfig,
}

/// All options.
#[derive(Debug)]
pub struct Config {
    /// The chain.
    pub chain: ChainId,
    /// The network.
    pub genesis: Genesis,
    /// The committee's nodes, 1..=[`ENDPOINTS_MAX`](crate::limits::ENDPOINTS_MAX).
    pub endpoints: Vec<Endpoint>,
    /// Where op-node calls.
    pub listen: SocketAddr,
    /// The secret of op-node.
    pub secret: Secret,
    /// The engine's authenticated endpoint.
    pub engine_url: String,
    /// The engine's secret.
    pub engine_secret: Secret,
    /// Where `/healthz`, `/readyz`, `/metrics`, the debug switch and the batcher's throttling are.
    pub http_listen: SocketAddr,
    /// The wallets' port, if there is one.
    pub public: Option<Public>,
    /// Signs records; `None` in front of a replica.
    pub sequencer: Option<SigningKey>,
    /// In front of which op-node it is.
    pub role: Role,
    /// What to do while the committee is silent.
    pub when_silent: WhenSilent,
    /// Where what is known is kept between starts.
    pub data: PathBuf,
}
