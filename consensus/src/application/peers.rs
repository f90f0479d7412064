//! Which validators there are on the mesh, and which of them can be sent to. The one place that maps a peer to a validator.
//!
//! The validator set itself is the state's; whoever needs it takes it from there.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::validator_set::ValidatorSet;

/// The other validators.
#[derive(Clone, Debug)]
pub struct Peers {
    me: Address,
    validators: BTreeMap<PeerId, Address>,
    up: BTreeSet<PeerId>,
}

impl Peers {
    /// All of these, and none of them up.
    #[must_use]
    pub const fn new(me: Address, validators: BTreeMap<PeerId, Address>) -> Self {
        Self { me, validators, up: BTreeSet::new() }
    }

    /// The peer can be sent to from now on. Strangers are ignored.
    pub fn up(&mut self, peer: PeerId) {
        if self.validators.contains_key(&peer) {
            self.up.insert(peer);
        }
    }

    /// It can't any more.
    pub fn down(&mut self, peer: PeerId) {
        self.up.remove(&peer);
    }

    /// Whether it can be sent to.
    #[must_use]
    pub fn is_up(&self, peer: PeerId) -> bool {
        self.up.contains(&peer)
    }

    /// Peers that can be sent to, in ascending order.
    pub fn all_up(&self) -> impl Iterator<Item = PeerId> {
        self.up.iter().copied()
    }

    /// How many can be sent to.
    #[must_use]
    pub fn count_up(&self) -> usize {
        self.up.len()
    }

    /// Whose peer it is.
    #[must_use]
    pub fn validator(&self, peer: PeerId) -> Option<Address> {
        self.validators.get(&peer).copied()
    }

    /// The validator's peer.
    #[must_use]
    pub fn peer_of(&self, validator: Address) -> Option<PeerId> {
        self.validators.iter().find(|(_, address)| **address == validator).map(|(peer, _)| *peer)
    }

    /// Validators that can be sent to.
    #[must_use]
    pub fn validators_up(&self) -> BTreeSet<Address> {
        self.up.iter().filter_map(|peer| self.validator(*peer)).collect()
    }

    /// Whether this validator and those that are up are a quorum of `set`.
    #[must_use]
    pub fn has_quorum(&self, set: &ValidatorSet) -> bool {
        let power_of = |address| set.get(address).map_or(0, |validator| validator.power);
        let others = self.validators_up().into_iter().map(power_of);
        set.is_quorum(others.fold(power_of(self.me), u64::saturating_add))
    }
}
