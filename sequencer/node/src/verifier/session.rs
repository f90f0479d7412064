//! One endpoint, asked and verified answer by answer: what its answers proved, or how it lied.

use eyre::WrapErr as _;
use lockstep_core::light_client::{LightClient, NotVerified};
use lockstep_core::types::{BlockHash, ChainId, Height};
use lockstep_proto::convert::log::{BlockAt, ProvenSlice};
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::remote::Remote;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};

use super::{Fault, Proven};

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The endpoint refuses or does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer proves nothing.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What was proven cannot be told.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

impl SessionError {
    pub(super) fn of(chain: ChainId, first: Height, error: VerifyError) -> Self {
        let fault = match error {
            VerifyError::Client(error) => return Self::Client(error),
            VerifyError::NotVerified(reason) if matches!(*reason, NotVerified::Stale { .. }) => {
                Fault::Stale(reason)
            }
            VerifyError::NotVerified(reason) if matches!(*reason, NotVerified::Fork(_)) => {
                Fault::Fork(reason)
            }
            reason @ (VerifyError::NotVerified(_)
            | VerifyError::Height { .. }
            | VerifyError::Chain { .. }
            | VerifyError::Continuation { .. }
            | VerifyError::NotFirstAfter { .. }
            | VerifyError::NoRecord { .. }
            | VerifyError::TooManyHandovers) => Fault::NotProven { chain, first, reason },
        };
        Self::Fault(fault)
    }
}

/// An endpoint and what is verified of it.
#[derive(Clone, Debug)]
pub struct Session {
    remote: Remote,
    log: VerifyingLog,
}

impl Session {
    /// A session that trusts what the light client trusts, and nothing of the endpoint.
    #[must_use]
    pub fn new(remote: Remote, client: LightClient) -> Self {
        Self { log: VerifyingLog::new(remote.log(), client), remote }
    }

    /// The endpoint.
    #[must_use]
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Goes on at another endpoint with what is verified.
    pub fn move_to(&mut self, remote: Remote) {
        self.log.move_to(remote.log());
        self.remote = remote;
    }

    /// The newest height that the endpoint claims to have; nothing rests on it.
    ///
    /// # Errors
    /// What is in the way of asking it.
    pub async fn claimed_head(&self) -> Result<Height, ClientError> {
        Ok(self.remote.log().head().await?.header.height)
    }

    /// Fetches and verifies the slices of `chain` from `first` to at most `last`, or as many of them as one answer has.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is believed then that was not before.
    pub async fn range(
        &mut self,
        chain: ChainId,
        first: Height,
        last: Height,
    ) -> Result<Proven, SessionError> {
        let part = self.log.part(chain, first, last).await;
        let proof = part.map_err(|error| SessionError::of(chain, first, error))?.proof;
        // An answer without a height proves nothing.
        let end = proof.last().ok_or(ClientError::Ended)?;
        let slices = proof.blocks.iter().map(|block| block.presence.slice());
        Ok(Proven::new(self.log.light_client(), (chain, first), &end, slices))
    }

    /// Verifies the slice of `chain` at `height`, which a stream brought.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is believed then that was not before.
    pub async fn slice(
        &mut self,
        chain: ChainId,
        height: Height,
        answer: ProvenSlice,
    ) -> Result<Proven, SessionError> {
        let end = answer.block().clone();
        let shown = self.log.verify_slice(chain, height, answer).await;
        let (_, slice) = shown.map_err(|error| SessionError::of(chain, height, error))?;
        Ok(Proven::new(self.log.light_client(), (chain, height), &end, [slice.as_ref()]))
    }
}

/// A light client that trusts the header with this hash: header and set come from the endpoint, and are checked.
///
/// # Errors
/// If the endpoint does not have them, or what it has is not what is trusted.
pub async fn trust_header(remote: &Remote, hash: BlockHash) -> eyre::Result<LightClient> {
    let asking = || format!("asking {} for the trusted header", remote.url());
    let header = remote.log().block(BlockAt::Hash(hash)).await.wrap_err_with(asking)?;
    let header = header.certified.header;
    let (_, set) = remote.log().validator_set(Some(header.height)).await.wrap_err_with(asking)?;
    let trusted_at = header.timestamp_ms;
    LightClient::from_header(hash, header, set, trusted_at)
        .wrap_err_with(|| format!("{} lied about the trusted header", remote.url()))
}
