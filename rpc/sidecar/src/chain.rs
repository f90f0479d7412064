//! Where a block's offer begins: the cursors of the chain's blocks, walked from the nearest one that is known.
//!
//! Known are the blocks of the ledger, those that a record speaks of, and the parent of the block at which the chain
//! joined. The walk fetches; what a block is, core says.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::cursor::{self, Kind, L2Block, Testimony};
use lockstep_core::limits::BACKLOG_MS_MAX;
use lockstep_core::params::ChainParams;
use lockstep_core::record::{Cursor, SealMode, Sealed};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{self, Begin, MissingLog, Offer, Place, Window};
use lockstep_execution::blocks::Blocks;
use lockstep_execution::client::EngineError;

use crate::feed::{Feed, FeedError, RecordBook};
use crate::ledger::{ClosedBlocks, Known, Ledger};
use crate::limits::WALK_BLOCKS_MAX;

/// Why a cursor is not known yet. All pass; ask again later.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unresolved {
    /// The engine cannot tell.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The log cannot be read.
    #[error("{0}")]
    Feed(#[from] FeedError),
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
        reason: String,
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
    #[error("no known block among the {WALK_BLOCKS_MAX} before {0}")]
    TooFar(B256),
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
    pub begin: Option<Begin>,
    /// Log time up to which that holds, if it rests on this sidecar's word: see [`Known::until`].
    until: Option<UnixMillis>,
}

/// Where the offers of a block's children begin, as far as it is known.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where they begin.
    pub begin: Begin,
    /// See [`Known::until`].
    pub until: Option<UnixMillis>,
}

/// The chain, as far as cursors go.
#[derive(Debug)]
pub struct Chain {
    params: ChainParams,
    lead_ms: u64,
    feed: Feed,
    blocks: Blocks,
    // Held for map operations only; several calls of op-node may be in work.
    ledger: Mutex<Ledger>,
    // Held for map operations only.
    closed: Mutex<ClosedBlocks>,
}

impl Chain {
    /// The chain of a feed and an engine.
    #[must_use]
    pub fn new(params: ChainParams, lead_ms: u64, feed: Feed, blocks: Blocks) -> Self {
        Self { params, lead_ms, feed, blocks, ledger: Mutex::default(), closed: Mutex::default() }
    }

    /// Its parameters in the genesis.
    #[must_use]
    pub const fn params(&self) -> &ChainParams {
        &self.params
    }

    /// The log.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The contents of its blocks.
    #[must_use]
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The cursors that are known.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic elsewhere leaves the maps whole: each change is one insertion.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that this sidecar sealed a closed block, and what the engine refused to it, until its record is in the log.
    pub fn note_closed(&self, hash: B256, refused: BTreeSet<Place>) {
        self.closed().insert(hash, refused);
    }

    /// Notes that op-node brought a block back. Whether this sidecar sealed it closed, and the log does not show its record
    /// yet.
    pub fn take_closed(&self, hash: &B256) -> bool {
        self.closed().take(hash)
    }

    /// Those of the [`closed_blocks`](Self::closed_blocks) that op-node brought back, the oldest first.
    #[must_use]
    pub fn closed_taken(&self) -> Vec<B256> {
        self.closed().taken()
    }

    /// The blocks that this sidecar sealed closed, and whose records the log does not show yet.
    #[must_use]
    pub fn closed_blocks(&self) -> Vec<(B256, BTreeSet<Place>)> {
        let mut closed = self.closed();
        self.feed.with_book(|book| closed.retain(|hash| book.sealed(hash).is_none()));
        closed.to_vec()
    }

    /// The record of a block that this sidecar sealed closed; `None` if it did not, the engine lost the block, or nobody
    /// would heed the record any more.
    ///
    /// # Errors
    /// [`Unresolved`] while the log does not tell.
    pub async fn record_of(&self, hash: B256) -> Result<Option<Sealed>, Unresolved> {
        let Some(listed) = self.closed().get(&hash).cloned() else { return Ok(None) };
        let Some(block) = self.blocks.get(hash).await? else {
            self.closed().remove(&hash);
            return Ok(None);
        };
        let end = self.end(block.timestamp);
        if !self.is_closed(end) {
            return Err(Unresolved::AheadOfLog { hash, end });
        }
        let Found { begin, .. } = self.begin_of(block.parent).await?;
        let judged = self.judge(block, begin).await?;
        if !self.is_in_time(&judged.offer) {
            self.closed().remove(&hash);
            return Ok(None);
        }
        let sealed = judged.kind.sealed(&judged.block, &judged.offer, &listed);
        sealed.ok_or(Unresolved::Ambiguous(hash)).map(Some)
    }

    /// Whether a record that is decided now says how a block with this offer was sealed.
    fn is_in_time(&self, offer: &Offer) -> bool {
        cursor::is_timely(self.feed.newest().borrow().timestamp, offer.closed_at)
    }

    fn closed(&self) -> MutexGuard<'_, ClosedBlocks> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window of a block with this timestamp, gas limit and deposits, on a parent with this cursor.
    ///
    /// # Errors
    /// [`Unresolved::Block`] if the deposits cannot be read, [`Unresolved::Feed`] if the limits in force cannot be had.
    pub async fn window(&self, block: &L2Block, cursor: Cursor) -> Result<Window, Unresolved> {
        self.feed.learn_limits(cursor.height).await?;
        let end = window::end(block.timestamp, self.lead_ms);
        let limits = self.feed.with_book(|book| book.limits_at(end));
        block
            .window(self.lead_ms, limits)
            .map_err(|error| Unresolved::Block { hash: block.hash, reason: error.to_string() })
    }

    /// How long before its timestamp a block's window ends.
    #[must_use]
    pub const fn lead(&self) -> Duration {
        Duration::from_millis(self.lead_ms)
    }

    /// When a block's window ends, by its timestamp in seconds.
    #[must_use]
    pub const fn end(&self, timestamp: u64) -> UnixMillis {
        window::end(timestamp, self.lead_ms)
    }

    /// Whether the log knows all of a window.
    #[must_use]
    pub fn is_closed(&self, end: UnixMillis) -> bool {
        window::is_closed(end, self.feed.newest().borrow().timestamp)
    }

    /// What the log offers from a block's begin up to a window's end. The window is closed.
    ///
    /// # Errors
    /// [`Unresolved`] if the log cannot be read.
    pub async fn offer(&self, begin: Begin, window: &Window) -> Result<Offer, Unresolved> {
        let blocks = self.feed.blocks(begin.cursor.height, window.end).await?;
        Ok(window::offer(begin, blocks.iter().map(|block| &block.slice), window)?)
    }

    /// Where the offer of a child of this block begins.
    ///
    /// # Errors
    /// [`Unresolved`] if that is not known yet.
    pub async fn begin_of(&self, hash: B256) -> Result<Found, Unresolved> {
        let (Found { mut begin, mut until }, path) = self.climb(hash).await?;
        for block in path.into_iter().rev() {
            let (hash, number, parent, timestamp) =
                (block.hash, block.number, block.parent, block.timestamp);
            let judged = self.judge(block, begin).await?;
            begin = judged.begin.ok_or(Unresolved::Ambiguous(hash))?;
            until = earlier(until, judged.until);
            let known = Known { number, parent, timestamp, begin: begin.clone(), until };
            self.ledger().insert(hash, known);
        }
        Ok(Found { begin, until })
    }

    /// The nearest known begin at or before a block, and the blocks behind it, newest first.
    async fn climb(&self, hash: B256) -> Result<(Found, Vec<L2Block>), Unresolved> {
        let (mut at, mut path) = (hash, Vec::new());
        while path.len() < WALK_BLOCKS_MAX {
            if let Some(found) = self.known(&at) {
                return Ok((found, path));
            }
            let block = self.blocks.get(at).await?.ok_or(Unresolved::NoBlock(at))?;
            if block.timestamp < self.params.joins_at || block.number == 0 {
                let begin = self.join(&block).await?.into();
                return Ok((Found { begin, until: None }, path));
            }
            // Windows end in the order of the blocks, so nothing before it helps; and a silence may be long.
            let end = self.end(block.timestamp);
            if path.is_empty() && !self.is_closed(end) {
                return Err(Unresolved::AheadOfLog { hash, end });
            }
            at = block.parent;
            path.push(block);
        }
        Err(Unresolved::TooFar(hash))
    }

    fn known(&self, hash: &B256) -> Option<Found> {
        let newest = self.feed.newest().borrow().timestamp;
        let known = self.ledger().get(hash).filter(|known| known.holds(newest)).cloned();
        let known = known.map(|Known { begin, until, .. }| Found { begin, until });
        // The word of a late record on a closed block may be overtaken by then.
        let is_good = |(time, sealed): &&(UnixMillis, Sealed)| {
            sealed.mode == SealMode::Offered || cursor::is_timely(*time, self.end(sealed.timestamp))
        };
        let recorded = |book: &RecordBook| {
            let (_, sealed) = book.sealed(hash).filter(is_good)?;
            Some(Found { begin: sealed.begin(), until: None })
        };
        known.or_else(|| self.feed.with_book(recorded))
    }

    /// The cursor of a block before the chain joined: what comes after its window is its child's.
    async fn join(&self, parent: &L2Block) -> Result<Cursor, Unresolved> {
        let end = self.end(parent.timestamp);
        if !self.is_closed(end) {
            return Err(Unresolved::AheadOfLog { hash: parent.hash, end });
        }
        Ok(Cursor { height: self.feed.height_after(end).await?, items: 0 })
    }

    /// What a block is, on a parent that says where its offer begins.
    ///
    /// # Errors
    /// [`Unresolved`] if the log does not know the whole window yet, or cannot be read.
    pub async fn judge(&self, block: L2Block, begin: Begin) -> Result<Judged, Unresolved> {
        let window = self.window(&block, begin.cursor).await?;
        if !self.is_closed(window.end) {
            return Err(Unresolved::AheadOfLog { hash: block.hash, end: window.end });
        }
        let offer = self.offer(begin, &window).await?;
        let newest = self.feed.newest().borrow().timestamp;
        let recorded = self.feed.with_book(|book| book.sealed(&block.hash).cloned());
        let word = self.closed().get(&block.hash).filter(|_| self.is_in_time(&offer)).cloned();
        let until = match (&recorded, &word) {
            (None, Some(_)) => Some(offer.closed_at.plus(BACKLOG_MS_MAX)),
            (Some(_), _) | (None, None) => None,
        };
        let (record, listed) = match (recorded, word) {
            (Some((time, sealed)), _) => (Some((time, sealed.mode)), sealed.begin().refused),
            (None, Some(refused)) => (Some((offer.closed_at, SealMode::Closed)), refused),
            (None, None) => (None, BTreeSet::new()),
        };
        let testimony = Testimony { record, newest };
        let kind = cursor::classify(&block, &window, &offer, &testimony);
        let begin = kind.begin(&offer, &listed);
        Ok(Judged { block, window, offer, kind, begin, until })
    }
}

/// The earlier of two times, where `None` never comes.
fn earlier(one: Option<UnixMillis>, other: Option<UnixMillis>) -> Option<UnixMillis> {
    one.into_iter().chain(other).min()
}
