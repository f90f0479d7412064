//! The simulator: many validators in one thread and in virtual time.
//!
//! Each validator is malachite's core (`lockstep_engine::replica`), the application, a guard over files in memory and a
//! store in memory. Bytes between them are the real ones. A seed draws faults and lies (`plan`, `attacker`), rules are
//! checked at every step (`checks`); when the faults are over, all must go on.
//!
//! ```text
//! sim run 0..1000      runs seeds; prints those that break a rule; ends with 1 if there is one
//! sim replay 7         runs one seed and prints what happens
//! sim twice 0..20      runs seeds twice and compares their traces
//! sim bugs 0..1000     plants each bug and says which seed of these finds it first; a word more: those with it in their name
//! sim replay 7 log-lost  the same with a bug
//! ```

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test program: a panic is a failed test"
)]

mod attacker;
mod bugs;
mod checks;
mod disk;
mod engine_side;
mod entries;
mod ledger;
mod lies;
mod life;
mod net;
mod node;
mod plan;
mod profile;
mod rng;
mod trace;
mod work;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use crate::ledger::Sum;
use crate::trace::Trace;
use crate::world::{Outcome, World};

fn seeds(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn run(seed: u64) -> Outcome {
    World::new(seed, Trace::new(false)).run().0
}

/// Every `step`-th seed of a range. A panic is a seed that failed.
fn run_some(seeds: Range<u64>, step: usize) -> Sum {
    let mut sum = Sum::default();
    for seed in seeds.step_by(step) {
        sum.seeds += 1;
        let violation = match std::panic::catch_unwind(|| run(seed)) {
            Ok(outcome) => {
                sum.add(&outcome);
                outcome.violation
            }
            Err(_) => Some("a panic".to_owned()),
        };
        if let Some(violation) = violation {
            sum.failed += 1;
            println!("seed {seed}: {violation}");
        }
    }
    sum
}

/// Runs seeds on all cores.
fn run_all(seeds: Range<u64>) -> ExitCode {
    let (began, seeds_run) = (Instant::now(), seeds.clone());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sums: Vec<_> = std::thread::scope(|scope| {
        let starts = (0..threads as u64).map(|offset| seeds.start + offset..seeds.end);
        let running: Vec<_> =
            starts.map(|seeds| scope.spawn(move || run_some(seeds, threads))).collect();
        running.into_iter().map(|thread| thread.join().expect("it catches panics")).collect()
    });
    let mut all = Sum::default();
    sums.iter().for_each(|sum| all.join(sum));
    println!("{}", all.line(&seeds_run, began.elapsed().as_secs_f64(), threads));
    if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let world = World::new(seed, Trace::new(true));
    println!("{:#?}\n{:?}", world.plan, world.attacker.lies());
    let (outcome, _) = world.run();
    println!("{outcome:#?}");
    if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn twice(seeds: Range<u64>) -> ExitCode {
    let differ: Vec<_> = seeds.filter(|seed| run(*seed).hash != run(*seed).hash).collect();
    println!("seeds whose trace differs when it is run again: {differ:?}");
    if differ.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", range] => seeds(range).map_or(ExitCode::FAILURE, run_all),
        ["twice", range] => seeds(range).map_or(ExitCode::FAILURE, twice),
        ["bugs", range] => seeds(range).map_or(ExitCode::FAILURE, |seeds| bugs::table(&seeds, "")),
        ["bugs", range, name] => {
            seeds(range).map_or(ExitCode::FAILURE, |seeds| bugs::table(&seeds, name))
        }
        ["replay", seed, bug] => {
            bugs::plant_named(bug);
            seed.parse().map_or(ExitCode::FAILURE, replay)
        }
        ["replay", seed] => seed.parse().map_or(ExitCode::FAILURE, replay),
        _ => {
            println!("sim run A..B | sim twice A..B | sim bugs A..B | sim replay SEED");
            ExitCode::FAILURE
        }
    }
}
