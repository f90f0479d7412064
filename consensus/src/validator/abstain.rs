//! When a validator that follows without voting may vote: what the guard's disk and the mesh say.

use tracing::{info, warn};

use super::Parts;
use crate::abstention::{self, Abstention};
use crate::app::Context;
use crate::health::Health;

/// Why the validator does not vote, after what it waited for is over or the guard refused a signature.
pub(super) async fn after(parts: &Parts, is_refused: bool) -> Result<Option<Abstention>, String> {
    let Context { ledger, guard, .. } = &*parts.context;
    let (state, may_begin) = (ledger.state(), parts.standing.borrow().may_begin);
    let why = tokio::task::spawn_blocking({
        let guard = guard.clone();
        move || abstention::after(&guard, &state, may_begin, is_refused)
    })
    .await
    .map_err(|e| e.to_string())?
    .map_err(|e| e.to_string())?;
    match why {
        Some(why) => warn!(%why, "not voting"),
        None => info!("voting"),
    }
    Ok(why)
}

/// The health of a validator that begins to follow or to vote.
pub(super) fn health(abstains: Option<Abstention>) -> Health {
    abstains.map_or(Health::Starting, |why| Health::Abstaining { why, behind: None })
}
