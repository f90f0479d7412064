//! Finds items that cannot be valid before the engine is asked: each refusal costs it a full execution of what comes
//! before. What is said here is certain; everything else is the engine's to judge, so the block is the same without it.
//!
//! Certain are four things about an offer on one parent. A nonce below the sender's never becomes good. One above the
//! sender's next is a gap, unless something in the block may raise the nonce otherwise: a deposit of the sender, an
//! authorization (EIP-7702), or code at the sender's address. A fee cap below the block's base fee never pays, and some
//! transactions are bad in any state.
//!
//! What the engine refuses is absent, too, so what depends on it is found by the same rules: the sender's later nonces
//! are gaps then, and a sender costs one refusal, however many items it has.
//!
//! What is likely but not certain is guessed, and proven by the block: see [`Guess`].

mod fees;
mod guess;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, Bytes, U256};
use lockstep_core::deposit::Deposit;
use lockstep_core::params::ChainKind;
use lockstep_core::transaction;
use lockstep_core::types::ChainId;
use lockstep_core::window::Offered;

pub use fees::Fees;
pub use guess::{Ending, Guess, Guessing, accounts};
use lockstep_execution::gas::gas_min;

/// Transactions of an offer that are looked at, the first ones: what is behind them is the engine's to judge.
const TRANSACTIONS_MAX: usize = 2_000;
/// What the rules need of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    sender: Address,
    nonce: u64,
    fee: u128,
    authorities: Vec<Address>,
    /// Who gets `value`, in wei; `None` for a contract creation.
    to: Option<Address>,
    value: U256,
    /// What the sender must have at least, in wei: all of its gas at the fee cap, the value, and what L1 and the operator
    /// ask.
    cost: U256,
    /// Whether it is bad in any state: less gas than it takes before it begins, or a tip above its fee cap.
    is_impossible: bool,
}

/// An account at the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its nonce.
    pub nonce: u64,
    /// Whether it has code.
    pub has_code: bool,
    /// Its balance, in wei.
    pub balance: U256,
}

/// Items to leave out of a build beside those that were refused, by their place in the offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Those that cannot be valid.
    pub hopeless: BTreeSet<usize>,
    /// Those that seem to be bad; the block without them tells whether they are.
    pub guesses: BTreeMap<usize, Guess>,
}

/// The state at the parent, as far as it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Accounts by address.
    pub accounts: BTreeMap<Address, Account>,
    /// Base fee of the block after the parent, in wei per gas; `None` if it is not known.
    pub base_fee: Option<u128>,
}

/// An offer and the state on which its block is built, as far as the rules need them; cheap to clone. The default knows
/// nothing, and leaves everything to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precheck {
    known: Option<Arc<Offer>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Offer {
    facts: Vec<Option<Vec<Facts>>>,
    deposits: Vec<Bytes>,
    state: State,
}

impl Precheck {
    /// What is known of an offer whose items have these facts, behind these deposits, on this state.
    #[must_use]
    pub fn new(facts: Vec<Option<Vec<Facts>>>, deposits: Vec<Bytes>, state: State) -> Self {
        Self { known: Some(Arc::new(Offer { facts, deposits, state })) }
    }

    /// What else is not in the block if it does not hold `refused`. Pure.
    #[must_use]
    pub fn check(&self, refused: &BTreeSet<usize>, guessing: &Guessing) -> Checked {
        let Some(offer) = &self.known else { return Checked::default() };
        let Offer { facts, deposits, state } = offer.as_ref();
        let hopeless = hopeless(facts, refused, deposits, state);
        let absent = refused.union(&hopeless).copied().collect();
        let guesses = guess::guess(facts, deposits, state, &absent);
        Checked { hopeless, guesses: guessing.worthwhile(guesses) }
    }
}

/// Reads the facts of each item's transactions; `None` for an item that cannot be read, and behind the first
/// `TRANSACTIONS_MAX`. Costs 50 µs per transaction.
#[must_use]
pub fn facts(chain: ChainId, items: &[Offered], fees: Fees) -> Vec<Option<Vec<Facts>>> {
    let read = |bytes: &Bytes| {
        let sender = transaction::check(chain, ChainKind::Evm, bytes).ok()?.sender?;
        let envelope = TxEnvelope::decode_2718_exact(bytes).ok()?;
        let authorizations = envelope.authorization_list().unwrap_or_default();
        Some(Facts {
            sender,
            nonce: envelope.nonce(),
            fee: envelope.max_fee_per_gas(),
            authorities: authorizations.iter().filter_map(authority).collect(),
            to: envelope.to(),
            value: envelope.value(),
            cost: U256::from(envelope.gas_limit())
                .saturating_mul(U256::from(envelope.max_fee_per_gas()))
                .saturating_add(envelope.value())
                .saturating_add(fees.least(bytes, envelope.gas_limit())),
            is_impossible: is_impossible(&envelope, fees.has_floor()),
        })
    };
    let mut left = Some(TRANSACTIONS_MAX);
    let read_all = |item: &Offered| {
        let transactions = item.item.item.transactions();
        left = left.and_then(|left| left.checked_sub(transactions.len()));
        left?;
        transactions.iter().map(read).collect()
    };
    items.iter().map(read_all).collect()
}

fn is_impossible(envelope: &TxEnvelope, has_floor: bool) -> bool {
    let tip = envelope.max_priority_fee_per_gas().unwrap_or_default();
    tip > envelope.max_fee_per_gas() || envelope.gas_limit() < gas_min(envelope, has_floor)
}

fn authority(signed: &alloy_eips::eip7702::SignedAuthorization) -> Option<Address> {
    let parity = signed.y_parity();
    let mut bytes = [0u8; 65];
    bytes.get_mut(..32)?.copy_from_slice(&signed.r().to_be_bytes::<32>());
    bytes.get_mut(32..64)?.copy_from_slice(&signed.s().to_be_bytes::<32>());
    *bytes.last_mut()? = parity.checked_add(27)?;
    lockstep_core::signing::recover(
        signed.signature_hash(),
        &lockstep_core::signing::Signature(bytes),
    )
    .ok()
}

/// The items that cannot be valid in a block without `absent`, by their place in the offer. Pure.
#[must_use]
pub fn hopeless(
    facts: &[Option<Vec<Facts>>],
    absent: &BTreeSet<usize>,
    deposits: &[Bytes],
    state: &State,
) -> BTreeSet<usize> {
    let raised = raised_otherwise(facts, absent, deposits);
    let mut next: BTreeMap<Address, u64> = BTreeMap::new();
    let mut hopeless = BTreeSet::new();
    for (index, item) in facts.iter().enumerate().filter(|(index, _)| !absent.contains(index)) {
        // What cannot be read here is the engine's to judge; its sender's later items may depend on it.
        let Some(item) = item else { return hopeless };
        let before = next.clone();
        let is_bad = item.iter().any(|facts| is_hopeless(facts, &raised, state, &mut next));
        if is_bad {
            next = before;
            hopeless.insert(index);
        }
    }
    hopeless
}

/// Senders whose nonce something else than their own items may raise.
fn raised_otherwise(
    facts: &[Option<Vec<Facts>>],
    absent: &BTreeSet<usize>,
    deposits: &[Bytes],
) -> BTreeSet<Address> {
    let depositors =
        deposits.iter().filter_map(|bytes| Deposit::decode(bytes).ok()).map(|deposit| deposit.from);
    let present = facts.iter().enumerate().filter(|(index, _)| !absent.contains(index));
    let authorities = present
        .filter_map(|(_, item)| item.as_ref())
        .flatten()
        .flat_map(|facts| facts.authorities.iter().copied());
    depositors.chain(authorities).collect()
}

fn is_hopeless(
    facts: &Facts,
    raised: &BTreeSet<Address>,
    state: &State,
    next: &mut BTreeMap<Address, u64>,
) -> bool {
    let Some(account) = state.accounts.get(&facts.sender) else {
        return false;
    };
    let is_cheap = state.base_fee.is_some_and(|base_fee| facts.fee < base_fee);
    if facts.is_impossible || is_cheap || facts.nonce < account.nonce {
        return true;
    }
    let expected = next.entry(facts.sender).or_insert(account.nonce);
    let is_certain = !account.has_code && !raised.contains(&facts.sender);
    if facts.nonce != *expected {
        // Below what its own earlier items lead to: those may turn out bad, so the engine judges.
        return is_certain && facts.nonce > *expected;
    }
    *expected = expected.saturating_add(1);
    false
}

/// Who sends, and so whose accounts the rules need.
#[must_use]
pub fn senders(facts: &[Option<Vec<Facts>>]) -> BTreeSet<Address> {
    facts.iter().flatten().flatten().map(|facts| facts.sender).collect()
}

#[cfg(test)]
pub(crate) mod tests;
