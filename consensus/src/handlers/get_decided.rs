//! A peer syncs from us: values and certificates of the heights it asks for.

use bytes::Bytes;
use lockstep_core::certificate::Certificate;
use lockstep_core::types::Height;
use tokio::sync::oneshot;
use tracing::warn;

use crate::app::App;

pub(crate) fn handle(
    app: &App,
    first: Height,
    last: Height,
    reply: oneshot::Sender<Vec<(Bytes, Certificate)>>,
) {
    let ledger = app.context.ledger.clone();
    tokio::task::spawn_blocking(move || {
        let mut values = Vec::new();
        for height in (first.0..=last.0).map(Height) {
            match ledger.synced_value(height) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    warn!(%height, %error, "cannot read a decided value");
                    break;
                }
            }
        }
        reply.send(values).ok();
    });
}
