//! What a world is asked to be.

use std::path::PathBuf;

use alloy_primitives::Address;
use eyre::WrapErr as _;

use super::peers::Peers;
use super::rollup::ChainOptions;
use super::sidecar::WhenSilent;

/// Whether the chains have replicas, and how those are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verifiers {
    /// There are none.
    #[default]
    None,
    /// A stock op-node before a stock op-geth.
    Stock,
    /// The same with a verifying sidecar between the two.
    Checked,
    /// Not a replica, but a sequencer that waits for its turn: op-node, sidecar and op-geth.
    Standby,
    /// The same with an op-conductor beside each op-node, and the turns are theirs to decide.
    Conducted,
}

/// How op-geth keeps states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateScheme {
    /// By hash, all of them: after a `kill -9` it still has its newest blocks but one or two.
    #[default]
    Hash,
    /// By path, op-geth's default: after a `kill -9` it lacks the states of its newest hundred blocks.
    Path,
}

impl StateScheme {
    /// Its option of op-geth.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Hash => "--state.scheme=hash",
            Self::Path => "--state.scheme=path",
        }
    }

    /// Its option of op-geth for old states.
    pub(super) const fn collection_flag(self) -> &'static str {
        match self {
            Self::Hash => "--gcmode=archive",
            Self::Path => "--gcmode=full",
        }
    }
}

/// What a world has.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of everything; it is created, or must be a devnet's.
    pub directory: PathBuf,
    /// Whether the data is kept at the end; for a world without rollups only.
    pub keep: bool,
    /// How many validators, 1..=100.
    pub validators: u16,
    /// The chains.
    pub chains: Vec<ChainOptions>,
    /// The programs that build the chains; `None`: the log alone, and the chains are open.
    pub peers: Option<Peers>,
    /// Replicas of the chains.
    pub verifiers: Verifiers,
    /// First port; `None`: the first of a few bases with free ports.
    pub base_port: Option<u16>,
    /// The `lockstep` program.
    pub lockstep: PathBuf,
    /// Accounts that get a million ETH on L1 and on each chain, beside [`users`](super::accounts::users).
    pub funded: Vec<Address>,
    /// What sidecars do while the committee is silent.
    pub when_silent: WhenSilent,
    /// How engines keep states.
    pub state_scheme: StateScheme,
}

impl Options {
    /// Four validators and chains 901 and 902 with blocks of two seconds.
    #[must_use]
    pub fn new(directory: PathBuf, lockstep: PathBuf, peers: Option<Peers>) -> Self {
        let chain = |id| ChainOptions { id, block_time_seconds: 2 };
        Self {
            directory,
            keep: false,
            validators: 4,
            chains: [901, 902].map(chain).into(),
            peers,
            verifiers: Verifiers::None,
            base_port: None,
            lockstep,
            funded: Vec::new(),
            when_silent: WhenSilent::default(),
            state_scheme: StateScheme::default(),
        }
    }

    /// One block of ports for the L1, two for each chain, one more for a chain's conductors.
    pub(super) fn port_blocks(&self) -> eyre::Result<u16> {
        if self.peers.is_none() {
            return Ok(0);
        }
        let chains = u16::try_from(self.chains.len()).wrap_err("counting chains")?;
        let per_chain = if self.verifiers == Verifiers::Conducted { 3 } else { 2 };
        Ok(chains.saturating_mul(per_chain).saturating_add(1))
    }
}
