//! Order in (lane, chain) under random submissions, cuts, drained buckets and restarts, replayed from a seed.

use std::collections::BTreeMap;

use lockstep_core::types::{ChainId, EntryId};

use super::*;

/// splitmix64: a seed is the whole run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn size(&mut self, most: u64) -> usize {
        usize::try_from(10 + self.below(most)).unwrap()
    }
}

/// What a run did, summed up.
#[derive(Debug, Default)]
struct Tally {
    decided: usize,
    came_back: usize,
    restarts: usize,
    several_in_flight: usize,
}

/// One lane under test beside one that takes what it likes.
struct Run {
    net: Net,
    own: OwnLane,
    dice: Dice,
    /// Undecided batches of runs before this one that the log may still decide, and those of this run.
    old: Vec<CheckedBatch>,
    new: Vec<CheckedBatch>,
    next: u32,
    /// Submission number of each entry, and per chain the numbers in the order decided.
    numbers: BTreeMap<EntryId, u32>,
    decided: BTreeMap<ChainId, Vec<u32>>,
    /// The case that the module's documentation names under (1) came about.
    is_drained: bool,
    given_up: Vec<GivenUp>,
    tally: Tally,
}

fn chains(entry: &CheckedEntry) -> BTreeSet<ChainId> {
    entry.transactions().iter().map(|transaction| transaction.chain).collect()
}

impl Run {
    fn new(seed: u64) -> Self {
        let net = Net::new(2);
        let own = OwnLane::new(net.keys[0].address(), Incarnation(1), net.state.clone());
        Self {
            net,
            own,
            dice: Dice(seed),
            old: Vec::new(),
            new: Vec::new(),
            next: 0,
            numbers: BTreeMap::new(),
            decided: BTreeMap::new(),
            is_drained: false,
            given_up: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..8 => self.submit(),
            8..14 => self.make(),
            14..19 => self.block(),
            _ => self.restart(),
        }
    }

    fn submit(&mut self) {
        self.next += 1;
        let most = [2_000, 90_000][usize::try_from(self.dice.below(2)).unwrap()];
        let (first, second) = (self.dice.size(most), self.dice.size(most));
        let entry = match self.dice.below(5) {
            0 | 1 => tx(A, self.next, first),
            2 | 3 => tx(B, self.next, first),
            _ => bundle(self.next, [first, second]),
        };
        let now = self.net.state.timestamp;
        let checked = self.net.check(entry.clone());
        if self.own.push(now, client(0), checked).is_ok() {
            self.numbers.insert(entry.id(), self.next);
        }
    }

    fn make(&mut self) {
        let now = self.net.state.timestamp.plus(self.dice.below(400));
        if let Some(NextBatch { place, parent, entries }) =
            self.own.next_batch(now, self.net.state.height)
        {
            let batch = self.net.batch(0, place, parent, entries);
            assert!(self.own.made(place, batch.digest()));
            self.new.push(batch);
            self.tally.several_in_flight += usize::from(self.new.len() > 1);
        }
    }

    /// A block with some of this lane's batches, none of them perhaps, and what the other lane takes.
    fn block(&mut self) {
        if !self.new.is_empty() && self.dice.below(4) == 0 {
            self.old.clear(); // The proposer does not hold them: the cut jumps to the new run.
        }
        let from = if self.old.is_empty() { &mut self.new } else { &mut self.old };
        let most = u64::try_from(from.len()).unwrap();
        let count = usize::try_from(self.dice.below(most + 1)).unwrap();
        let mut batches: Vec<_> = from.drain(..count).collect();
        let drains: Vec<_> = (0..self.dice.below(4)).map(|_| self.drain()).collect();
        if !drains.is_empty() {
            batches.push(self.net.next(1, &drains));
        }
        let timestamp = self.net.state.timestamp.plus(1 + self.dice.below(500));
        let decided = self.net.decide(timestamp, batches);
        let me = self.net.keys[0].address();
        let entries = decided.entries();
        for taken in decided.assembly.taken.iter().filter(|taken| taken.batch.owner == me) {
            let entry = entries.at(&taken.batch, taken.entry).unwrap();
            let number = self.numbers[&entry.entry().id()];
            for chain in chains(entry) {
                self.decided.entry(chain).or_default().push(number);
            }
            self.tally.decided += 1;
        }
        let settled = settle(&decided, me, &mut Tracker::default(), |_| None);
        self.tally.came_back += settled.carried.len();
        let (state, carried) = (self.net.state.clone(), &settled.carried);
        assert_eq!(self.own.settle(state, carried, &mut self.given_up), None);
        self.is_drained |= [&self.old, &self.new].into_iter().any(|run| self.is_unsure(run));
    }

    fn drain(&mut self) -> Entry {
        self.next += 1;
        let chain = if self.dice.below(2) == 0 { A } else { B };
        tx(chain, self.next, self.dice.size(131_000))
    }

    /// Whether a chain's bucket has less for this lane than is in flight behind one another: in several batches, or
    /// behind a bundle.
    fn is_unsure(&self, run: &[CheckedBatch]) -> bool {
        let committed = &self.net.state.committed;
        let in_flight = |chain| {
            let all = run
                .iter()
                .enumerate()
                .flat_map(|(batch, of)| of.entries().iter().map(move |entry| (batch, entry)));
            all.filter(move |(_, entry)| chains(entry).contains(&chain))
        };
        let is_short = |chain| {
            let bytes: u64 = in_flight(chain)
                .flat_map(|(_, entry)| entry.transactions())
                .filter(|transaction| transaction.chain == chain)
                .map(|transaction| transaction.bytes)
                .sum();
            bytes > committed.chain(chain).unwrap().bytes / 2
        };
        let batches = |chain| in_flight(chain).map(|(batch, _)| batch).collect::<BTreeSet<_>>();
        let is_behind_bundle = |chain| {
            let mut entries = in_flight(chain).skip_while(|(_, entry)| chains(entry).len() < 2);
            entries.next().is_some() && entries.next().is_some()
        };
        [A, B].into_iter().any(|chain| is_short(chain) && batches(chain).len() > 1)
            || ([A, B].into_iter().any(is_short) && [A, B].into_iter().any(is_behind_bundle))
    }

    /// The queue is lost; the stored batches come again in a new run.
    fn restart(&mut self) {
        self.tally.restarts += 1;
        let stored: Vec<_> = self.old.drain(..).chain(self.new.drain(..)).collect();
        let incarnation = Incarnation(u64::try_from(self.tally.restarts).unwrap() + 1);
        self.own = OwnLane::new(self.net.keys[0].address(), incarnation, self.net.state.clone());
        self.own.restore(stored.iter().flat_map(|batch| batch.entries().iter().cloned()));
        let decided = self.net.state.committed.lanes[0];
        let newest = stored.last().map(|batch| batch.position().incarnation);
        let is_next = |run: Incarnation| run == decided.incarnation || Some(run) == newest;
        let mut of_run = stored;
        of_run.retain(|batch| is_next(batch.position().incarnation));
        let first = of_run.first().map(|batch| batch.position().incarnation);
        of_run.retain(|batch| Some(batch.position().incarnation) == first);
        self.old = of_run;
    }
}

#[test]
fn entries_of_a_lane_and_chain_are_decided_in_the_order_submitted() {
    let mut sum = Tally::default();
    for seed in 0..150 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        if run.is_drained {
            continue;
        }
        for (chain, numbers) in &run.decided {
            assert!(numbers.is_sorted(), "seed {seed}, chain {chain}: {numbers:?}");
        }
        sum.decided += run.tally.decided;
        sum.came_back += run.tally.came_back;
        sum.restarts += run.tally.restarts;
        sum.several_in_flight += run.tally.several_in_flight;
    }
    let Tally { decided, came_back, restarts, several_in_flight } = sum;
    let is_worth_it = decided > 500 && came_back > 50 && restarts > 100 && several_in_flight > 100;
    assert!(is_worth_it, "{sum:?}");
}
