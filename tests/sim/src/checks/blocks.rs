//! What must hold of every decided block: it follows from the one before, within its chains' budgets, with its bundles whole.

use std::collections::BTreeSet;

use lockstep_consensus::ledger::DecidedBlock;
use lockstep_core::cut::LanePosition;
use lockstep_core::entry::Body;
use lockstep_core::slice::{Content, slices_root};

use super::Checks;
use crate::world::CHAINS;

impl Checks {
    /// A block follows from the one before it.
    pub(super) fn follows(&mut self, decided: &DecidedBlock) {
        let DecidedBlock { header, cut, assembly, .. } = decided;
        let proposer = self.validators.proposer(header.height, header.round).address;
        let mut facts = vec![
            ("network", header.network_id == self.network),
            ("proposer", header.proposer == proposer),
            ("round", header.round <= decided.certificate.round),
            ("validators_hash", header.validators_hash == self.validators.hash()),
            ("next_validators_hash", header.next_validators_hash == self.validators.hash()),
            ("cut_hash", header.cut_hash == cut.hash()),
            ("slices_root", header.slices_root == slices_root(&assembly.summaries)),
            ("state_hash", header.state_hash == assembly.committed.hash()),
        ];
        if let Some((before, earlier)) = &self.last {
            let place = |lane: &LanePosition| (lane.incarnation, lane.sequence);
            let mut lanes = cut.lanes.iter().zip(&earlier.lanes);
            facts.extend([
                ("height", header.height == before.height.next()),
                ("parent", header.parent == before.hash()),
                ("time", header.timestamp_ms > before.timestamp_ms),
                ("set_since", header.set_since == before.set_since),
                ("cut", lanes.all(|(to, from)| place(to) >= place(from))),
            ]);
        }
        if let Some((what, _)) = facts.into_iter().find(|(_, is_right)| !is_right) {
            self.fail(format!("height {} is decided with a wrong {what}", header.height));
        }
    }

    /// No chain has more bytes in the log than its bucket held.
    pub(super) fn within_budget(&mut self, decided: &DecidedBlock) {
        let now = decided.header.timestamp_ms;
        let elapsed = self.last.as_ref().map_or(u64::MAX, |(last, _)| now.since(last.timestamp_ms));
        let refill = self.bytes_per_second.saturating_mul(elapsed) / 1_000;
        let levels = CHAINS.map(|chain| {
            let level = self.buckets.get(&chain).copied().unwrap_or_default();
            (chain, level.saturating_add(refill).min(self.bytes_capacity))
        });
        self.buckets.extend(levels);
        for slice in &decided.assembly.slices {
            let bytes = slice.items.iter().map(|item| match &item.content {
                Content::Transaction { bytes } => bytes.len(),
                Content::Leg { transactions, .. } => transactions.iter().map(|t| t.len()).sum(),
                Content::Record(_) => 0,
            });
            let used = bytes.sum::<usize>() as u64;
            let level = self.buckets.entry(slice.chain).or_default();
            match level.checked_sub(used) {
                Some(rest) => *level = rest,
                None => {
                    let reason = format!("chain {} takes {used} bytes of {level}", slice.chain);
                    return self.fail(reason);
                }
            }
        }
    }

    /// A bundle's legs are in the slices of all its chains under one index, and nothing else is.
    pub(super) fn whole(&mut self, decided: &DecidedBlock) {
        let entries = decided.entries();
        let mut expected = BTreeSet::new();
        for taken in &decided.assembly.taken {
            let Some(entry) = entries.at(&taken.batch, taken.entry) else { continue };
            let chains: Vec<_> = match entry.entry().body() {
                Body::Transaction(transaction) => vec![transaction.chain],
                Body::Bundle(bundle) => bundle.legs().iter().map(|leg| leg.chain).collect(),
                Body::Record(_) => Vec::new(),
            };
            expected.extend(chains.into_iter().map(|chain| (chain, taken.index)));
        }
        let slices = decided.assembly.slices.iter();
        let got: BTreeSet<_> = slices
            .flat_map(|slice| slice.items.iter().map(|item| (slice.chain, item.index)))
            .collect();
        if got != expected {
            let height = decided.header.height;
            self.fail(format!("slices of height {height} hold {got:?}, expected {expected:?}"));
        }
    }
}
