//! Whether an entry may wait in the own lane: what a chain's bucket can take soon, in shares.
//!
//! A source may have half as much waiting as is still free of a lot (dynamic thresholds, Choudhury and Hahne 1998): one
//! alone gets a third, of ten each gets a twelfth, and twice that is free for the next. Of the whole queue a lot may have as
//! much as is free. What is in flight counts, as it may come back. So who fills it is refused, and never the next honest one.
//!
//! | place | size |
//! |---|---|
//! | a chain's lot | what its full bucket holds; of open entries, their share of it |
//! | the whole queue | [`QUEUE_BYTES_MAX`], [`QUEUE_ENTRIES_MAX`] |
//! | a chain's records | [`RECORDS_MAX`] |

use lockstep_core::budget::{self, Amount, Usage};
use lockstep_core::state::{ChainState, State};
use lockstep_core::types::{ChainId, UnixMillis};

use super::flight::Flight;
use super::queue::{Ask, Class, Queue};
use super::turns::Load;

/// Bytes of entries that wait for a batch. More are refused with a hint to come back.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Entries that wait for a batch.
pub const QUEUE_ENTRIES_MAX: usize = 65_536;
/// Records of one chain that wait for a batch.
pub const RECORDS_MAX: usize = 64;
/// An entry that asks more than its chain's bucket will hold in this time does not wait, in milliseconds.
const SOON_MS: u64 = 1_000;
/// When to come back, at the earliest and the latest, in milliseconds.
const RETRY_MS: (u64, u64) = (250, 10_000);

/// Too much waits here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// In the whole queue.
    #[error("{entries} entries of {bytes} bytes wait for a batch already")]
    Queue {
        /// Entries that wait.
        entries: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// For one chain's budget.
    #[error("as much of chain {chain} waits already as its budget gives this client for now")]
    Chain {
        /// The chain.
        chain: ChainId,
        /// When to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// One chain's budget has too little for this entry.
    #[error("the entry asks more of chain {chain} than its budget has left")]
    Budget {
        /// The chain.
        chain: ChainId,
        /// When the budget has that much if nobody else takes of it, in milliseconds.
        retry_after_ms: u64,
    },
}

impl Busy {
    /// When to come back, in milliseconds.
    #[must_use]
    pub const fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Queue { .. } => RETRY_MS.0,
            Self::Chain { retry_after_ms, .. } | Self::Budget { retry_after_ms, .. } => {
                *retry_after_ms
            }
        }
    }
}

/// Whether an entry of this many bytes may wait, by what it asks.
pub(super) fn check(
    (queue, flight): (&Queue, &Flight),
    state: &State,
    now: UnixMillis,
    asks: &[Ask],
    length: usize,
) -> Result<(), Busy> {
    let (entries, bytes) = (queue.len(), queue.bytes());
    let free_entries = QUEUE_ENTRIES_MAX.saturating_sub(entries);
    let free_bytes = QUEUE_BYTES_MAX.saturating_sub(bytes);
    let is_full =
        |lot: &Load| lot.entries >= free_entries || lot.bytes.saturating_add(length) > free_bytes;
    if is_full(&Load::default()) {
        return Err(Busy::Queue { entries, bytes });
    }
    for ask in asks {
        let (lot, own) = queue.load(&ask.lot, &ask.source);
        if is_full(&lot) {
            return Err(Busy::Queue { entries, bytes });
        }
        let (id, class) = ask.lot;
        if class == Class::Record {
            let retry_after_ms = RETRY_MS.0;
            if lot.entries >= RECORDS_MAX {
                return Err(Busy::Chain { chain: id, retry_after_ms });
            }
            continue;
        }
        let chain = state.committed.chain(id).expect("what has a need is registered");
        check_budget(state, chain, now, ask)?;
        // What is in flight may come back.
        let lot = Load { amount: lot.amount.plus(flight.amount(&ask.lot)), ..lot };
        check_share(state, chain, ask, (&lot, &own))?;
    }
    Ok(())
}

fn check_budget(state: &State, chain: &ChainState, now: UnixMillis, ask: &Ask) -> Result<(), Busy> {
    let percent = state.committed.params.open_share_percent;
    let elapsed = now.since(state.timestamp).saturating_add(SOON_MS);
    let level = budget::level(chain, elapsed, percent);
    let asked = Usage::default().plus(&ask.demand);
    if asked.is_within(&level) {
        return Ok(());
    }
    let lacking = asked.all.minus(level.all);
    let lacking = if ask.demand.is_open { asked.open.minus(level.open) } else { lacking };
    let part = if ask.demand.is_open { percent.max(1) } else { 100 };
    let retry_after_ms = drain_ms(chain, lacking, part, 100);
    Err(Busy::Budget { chain: ask.lot.0, retry_after_ms })
}

fn check_share(
    state: &State,
    chain: &ChainState,
    ask: &Ask,
    (lot, own): (&Load, &Load),
) -> Result<(), Busy> {
    let percent = match ask.lot.1 {
        Class::Open => state.committed.params.open_share_percent,
        Class::Regular | Class::Record => 100,
    };
    let size = budget::capacity(chain).percent(percent);
    let (wanted, room) = (own.amount.plus(ask.demand.amount), size.minus(lot.amount).share(2));
    let entries = (QUEUE_ENTRIES_MAX / 2).saturating_sub(lot.entries) / 2;
    if wanted.is_within(&room) && own.entries < entries {
        return Ok(());
    }
    let over = wanted.minus(room);
    let retry_after_ms = drain_ms(chain, over, percent.max(1), lanes(state).saturating_mul(100));
    Err(Busy::Chain { chain: ask.lot.0, retry_after_ms })
}

fn lanes(state: &State) -> u64 {
    state.committed.lanes.len() as u64
}

/// How long `part / whole` of the chain's rate takes to give that much, within what is told.
fn drain_ms(chain: &ChainState, amount: Amount, part: u64, whole: u64) -> u64 {
    let ms = |amount: u64, rate: u64| {
        let needed = u128::from(amount).saturating_mul(1_000).saturating_mul(whole.into());
        let rate = u128::from(rate).saturating_mul(part.into());
        let ms = needed.checked_div(rate).unwrap_or_default();
        u64::try_from(ms).unwrap_or(u64::MAX)
    };
    let gas = ms(amount.gas, chain.params.gas_per_second);
    gas.max(ms(amount.bytes, chain.params.bytes_per_second)).clamp(RETRY_MS.0, RETRY_MS.1)
}
