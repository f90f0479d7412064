//! What an engine is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use lockstep_core::types::NetworkId;

use crate::gate::Peers;
use crate::signing::ConsensusSigner;

/// Heights of one sync request, ours or a peer's.
pub const SYNC_HEIGHTS_MAX: u64 = 100;

/// What an engine is started with. What may change with a height is in [`crate::StartHeight`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The network; all signatures are bound to it.
    pub network: NetworkId,
    /// The node's name in logs.
    pub moniker: String,
    /// The write-ahead log's file. One engine at a time holds its lock. A follower uses the same path with
    /// `.follower` behind it, so that what a validator has signed stays on record while it follows.
    pub wal_path: PathBuf,
    /// Voting or not.
    pub mode: Mode,
    /// How decided values are exchanged.
    pub sync: SyncOptions,
    /// The validators behind the peers: a vote is taken from its own validator alone.
    pub peers: Peers,
    /// How many heights a second has at most: what a peer may send follows from it.
    pub heights_per_second: u64,
}

/// Whether the node votes.
#[derive(Clone)]
pub enum Mode {
    /// Votes and proposes at the heights whose set has `address`; follows at the others.
    Validator {
        /// The validator.
        address: Address,
        /// Who signs for it.
        signer: Arc<dyn ConsensusSigner>,
    },
    /// Receives everything, decides with the others, serves sync, and never signs.
    Follower,
}

impl std::fmt::Debug for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Validator { address, .. } => write!(f, "Validator({address})"),
            Self::Follower => f.write_str("Follower"),
        }
    }
}

/// How decided values are exchanged. It is the sender's interval that decides how soon a peer that is behind knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// How often peers are told which heights we hold; zero is after every commit, and each second. Default zero.
    pub status_interval: Duration,
    /// How long a request may take before another peer is asked, at least 1 ms. Default 1 s.
    pub request_timeout: Duration,
    /// Heights per request, 1..=[`SYNC_HEIGHTS_MAX`]. A response holds as many of them as fit in
    /// [`lockstep_core::limits::SYNC_RESPONSE_BYTES_MAX`]. Default 5.
    pub batch: usize,
    /// Requests at a time, 1..=16. Default 5.
    pub parallel: usize,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            status_interval: Duration::ZERO,
            request_timeout: Duration::from_secs(1),
            batch: 5,
            parallel: 5,
        }
    }
}
