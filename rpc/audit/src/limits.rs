//! Every bound of the auditor, with the arithmetic that gave it. None changes what is found, unless a chain is reorganised
//! further back, or a record comes later, than is remembered.

use lockstep_core::limits::READER_BLOCKS_MAX;

/// Committee nodes that are asked.
pub const ENDPOINTS_MAX: usize = 16;
/// Heights that are asked for at a time: a minute of an idle log.
pub const HEIGHTS_AT_ONCE: u64 = 240;
/// Heights with records that are looked at for one to begin with.
pub const RECORDS_LOOKED_AT: u32 = 32;

/// Blocks that are fetched at a time.
pub const BLOCKS_AT_ONCE: u64 = 32;
/// Of them, those that the chain's endpoint is asked for at the same time.
pub const CALLS_AT_ONCE: usize = 8;
/// Blocks to which the walk can go back when the chain is reorganised: an hour at a block time of one second.
pub const HISTORY_MAX: usize = 4_096;

/// Records of blocks that are remembered, and as many of limits: as many as core's book has.
pub const RECORDS_MAX: usize = READER_BLOCKS_MAX;
/// Transactions whose place in the log is remembered: 150 bytes each, so 40 MB.
pub const SEEN_MAX: usize = 1 << 18;
/// Bundles that wait for their other legs; the oldest is judged by what is known then.
pub const BUNDLES_MAX: usize = 1 << 16;
