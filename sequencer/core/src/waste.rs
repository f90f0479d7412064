//! What a lane may put into the log for nothing.
//!
//! A batch is decided whole, and kept whole: also the entries that assembly leaves out. Its owner chose them, so the
//! lane answers for them. The state keeps, per lane, how many bytes were for nothing; an equal share of what all chains
//! may take is forgiven as log time passes. A lane that wasted more than [`bound`] stays where it is in every cut until
//! enough is forgiven. So one owner adds at most [`bound`] and a cut, and then [`forgiven_per_second`], to what the
//! chains' budgets let everybody add.
//!
//! Honest owners waste, too: the copy of an entry that another lane has, an entry that expires on its way, a batch that
//! finds its bucket drained. One that never has more in flight than its lane may still waste is never stopped, whatever
//! its clients send ([`allowance`]).

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::batch::{BatchPosition, CheckedBatch};
use crate::block::LeftOut;
use crate::budget::scaled;
use crate::cut::{InvalidCut, LaneStep};
use crate::limits::{CUT_BYTES_MAX, WASTE_BYTES_PER_SECOND};
use crate::state::Committed;

/// Bytes per second of log time that every lane is forgiven: an equal share of the chains' budgets, and
/// [`WASTE_BYTES_PER_SECOND`], rounded down.
#[must_use]
pub fn forgiven_per_second(committed: &Committed) -> u64 {
    let rates = committed.chains.iter().map(|chain| chain.params.bytes_per_second);
    let share = rates.fold(0, u64::saturating_add).checked_div(committed.lanes.len() as u64);
    WASTE_BYTES_PER_SECOND.saturating_add(share.unwrap_or_default())
}

/// Bytes for nothing beyond which a lane stays: two seconds of what is forgiven, and always room for a whole cut.
#[must_use]
pub fn bound(committed: &Committed) -> u64 {
    forgiven_per_second(committed).saturating_mul(2).max(CUT_BYTES_MAX as u64)
}

/// What a lane may still put into the log for nothing and move on; 0 if it is not a lane of the state.
#[must_use]
pub fn allowance(committed: &Committed, owner: Address) -> u64 {
    let place = committed.lanes.iter().position(|lane| lane.owner == owner);
    let wasted = place.and_then(|place| committed.wasted.get(place));
    wasted.map_or(0, |wasted| bound(committed).saturating_sub(*wasted))
}

/// Whether all lanes that a cut moves may move.
///
/// # Errors
/// [`InvalidCut::Wasted`] names the first that may not.
pub fn check(committed: &Committed, steps: &[LaneStep]) -> Result<(), InvalidCut> {
    match steps.iter().find(|step| allowance(committed, step.owner) == 0) {
        Some(LaneStep { owner, .. }) => Err(InvalidCut::Wasted { owner: *owner }),
        None => Ok(()),
    }
}

/// Bytes that a block's batches add to what each lane wasted: entries that were left out, and all of a batch of which
/// none was taken.
pub(crate) fn added(batches: &[CheckedBatch], left_out: &[LeftOut]) -> BTreeMap<Address, u64> {
    let mut places: BTreeMap<BatchPosition, Vec<u32>> = BTreeMap::new();
    for LeftOut { batch, entry, .. } in left_out {
        places.entry(*batch).or_default().push(*entry);
    }
    let mut added: BTreeMap<Address, u64> = BTreeMap::new();
    for batch in batches {
        let position = batch.position();
        let places = places.get(&position).map_or(&[][..], Vec::as_slice);
        let bytes = if places.len() == batch.entries().len() {
            batch.raw().len() as u64
        } else {
            places.iter().map(|place| entry_bytes(batch, *place)).fold(0, u64::saturating_add)
        };
        let sum = added.entry(position.owner).or_default();
        *sum = sum.saturating_add(bytes);
    }
    added
}

fn entry_bytes(batch: &CheckedBatch, place: u32) -> u64 {
    let entry = usize::try_from(place).ok().and_then(|place| batch.entries().get(place));
    entry.expect("what is left out is an entry of its batch").entry().raw().len() as u64
}

/// What each lane of the state wasted, in their order, when a block `elapsed_ms` of log time later has `added` that.
pub(crate) fn after(
    committed: &Committed,
    elapsed_ms: u64,
    added: &BTreeMap<Address, u64>,
) -> Vec<u64> {
    let forgiven = scaled(forgiven_per_second(committed), elapsed_ms, 1_000);
    let lanes = committed.lanes.iter().zip(&committed.wasted);
    lanes
        .map(|(lane, wasted)| {
            let more = added.get(&lane.owner).copied().unwrap_or_default();
            wasted.saturating_sub(forgiven).saturating_add(more)
        })
        .collect()
}

#[cfg(test)]
mod tests;
