//! Plants each bug of `lockstep_core::planted` and looks for the first seed that finds it.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_core::planted::{BUGS, Bug, plant};

use crate::trace::Trace;
use crate::world::{STALL, World};

/// Plants the bug of this name.
pub(crate) fn plant_named(name: &str) {
    plant(BUGS.iter().find(|(_, known, _)| *known == name).map(|(bug, ..)| *bug));
}

/// Seeds that are run on after a stall, which says least, for a rule that says more.
const AFTER_STALL: usize = 200;

/// The rule that a seed breaks. A panic counts: an assertion found it.
fn broken(seed: u64) -> Option<(u64, String)> {
    let run = move || World::new(seed, Trace::new(false)).run().0.violation;
    let violation = std::panic::catch_unwind(run);
    violation.unwrap_or_else(|_| Some("an assertion".to_owned())).map(|rule| (seed, rule))
}

/// The first seed that finds the bug, and the rule that breaks.
fn find(bug: Bug, seeds: Range<u64>) -> Option<(u64, String)> {
    plant(Some(bug));
    let mut seeds = seeds.into_iter();
    let mut found = seeds.find_map(broken);
    if found.as_ref().is_some_and(|(_, rule)| rule.starts_with(STALL)) {
        let mut others = seeds.take(AFTER_STALL).filter_map(broken);
        found = others.find(|(_, rule)| !rule.starts_with(STALL)).or(found);
    }
    plant(None);
    found
}

/// Prints a row for each bug whose name has `part` in it, on all cores. A bug that is not found is a failure.
pub(crate) fn table(seeds: &Range<u64>, part: &str) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs: Vec<_> = BUGS.iter().filter(|(_, name, _)| name.contains(part)).collect();
    let (next, missed, printing) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
    println!("| name | what | seed | rule that broke |\n|---|---|---|---|");
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((bug, name, what)) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = find(*bug, seeds.clone());
                    missed.fetch_add(usize::from(found.is_none()), Ordering::Relaxed);
                    let _order = printing.lock();
                    match found {
                        Some((seed, rule)) => println!("| {name} |{what} | {seed} | {rule} |"),
                        None => println!("| {name} |{what} | not found | |"),
                    }
                }
            });
        }
    });
    if missed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
