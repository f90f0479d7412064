//! A part of a proposal came. When all are there, a task checks who signed it and stores the batches it carries.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::block;
use lockstep_core::proposal::Payload;
use lockstep_core::state::State;
use lockstep_engine::PartMessage;
use tracing::{debug, error, warn};

use crate::app::{App, Context, Done};
use crate::candidates::Proposed;
use crate::lanes::now;
use crate::lanes::table::Attached;
use crate::parts::{Complete, Progress};

pub(crate) fn handle(app: &mut App, from: PeerId, part: PartMessage) {
    match app.assembler.insert(from, part.stream, part.sequence, part.content) {
        Ok(Progress::Complete(complete)) => {
            tokio::spawn(open(app.context.clone(), from, complete));
        }
        Ok(Progress::Pending | Progress::Stale) => {}
        Err(reason) => warn!(%from, %reason, "refused a proposal part"),
    }
}

/// Why a complete proposal was not opened. None of these is a verdict on the block.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is not signed by {expected}, whose turn it is, but by {got}")]
    NotProposer { expected: alloy_primitives::Address, got: String },
    #[error("its payload is malformed: {0}")]
    Payload(String),
    #[error("its payload is another block's")]
    OtherBlock,
    #[error("{0}")]
    Round(block::InvalidBlock),
}

async fn open(context: Arc<Context>, from: PeerId, complete: Complete) {
    let Complete { first, payload } = complete;
    let height = first.proposal.height;
    let state = context.ledger.state();
    if height <= state.height {
        return;
    }
    let opened = match check(&context, &state, &first, payload).await {
        Ok(payload) => payload,
        Err(reason) => return warn!(%from, %height, %reason, "refused a proposal"),
    };
    let Payload { header, cut, batches } = opened;
    let params = &state.committed.params;
    let proposal = &first.proposal;
    let is_timely = proposal.valid_round.is_some()
        || block::is_timely(params, proposal.round, header.timestamp_ms, now());
    if !is_timely {
        warn!(%height, timestamp = %header.timestamp_ms, "a proposal is not timely");
    }
    let attached = store_attached(&context, batches).await;
    let proposed = Proposed {
        round: proposal.round,
        valid_round: proposal.valid_round,
        proposer: first.proposer,
        is_timely,
        first: Some(first),
    };
    context.report(Done::Opened { from: Some(from), header, cut, attached, proposed }).await;
}

async fn check(
    context: &Context,
    state: &State,
    first: &lockstep_engine::FirstPart,
    payload: Bytes,
) -> Result<Payload, Refused> {
    let proposal = &first.proposal;
    let set = if proposal.height == state.height.next() {
        &state.committed.validators
    } else {
        &state.committed.next_validators
    };
    let expected = set.proposer(proposal.height, proposal.round).address;
    let digest = proposal.part_digest(state.network_id);
    match context.checker.recover(digest, first.signature).await {
        Ok(got) if got == expected && first.proposer == expected => {}
        Ok(got) => return Err(Refused::NotProposer { expected, got: got.to_string() }),
        Err(got) => return Err(Refused::NotProposer { expected, got: got.to_string() }),
    }
    let payload = Payload::decode(&payload.into()).map_err(|e| Refused::Payload(e.to_string()))?;
    if payload.header.hash() != proposal.block || payload.header.height != proposal.height {
        return Err(Refused::OtherBlock);
    }
    block::check_round(&payload.header, proposal.round, proposal.valid_round)
        .map_err(Refused::Round)?;
    Ok(payload)
}

/// Checks and stores the batches a proposal carries, unless they are held. A wrong one is passed over: then the cut
/// stays incomplete.
async fn store_attached(context: &Context, raw: Vec<alloy_primitives::Bytes>) -> Attached {
    let new = raw.into_iter().filter(|raw| !context.lanes.holds(raw)).map(Into::into).collect();
    let mut attached = Attached::new();
    for checked in context.checker.check_urgent(new).await {
        match checked {
            Ok(batch) => drop(attached.insert(batch.digest(), batch)),
            Err(reason) => warn!(%reason, "a proposal carries an invalid batch"),
        }
    }
    if attached.is_empty() {
        return attached;
    }
    debug!(batches = attached.len(), "storing batches that came with a proposal");
    match context.lanes.store(attached.values().cloned().collect()).await {
        Ok(()) => attached,
        Err(reason) => {
            // Without them the block can't be judged; the commit of the next one stops the node.
            error!(%reason, "cannot store the batches of a proposal");
            Attached::new()
        }
    }
}
