//! Rules that hold whatever the cut. Cuts are drawn from a small pool of transactions, so that duplicates, bundles with
//! common transactions and budgets that run out are ordinary.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::budget::Amount;
use crate::dedup;
use crate::entry::CheckedEntry;

/// An entry by numbers: all the builders need.
#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    chain: u8,
    numbers: Vec<u32>,
    expires: u8,
    is_admitted: bool,
}

fn draw() -> impl Strategy<Value = Draw> {
    let numbers = proptest::collection::vec(0..10u32, 2..5);
    (0..10u8, 0..16u8, numbers, 0..20u8, any::<bool>()).prop_map(
        |(kind, chain, numbers, expires, is_admitted)| Draw {
            kind,
            chain,
            numbers,
            expires,
            is_admitted,
        },
    )
}

const CHAINS: [ChainId; 3] = [A, B, GATED];

/// A pool transaction: its size follows from its number.
fn pooled(n: u32) -> alloy_primitives::Bytes {
    opaque(n, 8 + n as usize * 3)
}

impl Draw {
    fn entry(&self, net: &Net) -> Entry {
        let chain = match self.chain {
            15 => UNKNOWN,
            14 => EVM,
            n => CHAINS[usize::from(n) % 3],
        };
        let first = self.numbers[0];
        let entry = match self.kind {
            0..5 => loose(chain, ChainKind::Opaque, pooled(first)),
            5 => record(net, chain, u64::from(first), &sequencer()),
            _ => {
                let other = CHAINS[(usize::from(self.chain) + 1) % 3];
                let unique: BTreeSet<_> = self.numbers[1..].iter().map(|n| pooled(*n)).collect();
                let legs = vec![
                    leg(chain, &[pooled(first)]),
                    leg(other, &unique.into_iter().collect::<Vec<_>>()),
                ];
                bundle(legs)
            }
        };
        let entry = match self.expires {
            0 => expiring(&entry, FIRST),
            1 => expiring(&entry, UnixMillis(FIRST.0 + EXPIRES_MS_MAX + 2)),
            _ => entry,
        };
        if self.is_admitted { admitted(net, &entry) } else { entry }
    }
}

/// Lanes of batches of entries, and how full the buckets are.
fn draws() -> impl Strategy<Value = (Vec<Vec<Vec<Draw>>>, [u64; 3])> {
    let batch = proptest::collection::vec(draw(), 1..6);
    let lane = proptest::collection::vec(batch, 0..3);
    (proptest::collection::vec(lane, 4), [0..400u64, 0..400u64, 0..900u64])
}

struct Case {
    net: Net,
    cut: Cut,
    batches: Vec<CheckedBatch>,
    timestamp: UnixMillis,
}

impl Case {
    /// The second block of a network that decided some of the pool before.
    fn new(draws: &[Vec<Vec<Draw>>], buckets: [u64; 3]) -> Self {
        let mut net = Net::new(4);
        let before = [tx(A, 700, 10), loose(A, ChainKind::Opaque, pooled(0))];
        net.decide_entries(&[before.to_vec()], FIRST);
        for (chain, bytes) in CHAINS.into_iter().zip(buckets) {
            net = net.with_bucket(chain, 0, bytes);
        }
        let lanes: Vec<Vec<Vec<Entry>>> = draws
            .iter()
            .map(|lane| lane.iter().map(|b| b.iter().map(|d| d.entry(&net)).collect()).collect())
            .collect();
        let (cut, batches) = net.cut(&lanes);
        Self { net, cut, batches, timestamp: UnixMillis(FIRST.0 + 1) }
    }

    fn assemble(&self) -> Assembly {
        self.net.try_assemble(self.timestamp, &self.cut, &self.batches).unwrap()
    }

    fn entry(&self, batch: BatchPosition, entry: u32) -> &CheckedEntry {
        let batch = self.batches.iter().find(|b| b.position() == batch).unwrap();
        &batch.entries()[entry as usize]
    }

    fn taken<'a>(&'a self, assembly: &'a Assembly) -> impl Iterator<Item = &'a CheckedEntry> {
        assembly.taken.iter().map(|taken| self.entry(taken.batch, taken.entry))
    }
}

/// What entries declare per chain.
fn spent<'a>(entries: impl Iterator<Item = &'a CheckedEntry>) -> BTreeMap<ChainId, Amount> {
    let mut spent: BTreeMap<ChainId, Amount> = BTreeMap::new();
    for transaction in entries.flat_map(CheckedEntry::transactions) {
        let sum = spent.entry(transaction.chain).or_default();
        *sum = sum.plus(Amount { gas: transaction.gas, bytes: transaction.bytes });
    }
    spent
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn built_block_verifies_and_gives_the_same_assembly((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let (state, assembly) = (&case.net.state, case.assemble());
        prop_assert_eq!(&case.assemble(), &assembly);
        let header = build_header(state, Round(1), case.timestamp, &case.cut, &assembly);
        prop_assert_eq!(check_header(state, &header, &case.cut), Ok(()));
        let verified = verify(state, &case.net.dedup, &header, &case.cut, &case.batches);
        prop_assert_eq!(verified, Ok(assembly));
    }

    #[test]
    fn every_entry_is_taken_or_left_out_exactly_once((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let assembly = case.assemble();
        let mut places: Vec<_> = assembly.taken.iter().map(|t| (t.batch, t.entry)).collect();
        places.extend(assembly.left_out.iter().map(|l| (l.batch, l.entry)));
        places.sort_unstable();
        let all: Vec<_> = case
            .batches
            .iter()
            .flat_map(|b| (0..).zip(b.entries()).map(|(place, _)| (b.position(), place)))
            .collect();
        prop_assert_eq!(places, all);
        let indices: Vec<_> = assembly.taken.iter().map(|taken| taken.index).collect();
        prop_assert_eq!(indices, (0..).take(assembly.taken.len()).collect::<Vec<u32>>());
    }

    #[test]
    fn every_bundle_is_whole_or_absent((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let assembly = case.assemble();
        let mut legs: BTreeMap<EntryId, BTreeSet<(ChainId, u32)>> = BTreeMap::new();
        for slice in &assembly.slices {
            for item in &slice.items {
                if let Content::Leg { bundle, .. } = &item.content {
                    legs.entry(*bundle).or_default().insert((slice.chain, item.index));
                }
            }
        }
        let mut expected: BTreeMap<EntryId, BTreeSet<(ChainId, u32)>> = BTreeMap::new();
        for (index, entry) in (0..).zip(case.taken(&assembly)) {
            if let Body::Bundle(bundle) = entry.entry().body() {
                let legs = bundle.legs().iter().map(|leg| (leg.chain, index)).collect();
                expected.insert(entry.entry().id(), legs);
            }
        }
        prop_assert_eq!(legs, expected);
    }

    #[test]
    fn nothing_is_taken_twice((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let assembly = case.assemble();
        let mut keys = BTreeSet::new();
        for key in case.taken(&assembly).flat_map(dedup::keys) {
            prop_assert_eq!(case.net.dedup.get(&key, case.timestamp), None);
            prop_assert!(keys.insert(key), "{:?} twice", key);
        }
        let listed: BTreeSet<_> = assembly.keys.iter().map(|(key, _)| *key).collect();
        prop_assert_eq!(&listed, &keys);
        // What is called a duplicate is one.
        for left_out in &assembly.left_out {
            if let LeaveOut::Duplicate { earlier } = left_out.reason {
                let is_known = dedup::keys(case.entry(left_out.batch, left_out.entry)).any(|key| {
                    case.net.dedup.get(&key, case.timestamp) == Some(earlier)
                        || (earlier.height == Height(2) && assembly.keys.contains(&(key, earlier.index)))
                });
                prop_assert!(is_known);
            }
        }
    }

    #[test]
    fn budgets_are_never_exceeded((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let assembly = case.assemble();
        let spent_by = spent(case.taken(&assembly));
        for (chain, bucket) in CHAINS.into_iter().zip(buckets) {
            let spent = spent_by.get(&chain).copied().unwrap_or_default().bytes;
            let rest = assembly.committed.chain(chain).unwrap().bytes;
            prop_assert_eq!(spent + rest, bucket, "{}", chain);
        }
        let is_open = |entry: &&CheckedEntry| entry.gateway() != Some(gateway().address());
        let open = spent(case.taken(&assembly).filter(is_open));
        let open = open.get(&GATED).copied().unwrap_or_default().bytes;
        prop_assert!(open <= buckets[2] / 10, "{open} of {}", buckets[2]);
        let records = assembly.slices.iter().map(|slice| {
            slice.items.iter().filter(|item| matches!(item.content, Content::Record(_))).count()
        });
        prop_assert!(records.max().unwrap_or_default() <= RECORDS_PER_CHAIN_MAX);
    }

    #[test]
    fn behind_what_is_over_budget_its_lane_has_nothing_for_that_chain((draws, buckets) in draws()) {
        let case = Case::new(&draws, buckets);
        let assembly = case.assemble();
        // Those which a bundle of the cut holds may give way instead, which makes nothing wait.
        let entries = case.batches.iter().flat_map(|batch| batch.entries());
        let bundled: BTreeSet<_> = entries
            .filter(|entry| matches!(entry.entry().body(), Body::Bundle(_)))
            .flat_map(dedup::keys)
            .collect();
        let is_open = |chain, entry: &CheckedEntry| {
            chain == GATED && entry.gateway() != Some(gateway().address())
        };
        for left_out in &assembly.left_out {
            let entry = case.entry(left_out.batch, left_out.entry);
            let LeaveOut::OverBudget { chain } = left_out.reason else { continue };
            if dedup::keys(entry).any(|key| bundled.contains(&key)) {
                continue;
            }
            let bucket = CHAINS.iter().position(|other| *other == chain).map(|at| buckets[at]).unwrap();
            let level = if is_open(chain, entry) { bucket / 10 } else { bucket };
            if spent([entry].into_iter()).get(&chain).copied().unwrap_or_default().bytes > level {
                continue;
            }
            let later = assembly.taken.iter().filter(|taken| {
                let other = case.entry(taken.batch, taken.entry);
                taken.batch.owner == left_out.batch.owner
                    && (taken.batch, taken.entry) > (left_out.batch, left_out.entry)
                    && is_open(chain, other) == is_open(chain, entry)
            });
            for taken in later {
                let mut transactions = case.entry(taken.batch, taken.entry).transactions().iter();
                prop_assert!(transactions.all(|transaction| transaction.chain != chain));
            }
        }
    }

    #[test]
    fn taken_entries_keep_the_order_of_their_lane((draws, buckets) in draws()) {
        let assembly = Case::new(&draws, buckets).assemble();
        let mut last = BTreeMap::new();
        for taken in &assembly.taken {
            let place = Some((taken.batch, taken.entry));
            prop_assert!(last.insert(taken.batch.owner, place).unwrap_or(None) < place);
        }
    }

    #[test]
    fn lane_within_its_share_is_taken_whole_whatever_the_others_hold(
        (mut draws, _) in draws(),
        sizes in proptest::collection::vec((4..40usize, any::<bool>()), 1..8),
        lane in 0..4usize,
        spare in 0..4u64,
    ) {
        // The honest lane's transactions are its own: numbers outside of the pool. Nobody else pays for them.
        draws[lane].clear();
        let mut sums = [0u64; 2];
        let list: Vec<_> = (0..)
            .zip(&sizes)
            .map(|(n, (size, is_a))| {
                sums[usize::from(!is_a)] += *size as u64;
                tx(if *is_a { A } else { B }, 1_000 + n, *size)
            })
            .collect();
        let mut case = Case::new(&draws, [sums[0] * 4 + spare, sums[1] * 4 + spare, 0]);
        let honest = case.net.batch(lane, (1, 0), BatchDigest::ZERO, list.clone());
        let honest = if lane == 0 {
            let parent = case.net.position(0).digest;
            case.net.batch(0, (1, 1), parent, list)
        } else {
            honest
        };
        case.cut.lanes[lane] = position_of(&honest);
        let owner = honest.position().owner;
        let place = case.batches.partition_point(|batch| batch.position().owner < owner);
        case.batches.insert(place, honest);
        let assembly = case.assemble();
        let taken = assembly.taken.iter().filter(|taken| taken.batch.owner == owner).count();
        prop_assert_eq!(taken, sizes.len());
    }
}
