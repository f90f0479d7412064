//! What became of co-ordered bundles: their legs on the audited chains, side by side. Pure.
//!
//! That some legs land and others are skipped is what co-ordering allows; whoever sent the bundle wants to know it. A leg
//! names its bundle and how many legs there are, but not their chains: legs on chains that are not audited stay unknown.

use std::collections::BTreeMap;

use lockstep_core::types::{ChainId, EntryId, Height};
use serde::Serialize;

use crate::finding::{Finding, LegFate};
use crate::judge::LegSeen;
use crate::limits::BUNDLES_MAX;

/// How bundles ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BundleCounts {
    /// All legs landed.
    pub whole: u64,
    /// Some landed, some did not.
    pub part: u64,
    /// None landed.
    pub none: u64,
    /// Not all legs are known, and those that are do not differ.
    pub unknown: u64,
}

#[derive(Clone, Debug)]
struct Open {
    legs: u32,
    fates: BTreeMap<ChainId, LegFate>,
}

/// The bundles of one chain, whose legs are being collected.
#[derive(Clone, Debug)]
pub struct Bundles {
    chain: ChainId,
    open: BTreeMap<(Height, EntryId), Open>,
    counts: BundleCounts,
}

impl Bundles {
    /// The bundles that have a leg on this chain; others that are noted are passed over.
    #[must_use]
    pub fn new(chain: ChainId) -> Self {
        Self { chain, open: BTreeMap::new(), counts: BundleCounts::default() }
    }

    /// Notes what block `number` of a chain did with a leg. What was noted of the leg before is replaced.
    pub fn note(&mut self, chain: ChainId, number: u64, seen: LegSeen) {
        let LegSeen { bundle, height, legs, leg, skipped } = seen;
        let open = Open { legs, fates: BTreeMap::new() };
        let open = self.open.entry((height, bundle)).or_insert(open);
        open.fates.insert(chain, LegFate { chain: chain.0, leg, number, skipped });
    }

    /// Forgets what blocks of a chain after a number did: the chain went back to it.
    pub fn forget(&mut self, chain: ChainId, number: u64) {
        for open in self.open.values_mut() {
            open.fates.retain(|of, fate| *of != chain || fate.number <= number);
        }
        self.open.retain(|_, open| !open.fates.is_empty());
    }

    /// Judges the bundles below a height, all of whose legs on audited chains are known.
    pub fn close_below(&mut self, height: Height) -> Vec<Finding> {
        let mut found = Vec::new();
        while let Some(entry) = self.open.first_entry() {
            if entry.key().0 >= height && self.open.len() <= BUNDLES_MAX {
                break;
            }
            if let Some(((height, bundle), open)) = self.open.pop_first() {
                found.extend(self.close(height, bundle, open));
            }
        }
        found
    }

    /// Judges all bundles by what is known.
    pub fn close_all(&mut self) -> Vec<Finding> {
        self.close_below(Height(u64::MAX))
    }

    /// The greatest height of a bundle that waits.
    #[must_use]
    pub fn newest(&self) -> Option<Height> {
        self.open.last_key_value().map(|((height, _), _)| *height)
    }

    /// How bundles ended so far.
    #[must_use]
    pub const fn counts(&self) -> BundleCounts {
        self.counts
    }

    fn close(&mut self, height: Height, bundle: EntryId, open: Open) -> Option<Finding> {
        let Open { legs, fates } = open;
        if !fates.contains_key(&self.chain) {
            return None;
        }
        let landed = fates.values().filter(|fate| fate.skipped.is_none()).count();
        let is_known = fates.len() >= legs as usize;
        let count = match landed {
            landed if landed > 0 && landed < fates.len() => &mut self.counts.part,
            0 if is_known => &mut self.counts.none,
            _ if is_known => &mut self.counts.whole,
            _ => &mut self.counts.unknown,
        };
        *count = count.saturating_add(1);
        (landed > 0 && landed < fates.len()).then(|| Finding::BundleInPart {
            bundle: bundle.0,
            height: height.0,
            legs,
            fates: fates.into_values().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Reason;
    use alloy_primitives::B256;

    const ID: EntryId = EntryId(B256::repeat_byte(1));
    const LANDED: Option<Reason> = None;
    const INVALID: Option<Reason> = Some(Reason::Invalid);

    /// A bundle of three legs at height 5.
    fn leg(leg: u32, skipped: Option<Reason>) -> LegSeen {
        LegSeen { bundle: ID, height: Height(5), legs: 3, leg, skipped }
    }

    fn close(fates: &[(u64, Option<Reason>)]) -> (Vec<Finding>, BundleCounts) {
        let mut bundles = Bundles::new(ChainId(1));
        for (place, (chain, skipped)) in (0u32..).zip(fates) {
            bundles.note(ChainId(*chain), 70 + chain, leg(place, *skipped));
        }
        (bundles.close_all(), bundles.counts())
    }

    #[test]
    fn bundle_is_whole_in_part_none_or_unknown() {
        let none = BundleCounts::default();
        for (fates, expected) in [
            (&[(1, LANDED), (2, LANDED), (3, LANDED)][..], BundleCounts { whole: 1, ..none }),
            (&[(1, LANDED), (2, INVALID), (3, LANDED)], BundleCounts { part: 1, ..none }),
            (&[(1, LANDED), (2, INVALID)], BundleCounts { part: 1, ..none }),
            (&[(1, INVALID), (2, INVALID), (3, INVALID)], BundleCounts { none: 1, ..none }),
            (&[(1, LANDED), (2, LANDED)], BundleCounts { unknown: 1, ..none }),
            (&[(1, INVALID)], BundleCounts { unknown: 1, ..none }),
        ] {
            let (found, counts) = close(fates);
            assert_eq!(counts, expected, "{fates:?}");
            assert_eq!(found.len() as u64, expected.part, "{fates:?}");
        }
    }

    #[test]
    fn finding_names_each_leg_with_its_block_or_reason() {
        let (found, _) = close(&[(1, LANDED), (2, INVALID)]);
        let fate = |chain, leg, skipped| LegFate { chain, leg, number: 70 + chain, skipped };
        let expected = Finding::BundleInPart {
            bundle: ID.0,
            height: 5,
            legs: 3,
            fates: vec![fate(1, 0, LANDED), fate(2, 1, INVALID)],
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn bundle_waits_until_every_chain_is_past_its_height() {
        let mut bundles = Bundles::new(ChainId(1));
        bundles.note(ChainId(1), 7, leg(0, LANDED));
        bundles.note(ChainId(2), 7, leg(1, INVALID));
        assert_eq!(bundles.close_below(Height(5)), []);
        assert_eq!(bundles.newest(), Some(Height(5)));
        assert_eq!(bundles.close_below(Height(6)).len(), 1);
        assert_eq!(bundles.newest(), None);
    }

    #[test]
    fn bundle_of_other_chains_is_passed_over() {
        let (found, counts) = close(&[(2, LANDED), (3, INVALID)]);
        assert_eq!((found, counts), (vec![], BundleCounts::default()));
    }

    #[test]
    fn leg_of_a_block_that_is_gone_is_forgotten() {
        let mut bundles = Bundles::new(ChainId(1));
        bundles.note(ChainId(1), 7, leg(0, LANDED));
        bundles.note(ChainId(2), 9, leg(1, INVALID));
        bundles.forget(ChainId(2), 8);
        bundles.note(ChainId(2), 9, leg(1, LANDED));
        bundles.note(ChainId(3), 9, leg(2, LANDED));
        assert_eq!(bundles.close_all(), []);
        assert_eq!(bundles.counts().whole, 1);
    }
}
