//! When a validator that follows without voting may vote: what a guard's mark waits for, and who lifts it.

use lockstep_core::state::State;
use lockstep_core::types::Height;
use tracing::{info, warn};

use super::Parts;
use crate::abstention::Abstention;
use crate::app::Context;
use crate::guard::{Guard, SignError};
use crate::health::Health;

/// Lifts a guard's mark if what it waits for is over, durably where the log is beyond its genesis; else why the validator
/// does not vote. `None` for a guard without a mark. Blocks on the disk.
pub(super) fn use_mark_up(
    guard: &Guard,
    state: &State,
    may_begin: bool,
) -> Result<Option<Abstention>, SignError> {
    let Some(mark) = guard.mark() else { return Ok(None) };
    let why = Abstention::of(mark, state.committed.params.drift_ms);
    if !why.is_over(state.height, state.timestamp, may_begin) {
        return Ok(Some(why));
    }
    if state.height == Height::GENESIS {
        guard.begin();
    } else {
        guard.raise_floor(state.height)?;
        info!(floor = %state.height, origin = %mark.origin, "the new guard signs above this height");
    }
    Ok(None)
}

/// Why the validator does not vote, after what it waited for is over or the guard refused a signature.
pub(super) async fn after(parts: &Parts, is_refused: bool) -> Result<Option<Abstention>, String> {
    let Context { ledger, guard, .. } = &*parts.context;
    let (state, may_begin) = (ledger.state(), parts.standing.borrow().may_begin);
    let next = state.height.next();
    let marked = tokio::task::spawn_blocking({
        let guard = guard.clone();
        move || use_mark_up(&guard, &state, may_begin)
    })
    .await
    .map_err(|e| e.to_string())?
    .map_err(|e| e.to_string())?;
    if marked.is_none() && is_refused {
        warn!(height = %next, "the guard refused a signature; following until the height is decided");
        guard.abstain_until_decided(next);
        return Ok(Some(Abstention::Height(next)));
    }
    match marked {
        Some(why) => warn!(%why, "not voting"),
        None => info!("voting"),
    }
    Ok(marked)
}

/// The health of a validator that begins to follow or to vote.
pub(super) fn health(abstains: Option<Abstention>) -> Health {
    abstains.map_or(Health::Starting, |why| Health::Abstaining { why, behind: None })
}
