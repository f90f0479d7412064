//! Sends a proposal's parts.

use bytes::Bytes;
use lockstep_engine::{EngineHandle, FirstPart};

use tracing::warn;

use crate::parts::split;

/// Publishes all parts of a proposal to every validator that is up.
pub(crate) async fn publish(engine: &EngineHandle, first: FirstPart, payload: &Bytes) {
    for part in split(first, payload) {
        if let Err(error) = engine.publish_part(part).await {
            return warn!(height = %first.proposal.height, %error, "cannot publish a proposal");
        }
    }
}
