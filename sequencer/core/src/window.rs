//! From a chain's slices to its blocks: which log blocks an L2 block covers, and which of their items it is offered.
//!
//! A block with timestamp `T` on a parent is offered the longest prefix of the items after the parent's cursor, with a log
//! time up to [`end`]`(T)`, that its [`Window`] has room for. That depends on the log, the parent, and the block's own
//! header and deposits; on nothing local. So a retry, a cancelled job, a reorg of either layer, a restart and a cold
//! reader all come to the same offer. Source: design section 4.
//!
//! It knows no execution engine and does not judge whether an item is valid; what became of an offer is read from the block
//! in [`cursor`](crate::cursor).
//!
//! | item | is |
//! |---|---|
//! | a record | no item for blocks; the cursor moves over it |
//! | more than [`BACKLOG_MS_MAX`] before the window's end | passed over: [`SkipReason::Stale`] |
//! | refused to a closed block that the block descends from | passed over: [`SkipReason::Invalid`] |
//! | larger than the block without its user deposits | passed over: [`SkipReason::TooLarge`] |
//! | with a transaction over [`Limits::tx_bytes`], or alone over [`Limits::block_bytes`] | passed over: [`SkipReason::OverLimit`] |
//! | larger than what is left of the block, or of [`Limits::block_bytes`] | waiting, and all behind it |
//! | else | offered, whole |

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};

use crate::deposit::{Deposit, InvalidDeposit, InvalidL1Info, L1Info, is_deposit};
use crate::limits::BACKLOG_MS_MAX;
use crate::params::ChainKind;
use crate::record::{Cursor, Limits, Sealed, SkipReason, Skipped};
use crate::slice::Item;
use crate::types::{Height, UnixMillis};
use crate::weight::{Weighed, Weight};

/// Seconds that an L2 block may be ahead of its L1 origin and still hold users' transactions (since Fjord).
const DRIFT_SECONDS_MAX: u64 = 1_800;

/// The log time up to which a block with `timestamp` seconds is offered items.
#[must_use]
pub const fn end(timestamp: u64, lead_ms: u64) -> UnixMillis {
    UnixMillis(timestamp.saturating_mul(1_000).saturating_sub(lead_ms))
}

/// Whether all items of a window are known once the log block with time `newest` is decided: log times ascend.
#[must_use]
pub const fn is_closed(end: UnixMillis, newest: UnixMillis) -> bool {
    newest.0 > end.0
}

/// The limits in force for a window with this end: the newest of the chain's `Limits` records, which are given with their log
/// times in log order, that is not later; none by default.
#[must_use]
pub fn limits_at(
    end: UnixMillis,
    records: impl IntoIterator<Item = (UnixMillis, Limits)>,
) -> Limits {
    records.into_iter().take_while(|(time, _)| *time <= end).last().unwrap_or_default().1
}

/// Why nothing may be offered to a block, as its own content shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// It holds deposits of a protocol upgrade: the block in which a fork begins.
    Upgrade,
    /// It is more than 1,800 seconds ahead of its L1 origin.
    Drift,
}

/// What a block's header and deposits say of its offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// See [`end`].
    pub end: UnixMillis,
    /// Gas that the block has left after all its deposits.
    pub gas: u64,
    /// Gas that it would have left after the first deposit alone: what declares more never fits.
    pub gas_max: u64,
    /// Estimated compressed bytes that its DA footprint has room for; `u64::MAX` before Jovian.
    pub bytes_max: u64,
    /// The chain's own limits, in force at the window's end.
    pub limits: Limits,
    /// Why nothing may be offered, if so.
    pub closed: Option<ClosedBy>,
}

/// Why a block has no window. No chain of the OP stack that is known here has such a block: nothing can be offered to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// Not even the L1-attributes deposit.
    #[error("block has no transaction")]
    Empty,
    /// A deposit, or the first transaction, is not one.
    #[error("transaction {index} of the block: {reason}")]
    Deposit {
        /// Its place in the block.
        index: usize,
        /// Why not.
        reason: InvalidDeposit,
    },
    /// The first deposit does not say what it must.
    #[error("first deposit of the block: {0}")]
    L1Info(#[from] InvalidL1Info),
}

impl Window {
    /// The window of a block, or of a job for one, with this timestamp in seconds, gas limit and transactions. The first
    /// transaction is the L1-attributes deposit; those that are no deposits do not matter.
    ///
    /// # Errors
    /// [`InvalidBlock`] if the deposits can't be read.
    pub fn of(
        timestamp: u64,
        gas_limit: u64,
        transactions: &[Bytes],
        lead_ms: u64,
        limits: Limits,
    ) -> Result<Self, InvalidBlock> {
        let deposit = |index: usize, bytes| {
            Deposit::decode(bytes).map_err(|reason| InvalidBlock::Deposit { index, reason })
        };
        let first = deposit(0, transactions.first().ok_or(InvalidBlock::Empty)?)?;
        let l1 = L1Info::decode(first.data)?;
        let gas_max = gas_limit.saturating_sub(first.gas);
        let mut gas = gas_max;
        let is_late = timestamp > l1.timestamp.saturating_add(DRIFT_SECONDS_MAX);
        let mut closed = is_late.then_some(ClosedBy::Drift);
        for (index, bytes) in transactions.iter().enumerate().skip(1) {
            if is_deposit(bytes) {
                let other = deposit(index, bytes)?;
                gas = gas.saturating_sub(other.gas);
                if other.is_upgrade() {
                    closed = Some(ClosedBy::Upgrade);
                }
            }
        }
        let scalar = l1.da_footprint_gas_scalar.map(u64::from);
        let bytes_max = scalar.and_then(|scalar| gas_limit.checked_div(scalar)).unwrap_or(u64::MAX);
        Ok(Self { end: end(timestamp, lead_ms), gas, gas_max, bytes_max, limits, closed })
    }
}

/// A chain's slice of one log block, weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSlice {
    /// Height of the log block.
    pub height: Height,
    /// Its timestamp: the log time of its items.
    pub timestamp: UnixMillis,
    /// The chain's items; empty if it has none there.
    pub items: Vec<Arc<Weighed>>,
}

impl LogSlice {
    /// Weighs the items of a slice that was verified. Costs about 2 µs per transaction of one core.
    #[must_use]
    pub fn new(height: Height, timestamp: UnixMillis, kind: ChainKind, items: Vec<Item>) -> Self {
        let items = items.into_iter().map(|item| Arc::new(Weighed::new(kind, item))).collect();
        Self { height, timestamp, items }
    }
}

/// An item by its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Height of its log block.
    pub height: Height,
    /// Its place among the chain's items of that log block, from 0.
    pub item: u32,
}

impl Place {
    /// Whether a cursor lies before the item, so that it was neither offered nor passed over.
    #[must_use]
    pub fn is_behind(self, cursor: Cursor) -> bool {
        (self.height, self.item) >= (cursor.height, cursor.items)
    }
}

/// An item that a block is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Where it is in the log.
    pub place: Place,
    /// The item. A leg is one item: all of its transactions are in the block, or none.
    pub item: Arc<Weighed>,
}

/// Where the offers of a block's children begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// The block's cursor.
    pub cursor: Cursor,
    /// Items behind the cursor that an engine refused to the block, or to closed blocks before it: at most
    /// [`REFUSED_MAX`](crate::limits::REFUSED_MAX).
    pub refused: BTreeSet<Place>,
}

impl From<Cursor> for Begin {
    fn from(cursor: Cursor) -> Self {
        Self { cursor, refused: BTreeSet::new() }
    }
}

impl Skipped {
    /// An item that an engine refused.
    #[must_use]
    pub const fn refused(Place { height, item }: Place) -> Self {
        Self { height, item, reason: SkipReason::Invalid }
    }
}

impl From<Skipped> for Place {
    fn from(Skipped { height, item, .. }: Skipped) -> Self {
        Self { height, item }
    }
}

impl Sealed {
    /// Where the offers of the block's children begin, as the record says.
    #[must_use]
    pub fn begin(&self) -> Begin {
        let is_ahead = |skipped: &&Skipped| Place::from(**skipped).is_behind(self.cursor);
        let refused = self.skipped.iter().filter(is_ahead).map(|skipped| Place::from(*skipped));
        Begin { cursor: self.cursor, refused: refused.collect() }
    }
}

/// What a block is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where it begins.
    pub begin: Begin,
    /// The block's own cursor if it takes the offer: behind the last item, records included, that was offered or passed
    /// over; that of [`begin`](Self::begin) if there was none.
    pub end: Cursor,
    /// Items to build from, in log order.
    pub items: Vec<Offered>,
    /// Items that no block will hold, in log order.
    pub passed: Vec<Skipped>,
    /// Log time of the first log block after the window's end.
    pub closed_at: UnixMillis,
}

impl Offer {
    /// The hashes of each item's transactions, as [`land`](crate::landing::land) wants them.
    #[must_use]
    pub fn hashes(&self) -> Vec<&[B256]> {
        self.items.iter().map(|offered| offered.item.hashes.as_slice()).collect()
    }

    /// Where the offers of a block's children begin if the block takes this one.
    #[must_use]
    pub fn after(&self) -> Begin {
        let refused = self.begin.refused.iter().filter(|place| place.is_behind(self.end));
        Begin { cursor: self.end, refused: refused.copied().collect() }
    }
}

/// Why an offer isn't known. Temporary: it is once the missing log blocks are there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingLog {
    /// The slices begin behind the cursor.
    #[error("slices begin at height {got}, the cursor is at {cursor}")]
    Begin {
        /// Height of the cursor.
        cursor: Height,
        /// Height of the first slice.
        got: Height,
    },
    /// Slices are not of one height after the other.
    #[error("height {got} follows height {after}")]
    Gap {
        /// The height before.
        after: Height,
        /// The next one that is there.
        got: Height,
    },
    /// The window is not closed yet.
    #[error("window ends at {end} ms, the newest log block is of {newest:?}")]
    Open {
        /// The window's end.
        end: UnixMillis,
        /// Log time of the last slice, `None` without a slice.
        newest: Option<UnixMillis>,
    },
}

/// The offer of a block on a parent that says where it begins: with its cursor, and with what was refused behind it.
///
/// `slices` are the chain's, one for every height from the cursor's or before it, empty ones included, to one after the
/// window's end at least. Where content closed the window, nothing is offered and no slice is needed.
///
/// # Errors
/// [`MissingLog`] while the slices do not show all that the offer depends on.
pub fn offer<'a>(
    begin: impl Into<Begin>,
    slices: impl IntoIterator<Item = &'a LogSlice>,
    window: &Window,
) -> Result<Offer, MissingLog> {
    let begin = begin.into();
    let cursor = begin.cursor;
    let mut packer = Packer::new(begin, window);
    if window.closed.is_some() {
        return Ok(packer.offer);
    }
    let mut before: Option<&LogSlice> = None;
    for slice in slices {
        check_order(cursor, before, slice)?;
        if is_closed(window.end, slice.timestamp) {
            return Ok(Offer { closed_at: slice.timestamp, ..packer.offer });
        }
        packer.add(slice);
        before = Some(slice);
    }
    Err(MissingLog::Open { end: window.end, newest: before.map(|slice| slice.timestamp) })
}

/// The same where no item lies between the cursor and the height `passed`: no slice before that height is needed.
///
/// # Errors
/// [`MissingLog`] while the slices do not show all that the offer depends on.
pub fn offer_from<'a>(
    begin: impl Into<Begin>,
    passed: Height,
    slices: impl IntoIterator<Item = &'a LogSlice>,
    window: &Window,
) -> Result<Offer, MissingLog> {
    let begin = begin.into();
    let from = begin.cursor.max(Cursor { height: passed, items: 0 });
    let offer = offer(Begin { cursor: from, ..begin.clone() }, slices, window)?;
    let end = if offer.end == from { begin.cursor } else { offer.end };
    Ok(Offer { begin, end, ..offer })
}

/// The first height with an item behind a cursor, or after a window's end; `None` if the slices do not come to it. They are in
/// order, and none before them holds an item behind the cursor.
pub fn next_height<'a>(
    slices: impl IntoIterator<Item = &'a LogSlice>,
    cursor: Cursor,
    end: UnixMillis,
) -> Option<Height> {
    let holds_more = |slice: &&LogSlice| {
        let last = u32::try_from(slice.items.len()).unwrap_or(u32::MAX).checked_sub(1);
        let last = last.map(|item| Place { height: slice.height, item });
        last.is_some_and(|last| last.is_behind(cursor)) || is_closed(end, slice.timestamp)
    };
    slices.into_iter().find(holds_more).map(|slice| slice.height)
}

fn check_order(
    cursor: Cursor,
    before: Option<&LogSlice>,
    slice: &LogSlice,
) -> Result<(), MissingLog> {
    let got = slice.height;
    match before {
        // The first block of a log has height 1.
        None if got > cursor.height && got > Height(1) => {
            Err(MissingLog::Begin { cursor: cursor.height, got })
        }
        Some(before) if got != before.height.next() => {
            Err(MissingLog::Gap { after: before.height, got })
        }
        None | Some(_) => Ok(()),
    }
}

/// Fills an offer, item by item, until one must wait.
struct Packer<'a> {
    window: &'a Window,
    offer: Offer,
    /// Of the items that are offered so far.
    weight: Weight,
    /// Whether an item waits; all behind it do.
    is_full: bool,
}

enum Admission {
    /// The cursor moves over it.
    Ignore,
    Pass(SkipReason),
    /// The weight of the offer, this item included.
    Offer(Weight),
    Wait,
}

impl<'a> Packer<'a> {
    const fn new(begin: Begin, window: &'a Window) -> Self {
        let offer = Offer {
            end: begin.cursor,
            begin,
            items: Vec::new(),
            passed: Vec::new(),
            closed_at: window.end,
        };
        let weight = Weight { gas: 0, bytes: 0, transaction_bytes: 0 };
        Self { window, offer, weight, is_full: false }
    }

    fn add(&mut self, slice: &LogSlice) {
        let begin = self.offer.begin.cursor;
        if self.is_full || slice.height < begin.height {
            return;
        }
        let seen = if slice.height == begin.height { begin.items } else { 0 };
        for (item, number) in slice.items.iter().zip(0u32..).skip(seen as usize) {
            let place = Place { height: slice.height, item: number };
            match self.admit(item, place, slice.timestamp) {
                Admission::Ignore => {}
                Admission::Pass(reason) => {
                    let Place { height, item } = place;
                    self.offer.passed.push(Skipped { height, item, reason });
                }
                Admission::Offer(weight) => {
                    self.weight = weight;
                    self.offer.items.push(Offered { place, item: Arc::clone(item) });
                }
                Admission::Wait => {
                    self.is_full = true;
                    return;
                }
            }
            self.offer.end = Cursor { height: slice.height, items: number.saturating_add(1) };
        }
    }

    fn admit(&self, item: &Weighed, place: Place, time: UnixMillis) -> Admission {
        let (window, limits) = (self.window, &self.window.limits);
        if item.is_record() {
            return Admission::Ignore;
        }
        if time.plus(BACKLOG_MS_MAX) < window.end {
            return Admission::Pass(SkipReason::Stale);
        }
        if self.offer.begin.refused.contains(&place) {
            return Admission::Pass(SkipReason::Invalid);
        }
        if item.weight.gas > window.gas_max || item.weight.bytes > window.bytes_max {
            return Admission::Pass(SkipReason::TooLarge);
        }
        // What would wait for other limits makes all behind it wait until they are stale: a batcher's least limits are below
        // nearly every call of a contract.
        if is_over(limits.tx_bytes, item.weight.transaction_bytes)
            || is_over(limits.block_bytes, item.weight.bytes)
        {
            return Admission::Pass(SkipReason::OverLimit);
        }
        let sum = self.weight.plus(item.weight);
        if sum.gas > window.gas
            || sum.bytes > window.bytes_max
            || is_over(limits.block_bytes, sum.bytes)
        {
            return Admission::Wait;
        }
        Admission::Offer(sum)
    }
}

/// Whether bytes are over a limit of which 0 means none.
const fn is_over(limit: u64, bytes: u64) -> bool {
    limit != 0 && bytes > limit
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
