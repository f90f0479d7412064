//! What an audit finds, for people and for programs.

use std::fmt::{self, Display, Formatter};

use alloy_primitives::{Address, B256};
use lockstep_core::record::{SkipReason, Skipped};
use lockstep_core::window::Place;
use serde::Serialize;

/// An item's place in the chain's slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct At {
    /// Height of its log block.
    pub height: u64,
    /// Its place among the chain's items of that log block, from 0.
    pub item: u32,
}

impl From<Place> for At {
    fn from(place: Place) -> Self {
        Self { height: place.height.0, item: place.item }
    }
}

impl From<&Skipped> for At {
    fn from(skipped: &Skipped) -> Self {
        Self { height: skipped.height.0, item: skipped.item }
    }
}

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, self.item)
    }
}

/// A block of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockId {
    /// L2 block number.
    pub number: u64,
    /// Its hash.
    pub block: B256,
}

impl Display for BlockId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "block {} {}", self.number, self.block)
    }
}

/// A user's transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InBlock {
    /// The block.
    #[serde(flatten)]
    pub block: BlockId,
    /// Its place in the block, deposits counted, from 0.
    pub index: u32,
    /// Its hash.
    pub transaction: B256,
}

impl Display for InBlock {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: transaction {} {}", self.block, self.index, self.transaction)
    }
}

/// A `Sealed` record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordId {
    /// Where it is.
    pub recorded: At,
    /// The block that it speaks of.
    pub block: B256,
    /// That block's parent, as it says.
    pub parent: B256,
    /// Whose key signed it.
    pub signer: Option<Address>,
}

/// Why an item is not in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The engine refused it: nonce, balance or fee.
    Invalid,
    /// Older than the backlog limit.
    Stale,
    /// Too big for an empty block.
    TooLarge,
    /// Over the limits of the chain's batcher.
    OverLimit,
}

impl From<SkipReason> for Reason {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::Invalid => Self::Invalid,
            SkipReason::Stale => Self::Stale,
            SkipReason::TooLarge => Self::TooLarge,
            SkipReason::OverLimit => Self::OverLimit,
        }
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::Stale => "stale",
            Self::TooLarge => "too large",
            Self::OverLimit => "over limit",
        })
    }
}

/// What became of one leg of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LegFate {
    /// The leg's chain.
    pub chain: u64,
    /// Its place in its bundle, from 0.
    pub leg: u32,
    /// The block that holds it, or passed it over.
    pub number: u64,
    /// Why it is not in the block; `None` if it is.
    pub skipped: Option<Reason>,
}

impl Display for LegFate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { chain, leg, number, skipped } = self;
        match skipped {
            None => write!(f, "leg {leg} landed in block {number} of chain {chain}"),
            Some(reason) => {
                write!(f, "leg {leg} was skipped by block {number} of chain {chain} ({reason})")
            }
        }
    }
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// A transaction that none of the chain's slices had, up to the end of the block's window.
    Extra {
        /// The transaction.
        #[serde(flatten)]
        at: InBlock,
        /// Where a later slice has it, as far as the log was read.
        ordered_later: Option<At>,
    },
    /// A transaction of the log that is not in its turn: behind a later one, a second time, or in a block that was not
    /// offered it.
    Reordered {
        /// The transaction.
        #[serde(flatten)]
        at: InBlock,
        /// Its item in the log.
        ordered: At,
    },
    /// A leg of which only a part is in the block.
    PartOfLeg {
        /// The first of its transactions that is there.
        #[serde(flatten)]
        at: InBlock,
        /// The leg in the log.
        ordered: At,
        /// Its bundle.
        bundle: B256,
        /// How many of its transactions are in the block.
        got: u32,
        /// How many it has.
        count: u32,
    },
    /// An item that was offered and is not in the block, and no record says why.
    Missing {
        /// The block.
        #[serde(flatten)]
        block: BlockId,
        /// The item in the log.
        ordered: At,
        /// Hashes of its transactions.
        transactions: Vec<B256>,
    },
    /// A block with a transaction that it was not offered in this order. Its items are offered to the next block again.
    Foreign {
        /// The first such transaction.
        #[serde(flatten)]
        at: InBlock,
        /// How many of the block's transactions are so.
        strays: usize,
    },
    /// A block's record says something else than the block.
    RecordDisagrees {
        /// The block.
        #[serde(flatten)]
        block: BlockId,
        /// The record.
        recorded: At,
        /// The record's field.
        field: &'static str,
        /// By the block and the log.
        expected: String,
        /// By the record.
        got: String,
    },
    /// The chain's sequencers signed that two blocks have one number.
    Equivocation {
        /// L2 block number.
        number: u64,
        /// The first record of the number.
        first: RecordId,
        /// One for another block.
        second: RecordId,
    },
    /// A bundle of which some legs landed and some did not.
    BundleInPart {
        /// The bundle's id.
        bundle: B256,
        /// Height of its log block.
        height: u64,
        /// How many legs it has.
        legs: u32,
        /// What became of those on the audited chains, by chain.
        fates: Vec<LegFate>,
    },
    /// A record of a block that is not on the chain: it was reorganised away, or never arrived there.
    NotCanonical {
        /// L2 block number.
        number: u64,
        /// The record.
        #[serde(flatten)]
        record: RecordId,
        /// The block that is on the chain.
        canonical: B256,
    },
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The chain did not keep to its slices.
    Fault,
    /// Worth knowing; nobody is at fault for it alone.
    Info,
}

impl Finding {
    /// Number of the block that it is about; `None` for a bundle.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Extra { at, .. }
            | Self::Reordered { at, .. }
            | Self::PartOfLeg { at, .. }
            | Self::Foreign { at, .. } => Some(at.block.number),
            Self::Missing { block, .. } | Self::RecordDisagrees { block, .. } => Some(block.number),
            Self::Equivocation { number, .. } | Self::NotCanonical { number, .. } => Some(*number),
            Self::BundleInPart { .. } => None,
        }
    }

    /// How much it weighs.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Extra { .. }
            | Self::Reordered { .. }
            | Self::PartOfLeg { .. }
            | Self::Missing { .. }
            | Self::Foreign { .. }
            | Self::RecordDisagrees { .. }
            | Self::BundleInPart { .. } => Level::Fault,
            // A sequencer that builds a block anew after a reorg of L1 does the same; a person must judge.
            Self::Equivocation { .. } | Self::NotCanonical { .. } => Level::Info,
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extra { at, ordered_later: None } => {
                write!(f, "EXTRA {at} is in none of the chain's slices")
            }
            Self::Extra { at, ordered_later: Some(later) } => {
                write!(f, "EXTRA {at} is only ordered after the block's window, at {later}")
            }
            Self::Reordered { at, ordered } => {
                write!(f, "REORDERED {at}, ordered at {ordered}, is not in its turn")
            }
            Self::PartOfLeg { at, ordered, bundle, got, count } => write!(
                f,
                "PART OF LEG {at}: {got} of the {count} transactions of the leg at {ordered} of bundle {bundle}"
            ),
            Self::Missing { block, ordered, transactions } => {
                write!(
                    f,
                    "MISSING {block}: the item at {ordered} is not in it, and no record says why"
                )?;
                transactions.iter().try_for_each(|hash| write!(f, "  {hash}"))
            }
            Self::Foreign { at, strays } => {
                write!(f, "FOREIGN {at} is the first of {strays} that the block was not offered so")
            }
            Self::RecordDisagrees { block, recorded, field, expected, got } => write!(
                f,
                "RECORD {block}: the record at {recorded} says {field} {got}, the block says {expected}"
            ),
            Self::Equivocation { number, first, second } => write!(
                f,
                "EQUIVOCATION block {number}: {} recorded at {}, {} recorded at {}",
                first.block, first.recorded, second.block, second.recorded
            ),
            Self::BundleInPart { bundle, height, legs, fates } => {
                write!(f, "BUNDLE IN PART {bundle} of {legs} legs, ordered at height {height}:")?;
                fates.iter().try_for_each(|fate| write!(f, " {fate};"))
            }
            Self::NotCanonical { number, record, canonical } => write!(
                f,
                "not canonical: block {number} {}, recorded at {}; the chain has {canonical}",
                record.block, record.recorded
            ),
        }
    }
}
