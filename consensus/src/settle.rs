//! What a decided block does to the entries that were submitted here, and which of them go back into the own lane.
//!
//! | the block | entry from the own lane | entry from another lane |
//! |---|---|---|
//! | takes it | `Decided` | `Decided` |
//! | leaves it out as a duplicate, all of it ordered at one place | `Decided` there | `Decided` there |
//! | leaves it out for good for another reason | this copy ends | nothing |
//! | leaves it out, not for good | carried | nothing |
//!
//! A validator can put any entry that it sees into its own lane with a short expiry, so what becomes of another lane's
//! copy says nothing about the copy submitted here. Pure; it sends nothing and queues nothing.

use alloy_primitives::Address;
use lockstep_core::admission::LeaveOut;
use lockstep_core::batch::BatchPosition;
use lockstep_core::block::LeftOut;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::CheckedEntry;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BlockHash, UnixMillis};

use crate::ledger::DecidedBlock;
use crate::tracker::{Change, CopyId, EntryState, Tracker};

/// An entry of a block's cut: its batch, and its index in the batch.
pub type Place = (BatchPosition, u32);

/// Where the log has all of an entry: one decision, of this block or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Height and index.
    pub decision: Decision,
    /// The block.
    pub block: BlockHash,
    /// The block's time.
    pub timestamp: UnixMillis,
}

/// An entry of the own lane that a block had no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The batch it stands in.
    pub batch: BatchPosition,
    /// Its place in the batch, counted from 0.
    pub index: u32,
    /// The entry.
    pub entry: CheckedEntry,
    /// Why the block had no room.
    pub reason: LeaveOut,
}

/// What a decided block changes here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// New states, in the order in which they came about.
    pub changes: Vec<Change>,
    /// Entries of the own lane that wait for another block, in the lane's order.
    pub carried: Vec<Carried>,
}

/// Notes in `tracker` what a decided block does to the entries submitted here; `me` owns the own lane.
///
/// `earlier` is asked for the place of an entry that the block leaves out as a duplicate: where the log, with this block,
/// took every transaction of it, if one decision took them all.
///
/// # Panics
/// If the block's assembly is not that of its batches.
pub fn settle(
    decided: &DecidedBlock,
    me: Address,
    tracker: &mut Tracker,
    earlier: impl Fn(&Place) -> Option<Earlier>,
) -> Settled {
    let (block, at) = (decided.header.hash(), decided.header.timestamp_ms);
    let (height, entries) = (decided.header.height, decided.entries());
    let entry_at = |batch: &BatchPosition, entry: u32| {
        entries.at(batch, entry).expect("an assembly names entries of its batches")
    };
    let mut settled = Settled::default();
    for taken in &decided.assembly.taken {
        let id = entry_at(&taken.batch, taken.entry).entry().id();
        let decision = Decision { height, index: taken.index };
        settled.changes.extend(tracker.decide(id, decision, block, at));
    }
    for &LeftOut { batch, entry: index, reason } in &decided.assembly.left_out {
        let (entry, is_own) = (entry_at(&batch, index), batch.owner == me);
        let ordered = if let LeaveOut::Duplicate { earlier: place } = reason
            && is_undecided(tracker, entry)
        {
            earlier(&(batch, index)).filter(|earlier| earlier.decision == place)
        } else {
            None
        };
        if let Some(Earlier { decision, block, timestamp }) = ordered {
            settled.changes.extend(tracker.decide(entry.entry().id(), decision, block, timestamp));
        } else if (is_own || planted(Bug::OtherCopyEnds)) && reason.is_final() {
            settled.changes.extend(tracker.end_copy(CopyId::of(entry.entry()), reason, at));
        } else if is_own {
            settled.carried.push(Carried { batch, index, entry: entry.clone(), reason });
        }
    }
    settled.changes.extend(tracker.advance(at));
    settled.carried.sort_by_key(|carried| (carried.batch, carried.index));
    settled
}

/// Whether the entry was submitted here, and no block is known to hold it.
fn is_undecided(tracker: &Tracker, entry: &CheckedEntry) -> bool {
    match tracker.state(entry.entry().id()) {
        Some(EntryState::Received | EntryState::Dropped(_)) => true,
        Some(EntryState::Decided { .. }) | None => false,
    }
}

#[cfg(test)]
mod tests;
