//! The engine's signer: every signature comes out of the guard, which has it on disk before it gives it.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_core::certificate::{Proposal, Vote};
use lockstep_core::signing::Signature;
use lockstep_engine::{ConsensusSigner, SignError};

use crate::guard::{self, Guard};

/// Signs through the guard, on the blocking pool: each signature waits for the disk.
#[derive(Debug)]
pub(crate) struct GuardSigner(pub(crate) Arc<Guard>);

impl GuardSigner {
    async fn sign(
        &self,
        sign: impl FnOnce(&Guard) -> Result<Signature, guard::SignError> + Send + 'static,
    ) -> Result<Signature, SignError> {
        let guard = self.0.clone();
        match tokio::task::spawn_blocking(move || sign(&guard)).await {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(error)) => Err(sign_error(&error)),
            Err(error) => Err(SignError::Failed(error.to_string())),
        }
    }
}

/// A refusal leaves the validator healthy: it follows until the height is decided. Anything else stops it.
fn sign_error(error: &guard::SignError) -> SignError {
    let reason = error.to_string();
    match error {
        guard::SignError::Conflict { .. }
        | guard::SignError::Lower { .. }
        | guard::SignError::Floor { .. }
        | guard::SignError::Abstaining { .. }
        | guard::SignError::Marked { .. } => SignError::Refused(reason),
        guard::SignError::Stopped | guard::SignError::Io { .. } => SignError::Failed(reason),
    }
}

#[async_trait]
impl ConsensusSigner for GuardSigner {
    async fn sign_vote(&self, vote: &Vote) -> Result<Signature, SignError> {
        let vote = *vote;
        self.sign(move |guard| guard.sign_vote(&vote)).await
    }

    async fn sign_proposal(&self, proposal: &Proposal) -> Result<Signature, SignError> {
        let proposal = *proposal;
        self.sign(move |guard| guard.sign_proposal(&proposal).map(|signed| signed.proposal)).await
    }
}
