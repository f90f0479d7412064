//! The task that judges a block whose batches are held: verify it, persist it, and only then say that it is valid.

use std::sync::Arc;

use lockstep_core::batch::CheckedBatch;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use tracing::{error, warn};

use crate::app::{Context, Done};
use crate::candidates::{Verdict, Verified};
use crate::store::Undecided;

pub(crate) async fn run(
    context: Arc<Context>,
    header: Header,
    cut: Cut,
    batches: Vec<CheckedBatch>,
) {
    let (block, this) = (header.hash(), context.clone());
    let judged = tokio::task::spawn_blocking(move || judge(&this, header, cut, batches)).await;
    match judged {
        Ok(verdict) => context.report(Done::Judged { block, verdict }).await,
        Err(reason) => error!(%block, %reason, "judging a block failed"),
    }
}

fn judge(
    context: &Context,
    header: Header,
    cut: Cut,
    batches: Vec<CheckedBatch>,
) -> Option<Verdict> {
    let height = header.height;
    let assembly = match context.ledger.verify(&header, &cut, &batches) {
        Ok(assembly) => assembly,
        Err(reason) if reason.is_objective() => {
            warn!(%height, %reason, "proposed block is invalid");
            return Some(Verdict::Invalid);
        }
        Err(reason) => {
            warn!(%height, %reason, "proposed block can't be judged yet");
            return None;
        }
    };
    let undecided = Undecided { round: header.round, valid_round: None, header, cut };
    if let Err(reason) = context.ledger.store().put_undecided(&undecided, &[]) {
        error!(%height, %reason, "cannot persist a proposed block");
        return None;
    }
    let (assembly, batches) = (Arc::new(assembly), Arc::new(batches));
    Some(Verdict::Valid(Verified { assembly, batches }))
}
