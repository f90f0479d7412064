//! Items that are probably bad: left out first, and the block without them is the proof.
//!
//! Two things are guessed. A sender seems to lack the money: any earlier item may fill its account, but the balance of an
//! account that has no code and sends nothing only rises within a block, so who lacks it at its end lacked it before. And a
//! nonce is used by an earlier item: that one may be bad, but if the block holds it, the later one is.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256};
use tokio::time::timeout;

use super::{Account, Checked, Facts, STATE_TIMEOUT, State, raised_otherwise};
use crate::engine::Engine;

/// Blocks that are built to prove guesses, before the engine judges all items.
const GUESSED_BLOCKS_MAX: usize = 2;

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
pub(super) fn guess(
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
fn unproven(
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

#[cfg(test)]
mod tests;
