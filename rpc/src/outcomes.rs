//! What becomes of the log's items on one chain. Pure and bounded: it is fed with the chain's records and, where the
//! operator has an engine of the chain, with what that says.
//!
//! | told by | says |
//! |---|---|
//! | a block's record | where its offer ended and what of it was skipped; the offer began where its parent's ended |
//! | the engine | which blocks are on the chain, what is in them, how far it is safe and finalized |
//!
//! Without an engine the chain is what its records say: the newest record's block and its ancestors; a record that does
//! not lie on it means a reorganisation. What is told by one record only counts as included if the parent's record is
//! known. With an engine a block counts once it is on the engine's chain, and a leg is included where the block really
//! has its transactions. A block that leaves the chain takes its legs' states with it.
//!
//! It knows no log, no socket and no clock. Source: design section 4.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use alloy_primitives::B256;
use lockstep_core::record::SkipReason;
use lockstep_core::types::ChainId;
use lockstep_execution::chain::ChainBlock;
use lockstep_proto::convert::ingress::{BlockId, Landing, LegState, LegStatus, Stage};

mod check;
mod contents;
mod sealing;

use self::contents::{Contents, Prefixes};

pub use check::Check;
pub use sealing::{Indices, Place, Sealing};

/// Blocks of one chain that are remembered: more than two hours at a block time of 2 s, where L1 takes less than half an
/// hour to finalize. What is older stays as it is in the log: decided.
pub const BLOCKS_MAX: usize = 4_096;
/// Skipped items of one chain that are remembered: 1.5 MiB.
pub const SKIPPED_MAX: usize = 1 << 16;
/// Transactions of one chain's blocks that are remembered, by eight bytes of their hashes: 8 MiB.
pub const TRANSACTIONS_MAX: usize = 1 << 20;
/// Blocks without a record, one after the other, that the engine is asked for.
pub const GAP_BLOCKS_MAX: u64 = 64;
/// Blocks that the engine is asked for at a time.
pub const ASKED_MAX: usize = 16;

/// How far the engine's chain is safe and finalized, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Number of the safe head; `None` if there is none yet.
    pub safe: Option<u64>,
    /// Number of the finalized head; `None` if there is none yet.
    pub finalized: Option<u64>,
}

/// What a block's record says, as far as it is kept.
#[derive(Debug)]
struct Recorded {
    /// Which record of the chain it is, in the log's order.
    order: u64,
    is_closed: bool,
    end: Place,
    skipped: Vec<(Place, SkipReason)>,
}

#[derive(Debug)]
struct Block {
    parent: B256,
    /// `None` for a block that only the engine told of.
    record: Option<Recorded>,
    contents: Contents,
    /// Whether it is on the engine's chain; `None` before the engine was asked.
    is_canonical: Option<bool>,
}

/// A block of the chain as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    block: BlockId,
    /// Whether its parent is the link before it.
    is_linked: bool,
    /// Where its offer began: where its parent's ended.
    start: Option<Place>,
    /// Where its offer ended; `None` without a record that makes sense.
    end: Option<Place>,
}

/// One chain's blocks, and what became of the log's items in them.
#[derive(Debug)]
pub struct ChainOutcomes {
    chain: ChainId,
    has_engine: bool,
    blocks: BTreeMap<BlockId, Block>,
    records: u64,
    skipped: usize,
    transactions: usize,
    /// Without an engine: the block that the chain ends with.
    tip: Option<BlockId>,
    /// With one: the highest block that was on its chain.
    top: Option<BlockId>,
    heads: Heads,
    /// The block before the first that is remembered, and where its offer ended.
    base: Option<(BlockId, Place)>,
    /// The chain as it is now, ascending.
    links: Vec<Link>,
}

impl ChainOutcomes {
    /// A chain of which nothing is known yet. `has_engine` says whether an engine will be asked.
    #[must_use]
    pub const fn new(chain: ChainId, has_engine: bool) -> Self {
        Self {
            chain,
            has_engine,
            blocks: BTreeMap::new(),
            records: 0,
            skipped: 0,
            transactions: 0,
            tip: None,
            top: None,
            heads: Heads { safe: None, finalized: None },
            base: None,
            links: Vec::new(),
        }
    }

    /// Begins behind a block: items before its end are too old to be told of.
    pub fn begin_behind(&mut self, sealing: &Sealing) {
        self.base = Some((sealing.block, sealing.end));
    }

    /// Takes the chain's next record, in the log's order; whether anything changed. The first record of a block counts,
    /// and none that gives a block another parent than it has.
    pub fn seal(&mut self, sealing: Sealing) -> bool {
        let Sealing { block, parent, is_closed, end, skipped } = sealing;
        let count = skipped.len();
        let record = Some(Recorded { order: self.records, is_closed, end, skipped });
        match self.blocks.entry(block) {
            Slot::Vacant(free) => {
                let contents = Contents::Unknown;
                free.insert(Block { parent, record, contents, is_canonical: None });
            }
            Slot::Occupied(mut there) => {
                if there.get().record.is_some() || there.get().parent != parent {
                    return false;
                }
                there.get_mut().record = record;
            }
        }
        self.records = self.records.saturating_add(1);
        self.skipped = self.skipped.saturating_add(count);
        let has_changed = match self.has_engine {
            true => self.relink(),
            false => self.follow(block),
        };
        self.evict() || has_changed
    }

    /// Moves the tip to a block that has a record since now, unless it lies below the tip.
    fn follow(&mut self, block: BlockId) -> bool {
        if self.tip.is_some() && self.parent(block) == self.tip {
            self.tip = Some(block);
            let before = self.links.last().map(|link| (link.block, link.end));
            let floor = self.links.iter().rev().find_map(|link| link.end);
            let floor = floor.or(self.base.map(|(_, end)| end)).unwrap_or_default();
            self.links.extend(self.link(block, before, floor));
            return true;
        }
        if !self.walk().any(|there| there == block) {
            self.tip = Some(block);
        }
        self.relink()
    }

    /// What became of a leg that stands at `place` of the log.
    #[must_use]
    pub fn leg(&self, place: Place, transactions: &[B256]) -> LegStatus {
        let chain = self.chain;
        if self.base.is_some_and(|(_, end)| place < end) {
            return LegStatus { chain, state: LegState::Decided, last: Stage::Decided };
        }
        let last = if self.has_engine { Stage::Finalized } else { Stage::Included };
        let state = self.find(place, transactions).unwrap_or(LegState::Decided);
        LegStatus { chain, state, last }
    }

    fn find(&self, place: Place, transactions: &[B256]) -> Option<LegState> {
        let is_behind = |link: &Link| link.end.is_some_and(|end| place < end);
        let last = self.links.iter().position(is_behind)?;
        let Link { block, start, .. } = *self.links.get(last)?;
        let record = self.blocks.get(&block)?.record.as_ref()?;
        let listed = record.skipped.iter().find(|(there, _)| *there == place);
        let reason = listed.map(|(_, reason)| *reason);
        let says = Says { block, reason, is_sure: start.is_some() };
        match self.has_engine {
            true => self.find_in_blocks(last, says, transactions),
            false => says.state().map(|state| self.staged(state)),
        }
    }

    /// The same where contents count. Without the record before it, a record may be about any of the blocks between.
    fn find_in_blocks(&self, last: usize, says: Says, transactions: &[B256]) -> Option<LegState> {
        let before = self.links.get(..last)?.iter().rposition(|link| link.end.is_some());
        let first = before.map_or(0, |before| before.saturating_add(1));
        let candidates = self.links.get(first..=last)?;
        let (mut is_pending, mut is_forgotten) = (false, false);
        for Link { block, .. } in candidates {
            match &self.blocks.get(block)?.contents {
                Contents::Unknown => is_pending = true,
                Contents::Forgotten => is_forgotten = true,
                Contents::Known(contents) => {
                    if let Some(index) = contents.index_of(transactions) {
                        let at = Landing { block: *block, index: Some(index) };
                        return Some(self.staged(LegState::Included(at)));
                    }
                }
            }
        }
        if is_pending {
            return None;
        }
        if is_forgotten {
            return says.state().map(|state| self.staged(state));
        }
        // No block has it. Only if none is missing between, and the offer began before it, that is its end.
        let is_whole = candidates.iter().all(|link| link.is_linked);
        let Says { block, reason, .. } = says;
        (is_whole || reason.is_some()).then_some(LegState::Skipped { block, reason })
    }

    /// The state with what the engine says of the block's number.
    fn staged(&self, state: LegState) -> LegState {
        let LegState::Included(at) = state else { return state };
        let reaches = |head: Option<u64>| head.is_some_and(|head| at.block.number <= head);
        match self.heads {
            Heads { finalized, .. } if reaches(finalized) => LegState::Finalized(at),
            Heads { safe, .. } if reaches(safe) => LegState::Safe(at),
            Heads { .. } => LegState::Included(at),
        }
    }

    /// Questions for the engine: which blocks are on its chain.
    #[must_use]
    pub fn check(&self) -> Check {
        let is_apart = |(id, block): (&BlockId, &Block)| {
            let is_below = self.top.is_some_and(|top| id.number < top.number);
            (is_below && block.is_canonical.is_none()).then_some(id.number)
        };
        let apart = self.blocks.iter().filter_map(is_apart).collect();
        Check::new(self.blocks.keys().copied().collect(), apart)
    }

    /// Takes the answers, and the heads that were asked for before them; whether anything changed.
    pub fn settle(&mut self, check: &Check, heads: Heads) -> bool {
        for (id, block) in &mut self.blocks {
            if let Some(hash) = check.answers().get(&id.number) {
                block.is_canonical = Some(*hash == Some(id.hash));
            }
        }
        let top = check.top();
        if !check.answers().is_empty() {
            self.cut_above(top);
        }
        self.top = top;
        let before = core::mem::replace(&mut self.heads, heads);
        self.relink() || before != heads
    }

    /// What is above the highest block of the chain is beside it; what leads to that block is on it.
    fn cut_above(&mut self, top: Option<BlockId>) {
        for (id, block) in &mut self.blocks {
            if top.is_none_or(|top| id.number > top.number) && block.is_canonical.is_some() {
                block.is_canonical = Some(false);
            }
        }
        let mut next = top;
        while let Some(at) = next {
            let same_number = BlockId { hash: B256::ZERO, ..at }..=BlockId { hash: ONES, ..at };
            for (id, block) in self.blocks.range_mut(same_number) {
                block.is_canonical = Some(id.hash == at.hash);
            }
            next = self.parent(at).filter(|parent| self.blocks.contains_key(parent));
        }
    }

    /// Hashes of blocks that the engine is to be asked for, the newest first, at most [`ASKED_MAX`]: those of the chain
    /// whose contents are not known, and those without a record between two that have one.
    #[must_use]
    pub fn wanted(&self) -> Vec<B256> {
        if !self.has_engine {
            return Vec::new();
        }
        let before = self.links.iter().map(|link| Some(link.block));
        let before = [self.base.map(|(block, _)| block)].into_iter().chain(before);
        let pairs: Vec<_> = before.zip(&self.links).collect();
        let wanted = pairs.into_iter().rev().flat_map(|(before, link)| {
            let block = self.blocks.get(&link.block);
            let is_unknown = block.is_some_and(|block| matches!(block.contents, Contents::Unknown));
            let is_bridged = !link.is_linked
                && before.is_some_and(|before| {
                    link.block.number.saturating_sub(before.number) <= GAP_BLOCKS_MAX
                });
            let parent = self.parent(link.block).filter(|parent| !self.blocks.contains_key(parent));
            let parent = parent.filter(|_| is_bridged).map(|parent| parent.hash);
            is_unknown.then_some(link.block.hash).into_iter().chain(parent)
        });
        wanted.take(ASKED_MAX).collect()
    }

    /// Takes a block that was [`ChainOutcomes::wanted`]; whether anything changed. Where a record says another number or
    /// parent of it, the record counts for nothing.
    pub fn told(&mut self, block: &ChainBlock) -> bool {
        let id = BlockId { number: block.number, hash: block.hash };
        let is_wrong = |there: &BlockId, known: &Block| {
            there.hash == id.hash && (*there != id || known.parent != block.parent)
        };
        let wrong: Vec<BlockId> = self
            .blocks
            .iter()
            .filter(|(there, known)| is_wrong(there, known))
            .map(|(there, _)| *there)
            .collect();
        for there in wrong {
            self.remove(there);
        }
        let contents = Prefixes::of(&block.transactions);
        // One that was not known is the parent of a block of the chain.
        let new = Block {
            parent: block.parent,
            record: None,
            contents: Contents::Unknown,
            is_canonical: Some(true),
        };
        let known = self.blocks.entry(id).or_insert(new);
        if matches!(known.contents, Contents::Known(_)) {
            return false;
        }
        self.transactions = self.transactions.saturating_add(contents.len());
        known.contents = Contents::Known(contents);
        self.relink();
        self.evict();
        true
    }

    fn parent(&self, of: BlockId) -> Option<BlockId> {
        let hash = self.blocks.get(&of)?.parent;
        Some(BlockId { number: of.number.checked_sub(1)?, hash })
    }

    /// The block under another one: its parent, or over a gap the newest record's of the highest number.
    fn below(&self, of: BlockId) -> Option<BlockId> {
        let parent = self.parent(of)?;
        if self.blocks.contains_key(&parent) {
            return Some(parent);
        }
        let under = ..BlockId { hash: B256::ZERO, ..parent };
        let highest = self.blocks.range(under).next_back()?.0.number;
        let same_number = self.blocks.range(under).rev().take_while(|(id, _)| id.number == highest);
        let order = |block: &Block| block.record.as_ref().map(|record| record.order);
        same_number.max_by_key(|(_, block)| order(block)).map(|(id, _)| *id)
    }

    /// The chain by its records, from its tip down.
    fn walk(&self) -> impl Iterator<Item = BlockId> + '_ {
        core::iter::successors(self.tip, |at| self.below(*at))
    }

    /// Makes the chain anew; whether it is another one.
    fn relink(&mut self) -> bool {
        let blocks: Vec<BlockId> = match self.has_engine {
            true => {
                let on_chain = |(_, block): &(&BlockId, &Block)| block.is_canonical == Some(true);
                self.blocks.iter().filter(on_chain).map(|(id, _)| *id).collect()
            }
            false => {
                let mut blocks: Vec<BlockId> = self.walk().collect();
                blocks.reverse();
                blocks
            }
        };
        let mut before = self.base.map(|(block, end)| (block, Some(end)));
        let mut floor = self.base.map_or(Place::default(), |(_, end)| end);
        let mut links = Vec::with_capacity(blocks.len());
        for link in blocks {
            let Some(link) = self.link(link, before, floor) else { continue };
            floor = link.end.unwrap_or(floor);
            before = Some((link.block, link.end));
            links.push(link);
        }
        let has_changed = links != self.links;
        self.links = links;
        has_changed
    }

    /// A block behind another one, and behind the place up to which everything was offered.
    fn link(
        &self,
        block: BlockId,
        before: Option<(BlockId, Option<Place>)>,
        floor: Place,
    ) -> Option<Link> {
        let record = self.blocks.get(&block)?.record.as_ref();
        let parent = self.parent(block);
        let is_linked = before.is_some_and(|(before, _)| parent == Some(before));
        let start = before.filter(|_| is_linked).and_then(|(_, end)| end);
        let makes_sense = |record: &&Recorded| {
            // A cursor never goes back, and a closed block leaves it where it is.
            let has_moved = start.is_some_and(|start| start != record.end);
            record.end >= floor && !(record.is_closed && has_moved)
        };
        let end = record.filter(makes_sense).map(|record| record.end);
        Some(Link { block, is_linked, start, end })
    }

    fn remove(&mut self, id: BlockId) {
        let Some(block) = self.blocks.remove(&id) else { return };
        let skipped = block.record.map_or(0, |record| record.skipped.len());
        self.skipped = self.skipped.saturating_sub(skipped);
        if let Contents::Known(contents) = block.contents {
            self.transactions = self.transactions.saturating_sub(contents.len());
        }
        if self.tip == Some(id) {
            let order = |block: &Block| block.record.as_ref().map(|record| record.order);
            let newest = self.blocks.iter().max_by_key(|(_, block)| order(block));
            self.tip = newest.map(|(id, _)| *id);
        }
    }

    /// Forgets the oldest until everything is within its bounds; whether anything was.
    fn evict(&mut self) -> bool {
        let mut has_changed = false;
        while self.blocks.len() > BLOCKS_MAX || self.skipped > SKIPPED_MAX {
            let Some((&oldest, _)) = self.blocks.first_key_value() else { break };
            let link = self.links.first().filter(|link| link.block == oldest);
            let end = link.and_then(|link| link.end);
            self.remove(oldest);
            match end {
                Some(end) => {
                    self.base = Some((oldest, end));
                    self.links.remove(0);
                }
                None => {
                    self.relink();
                }
            }
            has_changed = true;
        }
        for block in self.blocks.values_mut() {
            if self.transactions <= TRANSACTIONS_MAX {
                break;
            }
            if let Contents::Known(contents) = &block.contents {
                self.transactions = self.transactions.saturating_sub(contents.len());
                block.contents = Contents::Forgotten;
            }
        }
        has_changed
    }
}

/// The greatest hash.
const ONES: B256 = B256::repeat_byte(0xff);

/// What a record alone says of an item before its end.
#[derive(Clone, Copy, Debug)]
struct Says {
    block: BlockId,
    /// Why the block skipped it, if it did.
    reason: Option<SkipReason>,
    /// Whether the offer is known to have begun before the item.
    is_sure: bool,
}

impl Says {
    fn state(self) -> Option<LegState> {
        let Self { block, reason, is_sure } = self;
        match reason {
            Some(_) => Some(LegState::Skipped { block, reason }),
            None => is_sure.then_some(LegState::Included(Landing { block, index: None })),
        }
    }
}

#[cfg(test)]
mod tests;
