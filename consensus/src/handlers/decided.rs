//! Decided: commit block and certificate durably, then answer.

use std::sync::Arc;

use lockstep_core::certificate::Certificate;
use tracing::warn;

use crate::app::{App, AppStopped, Context};
use crate::candidates::Verified;
use crate::lanes::table::Attached;
use crate::ledger::DecidedBlock;

pub(crate) async fn handle(app: &mut App, certificate: Certificate) -> Result<(), AppStopped> {
    let (height, block) = (certificate.height, certificate.block);
    app.context.metrics.deciding(height);
    if height <= app.context.ledger.state().height {
        return Ok(());
    }
    let decided = match app.candidates.verified(block) {
        Some((candidate, verified)) => DecidedBlock {
            header: candidate.header.clone(),
            cut: candidate.cut.clone(),
            certificate,
            assembly: verified.assembly.clone(),
            batches: verified.batches.clone(),
            evidence: Vec::new(),
        },
        None => {
            warn!(%height, %block, "decided a block that is not in memory; reading it");
            let context = app.context.clone();
            let read = move || read_undecided(&context, certificate);
            tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| error.to_string())
                .flatten()
                .map_err(|reason| AppStopped::Commit { height, reason })?
        }
    };
    app.commit(decided).await
}

/// After a crash the WAL replays votes for a block that was persisted before they were cast.
fn read_undecided(context: &Context, certificate: Certificate) -> Result<DecidedBlock, String> {
    let undecided =
        context.ledger.store().undecided(certificate.height).map_err(|e| e.to_string())?;
    let held = undecided
        .into_iter()
        .find(|held| held.header.hash() == certificate.block)
        .ok_or("its payload is not stored")?;
    let state = context.ledger.state();
    let steps = held.cut.steps(&state.committed.lanes).map_err(|e| e.to_string())?;
    let batches =
        context.lanes.batches(&steps, &Attached::new()).map_err(|reason| reason.to_string())?;
    let assembly = context
        .ledger
        .verify(&held.header, &held.cut, &batches)
        .map_err(|reason| reason.to_string())?;
    let verified = Verified { assembly: Arc::new(assembly), batches: Arc::new(batches) };
    Ok(DecidedBlock {
        header: held.header,
        cut: held.cut,
        certificate,
        assembly: verified.assembly,
        batches: verified.batches,
        evidence: Vec::new(),
    })
}
