//! Publish a block's parts again: our own re-proposal, signed anew, or a locked block of another, as it came.

use alloy_primitives::Address;
use lockstep_core::certificate::Proposal;
use lockstep_core::proposal::Payload;
use lockstep_core::types::{BlockHash, Round};
use lockstep_engine::FirstPart;
use tracing::warn;

use crate::app::App;
use crate::publish::publish;

pub(crate) fn handle(
    app: &App,
    (round, valid_round, proposer): (Round, Option<Round>, Address),
    block: BlockHash,
) {
    let Some((candidate, verified)) = app.candidates.verified(block) else {
        return warn!(%block, "asked to publish a block again that is not held");
    };
    let (header, cut) = (candidate.header.clone(), candidate.cut.clone());
    let attached = app.context.lanes.unacknowledged(&verified.batches);
    let held = app.candidates.first_part(block);
    let (context, engine) = (app.context.clone(), app.engine.clone());
    tokio::spawn(async move {
        let proposal = Proposal { height: header.height, round, valid_round, block };
        let payload = Payload { header, cut, batches: attached }.encode();
        let bytes_total = payload.len() as u64;
        let first = if proposer == context.me {
            let guard = context.guard.clone();
            match tokio::task::spawn_blocking(move || guard.sign_proposal(&proposal)).await {
                Ok(Ok(signed)) => {
                    Some(FirstPart { proposal, proposer, bytes_total, signature: signed.part })
                }
                Ok(Err(reason)) => return warn!(%block, %reason, "cannot propose again"),
                Err(_) => return,
            }
        } else {
            held.map(|first| FirstPart { bytes_total, ..first })
        };
        if let Some(first) = first {
            publish(&engine, first, &payload.into()).await;
        }
    });
}
