//! A round begins: every block of the height that is complete by now, from memory or, after a restart, from the store.

use lockstep_core::types::{Height, Round};
use lockstep_engine::ProposedBlock;
use tokio::sync::oneshot;
use tracing::debug;

use crate::app::App;

pub(crate) fn handle(
    app: &App,
    height: Height,
    round: Round,
    reply: oneshot::Sender<Vec<ProposedBlock>>,
) {
    let complete = app.candidates.complete(height);
    debug!(%height, %round, complete = complete.len(), "round starts");
    app.context.metrics.round(round);
    reply.send(complete).ok();
}
