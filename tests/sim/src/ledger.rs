//! What seeds had, summed up in one line for `LEDGER.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use crate::world::Outcome;

/// What seeds had together.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// How many seeds.
    pub(crate) seeds: u64,
    /// Of them, how many broke a rule.
    pub(crate) failed: u64,
    outcome: Outcome,
}

fn add_all<Key: Ord + Copy>(to: &mut BTreeMap<Key, u64>, more: &BTreeMap<Key, u64>) {
    for (key, count) in more {
        *to.entry(*key).or_default() += count;
    }
}

impl Sum {
    /// One more run.
    pub(crate) fn add(&mut self, one: &Outcome) {
        let sum = &mut self.outcome;
        sum.events += one.events;
        sum.decisions += one.decisions;
        sum.crashes += one.crashes;
        sum.abstained += one.abstained;
        sum.entries += one.entries;
        sum.partitions += one.partitions;
        sum.flaps += one.flaps;
        sum.jumps += one.jumps;
        sum.lost += one.lost;
        sum.round_max = sum.round_max.max(one.round_max);
        sum.time += one.time;
        add_all(&mut sum.lies, &one.lies);
        add_all(&mut sum.disks, &one.disks);
    }

    /// What another thread ran.
    pub(crate) fn join(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.add(&other.outcome);
    }

    /// The row of the ledger, without date and commit, and how fast it was.
    #[must_use]
    pub(crate) fn line(&self, seeds: &Range<u64>, seconds: f64, threads: usize) -> String {
        let Outcome { events, decisions, entries, abstained, round_max, time, .. } = &self.outcome;
        let Outcome { partitions, flaps, jumps, lost, disks, lies, .. } = &self.outcome;
        let list = |counts: &mut dyn Iterator<Item = (String, u64)>| {
            let mut text = String::new();
            for (name, count) in counts {
                write!(text, " {name} {count}").expect("a string takes it");
            }
            text
        };
        let crashes = list(&mut disks.iter().map(|(fault, count)| (format!("{fault:?}"), *count)));
        let told = list(&mut lies.iter().map(|(lie, count)| (format!("{lie:?}"), *count)));
        let speed = self.seeds as f64 / seconds;
        let simulated = time / 1_000_000;
        format!(
            "{speed:.1} seeds/s on {threads} cores, {events} events, greatest round {round_max}; for tests/sim/LEDGER.md:\n\
             | date | commit | {}..{} | crashes:{crashes}; partitions {partitions}, flaps {flaps}, frames lost {lost}, \
             jumps {jumps}, abstentions {abstained}; lies:{told} | {decisions} | {entries} | {simulated} s | {} |",
            seeds.start, seeds.end, self.failed,
        )
    }
}
