//! From a block, its offer and its record to what is wrong with it. Pure.
//!
//! What kind of block it is, core says ([`Reader::classify`]), and which transactions are not in their turn
//! ([`landing::strays`]). Here each of these is looked at, and what the chain's record says is held against the block.
//!
//! | a user's transaction that is not in its turn | is |
//! |---|---|
//! | one of an offered leg of which not all are in the block | [`Finding::PartOfLeg`] |
//! | another one that the log has, up to the end of the block's window | [`Finding::Reordered`] |
//! | else | [`Finding::Extra`] |
//!
//! An item that was offered and is not there is no finding if a record names it with a reason: whether it was valid, only
//! an execution engine can tell.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use lockstep_core::cursor::{self, Kind};
use lockstep_core::landing;
use lockstep_core::limits::RECORD_SKIPPED_MAX;
use lockstep_core::reader::{self, LogView, Reader};
use lockstep_core::record::{SealMode, Sealed, SkipReason, Skipped};
use lockstep_core::slice::Content;
use lockstep_core::types::{EntryId, Height, UnixMillis};
use lockstep_core::weight::Weighed;
use lockstep_core::window::{Offer, Offered, Place, Window};

use crate::block::ChainBlock;
use crate::book::{Book, Recorded};
use crate::finding::{At, BlockId, Finding, InBlock, Reason};

/// A block and what core says of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The block, as its endpoint shows it.
    pub block: ChainBlock,
    /// Its window and offer, and what it is.
    pub core: reader::Judged,
}

/// What the log says of how a block was sealed.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// The first record of its hash.
    Recorded(Recorded<'a>),
    /// No record, and it is too late for one.
    Never,
    /// No record yet.
    NotYet,
}

/// What is known of a block once its record is, or can't come any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Whether the chain has a record of it.
    pub is_recorded: bool,
    /// Whether no other word can come.
    pub is_final: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Items that were skipped, with the reason; `None` where nobody gives one.
    pub skipped: Vec<(Place, Option<Reason>)>,
}

/// A leg and what a block did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegSeen {
    /// Its bundle.
    pub bundle: EntryId,
    /// Height of the bundle's log block.
    pub height: Height,
    /// How many legs the bundle has.
    pub legs: u32,
    /// Which of them it is.
    pub leg: u32,
    /// Why it is not in the block; `None` if it is.
    pub skipped: Option<Reason>,
}

impl Judged {
    /// Judges a block with this window and offer.
    #[must_use]
    pub fn new(
        reader: &Reader,
        log: LogView<'_>,
        block: ChainBlock,
        window: Window,
        offer: Offer,
    ) -> Self {
        let core = reader.classify(log, block.l2_block(Some(&offer)), window, offer);
        Self { block, core }
    }

    /// The block by number and hash.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        BlockId { number: self.block.number, block: self.block.hash }
    }

    /// Whether it is too late for a record of the block, once the log has come to this time.
    #[must_use]
    pub const fn is_past(&self, newest: UnixMillis) -> bool {
        !cursor::is_timely(newest, self.core.offer.closed_at)
    }

    /// Whether items are missing for which only a record can give the reason.
    #[must_use]
    pub fn needs_word(&self) -> bool {
        self.skipped().iter().any(|skipped| skipped.reason == SkipReason::Invalid)
    }

    fn skipped(&self) -> &[Skipped] {
        match &self.core.kind {
            Kind::Offered(outcome) => &outcome.skipped,
            Kind::Closed | Kind::Foreign { .. } | Kind::Ambiguous => &[],
        }
    }

    /// What became of the legs of its offer. `item` gives the items of the chain's slices.
    pub fn legs<'a>(&self, item: impl Fn(Place) -> Option<&'a Weighed>) -> Vec<LegSeen> {
        let Kind::Offered(outcome) = &self.core.kind else {
            return Vec::new();
        };
        let included = outcome.included.iter().map(|included| (included.place, None));
        let skipped = outcome.skipped.iter().map(|skipped| (place(skipped), Some(skipped.reason)));
        let leg = |(place, reason): (Place, Option<SkipReason>)| match &item(place)?.item.content {
            Content::Leg { bundle, leg, legs, .. } => Some(LegSeen {
                bundle: *bundle,
                height: place.height,
                legs: *legs,
                leg: *leg,
                skipped: reason.map(Reason::from),
            }),
            Content::Transaction { .. } | Content::Record(_) => None,
        };
        included.chain(skipped).filter_map(leg).collect()
    }
}

const fn place(skipped: &Skipped) -> Place {
    Place { height: skipped.height, item: skipped.item }
}

/// What is wrong with the transactions of a block.
#[must_use]
pub fn strays(judged: &Judged, book: &Book) -> Vec<Finding> {
    let users: Vec<(u32, B256)> = judged.block.users().collect();
    let hashes: Vec<B256> = users.iter().map(|(_, hash)| *hash).collect();
    let stray = landing::strays(&hashes, &judged.core.offer.hashes());
    let stray: Vec<(u32, B256)> =
        stray.into_iter().filter_map(|at| users.get(at)).copied().collect();
    let mut found = Vec::new();
    if let Some(&(index, transaction)) = stray.first() {
        let at = InBlock { block: judged.id(), index, transaction };
        found.push(Finding::Foreign { at, strays: stray.len() });
    }
    let here: BTreeSet<B256> = hashes.into_iter().collect();
    let mut parts = BTreeSet::new();
    for (index, transaction) in stray {
        let at = InBlock { block: judged.id(), index, transaction };
        let offered = judged
            .core
            .offer
            .items
            .iter()
            .find(|offered| offered.item.hashes.contains(&transaction));
        match offered.and_then(|offered| part_of_leg(at, offered, &here)) {
            Some(part) => {
                if offered.is_some_and(|offered| parts.insert(offered.place)) {
                    found.push(part);
                }
            }
            None => found.push(unordered(at, judged, book)),
        }
    }
    found
}

/// The finding that only a part of a leg is in the block, if that is so.
fn part_of_leg(at: InBlock, offered: &Offered, here: &BTreeSet<B256>) -> Option<Finding> {
    let Content::Leg { bundle, .. } = &offered.item.item.content else {
        return None;
    };
    let hashes = &offered.item.hashes;
    let got = hashes.iter().filter(|hash| here.contains(*hash)).count();
    (got < hashes.len()).then(|| Finding::PartOfLeg {
        at,
        ordered: offered.place.into(),
        bundle: bundle.0,
        got: u32::try_from(got).unwrap_or(u32::MAX),
        count: u32::try_from(hashes.len()).unwrap_or(u32::MAX),
    })
}

fn unordered(at: InBlock, judged: &Judged, book: &Book) -> Finding {
    match book.seen(&at.transaction) {
        Some(seen) if seen.time <= judged.core.window.end => {
            Finding::Reordered { at, ordered: seen.place.into() }
        }
        later => Finding::Extra { at, ordered_later: later.map(|seen| seen.place.into()) },
    }
}

/// What is wrong between a block and its record, and what became of the items that are not in it.
#[must_use]
pub fn settle(judged: &Judged, word: Word<'_>) -> Settled {
    let mut settled = Settled {
        is_recorded: matches!(word, Word::Recorded(_)),
        is_final: !matches!(word, Word::NotYet),
        ..Settled::default()
    };
    if let Word::Recorded(recorded) = word {
        settled.findings.extend(disagreement(judged, recorded));
    }
    for skipped in judged.skipped() {
        let reason = match skipped.reason {
            SkipReason::Invalid => reason(skipped, word),
            known @ (SkipReason::Stale | SkipReason::TooLarge | SkipReason::OverLimit) => {
                Some(known.into())
            }
        };
        settled.skipped.push((place(skipped), reason));
        if reason.is_none() && is_unexplained(skipped, word) {
            settled.findings.push(missing(judged, skipped));
        }
    }
    settled
}

/// The reason that a record gives.
fn reason(skipped: &Skipped, word: Word<'_>) -> Option<Reason> {
    let Word::Recorded(recorded) = word else {
        return None;
    };
    let named = recorded.sealed.skipped.iter().find(|named| place(named) == place(skipped));
    named.map(|named| named.reason.into())
}

/// Whether a reason should have been given.
fn is_unexplained(skipped: &Skipped, word: Word<'_>) -> bool {
    match word {
        Word::Never => true,
        Word::NotYet => false,
        Word::Recorded(recorded) => {
            let named = &recorded.sealed.skipped;
            // A list of the greatest length may be cut off in front of the cursor.
            let is_before = |named: &&Skipped| !place(named).is_behind(recorded.sealed.cursor);
            let last = named.iter().rfind(is_before);
            let is_behind = last.is_some_and(|last| place(last) < place(skipped));
            !(named.len() >= RECORD_SKIPPED_MAX && is_behind)
        }
    }
}

fn missing(judged: &Judged, skipped: &Skipped) -> Finding {
    let offered = judged.core.offer.items.iter().find(|offered| offered.place == place(skipped));
    Finding::Missing {
        block: judged.id(),
        ordered: At::from(skipped),
        transactions: offered.map(|offered| offered.item.hashes.clone()).unwrap_or_default(),
    }
}

/// The first field in which a record differs from the block.
fn disagreement(judged: &Judged, recorded: Recorded<'_>) -> Option<Finding> {
    let reader::Judged { block, offer, kind, .. } = &judged.core;
    let expected = kind.sealed(block, offer, &recorded.sealed.begin().refused)?;
    let (field, expected, got) = difference(&expected, recorded.sealed)?;
    let recorded = recorded.id.recorded;
    Some(Finding::RecordDisagrees { block: judged.id(), recorded, field, expected, got })
}

fn difference(block: &Sealed, record: &Sealed) -> Option<(&'static str, String, String)> {
    let cursor = |sealed: &Sealed| format!("{}:{}", sealed.cursor.height, sealed.cursor.items);
    let mode = |sealed: &Sealed| match sealed.mode {
        SealMode::Offered => "offered".to_owned(),
        SealMode::Closed => "closed".to_owned(),
    };
    let fields: [(&'static str, String, String); 5] = [
        ("number", block.number.to_string(), record.number.to_string()),
        ("parent", block.parent.to_string(), record.parent.to_string()),
        ("timestamp", block.timestamp.to_string(), record.timestamp.to_string()),
        ("mode", mode(block), mode(record)),
        ("cursor", cursor(block), cursor(record)),
    ];
    let differs = fields.into_iter().find(|(_, block, record)| block != record);
    differs.or_else(|| skipped_difference(&block.skipped, &record.skipped))
}

/// The first place at which two lists of skipped items differ.
fn skipped_difference(
    block: &[Skipped],
    record: &[Skipped],
) -> Option<(&'static str, String, String)> {
    let shown = |skipped: Option<&Skipped>| match skipped {
        Some(skipped) => format!("{} ({})", At::from(skipped), Reason::from(skipped.reason)),
        None => "no further item".to_owned(),
    };
    let count = block.len().max(record.len());
    let place = (0..count).find(|place| block.get(*place) != record.get(*place))?;
    Some(("skipped", shown(block.get(place)), shown(record.get(place))))
}

#[cfg(test)]
pub(crate) mod tests;
