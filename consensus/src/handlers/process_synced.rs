//! A decided value came from a peer: header, cut and every batch. Its certificate is the engine's to check.
//!
//! The sync path never says invalid for what it can't judge: either the bytes are wrong, and their sender is at fault,
//! or they can't be judged now, and are asked for again.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_core::proposal::SyncedValue;
use lockstep_core::types::Height;
use lockstep_engine::{ProposedBlock, SyncOutcome};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::app::{App, Context, Done};
use crate::candidates::{Proposed, Verified};
use crate::store::Undecided;

pub(crate) fn handle(app: &App, height: Height, bytes: Bytes, reply: oneshot::Sender<SyncOutcome>) {
    let context = app.context.clone();
    tokio::spawn(async move {
        let outcome = process(&context, height, bytes).await;
        debug!(%height, ?outcome, "processed a synced value");
        reply.send(outcome).ok();
    });
}

async fn process(context: &Arc<Context>, height: Height, bytes: Bytes) -> SyncOutcome {
    let value = match SyncedValue::decode(&bytes.into()) {
        Ok(value) => value,
        Err(reason) => {
            warn!(%height, %reason, "a synced value is malformed");
            return SyncOutcome::PeerFault;
        }
    };
    let SyncedValue { header, cut, batches: raw } = value;
    if header.height != height {
        return SyncOutcome::PeerFault;
    }
    if height != context.ledger.state().height.next() {
        return SyncOutcome::Retry;
    }
    let raw = raw.into_iter().map(Into::into).collect();
    let checked: Result<Vec<_>, _> = context.checker.check_urgent(raw).await.into_iter().collect();
    let batches = match checked {
        Ok(batches) => batches,
        Err(reason) => {
            warn!(%height, %reason, "a synced value holds an invalid batch");
            return SyncOutcome::PeerFault;
        }
    };
    let this = context.clone();
    let verify = move || {
        let assembly = this.ledger.verify(&header, &cut, &batches).map_err(|e| e.to_string())?;
        let (round, valid_round) = (header.round, None);
        let undecided = Undecided { round, valid_round, header, cut };
        let store = this.ledger.store();
        store.put_undecided(&undecided, &batches).map_err(|e| e.to_string())?;
        let (assembly, batches) = (Arc::new(assembly), Arc::new(batches));
        Ok::<_, String>((undecided, Verified { assembly, batches }))
    };
    let verified = tokio::task::spawn_blocking(verify).await.map_err(|e| e.to_string()).flatten();
    match verified {
        Ok((undecided, verified)) => ready(context, undecided, verified).await,
        Err(reason) => {
            warn!(%height, %reason, "a synced value does not verify");
            SyncOutcome::PeerFault
        }
    }
}

async fn ready(context: &Context, undecided: Undecided, verified: Verified) -> SyncOutcome {
    let Undecided { header, cut, .. } = undecided;
    let outcome = SyncOutcome::Valid(ProposedBlock {
        height: header.height,
        round: header.round,
        valid_round: None,
        proposer: header.proposer,
        block: header.hash(),
        is_valid: true,
    });
    let proposed = Proposed {
        round: header.round,
        valid_round: None,
        proposer: header.proposer,
        is_timely: true,
        first: None,
    };
    context.report(Done::Ready { header, cut, proposed, verified }).await;
    outcome
}
