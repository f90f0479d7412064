//! Finds items that cannot be valid before the engine is asked: each refusal costs it a full execution of what comes
//! before. What is said here is certain; everything else is the engine's to judge, so the block is the same without it.
//!
//! Certain are four things about an offer on one parent. A nonce below the sender's never becomes good. One above the
//! sender's next is a gap, unless something in the block may raise the nonce otherwise: a deposit of the sender, an
//! authorization (EIP-7702), or code at the sender's address. A fee cap below the block's base fee never pays, and some
//! transactions are bad in any state.
//!
//! Two more are guessed, and the block without these items is the proof ([`guess`], [`unproven`]). A sender seems to lack
//! the money: any earlier item may fill its account, but the balance of an account that has no code and sends nothing only
//! rises within a block, so who lacks it at its end lacked it before. And a nonce is used by an earlier item: that one may
//! be bad, but if the block holds it, the later one is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_core::deposit::Deposit;
use lockstep_core::params::ChainKind;
use lockstep_core::transaction;
use lockstep_core::types::ChainId;
use lockstep_core::window::Offered;
use serde::Deserialize;
use tokio::time::timeout;

use crate::attributes::Quantity;
use crate::build::Order;
use crate::engine::{Engine, EngineError};

/// Transactions that are looked at; of a larger offer nothing is, because recovering senders would cost more than it saves.
const TRANSACTIONS_MAX: usize = 2_000;
/// How long the engine may take to tell a state: a job waits for it, and its window closed 700 ms before its time.
const STATE_TIMEOUT: Duration = Duration::from_millis(300);
/// Blocks that are built to prove guesses, before the engine judges all items.
const GUESSED_BLOCKS_MAX: usize = 2;

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
    /// What the sender must have at least, in wei: all of its gas at the fee cap, and the value.
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

/// Why an item seems to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Its sender seems to lack the money, or comes behind an item of its own for which it does.
    Unfunded {
        /// The sender.
        sender: Address,
        /// What it must have at least, in wei.
        cost: U256,
    },
    /// An earlier item of its sender has the same nonce.
    Used {
        /// That item's place in the offer.
        by: usize,
    },
}

/// Items to leave out of a build, by their place in the offer.
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

/// Reads the facts of each item's transactions; `None` for an item that cannot be read. Costs 50 µs per transaction.
#[must_use]
pub fn facts(chain: ChainId, items: &[Offered]) -> Vec<Option<Vec<Facts>>> {
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
                .saturating_add(envelope.value()),
            is_impossible: is_impossible(&envelope),
        })
    };
    items.iter().map(|item| item.item.item.transactions().iter().map(read).collect()).collect()
}

fn is_impossible(envelope: &TxEnvelope) -> bool {
    let tip = envelope.max_priority_fee_per_gas().unwrap_or_default();
    tip > envelope.max_fee_per_gas() || envelope.gas_limit() < gas_before_it_begins(envelope)
}

/// Gas that a transaction takes on every fork since Shanghai; some take more. Sources: Yellow Paper, appendix G; EIP-2028,
/// EIP-2930, EIP-7702.
fn gas_before_it_begins(envelope: &TxEnvelope) -> u64 {
    let input = envelope.input();
    let zeros = input.iter().filter(|byte| **byte == 0).count();
    let others = input.len().saturating_sub(zeros);
    let (addresses, keys) = envelope
        .access_list()
        .map_or((0, 0), |list| (list.len(), list.iter().map(|it| it.storage_keys.len()).sum()));
    let authorizations = envelope.authorization_list().map_or(0, <[_]>::len);
    let creation = usize::from(envelope.is_create());
    let counts: [(usize, u64); 6] = [
        (zeros, 4),
        (others, 16),
        (addresses, 2_400),
        (keys, 1_900),
        (authorizations, 25_000),
        (creation, 32_000),
    ];
    counts
        .iter()
        .fold(21_000, |sum, (count, gas)| sum.saturating_add(gas.saturating_mul(*count as u64)))
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

/// The items that cannot be valid, by their place in the offer. Pure.
#[must_use]
pub fn hopeless(
    facts: &[Option<Vec<Facts>>],
    deposits: &[Bytes],
    state: &State,
) -> BTreeSet<usize> {
    let raised = raised_otherwise(facts, deposits);
    let mut next: BTreeMap<Address, u64> = BTreeMap::new();
    let mut hopeless = BTreeSet::new();
    for (index, item) in facts.iter().enumerate() {
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

/// What is known of a sender's money while an offer is gone through.
#[derive(Debug)]
struct Purse {
    /// What it has, as far as plain transfers tell.
    balance: U256,
    /// The first of its items that it cannot pay: nonce and cost.
    stopped: Option<(u64, U256)>,
}

/// Items, other than the hopeless ones, that seem to be bad by their first transaction. Pure.
///
/// Money is guessed only of senders of which the end of the block can prove it: without code, deposit and authorization,
/// first in every item in which they send, and with nothing in the block behind the first item that they cannot pay.
#[must_use]
pub fn guess(
    facts: &[Option<Vec<Facts>>],
    deposits: &[Bytes],
    state: &State,
    hopeless: &BTreeSet<usize>,
) -> BTreeMap<usize, Guess> {
    let purse = |account: &Account| Purse { balance: account.balance, stopped: None };
    let mut purses: BTreeMap<Address, Purse> =
        state.accounts.iter().map(|(address, account)| (*address, purse(account))).collect();
    let has_code = state.accounts.iter().filter(|(_, account)| account.has_code);
    // Whether an item is in the block is known of its first sender's guesses alone, so what others send in it may be there.
    let behind = facts.iter().enumerate().filter(|(index, _)| !hopeless.contains(index));
    let behind = behind.filter_map(|(_, item)| item.as_ref()?.get(1..)).flatten();
    let mut not_provable = raised_otherwise(facts, deposits);
    not_provable.extend(has_code.map(|(address, _)| *address));
    not_provable.extend(behind.map(|facts| facts.sender));
    let mut used: BTreeMap<(Address, u64), usize> = BTreeMap::new();
    let mut guesses = BTreeMap::new();
    for (index, item) in facts.iter().enumerate() {
        // What it sends and authorizes is not known, so nothing is proven of what comes before it.
        let Some(item) = item else { return BTreeMap::new() };
        let Some(first) = item.first().filter(|_| !hopeless.contains(&index)) else { continue };
        if let Some(by) = used.get(&(first.sender, first.nonce)) {
            guesses.insert(index, Guess::Used { by: *by });
            continue;
        }
        if let Some(cost) = missing(first, &mut purses) {
            guesses.insert(index, Guess::Unfunded { sender: first.sender, cost });
            continue;
        }
        for facts in item {
            used.entry((facts.sender, facts.nonce)).or_insert(index);
            if let Some(purse) = purses.get_mut(&facts.sender) {
                purse.balance = purse.balance.saturating_sub(facts.value);
                if purse.stopped.is_some() {
                    not_provable.insert(facts.sender);
                }
            }
            if let Some(purse) = facts.to.and_then(|to| purses.get_mut(&to)) {
                purse.balance = purse.balance.saturating_add(facts.value);
            }
        }
    }
    guesses.retain(|_, guess| match guess {
        Guess::Unfunded { sender, .. } => !not_provable.contains(sender),
        Guess::Used { .. } => true,
    });
    guesses
}

/// What the sender must have and has not; `None` if it has, or may have.
fn missing(facts: &Facts, purses: &mut BTreeMap<Address, Purse>) -> Option<U256> {
    let purse = purses.get_mut(&facts.sender)?;
    match purse.stopped {
        Some((nonce, cost)) if facts.nonce > nonce => Some(cost),
        None if facts.cost > purse.balance => {
            purse.stopped = Some((facts.nonce, facts.cost));
            Some(facts.cost)
        }
        Some(_) | None => None,
    }
}

/// The guesses that a block without these items does not prove, by the items that it lacks and the balances at its end.
/// Pure.
#[must_use]
pub fn unproven(
    guesses: &BTreeMap<usize, Guess>,
    absent: &BTreeSet<usize>,
    balances: &BTreeMap<Address, U256>,
) -> BTreeSet<usize> {
    let is_unproven = |guess: &Guess| match guess {
        Guess::Unfunded { sender, cost } => {
            balances.get(sender).is_none_or(|balance| balance >= cost)
        }
        Guess::Used { by } => absent.contains(by),
    };
    guesses.iter().filter(|(_, guess)| is_unproven(guess)).map(|(index, _)| *index).collect()
}

/// The balances that [`unproven`] needs, in the state of `block`; those that the engine does not tell in time are left out.
async fn balances(
    engine: &Engine,
    block: B256,
    guesses: &BTreeMap<usize, Guess>,
) -> BTreeMap<Address, U256> {
    let sender = |guess: &Guess| match guess {
        Guess::Unfunded { sender, .. } => Some(*sender),
        Guess::Used { .. } => None,
    };
    let senders: BTreeSet<Address> = guesses.values().filter_map(sender).collect();
    if senders.is_empty() {
        return BTreeMap::new();
    }
    let at = serde_json::json!({ "blockHash": block });
    let call = |sender: &Address| ("eth_getBalance", serde_json::json!([sender, at]));
    let calls: Vec<_> = senders.iter().map(call).collect();
    let Ok(Ok(answers)) = timeout(STATE_TIMEOUT, engine.batch(&calls)).await else {
        tracing::debug!(%block, "balances are not known: the engine judges");
        return BTreeMap::new();
    };
    let told = |(sender, answer)| Some((sender, Engine::parse(Some(answer)).ok()?));
    senders.into_iter().zip(answers).filter_map(told).collect()
}

/// Guesses on their way to a block that proves all that are left of them.
#[derive(Debug)]
pub struct Guessing {
    checked: Checked,
    blocks: usize,
}

impl Guessing {
    /// Begins with everything that was checked.
    #[must_use]
    pub const fn new(checked: Checked) -> Self {
        Self { checked, blocks: 0 }
    }

    /// The items to leave out of the next block.
    #[must_use]
    pub fn left_out(&self) -> BTreeSet<usize> {
        self.checked.hopeless.iter().chain(self.checked.guesses.keys()).copied().collect()
    }

    /// Whether a block without these items proves every guess. If not, the others are given up, and the next block tells.
    /// `proof` is the block's hash and the items that it lacks; `None` if the engine has not got it.
    pub async fn is_settled(
        &mut self,
        engine: &Engine,
        proof: Option<(B256, BTreeSet<usize>)>,
    ) -> bool {
        let guesses = &mut self.checked.guesses;
        if guesses.is_empty() {
            return true;
        }
        let Some((block, absent)) = proof else {
            guesses.clear();
            return false;
        };
        let unproven = unproven(guesses, &absent, &balances(engine, block, guesses).await);
        guesses.retain(|index, _| !unproven.contains(index));
        self.blocks = self.blocks.saturating_add(1);
        if self.blocks >= GUESSED_BLOCKS_MAX && !unproven.is_empty() {
            guesses.clear();
        }
        unproven.is_empty()
    }
}

/// Senders whose nonce something else than their own items may raise.
fn raised_otherwise(facts: &[Option<Vec<Facts>>], deposits: &[Bytes]) -> BTreeSet<Address> {
    let depositors =
        deposits.iter().filter_map(|bytes| Deposit::decode(bytes).ok()).map(|deposit| deposit.from);
    let authorities =
        facts.iter().flatten().flatten().flat_map(|facts| facts.authorities.iter().copied());
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    base_fee_per_gas: Vec<String>,
}

/// The state that the rules need, at `parent`; `number` is its number, if it need not be the engine's head.
///
/// # Errors
/// [`EngineError`] if the engine cannot tell; the block is built without this then.
async fn state(
    engine: &Engine,
    parent: B256,
    number: Option<u64>,
    facts: &[Option<Vec<Facts>>],
) -> Result<State, EngineError> {
    let senders: BTreeSet<Address> =
        facts.iter().flatten().flatten().map(|facts| facts.sender).collect();
    let block = serde_json::json!({ "blockHash": parent });
    let mut calls = Vec::with_capacity(senders.len().saturating_mul(3).saturating_add(1));
    for sender in &senders {
        calls.push(("eth_getTransactionCount", serde_json::json!([sender, block])));
        calls.push(("eth_getCode", serde_json::json!([sender, block])));
        calls.push(("eth_getBalance", serde_json::json!([sender, block])));
    }
    let newest = number.map_or("latest".to_owned(), |number| format!("{number:#x}"));
    calls.push(("eth_feeHistory", serde_json::json!(["0x1", newest, []])));
    let mut answers = engine.batch(&calls).await?.into_iter();
    let mut state = State::default();
    for sender in senders {
        let nonce: Quantity = Engine::parse(answers.next())?;
        let code: Bytes = Engine::parse(answers.next())?;
        let balance: U256 = Engine::parse(answers.next())?;
        let account = Account { nonce: nonce.0, has_code: !code.is_empty(), balance };
        state.accounts.insert(sender, account);
    }
    let fees: Option<FeeHistory> = Engine::parse(answers.next()).ok();
    state.base_fee = fees
        .and_then(|fees| fees.base_fee_per_gas.last().cloned())
        .and_then(|fee| u128::from_str_radix(fee.strip_prefix("0x")?, 16).ok());
    Ok(state)
}

/// The items of an offer that cannot be valid in the block of `order`, certainly and probably; none if that cannot be told in
/// time. `number` is the parent's, if it need not be the engine's head.
pub async fn check(
    engine: &Engine,
    chain: ChainId,
    order: &Order,
    number: Option<u64>,
    items: &[Offered],
) -> Checked {
    let count: usize = items.iter().map(|item| item.item.hashes.len()).sum();
    if count == 0 || count > TRANSACTIONS_MAX {
        return Checked::default();
    }
    let owned = items.to_vec();
    let Ok(facts) = tokio::task::spawn_blocking(move || facts(chain, &owned)).await else {
        return Checked::default();
    };
    let Ok(Ok(state)) = timeout(STATE_TIMEOUT, state(engine, order.parent, number, &facts)).await
    else {
        tracing::debug!(parent = %order.parent, "items are not checked before the build");
        return Checked::default();
    };
    let deposits = &order.attributes.transactions;
    let hopeless = hopeless(&facts, deposits, &state);
    let guesses = guess(&facts, deposits, &state, &hopeless);
    Checked { hopeless, guesses }
}

#[cfg(test)]
mod tests;
