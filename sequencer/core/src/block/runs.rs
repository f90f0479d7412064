//! From a cut and its batches to the walk: are these the batches that the cut names, and in which order are their
//! entries tried.

use crate::batch::{BatchPosition, CheckedBatch};
use crate::block::CannotAssemble;
use crate::cut::{Cut, InvalidCut, LaneStep};
use crate::entry::CheckedEntry;
use crate::limits::{CUT_BYTES_MAX, CUT_ENTRIES_MAX};
use crate::state::State;
use crate::types::{Height, Sequence};

/// One entry of the cut, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop<'a> {
    /// Place of the lane in address order.
    pub(super) lane: usize,
    pub(super) batch: BatchPosition,
    pub(super) entry: u32,
    pub(super) checked: &'a CheckedEntry,
}

/// The batches a cut adds of one lane, checked against its step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    lane: usize,
    batches: &'a [CheckedBatch],
}

/// Splits `batches` (in the order of the cut's steps, each lane's by ascending sequence) into runs.
pub(super) fn runs<'a>(
    state: &State,
    cut: &Cut,
    batches: &'a [CheckedBatch],
) -> Result<Vec<Run<'a>>, CannotAssemble> {
    let steps = cut.steps(&state.committed.lanes)?;
    let count = |step: &LaneStep| {
        usize::try_from(step.batch_count()).expect("`Cut::steps` allows CUT_BATCHES_MAX together")
    };
    let expected = steps.iter().map(count).fold(0usize, usize::saturating_add);
    if expected != batches.len() {
        return Err(CannotAssemble::Count { expected, got: batches.len() });
    }
    let (mut runs, mut rest) = (Vec::with_capacity(steps.len()), batches);
    for step in &steps {
        let (run, behind) =
            rest.split_at_checked(count(step)).expect("the counts add up to the batches");
        rest = behind;
        check_chain(step, run)?;
        let lane = cut.lanes.iter().position(|lane| lane.owner == step.owner);
        let lane = lane.expect("a step is of one of the cut's lanes");
        runs.push(Run { lane, batches: run });
    }
    check_limits(batches)?;
    Ok(runs)
}

/// From the tip backwards, because each digest commits to the one before it.
fn check_chain(step: &LaneStep, run: &[CheckedBatch]) -> Result<(), CannotAssemble> {
    let (mut digest, mut sequence) = (step.tip, step.last);
    for batch in run.iter().rev() {
        let position = BatchPosition { owner: step.owner, incarnation: step.incarnation, sequence };
        if batch.digest() != digest {
            return Err(CannotAssemble::Batch { position, expected: digest, got: batch.digest() });
        }
        if batch.position() != position {
            return Err(CannotAssemble::Position { expected: position, got: batch.position() });
        }
        digest = batch.header().parent;
        sequence = Sequence(sequence.0.saturating_sub(1));
    }
    if digest != step.parent {
        let owner = step.owner;
        return Err(CannotAssemble::Parent { owner, expected: step.parent, got: digest });
    }
    Ok(())
}

fn check_limits(batches: &[CheckedBatch]) -> Result<(), InvalidCut> {
    let sum =
        |of: fn(&CheckedBatch) -> usize| batches.iter().map(of).fold(0, usize::saturating_add);
    let count = sum(|batch| batch.entries().len());
    if count > CUT_ENTRIES_MAX {
        return Err(InvalidCut::Entries { count });
    }
    let count = sum(|batch| batch.raw().len());
    if count > CUT_BYTES_MAX {
        return Err(InvalidCut::Bytes { count });
    }
    Ok(())
}

/// The place in address order of the lane with which `height` begins, of `count` lanes; at least one.
pub(crate) fn first_lane(height: Height, count: usize) -> usize {
    let place = height.0.checked_rem(count as u64).expect("a set has a validator, a cut a lane");
    usize::try_from(place).expect("below the count of lanes")
}

/// The order in which entries are tried: one of each lane in turn, from the `first` lane of address order on.
pub(super) fn walk<'a>(runs: &[Run<'a>], first: usize) -> Vec<Stop<'a>> {
    let (before, from): (Vec<Run<'a>>, Vec<_>) = runs.iter().partition(|run| run.lane < first);
    let mut lanes: Vec<_> = from.into_iter().chain(before).map(stops).collect();
    let mut walk = Vec::new();
    while !lanes.is_empty() {
        lanes.retain_mut(|lane| {
            let stop = lane.next();
            walk.extend(stop);
            stop.is_some()
        });
    }
    walk
}

fn stops(run: Run<'_>) -> impl Iterator<Item = Stop<'_>> {
    run.batches.iter().flat_map(move |batch| {
        (0..).zip(batch.entries()).map(move |(entry, checked)| Stop {
            lane: run.lane,
            batch: batch.position(),
            entry,
            checked,
        })
    })
}
