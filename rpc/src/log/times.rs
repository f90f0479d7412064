//! From a time to a height: block times ascend strictly, so halving finds it in as many reads as the height has bits.

use lockstep_core::types::{Height, UnixMillis};
use lockstep_proto::error::{ErrorCode, Refusal};

use super::not_found;
use crate::node::{BlockAt, Log};
use crate::reads::unreadable;

const FIELD: &str = "timestamp_ms";

/// The first height whose block is later than `timestamp`.
pub(super) fn height_after(log: &dyn Log, timestamp: UnixMillis) -> Result<Height, Refusal> {
    let (first, head) = (log.earliest(), *log.heads().borrow());
    if head < first || time_of(log, head)? <= timestamp {
        return Err(not_found(log, FIELD, &format!("a block later than {timestamp}")));
    }
    if first > Height(1) && time_of(log, first)? > timestamp {
        let reason = format!(
            "the first block later than {timestamp} may lie before height {first}, with which this node begins"
        );
        return Err(Refusal::new(ErrorCode::NotFound, reason).of_field(FIELD));
    }
    // All heights below `low` are not later, `high` is.
    let (mut low, mut high) = (first, head);
    while low < high {
        let middle = Height(low.0.midpoint(high.0));
        match time_of(log, middle)? > timestamp {
            true => high = middle,
            false => low = middle.next(),
        }
    }
    Ok(high)
}

fn time_of(log: &dyn Log, height: Height) -> Result<UnixMillis, Refusal> {
    let block = log.block(BlockAt::Height(height)).map_err(unreadable)?;
    let block = block.ok_or_else(|| not_found(log, FIELD, &format!("block {height}")))?;
    Ok(block.certified.header.timestamp_ms)
}
