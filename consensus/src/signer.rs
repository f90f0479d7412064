//! The engine's signer: every signature comes out of the guard, which has it on disk before it gives it.

use std::sync::Arc;

use lockstep_core::certificate::{Proposal, Vote};
use lockstep_core::signing::Signature;
use lockstep_engine::{ConsensusSigner, SignError};

use crate::guard::{self, Guard};

/// Signs through the guard; each signature waits for the disk.
#[derive(Debug)]
pub(crate) struct GuardSigner(pub(crate) Arc<Guard>);

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

impl ConsensusSigner for GuardSigner {
    fn sign_vote(&self, vote: &Vote) -> Result<Signature, SignError> {
        self.0.sign_vote(vote).map_err(|error| sign_error(&error))
    }

    fn sign_proposal(&self, proposal: &Proposal) -> Result<Signature, SignError> {
        let signed = self.0.sign_proposal(proposal).map_err(|error| sign_error(&error))?;
        Ok(signed.proposal)
    }
}
