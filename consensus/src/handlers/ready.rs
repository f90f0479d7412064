//! The engine is up. It starts once a quorum is connected: before, its first messages would reach nobody.

use std::time::Duration;

use lockstep_engine::StartHeight;
use tokio::sync::oneshot;
use tracing::info;

use crate::app::App;

/// How often the count of peers is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Given to the peers' side of the connections: theirs open a moment after ours.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) fn handle(app: &App, reply: oneshot::Sender<StartHeight>) {
    let context = app.context.clone();
    tokio::spawn(async move {
        while !context.lanes.has_quorum(&context.ledger.state()) {
            if reply.is_closed() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(SETTLE).await;
        let start = context.start_height();
        info!(height = %start.height, peers = context.lanes.peers_up(), "consensus starts");
        // The engine is gone only when the node stops.
        reply.send(start).ok();
    });
}
