//! The account of what is in batches and not decided: what it asks of each chain, and whether another entry may follow.
//!
//! The rules and their reason are in [`own`](super). This file does not know what waits.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;
use lockstep_core::admission::{self, Need, Needs};
use lockstep_core::budget::{Usage, lane_share};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, ChainId, Sequence, UnixMillis};

use super::queue::{Place, Ticket};

/// On which terms an entry may go into the batch being filled.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// What it asks for by the state of that moment.
    needs: Vec<Need>,
    /// It closes its chains: a bundle that is not sure on one of them.
    closes: bool,
}

/// An entry in a batch.
#[derive(Clone, Debug)]
pub(super) struct Flown {
    pub(super) place: Place,
    pub(super) ticket: Ticket,
    pub(super) entry: CheckedEntry,
    pub(super) terms: Terms,
}

#[derive(Debug, Default)]
struct Batch {
    digest: Option<BatchDigest>,
    entries: Vec<Flown>,
}

/// What is in flight of one chain.
#[derive(Debug, Default)]
struct Chain {
    usage: Usage,
    /// Entries in closed batches, and in the one being filled.
    batched: usize,
    filling: usize,
    /// Entries that close the chain.
    closing: usize,
    /// An entry came back while others were in flight.
    is_held: bool,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    batches: BTreeMap<Sequence, Batch>,
    chains: BTreeMap<ChainId, Chain>,
    raws: BTreeSet<B256>,
    /// The last batch that was decided; `None` before the first.
    decided: Option<(Sequence, BatchDigest)>,
}

impl Flight {
    /// Whether these bytes are in flight.
    pub(super) fn contains(&self, raw: &B256) -> bool {
        self.raws.contains(raw)
    }

    /// Whether an entry may follow what is in flight, in the batch being filled, and on which terms.
    pub(super) fn admit(
        &self,
        state: &State,
        now: UnixMillis,
        entry: &CheckedEntry,
    ) -> Option<Terms> {
        // Assembly leaves out an entry of an unknown chain, so it asks for nothing.
        let needs = match admission::needs_of(&state.committed, entry) {
            Ok(Needs::Budget(needs)) => needs,
            Ok(Needs::Record(_)) | Err(_) => Vec::new(),
        };
        let mut is_sure = true;
        for need in &needs {
            is_sure &= self.follows(state, now, need)?;
        }
        let closes = !is_sure && needs.len() > 1;
        Some(Terms { needs, closes })
    }

    /// `None` if the chain must wait; else whether the need is sure.
    fn follows(&self, state: &State, now: UnixMillis, need: &Need) -> Option<bool> {
        let committed = &state.committed;
        let chain = committed.chain(need.chain).expect("what has a need is registered");
        let (lanes, percent) = (committed.lanes.len(), committed.params.open_share_percent);
        let share = |elapsed_ms| lane_share(chain, elapsed_ms, lanes, percent);
        let none = Chain::default();
        let flight = self.chains.get(&need.chain).unwrap_or(&none);
        if (flight.is_held || flight.closing > 0) && !planted(Bug::LaneDoesNotWait) {
            return None;
        }
        let usage = flight.usage.plus(&need.demand);
        if usage.twice().is_within(&share(0)) || planted(Bug::LaneDoesNotWait) {
            return Some(true);
        }
        let (is_alone, is_first) = (flight.batched == 0, flight.filling == 0);
        let may_go = is_alone && (is_first || usage.is_within(&share(now.since(state.timestamp))));
        may_go.then_some(false)
    }

    /// Puts an admitted entry into the batch being filled.
    pub(super) fn add(&mut self, sequence: Sequence, flown: Flown) {
        for Need { chain, demand } in &flown.terms.needs {
            let chain = self.chains.entry(*chain).or_default();
            chain.usage = chain.usage.plus(demand);
            chain.filling = chain.filling.saturating_add(1);
            chain.closing = chain.closing.saturating_add(usize::from(flown.terms.closes));
        }
        self.raws.insert(flown.ticket.raw);
        self.batches.entry(sequence).or_default().entries.push(flown);
    }

    /// The batch being filled is full, or nothing else may go.
    pub(super) fn close_batch(&mut self) {
        for chain in self.chains.values_mut() {
            chain.batched = chain.batched.saturating_add(std::mem::take(&mut chain.filling));
        }
    }

    /// A closed batch is signed.
    pub(super) fn sign(&mut self, sequence: Sequence, digest: BatchDigest) {
        let batch = self.batches.get_mut(&sequence).expect("it was closed and is not decided");
        batch.digest = Some(digest);
    }

    /// Whether this run has a batch with this digest at this place, in flight or the last that was decided.
    pub(super) fn is_signed(&self, sequence: Sequence, digest: BatchDigest) -> bool {
        let in_flight = self.batches.get(&sequence).and_then(|batch| batch.digest);
        in_flight == Some(digest) || self.decided == Some((sequence, digest))
    }

    /// Lets all batches up to this one go: their entries in order, each with its place.
    pub(super) fn decide(&mut self, last: Sequence) -> Vec<((Sequence, u32), Flown)> {
        let mut decided = Vec::new();
        while let Some(batch) = self.batches.first_entry().filter(|batch| *batch.key() <= last) {
            let (sequence, Batch { digest, entries }) = batch.remove_entry();
            self.decided = digest.map(|digest| (sequence, digest));
            let places = (0u32..).map(|index| (sequence, index));
            decided.extend(places.zip(entries));
        }
        decided.iter().for_each(|(_, flown)| self.release(flown));
        decided
    }

    /// Lets a batch go that was never signed.
    pub(super) fn abandon(&mut self, sequence: Sequence) {
        let batch = self.batches.remove(&sequence).unwrap_or_default();
        batch.entries.iter().for_each(|flown| self.release(flown));
    }

    fn release(&mut self, flown: &Flown) {
        self.raws.remove(&flown.ticket.raw);
        for Need { chain, demand } in &flown.terms.needs {
            let of =
                self.chains.get_mut(chain).expect("its chains' accounts have what is in flight");
            of.usage = of.usage.minus(demand);
            of.batched = of.batched.saturating_sub(1);
            of.closing = of.closing.saturating_sub(usize::from(flown.terms.closes));
            if of.batched == 0 {
                self.chains.remove(chain);
            }
        }
    }

    /// Holds what has entries in flight of these chains: an earlier entry came back.
    pub(super) fn hold(&mut self, chains: &BTreeSet<ChainId>) {
        for chain in chains {
            if let Some(flight) = self.chains.get_mut(chain) {
                flight.is_held = true;
            }
        }
    }
}
