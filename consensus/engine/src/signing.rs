//! Who signs for a validator, and how signatures are checked: secp256k1 recovery over the digests of
//! `lockstep_core::certificate`.
//!
//! **A signer that refuses ends the engine.** Malachite 0.8.2 has no way to abstain: an `Err` of its `Signer` resumes
//! the state machine with nothing, which fails the consensus actor, and during the replay of the log it even hangs the
//! node for safety. So the error is put on record first ([`crate::Failure::Signer`]), and the application starts a
//! [`crate::Mode::Follower`] in its place until the height is decided.
//!
//! What is durable before a signature, and where it is written then: `crate::wal::order`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_core::certificate as core_certificate;
use lockstep_core::signing::{Signature, recover};
use lockstep_core::types::NetworkId;
use lru::LruCache;
use malachitebft_app_channel::app::consensus::SignedConsensusMsg;
use malachitebft_app_channel::app::types::core::{
    SignedMessage, ValidatorProof, VoteExtensionScope,
};
use malachitebft_app_channel::{Signer, Verifier as MalachiteVerifier};
use malachitebft_signing::{Error, VerificationResult};

use crate::context::{Context, Proposal, ValidatorAddress, Vote};
use crate::failure::{Failure, Failures};
use crate::wal::Log;

/// Signs for one validator. Must be durable before it answers: the same (height, round, kind) is signed again only for
/// the identical message, also after a restart. Called off the runtime: it may wait for a disk.
pub trait ConsensusSigner: Send + Sync + 'static {
    /// Signs [`core_certificate::Vote::digest`].
    ///
    /// # Errors
    /// [`SignError`]: the engine ends, see the crate's docs.
    fn sign_vote(&self, vote: &core_certificate::Vote) -> Result<Signature, SignError>;

    /// Signs [`core_certificate::Proposal::digest`].
    ///
    /// # Errors
    /// [`SignError`]: the engine ends, see the crate's docs.
    fn sign_proposal(&self, proposal: &core_certificate::Proposal) -> Result<Signature, SignError>;
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It could contradict what was signed before. Follow until the height is decided.
    #[error("signing refused: {0}")]
    Refused(String),
    /// The signer or its storage does not work. Stop and page.
    #[error("signing failed: {0}")]
    Failed(String),
}

/// Malachite's signer over the application's.
#[derive(Clone)]
pub(crate) struct SignerAdapter {
    pub(crate) signer: Arc<dyn ConsensusSigner>,
    pub(crate) failures: Failures,
    pub(crate) log: Log,
}

impl SignerAdapter {
    /// Signs off the runtime, at one go: the log is synced, the signer asked, its answer logged.
    async fn off_runtime<T: Send + 'static>(
        &self,
        sign: impl FnOnce(&Self) -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let signed = tokio::task::spawn_blocking(move || sign(&this)).await;
        signed.unwrap_or_else(|error| Err(SignError::Failed(error.to_string()))).map_err(|error| {
            self.failures.report(Failure::Signer(error.clone()));
            Error::from_source(error)
        })
    }

    fn signed_vote(&self, vote: Vote) -> Result<SignedMessage<Context, Vote>, SignError> {
        let of = vote.to_core().ok_or_else(|| SignError::Failed("vote without round".into()))?;
        self.log.sync_to_sign()?;
        let signed = SignedMessage::new(vote, self.signer.sign_vote(&of)?);
        self.log.append(signed.message.height, SignedConsensusMsg::Vote(signed.clone()))?;
        Ok(signed)
    }

    fn signed_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<Context, Proposal>, SignError> {
        let of =
            proposal.to_core().ok_or_else(|| SignError::Failed("proposal without round".into()))?;
        self.log.sync_to_sign()?;
        let signed = SignedMessage::new(proposal, self.signer.sign_proposal(&of)?);
        self.log.append(signed.message.height, SignedConsensusMsg::Proposal(signed.clone()))?;
        Ok(signed)
    }
}

#[async_trait]
impl Signer<Context> for SignerAdapter {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Context, Vote>, Error> {
        self.off_runtime(move |this| this.signed_vote(vote)).await
    }

    async fn sign_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<Context, Proposal>, Error> {
        self.off_runtime(move |this| this.signed_proposal(proposal)).await
    }

    /// Never asked: vote extensions are disabled at every height.
    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Context>,
        (): (),
    ) -> Result<SignedMessage<Context, ()>, Error> {
        Err(Error::from_source("vote extensions are disabled"))
    }

    /// Never asked: the transport authenticates peers.
    async fn sign_validator_proof(
        &self,
        _: Vec<u8>,
        _: Vec<u8>,
    ) -> Result<ValidatorProof<Context>, Error> {
        Err(Error::from_source("validator proofs are disabled"))
    }
}

/// Signatures that are remembered: those of a few heights of a committee of a hundred.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Checks signatures of votes and proposals of one network, each once: the votes of a certificate were checked when
/// they came. Clones share what they remember.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    network: NetworkId,
    // A lock, because malachite verifies through a shared reference; held for one look-up, never across a check.
    known: Arc<Mutex<LruCache<(B256, Signature), Address>>>,
}

impl Verifier {
    pub(crate) fn new(network: NetworkId) -> Self {
        Self { network, known: Arc::new(Mutex::new(LruCache::new(REMEMBERED_MAX))) }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<(B256, Signature), Address>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vote of this validator's own, which nobody verifies.
    pub(crate) fn remember(
        &self,
        vote: &core_certificate::Vote,
        signature: Signature,
        by: ValidatorAddress,
    ) {
        self.known().put((vote.digest(self.network), signature), by.0);
    }

    /// Who signed this vote, and how, each once and in ascending order, as far as it is remembered.
    pub(crate) fn remembered(&self, vote: &core_certificate::Vote) -> BTreeMap<Address, Signature> {
        let digest = vote.digest(self.network);
        let known = self.known();
        let of_vote = known.iter().filter(|((of, _), _)| *of == digest);
        of_vote.map(|((_, signature), by)| (*by, *signature)).collect()
    }

    /// Whether the validator signed this vote.
    pub(crate) fn is_vote_of(
        &self,
        vote: &core_certificate::Vote,
        signature: &Signature,
        by: ValidatorAddress,
    ) -> bool {
        self.is_by(vote.digest(self.network), signature, &by)
    }

    /// Whether `signature` over `digest` is the key's.
    fn is_by(&self, digest: B256, signature: &Signature, key: &ValidatorAddress) -> bool {
        let known = self.known().get(&(digest, *signature)).copied();
        if let Some(signer) = known {
            return signer == key.0;
        }
        let is_by = recover(digest, signature).is_ok_and(|signer| signer == key.0);
        if is_by {
            self.known().put((digest, *signature), key.0);
        }
        is_by
    }
}

fn result(valid: bool) -> Result<VerificationResult, Error> {
    Ok(VerificationResult::from_bool(valid))
}

/// Every method answers `Invalid`, never `Err`: an error would be taken for ours, not for the sender's.
#[async_trait]
impl MalachiteVerifier<Context> for Verifier {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        public_key: &ValidatorAddress,
    ) -> Result<VerificationResult, Error> {
        let digest = vote.to_core().map(|vote| vote.digest(self.network));
        result(digest.is_some_and(|digest| self.is_by(digest, signature, public_key)))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        public_key: &ValidatorAddress,
    ) -> Result<VerificationResult, Error> {
        let digest = proposal.to_core().map(|proposal| proposal.digest(self.network));
        result(digest.is_some_and(|digest| self.is_by(digest, signature, public_key)))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Context>,
        (): &(),
        _: &Signature,
        _: &ValidatorAddress,
    ) -> Result<VerificationResult, Error> {
        result(false)
    }

    async fn verify_validator_proof(
        &self,
        _: &ValidatorProof<Context>,
    ) -> Result<VerificationResult, Error> {
        result(false)
    }
}

#[cfg(test)]
mod tests;
