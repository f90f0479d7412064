//! The one reader of a chain: which block has which cursor, by the log, the chain's blocks, and what is known already. Pure.
//!
//! Known are blocks that were read before, those that a record speaks of, and the parent of the block at which the chain
//! joined. From the nearest of them a [`Walk`] comes to any block; it says what it needs, and whoever carries it out fetches.
//! What a block is, [`cursor`] says.
//!
//! It knows no execution engine and no endpoint, and does not check signatures: it is given verified slices.

mod walk;

use std::collections::BTreeSet;

use alloy_primitives::B256;

use crate::cursor::{self, Kind, L2Block, Testimony};
use crate::limits::{BACKLOG_MS_MAX, READER_BLOCKS_MAX, READER_WALK_MAX};
use crate::recent::Recent;
use crate::record::{Cursor, SealMode, Sealed};
use crate::records::{RecordBook, Recorded};
use crate::types::{Height, UnixMillis};
use crate::window::{self, Begin, InvalidBlock, LogSlice, MissingLog, Offer, Place, Window};

pub use walk::{Need, Next, Walk};

/// Why a cursor is not known yet. All pass; ask again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The log is not known far enough.
    #[error("{0}")]
    Log(#[from] MissingLog),
    /// The engine does not have a block.
    #[error("the engine does not have block {0}")]
    NoBlock(B256),
    /// A block is no OP block.
    #[error("block {hash}: {reason}")]
    Block {
        /// Its hash.
        hash: B256,
        /// Why.
        reason: InvalidBlock,
    },
    /// A block's window is not closed in the log yet.
    #[error("block {hash} is ahead of the log: its window ends at {end}")]
    AheadOfLog {
        /// Its hash.
        hash: B256,
        /// Its window's end.
        end: UnixMillis,
    },
    /// A block without user transactions, and no record says how it was built.
    #[error("no record yet says how block {0} was built")]
    Ambiguous(B256),
    /// No block with a known cursor is near.
    #[error("no known block among the {READER_WALK_MAX} before {0}")]
    TooFar(B256),
}

/// What the rules of a chain's blocks need to know of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Milliseconds from a window's end to its block's timestamp.
    pub lead_ms: u64,
    /// Timestamp of the first block that is offered something, seconds.
    pub joins_at: u64,
}

impl Rules {
    /// When a block's window ends, by its timestamp in seconds.
    #[must_use]
    pub const fn end(&self, timestamp: u64) -> UnixMillis {
        window::end(timestamp, self.lead_ms)
    }

    /// The window of a block, or of a job for one, by the limits in force at its end.
    ///
    /// # Errors
    /// [`InvalidBlock`] if its deposits cannot be read.
    pub fn window(&self, book: &RecordBook, block: &L2Block) -> Result<Window, InvalidBlock> {
        block.window(self.lead_ms, book.limits_at(self.end(block.timestamp)))
    }
}

/// The log, as far as it is read.
#[derive(Clone, Copy, Debug)]
pub struct LogView<'a> {
    /// What records say.
    pub book: &'a RecordBook,
    /// Log time of the newest log block.
    pub newest: UnixMillis,
}

impl LogView<'_> {
    /// Whether the log knows all of a window.
    #[must_use]
    pub const fn is_closed(&self, end: UnixMillis) -> bool {
        window::is_closed(end, self.newest)
    }
}

/// Where the offers of a block's children begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where they begin.
    pub begin: Begin,
    /// Log time up to which this holds, if it rests on this reader's own word about a closed block: if no record of that block
    /// is decided by then, it counts as offered. `None` if it holds for good.
    pub until: Option<UnixMillis>,
}

impl From<Begin> for Found {
    fn from(begin: Begin) -> Self {
        Self { begin, until: None }
    }
}

/// What is known of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// L2 block number.
    pub number: u64,
    /// Hash of its parent.
    pub parent: B256,
    /// Timestamp, seconds.
    pub timestamp: u64,
    /// Where its children's offers begin.
    pub found: Found,
}

/// A block that was sealed closed by who reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What the engine refused to it.
    pub refused: BTreeSet<Place>,
    /// Whether it became part of the chain.
    pub is_taken: bool,
}

/// A block, its offer and what it is.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The block.
    pub block: L2Block,
    /// Its window.
    pub window: Window,
    /// What it was offered.
    pub offer: Offer,
    /// What it is, by its content and its record.
    pub kind: Kind,
    /// Where the offers of its children begin; `None` while that is not known.
    pub found: Option<Found>,
}

/// A chain, as far as cursors go. All of it follows from the log and the blocks, so it is a cache; but for the blocks that
/// its owner sealed closed, which nothing tells until the log shows their records.
#[derive(Clone, Debug)]
pub struct Reader {
    rules: Rules,
    known: Recent<B256, Known>,
    closed: Recent<B256, Closed>,
}

impl Reader {
    /// A reader that knows nothing yet.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        let known = Recent::new(READER_BLOCKS_MAX);
        Self { rules, known, closed: Recent::new(READER_BLOCKS_MAX) }
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// What is known of a block by itself.
    #[must_use]
    pub fn get(&self, hash: &B256) -> Option<&Known> {
        self.known.get(hash)
    }

    /// Notes a block. What was noted of it before is replaced.
    pub fn insert(&mut self, hash: B256, known: Known) {
        self.known.insert(hash, known);
    }

    /// The highest blocks of which all is known for good, at most `count`, the highest first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<(B256, Known)> {
        let for_good = self.known.iter().filter(|(_, known)| known.found.until.is_none());
        let mut blocks: Vec<_> = for_good.collect();
        blocks.sort_by_key(|(hash, known)| (core::cmp::Reverse(known.number), **hash));
        blocks.into_iter().take(count).map(|(hash, known)| (*hash, known.clone())).collect()
    }

    /// Remembers that the owner sealed a closed block, and what the engine refused to it, until the log shows its record. One
    /// that was noted before stays as it was.
    pub fn note_closed(&mut self, hash: B256, refused: BTreeSet<Place>) {
        if !self.closed.contains(&hash) {
            self.closed.insert(hash, Closed { refused, is_taken: false });
        }
    }

    /// Notes that a block became part of the chain. Whether the owner sealed it closed, and the log does not show that yet.
    pub fn take_closed(&mut self, hash: &B256) -> bool {
        let closed = self.closed.get_mut(hash);
        closed.map(|closed| closed.is_taken = true).is_some()
    }

    /// Forgets a block that was sealed closed: it is lost, or nobody would heed its record.
    pub fn drop_closed(&mut self, hash: &B256) {
        self.closed.remove(hash);
    }

    /// The blocks that the owner sealed closed and whose records the log does not show yet, the oldest first.
    pub fn closed(&mut self, log: LogView<'_>) -> impl Iterator<Item = (&B256, &Closed)> {
        self.closed.retain(|hash, _| log.book.sealed(hash).is_none());
        self.closed.iter()
    }

    /// What the engine refused to a block that the owner sealed closed.
    #[must_use]
    pub fn refused(&self, hash: &B256) -> Option<&BTreeSet<Place>> {
        self.closed.get(hash).map(|closed| &closed.refused)
    }

    /// Where the offers of a block's children begin, if that is known without a walk.
    #[must_use]
    pub fn find(&self, log: LogView<'_>, hash: &B256) -> Option<Found> {
        let holds = |found: &&Found| found.until.is_none_or(|until| log.newest <= until);
        let known = self.known.get(hash).map(|known| &known.found).filter(holds).cloned();
        let recorded =
            |recorded: &Recorded| recorded.begin(self.rules.end(recorded.sealed.timestamp));
        known.or_else(|| log.book.sealed(hash).and_then(recorded).map(Found::from))
    }

    /// The window of a block, or of a job for one.
    ///
    /// # Errors
    /// [`Unresolved::Block`] if its deposits cannot be read.
    pub fn window(&self, log: LogView<'_>, block: &L2Block) -> Result<Window, Unresolved> {
        self.rules
            .window(log.book, block)
            .map_err(|reason| Unresolved::Block { hash: block.hash, reason })
    }

    /// What a block is, on a parent that says where its offer begins. `slices` are as [`window::offer`] wants them.
    ///
    /// # Errors
    /// [`Unresolved`] if the log does not know the whole window yet.
    pub fn judge<'a>(
        &self,
        log: LogView<'_>,
        block: L2Block,
        begin: Begin,
        slices: impl IntoIterator<Item = &'a LogSlice>,
    ) -> Result<Judged, Unresolved> {
        let window = self.window(log, &block)?;
        if !log.is_closed(window.end) {
            return Err(Unresolved::AheadOfLog { hash: block.hash, end: window.end });
        }
        let offer = window::offer(begin, slices, &window)?;
        Ok(self.classify(log, block, window, offer))
    }

    /// What a block is, by its window and its offer.
    #[must_use]
    pub fn classify(
        &self,
        log: LogView<'_>,
        block: L2Block,
        window: Window,
        offer: Offer,
    ) -> Judged {
        let own = self.refused(&block.hash).filter(|_| is_in_time(log, &offer));
        let (record, listed, until) = match (log.book.sealed(&block.hash), own) {
            (Some(Recorded { time, sealed }), _) => {
                (Some((*time, sealed.mode)), sealed.begin().refused, None)
            }
            (None, Some(refused)) => {
                let until = offer.closed_at.plus(BACKLOG_MS_MAX);
                (Some((offer.closed_at, SealMode::Closed)), refused.clone(), Some(until))
            }
            (None, None) => (None, BTreeSet::new(), None),
        };
        let testimony = Testimony { record, newest: log.newest };
        let kind = cursor::classify(&block, &window, &offer, &testimony);
        let found = kind.begin(&offer, &listed).map(|begin| Found { begin, until });
        Judged { block, window, offer, kind, found }
    }

    /// The record of a block that the owner sealed closed; `None` if nobody would heed it any more.
    ///
    /// # Errors
    /// [`Unresolved::Ambiguous`] if the owner did not.
    pub fn record_of(
        &self,
        log: LogView<'_>,
        judged: &Judged,
    ) -> Result<Option<Sealed>, Unresolved> {
        if !is_in_time(log, &judged.offer) {
            return Ok(None);
        }
        let hash = judged.block.hash;
        let listed = self.refused(&hash).cloned().unwrap_or_default();
        let sealed = judged.kind.sealed(&judged.block, &judged.offer, &listed);
        sealed.map(Some).ok_or(Unresolved::Ambiguous(hash))
    }
}

/// Whether a record that is decided now says how a block with this offer was sealed.
const fn is_in_time(log: LogView<'_>, offer: &Offer) -> bool {
    cursor::is_timely(log.newest, offer.closed_at)
}

/// The cursor of the parent of the block at which a chain joined: in front of the first item after that parent's window.
/// `first` is the height of the first log block after it.
#[must_use]
pub const fn join(first: Height) -> Cursor {
    Cursor { height: first, items: 0 }
}

#[cfg(test)]
mod tests;
