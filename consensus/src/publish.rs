//! Sends a proposal's parts. Its stream is named by height, round and block, so a re-proposal has a stream of its own.

use bytes::Bytes;
use lockstep_engine::{EngineHandle, FirstPart, PartMessage, StreamId};

use tracing::warn;

use crate::parts::split;

/// Publishes all parts of a proposal to every validator that is up.
pub(crate) async fn publish(engine: &EngineHandle, first: FirstPart, payload: &Bytes) {
    let proposal = first.proposal;
    let mut id = Vec::with_capacity(44);
    id.extend_from_slice(&proposal.height.0.to_be_bytes());
    id.extend_from_slice(&proposal.round.0.to_be_bytes());
    id.extend_from_slice(proposal.block.0.as_slice());
    let stream = StreamId(id.into());
    for (sequence, content) in split(first, payload) {
        let part = PartMessage { stream: stream.clone(), sequence, content };
        if let Err(error) = engine.publish_part(part).await {
            return warn!(height = %proposal.height, %error, "cannot publish a proposal");
        }
    }
}
