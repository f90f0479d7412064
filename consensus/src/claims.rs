//! What other validators claim of their heights, and what follows from it.
//!
//! A claim is not proved and may lie in either direction, so no rule here trusts fewer than more than a third of the
//! voting power: among those is an honest validator. Nothing here decides what is valid.
//!
//! | question | rule |
//! |---|---|
//! | how far is the log? | the highest height that more than 1/3 of the power claims to have reached |
//! | is the network at its genesis? | a quorum, this node among it, claims to have decided nothing |
//! | may somebody know better? | a connected validator claims a height: see [`CONTEST_PATIENCE`] |
//! | is there something to sync? | a connected validator claims a later height |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::types::Height;
use lockstep_core::validator_set::ValidatorSet;
use lockstep_engine::EngineHandle;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::ledger::Ledger;

/// How long a quorum's claim to be at the genesis waits for another validator that claims a height: if that is true, value
/// sync brings height 1 with its certificate meanwhile. A liar delays a first start by this, once.
const CONTEST_PATIENCE: Duration = Duration::from_secs(10);
/// How often a node at its genesis says so, and looks at what the others say.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What follows from the claims of the validators that are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The log has this height at least, unless more than a third of the power lies.
    pub(crate) reached: Height,
    /// The highest that any of them claims: worth no more than to ask for it.
    pub(crate) highest: Height,
    /// The network is at its genesis: a fresh guard may sign height 1.
    pub(crate) may_begin: bool,
}

/// Whether a quorum claims to be at the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Genesis {
    /// No quorum claims it.
    Unknown,
    /// A quorum does, and another connected validator claims a height.
    Contested,
    /// A quorum does, and no connected validator claims a height.
    Agreed,
}

/// The height that each connected validator claims to have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claims(BTreeMap<Address, Height>);

impl Claims {
    /// The highest height that more than a third of the power claims to have reached; the genesis if there is none.
    fn reached(&self, set: &ValidatorSet) -> Height {
        let mut claims: Vec<(Height, u64)> = self
            .0
            .iter()
            .filter_map(|(address, height)| Some((*height, set.get(*address)?.power)))
            .collect();
        claims.sort_unstable();
        let mut power = 0u64;
        for (height, of_one) in claims.into_iter().rev() {
            power = power.saturating_add(of_one);
            if set.is_third(power) {
                return height;
            }
        }
        Height::GENESIS
    }

    /// The highest height that a validator claims.
    fn highest(&self, set: &ValidatorSet) -> Height {
        let of_validators = self.0.iter().filter(|(address, _)| set.get(**address).is_some());
        of_validators.map(|(_, height)| *height).max().unwrap_or(Height::GENESIS)
    }

    /// Whether a quorum with `me`, which is at the genesis, claims to be there.
    fn genesis(&self, set: &ValidatorSet, me: Address) -> Genesis {
        let power_of = |address| set.get(address).map_or(0, |validator| validator.power);
        let at_genesis = self.0.iter().filter(|(_, height)| **height == Height::GENESIS);
        let others: u64 = at_genesis.map(|(address, _)| power_of(*address)).sum();
        if !set.is_quorum(others.saturating_add(power_of(me))) {
            return Genesis::Unknown;
        }
        match self.0.values().any(|height| *height > Height::GENESIS) {
            true => Genesis::Contested,
            false => Genesis::Agreed,
        }
    }
}

/// Whether a fresh guard may sign, given for how long a quorum has claimed to be at the genesis.
fn may_begin(genesis: Genesis, held_for: Duration) -> bool {
    match genesis {
        Genesis::Unknown => false,
        Genesis::Contested => held_for >= CONTEST_PATIENCE,
        Genesis::Agreed => true,
    }
}

/// The other validators by their identity on the mesh.
pub(crate) type Peers = Arc<BTreeMap<PeerId, Address>>;

/// Keeps `standing` up to date for one engine, and claims the genesis while this node is there. Runs until it is dropped.
pub(crate) async fn watch(
    engine: EngineHandle,
    (peers, me): (Peers, Address),
    ledger: Arc<Ledger>,
    standing: watch::Sender<Standing>,
) {
    let mut heights = engine.heights();
    let mut up = engine.peers();
    let mut tick = interval(LOOK_INTERVAL);
    let mut held_since: Option<Instant> = None;
    loop {
        let state = ledger.state();
        let claims: BTreeMap<Address, Height> = heights
            .borrow_and_update()
            .iter()
            .filter_map(|(peer, height)| Some((*peers.get(peer)?, *height)))
            .collect();
        let claims = Claims(claims);
        let set = &state.committed.validators;
        let (reached, highest) = (claims.reached(set), claims.highest(set));
        let mut now = Standing { reached, highest, may_begin: false };
        if state.height == Height::GENESIS {
            engine.claim_genesis();
            let genesis = claims.genesis(set, me);
            held_since = match genesis {
                Genesis::Unknown => None,
                Genesis::Contested | Genesis::Agreed => held_since.or_else(|| Some(Instant::now())),
            };
            let held_for = held_since.map(|since| since.elapsed()).unwrap_or_default();
            now.may_begin = may_begin(genesis, held_for);
        }
        standing.send_if_modified(|standing| std::mem::replace(standing, now) != now);
        tokio::select! {
            _ = tick.tick() => {}
            Ok(()) = heights.changed() => {}
            Ok(()) = up.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::signing::SigningKey;
    use lockstep_core::validator_set::Validator;

    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes([n; 32]).unwrap()
    }

    /// Validators 1, 2, … with these powers.
    fn set(powers: &[u64]) -> ValidatorSet {
        let mut validators: Vec<Validator> = (1u8..)
            .zip(powers)
            .map(|(n, power)| Validator {
                address: key(n).address(),
                public_key: key(n).public_key(),
                power: *power,
                network_address: String::new(),
            })
            .collect();
        validators.sort_by_key(|validator| validator.address);
        ValidatorSet::new(validators).unwrap()
    }

    fn claims(of: &[(u8, u64)]) -> Claims {
        Claims(of.iter().map(|(n, height)| (key(*n).address(), Height(*height))).collect())
    }

    #[test]
    fn height_is_reached_if_more_than_a_third_of_the_power_claims_it() {
        let four = set(&[1, 1, 1, 1]);
        let reached = |of: &[(u8, u64)]| claims(of).reached(&four);
        assert_eq!(reached(&[]), Height::GENESIS);
        assert_eq!(reached(&[(2, 1_000_000)]), Height::GENESIS, "one liar of four");
        assert_eq!(reached(&[(2, 1_000_000), (3, 40), (4, 41)]), Height(41));
        assert_eq!(
            reached(&[(2, 0), (3, 40), (4, 41)]),
            Height(40),
            "a liar in the other direction"
        );
        assert_eq!(reached(&[(9, 80), (8, 80), (4, 41)]), Height::GENESIS, "no validators");
        let three = set(&[1, 1, 1]);
        assert_eq!(claims(&[(2, 70)]).reached(&three), Height::GENESIS, "a third is not more");
        let heavy = set(&[1, 5, 1, 1]);
        assert_eq!(claims(&[(2, 70), (3, 80), (4, 80)]).reached(&heavy), Height(70));
    }

    #[test]
    fn highest_is_what_any_validator_claims() {
        let four = set(&[1, 1, 1, 1]);
        assert_eq!(claims(&[]).highest(&four), Height::GENESIS);
        assert_eq!(
            claims(&[(2, 5), (3, 7), (9, 80)]).highest(&four),
            Height(7),
            "9 is no validator"
        );
    }

    #[test]
    fn genesis_needs_a_quorum_that_claims_it_and_this_node_counts() {
        let four = set(&[1, 1, 1, 1]);
        let genesis = |of: &[(u8, u64)]| claims(of).genesis(&four, key(1).address());
        assert_eq!(genesis(&[]), Genesis::Unknown);
        assert_eq!(genesis(&[(2, 0)]), Genesis::Unknown);
        assert_eq!(genesis(&[(2, 0), (9, 0)]), Genesis::Unknown, "no validator");
        assert_eq!(genesis(&[(2, 0), (3, 0)]), Genesis::Agreed);
        assert_eq!(genesis(&[(2, 0), (3, 0), (4, 0)]), Genesis::Agreed);
        assert_eq!(genesis(&[(2, 0), (3, 0), (4, 1)]), Genesis::Contested);
        assert_eq!(
            genesis(&[(2, 0), (3, 5), (4, 5)]),
            Genesis::Unknown,
            "a liar in a network that runs"
        );
        let alone = set(&[1]);
        assert_eq!(claims(&[]).genesis(&alone, key(1).address()), Genesis::Agreed);
        let heavy = set(&[1, 1, 1, 9]);
        assert_eq!(claims(&[(2, 0), (3, 0)]).genesis(&heavy, key(1).address()), Genesis::Unknown);
    }

    #[test]
    fn one_claim_of_a_height_delays_a_first_start_and_does_not_stop_it() {
        let just_before = CONTEST_PATIENCE - Duration::from_millis(1);
        assert!(may_begin(Genesis::Agreed, Duration::ZERO));
        assert!(!may_begin(Genesis::Contested, just_before));
        assert!(may_begin(Genesis::Contested, CONTEST_PATIENCE));
        assert!(!may_begin(Genesis::Unknown, CONTEST_PATIENCE * 100));
    }
}
