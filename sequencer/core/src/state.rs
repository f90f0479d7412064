//! What assembly needs of the blocks before: lane positions, budgets, registry, validator sets, votes, missed turns.
//!
//! `state_hash` commits to all of it. The dedup window is not in it: it follows from the last minute's blocks.

use alloy_primitives::{Address, B256};
use alloy_rlp::{Encodable, RlpDecodable, RlpEncodable};

use crate::cut::{Cut, LanePosition};
use crate::encoding::{self, Canonical, tag};
use crate::params::{ChainParams, Genesis, NetworkParams};
use crate::types::{BlockHash, ChainId, Height, NetworkId, UnixMillis};
use crate::validator_set::ValidatorSet;

/// A chain and what is left of its budget.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct ChainState {
    /// The registered chain.
    pub params: ChainParams,
    /// Gas left in its bucket, `0..=gas_capacity`.
    pub gas: u64,
    /// Bytes left in its bucket, `0..=bytes_capacity`.
    pub bytes: u64,
}

/// A governance vote under way. None exist in this version; the field is reserved.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct PendingVote {
    /// Hash of the proposal.
    pub proposal: B256,
    /// Who voted for it, in ascending order.
    pub voters: Vec<Address>,
    /// When it lapses.
    pub expires: UnixMillis,
}

/// A validator that missed turns in a row. None exist in this version; the field is reserved.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct MissedTurns {
    /// The validator.
    pub validator: Address,
    /// How many turns in a row.
    pub count: u32,
}

/// What `state_hash` commits to. RLP in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Committed {
    /// Lane positions, in ascending order of owner: exactly the lanes of the next height's set.
    pub lanes: Vec<LanePosition>,
    /// Bytes that each of these lanes added for nothing, less what it was forgiven ([`waste`](crate::waste)).
    pub wasted: Vec<u64>,
    /// Registered chains with their budgets, in ascending order of id.
    pub chains: Vec<ChainState>,
    /// Network parameters.
    pub params: NetworkParams,
    /// The set that decides the next height.
    pub validators: ValidatorSet,
    /// The set that decides the height after the next.
    pub next_validators: ValidatorSet,
    /// First height that `validators` decides without a change since.
    pub set_since: Height,
    /// Governance votes under way; empty.
    pub votes: Vec<PendingVote>,
    /// Validators that missed turns, in ascending order; empty.
    pub missed: Vec<MissedTurns>,
}

impl Canonical for Committed {}

/// The log's state after a block, and which block that is.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct State {
    /// The network.
    pub network_id: NetworkId,
    /// The block's height; 0 at the genesis.
    pub height: Height,
    /// The block's hash; the network id at the genesis.
    pub head: BlockHash,
    /// The block's time; the genesis' time at the genesis.
    pub timestamp: UnixMillis,
    /// What the block's header commits to.
    pub committed: Committed,
}

impl Canonical for State {}

impl Committed {
    /// Hash that the header commits to.
    #[must_use]
    pub fn hash(&self) -> B256 {
        let mut bytes = Vec::with_capacity(self.length());
        self.encode(&mut bytes);
        encoding::hash(tag::STATE, &[&bytes])
    }

    /// The registered chain with this id.
    #[must_use]
    pub fn chain(&self, id: ChainId) -> Option<&ChainState> {
        let place = self.chains.binary_search_by_key(&id, |chain| chain.params.id).ok()?;
        self.chains.get(place)
    }
}

impl State {
    /// The state before height 1. Buckets are full.
    #[must_use]
    pub fn genesis(genesis: &Genesis) -> Self {
        let network_id = genesis.network_id();
        let chains = genesis
            .chains
            .iter()
            .map(|params| ChainState {
                gas: params.gas_capacity(),
                bytes: params.bytes_capacity(),
                params: params.clone(),
            })
            .collect();
        Self {
            network_id,
            height: Height::GENESIS,
            head: BlockHash(network_id.0),
            timestamp: genesis.timestamp,
            committed: Committed {
                lanes: Cut::start(&genesis.validators).lanes,
                wasted: vec![0; genesis.validators.len()],
                chains,
                params: genesis.params.clone(),
                validators: genesis.validators.clone(),
                next_validators: genesis.validators.clone(),
                set_since: Height(1),
                votes: Vec::new(),
                missed: Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
