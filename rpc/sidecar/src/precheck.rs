//! Finds items that cannot be valid before the engine is asked: each refusal costs it a full execution of what comes
//! before. What is said here is certain; everything else is the engine's to judge, so the block is the same without it.
//!
//! Certain are three things about an offer on one parent. A nonce below the sender's never becomes good. One above the
//! sender's next is a gap, unless something in the block may raise the nonce otherwise: a deposit of the sender, an
//! authorization (EIP-7702), or code at the sender's address. A fee cap below the block's base fee never pays. Balances
//! are not looked at: an earlier item may fill them.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes};
use lockstep_core::deposit::Deposit;
use lockstep_core::params::ChainKind;
use lockstep_core::transaction;
use lockstep_core::types::ChainId;
use lockstep_core::window::Offered;
use serde::Deserialize;

use crate::attributes::Quantity;
use crate::engine::{Engine, EngineError};

/// Transactions that are looked at; of a larger offer nothing is, because recovering senders would cost more than it saves.
const TRANSACTIONS_MAX: usize = 2_000;

/// What the rules need of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    sender: Address,
    nonce: u64,
    fee: u128,
    authorities: Vec<Address>,
}

/// An account at the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its nonce.
    pub nonce: u64,
    /// Whether it has code.
    pub has_code: bool,
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
        })
    };
    items.iter().map(|item| item.item.item.transactions().iter().map(read).collect()).collect()
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
    if state.base_fee.is_some_and(|base_fee| facts.fee < base_fee) || facts.nonce < account.nonce {
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

/// The state that the rules need, at the engine's head, which is `parent`.
///
/// # Errors
/// [`EngineError`] if the engine cannot tell; the block is built without this then.
pub async fn state(
    engine: &Engine,
    parent: B256,
    facts: &[Option<Vec<Facts>>],
) -> Result<State, EngineError> {
    let senders: BTreeSet<Address> =
        facts.iter().flatten().flatten().map(|facts| facts.sender).collect();
    let block = serde_json::json!({ "blockHash": parent });
    let mut calls = Vec::with_capacity(senders.len().saturating_mul(2).saturating_add(1));
    for sender in &senders {
        calls.push(("eth_getTransactionCount", serde_json::json!([sender, block])));
        calls.push(("eth_getCode", serde_json::json!([sender, block])));
    }
    calls.push(("eth_feeHistory", serde_json::json!(["0x1", "latest", []])));
    let mut answers = engine.batch(&calls).await?.into_iter();
    let mut state = State::default();
    for sender in senders {
        let nonce: Quantity = Engine::parse(answers.next())?;
        let code: Bytes = Engine::parse(answers.next())?;
        state.accounts.insert(sender, Account { nonce: nonce.0, has_code: !code.is_empty() });
    }
    let fees: Option<FeeHistory> = Engine::parse(answers.next()).ok();
    state.base_fee = fees
        .and_then(|fees| fees.base_fee_per_gas.last().cloned())
        .and_then(|fee| u128::from_str_radix(fee.strip_prefix("0x")?, 16).ok());
    Ok(state)
}

/// The items of an offer that cannot be valid on `parent`; none if that cannot be told.
pub async fn check(
    engine: &Engine,
    chain: ChainId,
    parent: B256,
    deposits: &[Bytes],
    items: &[Offered],
) -> BTreeSet<usize> {
    let count: usize = items.iter().map(|item| item.item.hashes.len()).sum();
    if count == 0 || count > TRANSACTIONS_MAX {
        return BTreeSet::new();
    }
    let owned = items.to_vec();
    let Ok(facts) = tokio::task::spawn_blocking(move || facts(chain, &owned)).await else {
        return BTreeSet::new();
    };
    match state(engine, parent, &facts).await {
        Ok(state) => hopeless(&facts, deposits, &state),
        Err(error) => {
            tracing::debug!(%error, "items are not checked before the build");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests;
