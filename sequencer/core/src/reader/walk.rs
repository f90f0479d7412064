//! A walk to a block's cursor: up by headers to the nearest block whose cursor is known, and down again block by block.
//!
//! Only headers are held on the way up, so that a long way costs little memory; each block's content is needed once.

use alloy_primitives::B256;

use super::{Found, Judged, Known, LogView, Reader, Unresolved, join};
use crate::cursor::{L2Block, L2Header};
use crate::limits::READER_WALK_MAX;
use crate::types::{Height, UnixMillis};
use crate::window::LogSlice;

/// What a walk needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The header of the block with this hash: [`Walk::take_header`].
    Header(B256),
    /// The block with this header: [`Walk::take_block`].
    Block(L2Header),
    /// All limits from this height on, and those in force there, in the book of records.
    Limits(Height),
    /// The chain's slices from a height on, up to the first one after a log time: [`Walk::take_log`].
    Log {
        /// The first height.
        from: Height,
        /// The log time.
        until: UnixMillis,
    },
    /// The first height after a log time: [`Walk::take_height`].
    HeightAfter(UnixMillis),
}

/// Where a walk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// At its goal: where the offers of that block's children begin.
    Found(Found),
    /// On its way.
    Need(Need),
}

/// A walk. It does not ask twice for what it was given.
#[derive(Clone, Debug)]
pub struct Walk {
    goal: B256,
    /// Where the way up has come to.
    at: B256,
    /// Blocks whose cursors are to be found, the newest first.
    path: Vec<L2Header>,
    /// The end of the window of the block before the one at which the chain joined, if the way up came to it.
    join: Option<UnixMillis>,
    /// The cursor at the way down's place.
    found: Option<Found>,
    /// The next block of the way down.
    block: Option<L2Block>,
}

impl Walk {
    /// A walk to a block.
    #[must_use]
    pub const fn new(goal: B256) -> Self {
        Self { goal, at: goal, path: Vec::new(), join: None, found: None, block: None }
    }

    /// Where the walk goes to.
    #[must_use]
    pub const fn goal(&self) -> B256 {
        self.goal
    }

    /// What is needed next; the result, if nothing is.
    ///
    /// # Errors
    /// [`Unresolved`] if the walk can't come to its goal now.
    pub fn next(&mut self, reader: &mut Reader, log: LogView<'_>) -> Result<Next, Unresolved> {
        loop {
            if self.found.is_none() {
                self.found = reader.find(log, &self.at);
            }
            let Some(found) = &self.found else {
                if self.path.len() >= READER_WALK_MAX {
                    return Err(Unresolved::TooFar(self.goal));
                }
                return Ok(Next::Need(self.join.map_or(Need::Header(self.at), Need::HeightAfter)));
            };
            let Some(header) = self.path.last() else {
                return Ok(Next::Found(found.clone()));
            };
            let Some(block) = &self.block else {
                return Ok(Next::Need(Need::Block(*header)));
            };
            let from = found.begin.cursor.height;
            if log.book.limits_missing(from).is_some() {
                return Ok(Next::Need(Need::Limits(from)));
            }
            let window = reader.window(log, block)?;
            if !log.is_closed(window.end) {
                return Err(Unresolved::AheadOfLog { hash: block.hash, end: window.end });
            }
            if window.closed.is_none() {
                return Ok(Next::Need(Need::Log { from, until: window.end }));
            }
            // Its content closed it, so it was offered nothing, whatever the log holds.
            self.take_log(reader, log, [])?;
        }
    }

    /// Takes the header that was needed; `None` if the engine does not have the block.
    ///
    /// # Errors
    /// [`Unresolved`] if the walk ends there.
    pub fn take_header(
        &mut self,
        reader: &Reader,
        log: LogView<'_>,
        header: Option<L2Header>,
    ) -> Result<(), Unresolved> {
        let hash = self.at;
        let header = header.ok_or(Unresolved::NoBlock(hash))?;
        let end = reader.rules().end(header.timestamp);
        let is_before = header.timestamp < reader.rules().joins_at || header.number == 0;
        // Windows end in the order of the blocks, so nothing before it helps; and a silence may be long.
        if (is_before || self.path.is_empty()) && !log.is_closed(end) {
            return Err(Unresolved::AheadOfLog { hash, end });
        }
        if is_before {
            self.join = Some(end);
        } else {
            self.at = header.parent;
            self.path.push(header);
        }
        Ok(())
    }

    /// Takes the height that was needed.
    pub fn take_height(&mut self, height: Height) {
        self.found = Some(Found { begin: join(height).into(), until: None });
    }

    /// Takes the block that was needed; `None` if the engine does not have it any more.
    ///
    /// # Errors
    /// [`Unresolved::NoBlock`] for `None`.
    pub fn take_block(&mut self, block: Option<L2Block>) -> Result<(), Unresolved> {
        let hash = self.path.last().map_or(self.at, |header| header.hash);
        self.block = Some(block.ok_or(Unresolved::NoBlock(hash))?);
        Ok(())
    }

    /// Takes the slices that were needed: goes one block on.
    ///
    /// # Errors
    /// [`Unresolved`] if they do not tell the block's cursor.
    pub fn take_log<'a>(
        &mut self,
        reader: &mut Reader,
        log: LogView<'_>,
        slices: impl IntoIterator<Item = &'a LogSlice>,
    ) -> Result<(), Unresolved> {
        let (Some(block), Some(before)) = (self.block.take(), &self.found) else { return Ok(()) };
        let (hash, number) = (block.hash, block.number);
        let (parent, timestamp) = (block.parent, block.timestamp);
        let Judged { found, .. } = reader.judge(log, block, before.begin.clone(), slices)?;
        let found = found.ok_or(Unresolved::Ambiguous(hash))?;
        let found = Found { until: earlier(before.until, found.until), ..found };
        reader.insert(hash, Known { number, parent, timestamp, found: found.clone() });
        self.path.pop();
        self.found = Some(found);
        Ok(())
    }
}

/// The earlier of two times, where `None` never comes.
fn earlier(one: Option<UnixMillis>, other: Option<UnixMillis>) -> Option<UnixMillis> {
    one.into_iter().chain(other).min()
}
