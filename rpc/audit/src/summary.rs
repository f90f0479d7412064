//! What an audit counted.

use std::fmt::{self, Display, Formatter};

use lockstep_core::cursor::Kind;
use lockstep_core::window::Place;
use serde::Serialize;

use crate::bundles::BundleCounts;
use crate::finding::{Finding, Level, Reason};
use crate::judge::{Judged, Settled};
use crate::start::{Origin, Start};

/// Items that were offered and are in no block, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkippedCounts {
    /// The engine refused them, by the chain's record.
    pub invalid: u64,
    /// Older than the backlog limit.
    pub stale: u64,
    /// Too big for an empty block.
    pub too_large: u64,
    /// Over the limits of the chain's batcher.
    pub over_limit: u64,
    /// No record gives a reason.
    pub unexplained: u64,
}

/// What an audit counted. Only blocks from the first of the report on are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The chain.
    pub chain: u64,
    /// How the first cursor is known.
    pub origin: Origin,
    /// The block before the first that was walked.
    pub start: u64,
    /// The first block of the report.
    pub first: u64,
    /// The last block that was audited; `None` if none was.
    pub last: Option<u64>,
    /// The last height of the log that was read.
    pub read_to_height: u64,
    /// Blocks that were audited.
    pub blocks: u64,
    /// Blocks that took their offer.
    pub offered: u64,
    /// Blocks that were offered nothing.
    pub closed: u64,
    /// Blocks with transactions that they were not offered.
    pub foreign: u64,
    /// Blocks of which the chain has no record.
    pub unrecorded: u64,
    /// Blocks whose record may still come.
    pub unsettled: u64,
    /// Blocks that were audited and then left by the chain.
    pub left: u64,
    /// Users' transactions in the blocks.
    pub transactions: u64,
    /// Items that were offered to blocks that took their offer.
    pub items: u64,
    /// Those that are in the blocks.
    pub included: u64,
    /// Those that are not.
    pub skipped: SkippedCounts,
    /// How bundles ended.
    pub bundles: BundleCounts,
    /// Findings that are somebody's fault.
    pub faults: u64,
    /// Other findings.
    pub infos: u64,
}

fn add(sum: &mut u64, more: usize) {
    *sum = sum.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
}

impl SkippedCounts {
    fn add(&mut self, skipped: &[(Place, Option<Reason>)]) {
        for (_, reason) in skipped {
            let count = match reason {
                Some(Reason::Invalid) => &mut self.invalid,
                Some(Reason::Stale) => &mut self.stale,
                Some(Reason::TooLarge) => &mut self.too_large,
                Some(Reason::OverLimit) => &mut self.over_limit,
                None => &mut self.unexplained,
            };
            add(count, 1);
        }
    }
}

impl Summary {
    pub(crate) fn new(chain: u64, start: &Start) -> Self {
        Self {
            chain,
            origin: start.origin,
            start: start.parent,
            first: start.first,
            last: None,
            read_to_height: 0,
            blocks: 0,
            offered: 0,
            closed: 0,
            foreign: 0,
            unrecorded: 0,
            unsettled: 0,
            left: 0,
            transactions: 0,
            items: 0,
            included: 0,
            skipped: SkippedCounts::default(),
            bundles: BundleCounts::default(),
            faults: 0,
            infos: 0,
        }
    }

    /// Whether every block kept to its slices.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.faults == 0
    }

    pub(crate) fn add(&mut self, judged: &Judged) {
        self.last = Some(judged.block.number);
        add(&mut self.blocks, 1);
        add(&mut self.transactions, judged.block.users().count());
        match &judged.core.kind {
            Kind::Offered(outcome) => {
                add(&mut self.offered, 1);
                add(&mut self.included, outcome.included.len());
                add(&mut self.items, outcome.included.len().saturating_add(outcome.skipped.len()));
            }
            Kind::Foreign { .. } => add(&mut self.foreign, 1),
            Kind::Closed => add(&mut self.closed, 1),
            Kind::Ambiguous => {}
        }
    }

    pub(crate) fn settled(&mut self, settled: &Settled) {
        self.skipped.add(&settled.skipped);
        match (settled.is_recorded, settled.is_final) {
            (true, _) => {}
            (false, true) => add(&mut self.unrecorded, 1),
            (false, false) => add(&mut self.unsettled, 1),
        }
    }

    pub(crate) fn went_back(&mut self, number: u64) {
        let last = self.last.unwrap_or(number);
        self.left = self.left.saturating_add(last.saturating_sub(number));
        self.last = self.last.map(|last| last.min(number));
    }

    pub(crate) fn found(&mut self, finding: &Finding) {
        match finding.level() {
            Level::Fault => add(&mut self.faults, 1),
            Level::Info => add(&mut self.infos, 1),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { chain, first, start, blocks, offered, closed, foreign, .. } = self;
        let Self { transactions, items, included, read_to_height, .. } = self;
        let SkippedCounts { invalid, stale, too_large, over_limit, unexplained } = self.skipped;
        let BundleCounts { whole, part, none, unknown } = self.bundles;
        let verdict = if self.is_clean() { "KEPT TO ITS SLICES" } else { "LEFT ITS SLICES" };
        let last = self.last.map_or_else(|| "none".to_owned(), |last| last.to_string());
        let origin = match self.origin {
            Origin::Join => "by the log alone, from the block with which the chain joined",
            Origin::Record => "if its sequencer's record tells the truth",
        };
        writeln!(
            f,
            "{verdict}: chain {chain}, blocks {first} to {last}, log read to height {read_to_height}"
        )?;
        writeln!(f, "  start     the cursor of block {start}, {origin}")?;
        writeln!(f, "  blocks    {blocks}: {offered} offered, {closed} closed, {foreign} foreign")?;
        writeln!(
            f,
            "  records   {} blocks have none, {} may get one",
            self.unrecorded, self.unsettled
        )?;
        writeln!(
            f,
            "  items     {items} offered, {included} included; skipped: {invalid} invalid, {stale} stale, \
             {too_large} too large, {over_limit} over the limits, {unexplained} without a reason; {transactions} \
             transactions in the blocks"
        )?;
        writeln!(
            f,
            "  bundles   {whole} whole, {part} in part, {none} not at all, {unknown} not known on all chains"
        )?;
        write!(f, "  findings  {} faults, {} for information", self.faults, self.infos)?;
        match self.left {
            0 => Ok(()),
            left => write!(f, "; {left} audited blocks left the chain"),
        }
    }
}
