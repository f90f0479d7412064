//! Our turn: build a block from the lanes, persist it, answer, publish its parts.
//!
//! Asked again for one (height, round), also after a restart, the answer is the same block.

use std::sync::Arc;

use lockstep_core::block;
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::proposal::Payload;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::{EngineHandle, FirstPart};
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use crate::app::{App, Context, Done};
use crate::candidates::{Proposed, Verified};
use crate::lanes::now;
use crate::lanes::table::Attached;
use crate::publish::publish;
use crate::store::Undecided;

pub(crate) fn handle(app: &App, height: Height, round: Round, reply: oneshot::Sender<BlockHash>) {
    if let Some(block) = app.candidates.own(height, round, app.context.me) {
        reply.send(block).ok();
        return super::restream::handle(app, (round, None, app.context.me), block);
    }
    app.context.metrics.proposing(height);
    let (context, engine) = (app.context.clone(), app.engine.clone());
    tokio::spawn(async move {
        let state = context.ledger.state();
        if state.height.next() != height {
            return warn!(%height, tip = %state.height, "asked to propose at another height");
        }
        match propose(&context, state, round).await {
            Ok(built) => announce(&context, &engine, built, reply).await,
            Err(reason) => error!(%height, %round, %reason, "cannot propose"),
        }
    });
}

/// A block this node built, persisted, and signed as a proposal.
struct Built {
    header: Header,
    cut: Cut,
    verified: Verified,
    first: FirstPart,
    payload: alloy_primitives::Bytes,
}

async fn propose(context: &Arc<Context>, state: Arc<State>, round: Round) -> Result<Built, String> {
    let this = context.clone();
    let build = move || {
        let (cut, batches) = cut_and_batches(&this, &state);
        let timestamp = block::proposal_timestamp(state.timestamp, now());
        let assembly =
            this.ledger.assemble(timestamp, &cut, &batches).map_err(|e| e.to_string())?;
        let header = block::build_header(&state, round, timestamp, &cut, &assembly);
        let undecided =
            Undecided { round, valid_round: None, header: header.clone(), cut: cut.clone() };
        this.ledger.store().put_undecided(&undecided, &[]).map_err(|e| e.to_string())?;
        let proposal =
            Proposal { height: header.height, round, valid_round: None, block: header.hash() };
        let signed = this.guard.sign_proposal(&proposal).map_err(|e| e.to_string())?;
        let attached = this.lanes.unacknowledged(&batches);
        let payload =
            Payload { header: header.clone(), cut: cut.clone(), batches: attached }.encode();
        let first = FirstPart {
            proposal,
            proposer: this.me,
            bytes_total: payload.len() as u64,
            signature: signed.part,
        };
        let verified = Verified { assembly: Arc::new(assembly), batches: Arc::new(batches) };
        Ok(Built { header, cut, verified, first, payload })
    };
    tokio::task::spawn_blocking(build).await.map_err(|e| e.to_string())?
}

/// The lanes as far as they are held. A lane can't lose batches, so the batches of the cut are there.
fn cut_and_batches(
    context: &Context,
    state: &State,
) -> (Cut, Vec<lockstep_core::batch::CheckedBatch>) {
    let cut = context.lanes.cut(state);
    let steps = cut.steps(&state.committed.lanes).unwrap_or_default();
    match context.lanes.batches(&steps, &Attached::new()) {
        Ok(batches) => (cut, batches),
        Err(reason) => {
            warn!(%reason, "own cut names batches that are not held; proposing none");
            (Cut { lanes: state.committed.lanes.clone() }, Vec::new())
        }
    }
}

async fn announce(
    context: &Context,
    engine: &EngineHandle,
    built: Built,
    reply: oneshot::Sender<BlockHash>,
) {
    let Built { header, cut, verified, first, payload } = built;
    let block = first.proposal.block;
    debug!(height = %header.height, %block, batches = verified.batches.len(), "proposing");
    let proposed = Proposed {
        round: first.proposal.round,
        valid_round: None,
        proposer: first.proposer,
        is_timely: true,
        first: Some(first),
    };
    // Before the answer, so that the decision finds the block.
    context.report(Done::Ready { header, cut, proposed, verified }).await;
    reply.send(block).ok();
    publish(engine, first, &payload.into()).await;
}
