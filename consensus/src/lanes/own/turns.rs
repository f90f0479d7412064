//! Turns of those who share one lot, by what each asks of the budget (see [`fair`](crate::fair)).
//!
//! A *source* is who pays: a gateway, or a client. Within a source, the entries of one account keep their order, and
//! accounts go by the place of their first. This file does not know budgets, chains or batches.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use lockstep_core::budget::Amount;

use super::queue::Place;
use crate::fair::{FairOrder, Turn};
use crate::ingress::Submitter;

/// Who pays for the place of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The gateway that signed it.
    Gateway(Address),
    /// Who submitted it.
    Client(Submitter),
}

/// Whose transactions an entry has for one chain, each once, in ascending order; `None` where nobody signs them.
pub(super) type Accounts = [Option<Address>];

/// The entries of one source.
#[derive(Debug, Default)]
struct Flow {
    threads: BTreeMap<Option<Address>, BTreeSet<Place>>,
    /// The first entry of each thread.
    heads: BTreeSet<Place>,
    load: Load,
}

impl Flow {
    /// The first entries of these threads are heads.
    fn renew_heads(&mut self, accounts: &Accounts) {
        let firsts = accounts.iter().filter_map(|account| self.threads.get(account)?.first());
        self.heads.extend(firsts);
    }
}

/// How much waits, or one entry of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Of the chain's budget.
    pub(super) amount: Amount,
    pub(super) entries: usize,
    /// Bytes of the entries, whole.
    pub(super) bytes: usize,
}

impl Load {
    const fn plus(self, other: Self) -> Self {
        Self {
            amount: self.amount.plus(other.amount),
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            amount: self.amount.minus(other.amount),
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The waiting entries of one lot.
#[derive(Debug, Default)]
pub(super) struct Turns {
    order: FairOrder<Source>,
    flows: BTreeMap<Source, Flow>,
    load: Load,
}

impl Turns {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What waits, and what of it is this source's.
    pub(super) fn load(&self, source: &Source) -> (Load, Load) {
        (self.load, self.flows.get(source).map_or_else(Load::default, |flow| flow.load))
    }

    /// Puts an entry at its place in its threads, which are all of one source.
    pub(super) fn insert(&mut self, place: Place, source: Source, accounts: &Accounts, load: Load) {
        self.order.join(source);
        let flow = self.flows.entry(source).or_default();
        for account in accounts {
            let thread = flow.threads.entry(*account).or_default();
            thread.first().map(|first| flow.heads.remove(first));
            thread.insert(place);
        }
        flow.renew_heads(accounts);
        (self.load, flow.load) = (self.load.plus(load), flow.load.plus(load));
    }

    /// An entry of this source is served, at this cost; it is removed then.
    pub(super) fn serve(&mut self, source: Source, cost: u64) {
        self.order.serve(source, cost);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, place: Place, source: Source, accounts: &Accounts, load: Load) {
        let flow = self.flows.get_mut(&source).expect("an entry is in its source's flow");
        flow.heads.remove(&place);
        for account in accounts {
            let thread = flow.threads.get_mut(account).expect("an entry is in its threads");
            thread.remove(&place);
            if thread.is_empty() {
                flow.threads.remove(account);
            }
        }
        flow.renew_heads(accounts);
        (self.load, flow.load) = (self.load.minus(load), flow.load.minus(load));
        if flow.threads.is_empty() {
            self.flows.remove(&source);
            self.order.leave(source);
        }
    }

    /// The source whose turn is next behind `last`, with its place in the order.
    pub(super) fn behind(&self, last: Option<Turn<Source>>) -> Option<Turn<Source>> {
        self.order.behind(last)
    }

    /// The first entries of a source's threads, by place.
    pub(super) fn heads(&self, source: Source) -> impl Iterator<Item = Place> {
        self.flows.get(&source).into_iter().flat_map(|flow| flow.heads.iter().copied())
    }

    /// Whether an entry is the first in all of its threads.
    pub(super) fn is_head(&self, place: Place, source: &Source, accounts: &Accounts) -> bool {
        let Some(flow) = self.flows.get(source) else { return false };
        let is_first = |account| {
            flow.threads.get(account).and_then(BTreeSet::first).is_some_and(|first| *first == place)
        };
        accounts.iter().all(is_first)
    }
}

#[cfg(test)]
mod tests;
