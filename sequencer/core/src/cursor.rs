//! What became of an offer: what kind of block an L2 block is, and where the offer of its children begins.
//!
//! The cursor of a block follows from its parent's cursor, its own content and the log. So whoever walks a chain of blocks
//! from any of them whose cursor is known, or from the block at which the chain joined, comes to the same cursors.
//! Source: design section 4.
//!
//! | content | kind | cursor |
//! |---|---|---|
//! | closed by its deposits or by drift, no user's transaction | [`Kind::Closed`] | stays |
//! | a user's transaction that was not offered, or not in its turn | [`Kind::Foreign`] | stays |
//! | other users' transactions, or none where nothing was offered | [`Kind::Offered`] | end of the offer |
//! | no user's transaction, something was offered | what the first record of its hash says: [`Kind::Offered`] or [`Kind::Closed`] | |
//! | that, and no record in time | [`Kind::Offered`]: every item was invalid, or L1 replaced the block | end of the offer |
//! | that, and a record may still come in time | [`Kind::Ambiguous`] | not known |
//!
//! Content comes before records: a record can't make a block closed that took its offer, nor one that was offered nothing.
//!
//! A closed block's first record may list items of its offer that an engine refused, so that the chain gets on where refusals
//! have no end: see [`Kind::begin`].
//! Which of its offer's items a block holds, [`landing`](crate::landing) says.
//! Nothing here checks signatures of records, or asks an engine which blocks are canonical.

use std::collections::BTreeSet;

use alloy_primitives::{B256, Bytes, keccak256};

use crate::deposit::is_deposit;
use crate::landing::{Landed, land};
use crate::limits::{BACKLOG_MS_MAX, RECORD_SKIPPED_MAX, REFUSED_MAX};
use crate::record::{Cursor, Limits, SealMode, Sealed, Skipped};
use crate::types::UnixMillis;
use crate::window::{Begin, InvalidBlock, Offer, Offered, Place, Window};

/// What matters here of an L2 block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Header {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// Its timestamp, seconds.
    pub timestamp: u64,
    /// Its gas limit.
    pub gas_limit: u64,
}

/// What matters here of an L2 block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// Its timestamp, seconds.
    pub timestamp: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// EIP-2718 bytes of its transactions, deposits first.
    pub transactions: Vec<Bytes>,
}

impl L2Block {
    /// A block of this header and these transactions.
    #[must_use]
    pub const fn new(header: L2Header, transactions: Vec<Bytes>) -> Self {
        let L2Header { number, hash, parent, timestamp, gas_limit } = header;
        Self { number, hash, parent, timestamp, gas_limit, transactions }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> L2Header {
        let Self { number, hash, parent, timestamp, gas_limit, .. } = *self;
        L2Header { number, hash, parent, timestamp, gas_limit }
    }

    /// The block's window; see [`Window::of`].
    ///
    /// # Errors
    /// [`InvalidBlock`] if its deposits can't be read.
    pub fn window(&self, lead_ms: u64, limits: Limits) -> Result<Window, InvalidBlock> {
        Window::of(self.timestamp, self.gas_limit, &self.transactions, lead_ms, limits)
    }
}

/// What the log says of a block so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// Log time and mode of the first `Sealed` record with the block's hash. Who seals the block puts its own word here,
    /// as of [`Offer::closed_at`], until the record is decided or late.
    pub record: Option<(UnixMillis, SealMode)>,
    /// Log time of the newest log block that is known.
    pub newest: UnixMillis,
}

/// What kind of block it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing was offered to it.
    Closed,
    /// It holds a user's transaction that was not offered, was not in its turn, or is part of a leg without the rest.
    Foreign {
        /// Place in the block of the first such transaction.
        index: u32,
        /// Its hash.
        hash: B256,
    },
    /// It took its offer.
    Offered(Outcome),
    /// It is not known yet whether it was offered something.
    Ambiguous,
}

/// What became of each item of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Items in the block, in order.
    pub included: Vec<Included>,
    /// The other ones between the parent's cursor and the block's, in log order.
    pub skipped: Vec<Skipped>,
}

/// An item in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Included {
    /// Where it is in the log.
    pub place: Place,
    /// Index in the block of its first transaction, deposits counted.
    pub index: u32,
    /// How many transactions it has; they follow each other.
    pub count: u32,
}

/// Whether a record came early enough to say how a block was sealed: within [`BACKLOG_MS_MAX`] of the first log block after
/// the block's window ended. (Not of the end itself: while the log is silent, no record can come.)
///
/// Who starts from a record must not take a late one of a closed block: the block may count as offered since.
#[must_use]
pub const fn is_timely(recorded: UnixMillis, closed_at: UnixMillis) -> bool {
    recorded.since(closed_at) <= BACKLOG_MS_MAX
}

/// What kind of block `block` is, by its window and its offer. Pure, and final unless it is [`Kind::Ambiguous`]: no later
/// log block changes the answer.
#[must_use]
pub fn classify(block: &L2Block, window: &Window, offer: &Offer, testimony: &Testimony) -> Kind {
    let users: Vec<_> = (0u32..)
        .zip(&block.transactions)
        .filter(|(_, bytes)| !is_deposit(bytes))
        .map(|(index, bytes)| (index, keccak256(bytes)))
        .collect();
    if !users.is_empty() {
        return compare(&users, offer);
    }
    if window.closed.is_some() {
        return Kind::Closed;
    }
    let record = testimony.record.filter(|(time, _)| is_timely(*time, offer.closed_at));
    match record {
        _ if offer.items.is_empty() => compare(&users, offer),
        Some((_, SealMode::Closed)) => Kind::Closed,
        Some((_, SealMode::Offered)) => compare(&users, offer),
        None if is_timely(testimony.newest, offer.closed_at) => Kind::Ambiguous,
        None => compare(&users, offer),
    }
}

/// What the block's users' transactions are of its offer.
fn compare(users: &[(u32, B256)], offer: &Offer) -> Kind {
    let hashes: Vec<B256> = users.iter().map(|(_, hash)| *hash).collect();
    let landed = match land(&hashes, &offer.hashes()) {
        Landed::Whole(landed) => landed,
        Landed::Torn { first, .. } | Landed::Foreign { first } => {
            let (index, hash) = *users.get(first).expect("the stray is one of them");
            return Kind::Foreign { index, hash };
        }
    };
    let mut outcome = Outcome { skipped: offer.passed.clone(), ..Outcome::default() };
    for (Offered { place, item }, first) in offer.items.iter().zip(landed) {
        let included = first.and_then(|first| {
            let (index, _) = *users.get(first)?;
            let count = u32::try_from(item.hashes.len()).ok()?;
            Some(Included { place: *place, index, count })
        });
        match included {
            Some(included) => outcome.included.push(included),
            None => outcome.skipped.push(Skipped::refused(*place)),
        }
    }
    outcome.skipped.sort_unstable_by_key(|skipped| (skipped.height, skipped.item));
    Kind::Offered(outcome)
}

impl Kind {
    /// The block's cursor, where the offers of its children begin; `None` while that is not known.
    #[must_use]
    pub const fn cursor(&self, offer: &Offer) -> Option<Cursor> {
        match self {
            Self::Closed | Self::Foreign { .. } => Some(offer.begin.cursor),
            Self::Offered(_) => Some(offer.end),
            Self::Ambiguous => None,
        }
    }

    /// Where the offers of the block's children begin; `None` while that is not known. `listed` are the items that the
    /// block's first record names as refused: of a closed block, those of them that it would have been offered count, the
    /// first ones up to [`REFUSED_MAX`] in all. They and those of its parent are passed on until the cursor is behind them.
    #[must_use]
    pub fn begin(&self, offer: &Offer, listed: &BTreeSet<Place>) -> Option<Begin> {
        let cursor = self.cursor(offer)?;
        let mut refused = offer.begin.refused.clone();
        if *self == Self::Closed {
            let places = offer.items.iter().map(|item| item.place);
            let free = REFUSED_MAX.saturating_sub(refused.len());
            refused.extend(places.filter(|place| listed.contains(place)).take(free));
        }
        refused.retain(|place| place.is_behind(cursor));
        Some(Begin { cursor, refused })
    }

    /// The record of a block of this kind; `None` while that is not known. `listed` are the items that an engine refused to
    /// it, if it is closed because of them.
    ///
    /// It names all refused items behind the cursor, and the first of the others up to [`RECORD_SKIPPED_MAX`] in all. A
    /// foreign block's record says closed.
    #[must_use]
    pub fn sealed(
        &self,
        block: &L2Block,
        offer: &Offer,
        listed: &BTreeSet<Place>,
    ) -> Option<Sealed> {
        let Begin { cursor, refused } = self.begin(offer, listed)?;
        let (mode, skipped) = match self {
            Self::Offered(outcome) => (SealMode::Offered, outcome.skipped.as_slice()),
            Self::Closed | Self::Foreign { .. } => (SealMode::Closed, [].as_slice()),
            Self::Ambiguous => return None,
        };
        let free = RECORD_SKIPPED_MAX.saturating_sub(refused.len());
        let behind = refused.into_iter().map(Skipped::refused);
        Some(Sealed {
            number: block.number,
            hash: block.hash,
            parent: block.parent,
            timestamp: block.timestamp,
            mode,
            cursor,
            skipped: skipped.iter().take(free).copied().chain(behind).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
