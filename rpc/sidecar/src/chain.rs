//! Where a block's offer begins: the cursors of the chain's blocks, walked from the nearest one that is known.
//!
//! Known are the blocks of the ledger, those that a record speaks of, and the parent of the block at which the chain
//! joined. The walk fetches; what a block is, core says.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::cursor::{self, Kind, L2Block, Testimony};
use lockstep_core::params::ChainParams;
use lockstep_core::record::{Cursor, SealMode, Sealed};
use lockstep_core::types::UnixMillis;
use lockstep_core::window::{self, MissingLog, Offer, Window};

use crate::blocks::Blocks;
use crate::engine::EngineError;
use crate::feed::{Feed, FeedError, RecordBook};
use crate::ledger::{Known, Ledger};
use crate::limits::{LEDGER_BLOCKS_MAX, WALK_BLOCKS_MAX};

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
    // How this sidecar sealed blocks whose cursor the log could not tell yet. Held for a look or an insertion.
    words: Mutex<BTreeMap<B256, SealMode>>,
}

impl Chain {
    /// The chain of a feed and an engine.
    #[must_use]
    pub fn new(params: ChainParams, lead_ms: u64, feed: Feed, blocks: Blocks) -> Self {
        Self { params, lead_ms, feed, blocks, ledger: Mutex::default(), words: Mutex::default() }
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

    /// Remembers how this sidecar sealed a block, until the log tells what the block would have been offered.
    pub fn give_word(&self, hash: B256, mode: SealMode) {
        let mut words = self.words();
        words.insert(hash, mode);
        while words.len() > LEDGER_BLOCKS_MAX {
            words.pop_first();
        }
    }

    /// Whether this sidecar gave its word on a block.
    #[must_use]
    pub fn has_word(&self, hash: &B256) -> bool {
        self.words().contains_key(hash)
    }

    /// The blocks that this sidecar gave its word on, and that are not recorded yet.
    #[must_use]
    pub fn given_words(&self) -> Vec<B256> {
        self.words().keys().copied().collect()
    }

    /// The record of a block that this sidecar gave its word on; `None` if it did not, or the engine lost the block. The
    /// word is taken back: the record says it from now on.
    ///
    /// # Errors
    /// [`Unresolved`] while the log does not tell.
    pub async fn record_of(&self, hash: B256) -> Result<Option<Sealed>, Unresolved> {
        if !self.has_word(&hash) {
            return Ok(None);
        }
        let Some(block) = self.blocks.get(hash).await? else {
            self.words().remove(&hash);
            return Ok(None);
        };
        let cursor = self.cursor_of(block.parent).await?;
        let judged = self.judge(block, cursor).await?;
        let sealed = judged.kind.sealed(&judged.block, &judged.offer);
        let sealed = sealed.ok_or(Unresolved::Ambiguous(hash))?;
        let Sealed { number, parent, timestamp, cursor, .. } = sealed;
        self.ledger().insert(hash, Known { number, parent, timestamp, cursor });
        self.words().remove(&hash);
        Ok(Some(sealed))
    }

    fn words(&self) -> MutexGuard<'_, BTreeMap<B256, SealMode>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What the log offers from a cursor up to a window's end. The window is closed.
    ///
    /// # Errors
    /// [`Unresolved`] if the log cannot be read.
    pub async fn offer(&self, cursor: Cursor, window: &Window) -> Result<Offer, Unresolved> {
        let blocks = self.feed.blocks(cursor.height, window.end).await?;
        Ok(window::offer(cursor, blocks.iter().map(|block| &block.slice), window)?)
    }

    /// Where the offer of a child of this block begins.
    ///
    /// # Errors
    /// [`Unresolved`] if that is not known yet.
    pub async fn cursor_of(&self, hash: B256) -> Result<Cursor, Unresolved> {
        let (mut cursor, path) = self.climb(hash).await?;
        for block in path.into_iter().rev() {
            let known = (block.hash, block.number, block.parent, block.timestamp);
            let judged = self.judge(block, cursor).await?;
            cursor = judged.kind.cursor(&judged.offer).ok_or(Unresolved::Ambiguous(known.0))?;
            let (hash, number, parent, timestamp) = known;
            self.ledger().insert(hash, Known { number, parent, timestamp, cursor });
        }
        Ok(cursor)
    }

    /// The nearest known cursor at or before a block, and the blocks behind it, newest first.
    async fn climb(&self, hash: B256) -> Result<(Cursor, Vec<L2Block>), Unresolved> {
        let (mut at, mut path) = (hash, Vec::new());
        while path.len() < WALK_BLOCKS_MAX {
            if let Some(cursor) = self.known(&at) {
                return Ok((cursor, path));
            }
            let block = self.blocks.get(at).await?.ok_or(Unresolved::NoBlock(at))?;
            if block.timestamp < self.params.joins_at || block.number == 0 {
                return Ok((self.join(&block).await?, path));
            }
            at = block.parent;
            path.push(block);
        }
        Err(Unresolved::TooFar(hash))
    }

    fn known(&self, hash: &B256) -> Option<Cursor> {
        let known = self.ledger().get(hash).map(|known| known.cursor);
        // The word of a late record on a closed block may be overtaken by then.
        let is_good = |(time, sealed): &&(UnixMillis, Sealed)| {
            sealed.mode == SealMode::Offered || cursor::is_timely(*time, self.end(sealed.timestamp))
        };
        let recorded =
            |book: &RecordBook| book.sealed(hash).filter(is_good).map(|(_, sealed)| sealed.cursor);
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

    /// What a block on a parent with this cursor is.
    ///
    /// # Errors
    /// [`Unresolved`] if the log does not know the whole window yet, or cannot be read.
    pub async fn judge(&self, block: L2Block, cursor: Cursor) -> Result<Judged, Unresolved> {
        let window = self.window(&block, cursor).await?;
        if !self.is_closed(window.end) {
            return Err(Unresolved::AheadOfLog { hash: block.hash, end: window.end });
        }
        let offer = self.offer(cursor, &window).await?;
        let recorded =
            |book: &RecordBook| book.sealed(&block.hash).map(|(time, sealed)| (*time, sealed.mode));
        let newest = self.feed.newest().borrow().timestamp;
        let word = self.words().get(&block.hash).map(|mode| (newest, *mode));
        let record = self.feed.with_book(recorded).or(word);
        let testimony = Testimony { record, newest };
        let kind = cursor::classify(&block, &window, &offer, &testimony);
        Ok(Judged { block, window, offer, kind })
    }
}
