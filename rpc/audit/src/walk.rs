//! One chain, walked block by block beside its slices. It fetches and keeps its place. What a block is, core's [`Reader`]
//! says; what is wrong with it, [`judge`](crate::judge).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::B256;
use lockstep_core::cursor::Kind;
use lockstep_core::params::ChainParams;
use lockstep_core::reader::{LogView, Reader, Rules};
use lockstep_core::record::Cursor;
use lockstep_core::types::{Height, NetworkId, UnixMillis};
use lockstep_core::weight::Weighed;
use lockstep_core::window::{self, Begin, LogSlice, Place};

use crate::block::ChainBlock;
use crate::book::Book;
use crate::error::AuditError;
use crate::finding::Finding;
use crate::judge::{Judged, LegSeen, Settled, Word, settle, strays};
use crate::limits::{BLOCKS_AT_ONCE, HISTORY_MAX};
use crate::log::LogReader;
use crate::rpc::ChainRpc;
use crate::start::Start;

/// How far the walk has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// L2 block number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Where the offers of its children begin.
    pub cursor: Cursor,
    /// The first height with an item whose fate is not known yet, or whose time is after the block's window. The cursor
    /// lies behind an item, so on a quiet chain it is far behind this.
    pub passed: Height,
    /// Items behind the cursor that its chain's engine refused to closed blocks.
    pub refused: BTreeSet<Place>,
}

/// What one step of a walk did.
#[derive(Debug)]
pub enum Step {
    /// It judged a block.
    Judged(Box<Outcome>),
    /// The chain left the blocks that were walked: it goes on after this one.
    WentBack(u64),
    /// The chain has no further block.
    NoBlock,
    /// The log does not show the block's whole window yet, or how the block was sealed.
    NoLog,
}

/// A block that was judged.
#[derive(Debug)]
pub struct Outcome {
    /// The block.
    pub judged: Judged,
    /// What is wrong with its transactions.
    pub findings: Vec<Finding>,
    /// What became of the legs that it was offered.
    pub legs: Vec<LegSeen>,
}

/// What belongs to no single step: records that came, and blocks for which they settled something.
#[derive(Debug, Default)]
pub struct Loose {
    /// What records show of one another and of the chain.
    pub findings: Vec<Finding>,
    /// Blocks, by number, of which all is known.
    pub settled: Vec<(u64, Settled)>,
}

/// What a walk knows of its chain from the genesis.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The network.
    pub network: NetworkId,
    /// The chain's parameters.
    pub params: ChainParams,
    /// How its windows lie.
    pub rules: Rules,
}

impl Audited {
    /// A chain of a network with this lead, in milliseconds.
    #[must_use]
    pub const fn new(network: NetworkId, params: ChainParams, lead_ms: u64) -> Self {
        let rules = Rules { lead_ms, joins_at: params.joins_at };
        Self { network, params, rules }
    }
}

/// The walk.
#[derive(Debug)]
pub struct Walk {
    params: ChainParams,
    reader: Reader,
    log: LogReader,
    rpc: ChainRpc,
    /// Number of the chain's head when it was asked for last.
    head: u64,
    book: Book,
    /// From the first height that is not passed on.
    slices: VecDeque<LogSlice>,
    next_height: Height,
    newest: UnixMillis,
    reached: Reached,
    history: BTreeMap<u64, Reached>,
    ahead: VecDeque<ChainBlock>,
    pending: Vec<Judged>,
    equivocations: Vec<Finding>,
}

impl Walk {
    /// A walk of the chain from a start on.
    #[must_use]
    pub fn new(chain: Audited, start: &Start, log: LogReader, rpc: ChainRpc) -> Self {
        let Audited { network, params, rules } = chain;
        let Start { parent: number, hash, ref begin, .. } = *start;
        let Begin { cursor, refused } = begin.clone();
        // The first block of a log has height 1.
        let passed = cursor.height.max(Height(1));
        let reached = Reached { number, hash, cursor, passed, refused };
        let mut book = Book::new(network);
        book.begin_with(cursor.height, &start.limits);
        Self {
            params,
            reader: Reader::new(rules),
            log,
            rpc,
            head: 0,
            book,
            slices: VecDeque::new(),
            next_height: passed,
            newest: UnixMillis(0),
            reached: reached.clone(),
            history: BTreeMap::from([(reached.number, reached)]),
            ahead: VecDeque::new(),
            pending: Vec::new(),
            equivocations: Vec::new(),
        }
    }

    /// The chain's parameters.
    #[must_use]
    pub const fn params(&self) -> &ChainParams {
        &self.params
    }

    /// The chain's endpoint.
    #[must_use]
    pub const fn rpc(&self) -> &ChainRpc {
        &self.rpc
    }

    /// The log's endpoints that lied, and how.
    #[must_use]
    pub fn lies(&self) -> Vec<String> {
        self.log.lies()
    }

    /// How far it has come.
    #[must_use]
    pub const fn reached(&self) -> &Reached {
        &self.reached
    }

    /// The last height of the log that was read.
    #[must_use]
    pub fn read_to(&self) -> Height {
        self.next_height.previous().unwrap_or(Height::GENESIS)
    }

    /// Whether a record may still come that says why an item is not in its block.
    #[must_use]
    pub fn waits_for_records(&self) -> bool {
        self.pending.iter().any(Judged::needs_word)
    }

    /// Judges the next block, up to number `last`.
    ///
    /// # Errors
    /// [`AuditError`] if the chain or the log cannot be read. Nothing is lost: it may be called again.
    pub async fn step(&mut self, last: u64) -> Result<Step, AuditError> {
        self.fetch(last).await?;
        let Some(block) = self.ahead.front().cloned() else {
            return Ok(Step::NoBlock);
        };
        if block.parent != self.reached.hash {
            return Ok(Step::WentBack(self.go_back().await?));
        }
        let end = self.reader.rules().end(block.timestamp);
        while !self.view().is_closed(end) {
            if !self.read().await? {
                return Ok(Step::NoLog);
            }
        }
        loop {
            let judged = self.judge(block.clone())?;
            if let Some(found) = judged.core.found.clone() {
                return Ok(Step::Judged(Box::new(self.take(judged, found.begin))));
            }
            if !self.read().await? {
                return Ok(Step::NoLog);
            }
        }
    }

    /// Reads on in the log, for records of blocks that were judged.
    ///
    /// # Errors
    /// [`AuditError`] if the log cannot be read.
    pub async fn read_on(&mut self) -> Result<(), AuditError> {
        self.read().await.map(|_| ())
    }

    /// What the records that were read so far say.
    pub fn take_loose(&mut self) -> Loose {
        let mut loose = self.compare();
        let (book, newest) = (&self.book, self.newest);
        self.pending.retain(|judged| {
            let word = match book.sealed(&judged.block.hash) {
                Some(record) => Word::Recorded(record),
                None if judged.is_past(newest) => Word::Never,
                None => return true,
            };
            loose.settled.push((judged.block.number, settle(judged, word)));
            false
        });
        loose
    }

    /// The same at the end of an audit: what has no record yet gets none.
    pub fn take_rest(&mut self) -> Loose {
        let mut loose = self.take_loose();
        for judged in core::mem::take(&mut self.pending) {
            loose.settled.push((judged.block.number, settle(&judged, Word::NotYet)));
        }
        loose
    }

    /// How many blocks wait for their record.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        u64::try_from(self.pending.len()).unwrap_or(u64::MAX)
    }

    fn compare(&mut self) -> Loose {
        let history = &self.history;
        let canonical = |number: u64| history.get(&number).map(|reached| reached.hash);
        let mut findings = core::mem::take(&mut self.equivocations);
        findings.extend(self.book.compare(self.reached.number, canonical));
        Loose { findings, ..Loose::default() }
    }

    const fn view(&self) -> LogView<'_> {
        LogView { book: self.book.records(), newest: self.newest }
    }

    fn judge(&self, block: ChainBlock) -> Result<Judged, AuditError> {
        let (number, log) = (block.number, self.view());
        let window = self
            .reader
            .rules()
            .window(log.book, &block.l2_block(None))
            .map_err(|error| AuditError::NotOp { number, error })?;
        let Reached { cursor, passed, refused, .. } = &self.reached;
        let begin = Begin { cursor: *cursor, refused: refused.clone() };
        let offer = window::offer_from(begin, *passed, &self.slices, &window)?;
        Ok(Judged::new(&self.reader, log, block, window, offer))
    }

    fn take(&mut self, judged: Judged, Begin { cursor, refused }: Begin) -> Outcome {
        let findings = match &judged.core.kind {
            Kind::Foreign { .. } => strays(&judged, &self.book),
            Kind::Offered(_) | Kind::Closed | Kind::Ambiguous => Vec::new(),
        };
        let legs = judged.legs(|place| self.item(place));
        let (number, hash) = (judged.block.number, judged.block.hash);
        let next = window::next_height(&self.slices, cursor, judged.core.window.end);
        let passed = next.unwrap_or(self.next_height);
        self.reached = Reached { number, hash, cursor, passed, refused };
        self.history.insert(number, self.reached.clone());
        while self.history.len() > HISTORY_MAX {
            self.history.pop_first();
        }
        while self.slices.front().is_some_and(|slice| slice.height < passed) {
            self.slices.pop_front();
        }
        self.ahead.pop_front();
        self.pending.push(judged.clone());
        Outcome { judged, findings, legs }
    }

    fn item(&self, place: Place) -> Option<&Weighed> {
        let first = self.slices.front()?.height;
        let slice = usize::try_from(place.height.0.checked_sub(first.0)?).ok()?;
        let item = usize::try_from(place.item).ok()?;
        self.slices.get(slice)?.items.get(item).map(|item| &**item)
    }

    /// Fetches blocks if none is at hand.
    async fn fetch(&mut self, last: u64) -> Result<(), AuditError> {
        let next = self.reached.number.saturating_add(1);
        if !self.ahead.is_empty() || next > last {
            return Ok(());
        }
        if next > self.head {
            self.head = self.rpc.head().await?.map_or(0, |head| head.number());
        }
        let to = last.min(self.head).min(self.reached.number.saturating_add(BLOCKS_AT_ONCE));
        if next <= to {
            self.ahead = self.rpc.blocks(next, to).await?.into();
        }
        Ok(())
    }

    /// Reads a part of the log; whether there was one.
    async fn read(&mut self) -> Result<bool, AuditError> {
        let shown = self.log.slices(self.next_height).await?;
        let has_more = !shown.is_empty();
        for (header, slice) in shown {
            let items = slice.map(|slice| slice.items).unwrap_or_default();
            let slice = LogSlice::new(header.height, header.timestamp_ms, self.params.kind, items);
            self.equivocations.extend(self.book.note(&slice));
            self.newest = self.newest.max(slice.timestamp);
            self.next_height = slice.height.next();
            self.slices.push_back(slice);
        }
        Ok(has_more)
    }

    /// Finds the newest block that was walked and still is on the chain, and goes on from there.
    async fn go_back(&mut self) -> Result<u64, AuditError> {
        self.ahead.clear();
        self.head = 0;
        while let Some((&number, reached)) = self.history.last_key_value() {
            if self.rpc.hash(number).await? == Some(reached.hash) {
                self.reached = reached.clone();
                self.pending.retain(|judged| judged.block.number <= number);
                self.book.reopen(number);
                self.slices.clear();
                self.next_height = self.reached.passed;
                self.newest = UnixMillis(0);
                return Ok(number);
            }
            self.history.pop_last();
        }
        Err(AuditError::TooDeep(self.reached.number))
    }
}
