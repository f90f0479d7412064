//! Items that are probably bad: left out first, and the block without them is the proof.
//!
//! Three things are guessed. A sender seems to lack the money: any earlier item may fill its account, but the balance of an
//! account that has no code and sends nothing only rises within a block, so who lacks it at its end lacked it before. A
//! nonce is used by an earlier item: that one may be bad, but if the block holds it, the later one is. And a nonce is behind
//! a gap: deposits, authorizations and code may fill it, but no nonce ever falls, so one that is still ahead of its sender at
//! the block's end was a gap before.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, Bytes, U256};

use super::{Account, Facts, State, raised_otherwise};
use crate::limits::GUESSES_MIN;

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
    /// Its nonce is above its sender's next.
    Gap {
        /// The sender.
        sender: Address,
        /// The item's nonce.
        nonce: u64,
    },
}

impl Guess {
    /// The account whose state at the block's end proves the guess; `None` if the block's content does.
    const fn account(&self) -> Option<Address> {
        match self {
            Self::Unfunded { sender, .. } | Self::Gap { sender, .. } => Some(*sender),
            Self::Used { .. } => None,
        }
    }
}

/// What is known of a sender's money while an offer is gone through.
#[derive(Debug)]
struct Purse {
    /// What it has, as far as plain transfers tell.
    balance: U256,
    /// The first of its items that it cannot pay: nonce and cost.
    stopped: Option<(u64, U256)>,
}

/// Items, other than the absent ones, that seem to be bad by their first transaction. Pure.
///
/// Money is guessed only of senders of which the end of the block can prove it: without code, deposit and authorization,
/// first in every item in which they send, and with nothing in the block behind the first item that they cannot pay.
pub(super) fn guess(
    facts: &[Option<Vec<Facts>>],
    deposits: &[Bytes],
    state: &State,
    absent: &BTreeSet<usize>,
) -> BTreeMap<usize, Guess> {
    let purse = |account: &Account| Purse { balance: account.balance, stopped: None };
    let mut purses: BTreeMap<Address, Purse> =
        state.accounts.iter().map(|(address, account)| (*address, purse(account))).collect();
    let has_code = state.accounts.iter().filter(|(_, account)| account.has_code);
    // Whether an item is in the block is known of its first sender's guesses alone, so what others send in it may be there.
    let behind = facts.iter().enumerate().filter(|(index, _)| !absent.contains(index));
    let behind = behind.filter_map(|(_, item)| item.as_ref()?.get(1..)).flatten();
    let mut not_provable = raised_otherwise(facts, absent, deposits);
    not_provable.extend(has_code.map(|(address, _)| *address));
    not_provable.extend(behind.map(|facts| facts.sender));
    let mut used: BTreeMap<(Address, u64), usize> = BTreeMap::new();
    let mut next =
        Nonces(state.accounts.iter().map(|(it, account)| (*it, account.nonce)).collect());
    let mut guesses = BTreeMap::new();
    for (index, item) in facts.iter().enumerate().filter(|(index, _)| !absent.contains(index)) {
        // What it sends and authorizes is not known, so nothing is proven of what comes before it.
        let Some(item) = item else { return BTreeMap::new() };
        let Some(first) = item.first() else { continue };
        if let Some(by) = used.get(&(first.sender, first.nonce)) {
            guesses.insert(index, Guess::Used { by: *by });
            continue;
        }
        let (sender, nonce) = (first.sender, first.nonce);
        let is_provable = !not_provable.contains(&sender);
        if let Some(cost) = missing(first, &mut purses).filter(|_| is_provable) {
            guesses.insert(index, Guess::Unfunded { sender, cost });
            continue;
        }
        if next.is_ahead(first) {
            guesses.insert(index, Guess::Gap { sender, nonce });
            continue;
        }
        for facts in item {
            next.take(facts);
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
        Guess::Used { .. } | Guess::Gap { .. } => true,
    });
    guesses
}

/// The next nonce of each account, while an offer is gone through.
#[derive(Debug)]
struct Nonces(BTreeMap<Address, u64>);

impl Nonces {
    fn is_ahead(&self, facts: &Facts) -> bool {
        self.0.get(&facts.sender).is_some_and(|next| facts.nonce > *next)
    }

    fn take(&mut self, facts: &Facts) {
        if let Some(next) = self.0.get_mut(&facts.sender)
            && facts.nonce == *next
        {
            *next = next.saturating_add(1);
        }
    }
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

/// An account in the state at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its balance, in wei.
    pub balance: U256,
    /// Its nonce.
    pub nonce: u64,
}

/// The guesses that a block without these items does not prove, by the items that it lacks and the accounts at its end.
/// Pure.
fn unproven(
    guesses: &BTreeMap<usize, Guess>,
    absent: &BTreeSet<usize>,
    endings: &BTreeMap<Address, Ending>,
) -> BTreeSet<usize> {
    let is_unproven = |guess: &Guess| match guess {
        Guess::Unfunded { sender, cost } => {
            endings.get(sender).is_none_or(|ending| ending.balance >= *cost)
        }
        Guess::Used { by } => absent.contains(by),
        Guess::Gap { sender, nonce } => {
            endings.get(sender).is_none_or(|ending| ending.nonce >= *nonce)
        }
    };
    guesses.iter().filter(|(_, guess)| is_unproven(guess)).map(|(index, _)| *index).collect()
}

/// The accounts whose state at a block's end proves guesses.
#[must_use]
pub fn accounts(guesses: &BTreeMap<usize, Guess>) -> BTreeSet<Address> {
    guesses.values().filter_map(Guess::account).collect()
}

/// How many refusals these guesses would cost if they were left to the engine and are right: who cannot pay for one item
/// leaves a gap in front of its others.
fn refusals(guesses: &BTreeMap<usize, Guess>) -> usize {
    let is_unfunded = |guess: &&Guess| matches!(guess, Guess::Unfunded { .. });
    let (unfunded, others): (Vec<&Guess>, Vec<&Guess>) = guesses.values().partition(is_unfunded);
    let senders: BTreeSet<Address> = unfunded.into_iter().filter_map(Guess::account).collect();
    senders.len().saturating_add(others.len())
}

/// Which guesses are still made while blocks show what is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guessing {
    /// Items of which a guess was not proven.
    given_up: BTreeSet<usize>,
    /// Blocks that were built with guesses.
    blocks: usize,
    is_over: bool,
}

impl Guessing {
    /// Nothing is guessed: no block is there to prove it.
    #[must_use]
    pub fn none() -> Self {
        Self { is_over: true, ..Self::default() }
    }

    /// Those of the guesses for which a block is built to prove them.
    #[must_use]
    pub fn worthwhile(&self, mut guesses: BTreeMap<usize, Guess>) -> BTreeMap<usize, Guess> {
        guesses.retain(|item, _| !self.given_up.contains(item));
        match self.is_over || refusals(&guesses) < GUESSES_MIN {
            true => BTreeMap::new(),
            false => guesses,
        }
    }

    /// Gives up the guesses that a block did not prove; the next block is built without them. Nothing is guessed after
    /// [`GUESSED_BLOCKS_MAX`] blocks, or once there is no time for another one.
    fn give_up(&mut self, unproven: &BTreeSet<usize>, has_time: bool) {
        self.given_up.extend(unproven);
        self.blocks = self.blocks.saturating_add(1);
        self.is_over = self.blocks >= GUESSED_BLOCKS_MAX || !has_time;
    }

    /// Nothing is guessed from now on: the engine gives no block that could prove it.
    pub const fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether a block proves every guess that was made for it. If not, another one is to be built, for which fewer are
    /// made. `absent` are the items that the block lacks, `endings` the accounts at its end, as far as they are known.
    pub fn is_settled(
        &mut self,
        guesses: &BTreeMap<usize, Guess>,
        absent: &BTreeSet<usize>,
        endings: &BTreeMap<Address, Ending>,
        has_time: bool,
    ) -> bool {
        let unproven = unproven(guesses, absent, endings);
        self.give_up(&unproven, has_time);
        unproven.is_empty()
    }
}

#[cfg(test)]
mod tests;
