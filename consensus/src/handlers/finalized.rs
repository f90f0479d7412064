//! The height is over: keep the fuller certificate, and start the next height.
//!
//! Evidence comes only now, after its height was written; it goes into the next height's write.

use lockstep_core::certificate::Certificate;
use lockstep_engine::{Evidence, StartHeight};
use tokio::sync::oneshot;
use tracing::warn;

use crate::app::App;
use crate::evidence;

pub(crate) fn handle(
    app: &mut App,
    certificate: Certificate,
    evidence: Vec<Evidence>,
    reply: oneshot::Sender<StartHeight>,
) {
    let height = certificate.height;
    for found in &evidence {
        warn!(%height, ?found, "a validator signed two conflicting messages");
        app.context.metrics.evidence();
        app.evidence.push(evidence::encode(found));
    }
    let store = app.context.ledger.store().clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.put_certificate(certificate) {
            warn!(%height, %error, "cannot keep the fuller certificate");
        }
    });
    reply.send(app.context.start_height()).ok();
}
