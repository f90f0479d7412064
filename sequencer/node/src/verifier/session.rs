//! One endpoint, asked and verified answer by answer.
//!
//! Hand-overs are fetched when a header says that its set decides since another height than the trusted one does; what
//! comes of it is the light client's business.

use eyre::WrapErr as _;
use lockstep_core::header::Header;
use lockstep_core::light_client::{Handover, LightClient};
use lockstep_core::limits::{HANDOVERS_MAX, SLICE_RANGE_MAX};
use lockstep_core::types::{BlockHash, ChainId, Height};
use lockstep_proto::convert::log::{BlockAt, ProvenSlice, SlicesQuery};
use lockstep_rpc::client::ClientError;

use super::{Fault, Proven, Verifier};
use crate::clock;
use crate::commands::endpoint::Remote;

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

/// An endpoint and what is verified of it.
#[derive(Clone, Debug)]
pub struct Session {
    remote: Remote,
    verifier: Verifier,
}

impl Session {
    /// A session that trusts what the verifier trusts, and nothing of the endpoint.
    #[must_use]
    pub const fn new(remote: Remote, verifier: Verifier) -> Self {
        Self { remote, verifier }
    }

    /// The endpoint.
    #[must_use]
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Goes on at another endpoint with what is verified.
    pub fn move_to(&mut self, remote: Remote) {
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
        let end = Height(first.0.saturating_add(SLICE_RANGE_MAX.saturating_sub(1))).min(last);
        let query = SlicesQuery { chain, from: first, to: end };
        let answer = self.remote.log().slices(query).await?;
        let handovers = match answer.proof.blocks.last() {
            Some(block) => self.handovers(&block.header).await?,
            None => Vec::new(),
        };
        Ok(self.verifier.range((chain, first, end), &answer, &handovers, clock::now())?)
    }

    /// Verifies the slice of `chain` at `height`, which a stream brought.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is believed then that was not before.
    pub async fn slice(
        &mut self,
        chain: ChainId,
        height: Height,
        answer: &ProvenSlice,
    ) -> Result<Proven, SessionError> {
        let handovers = self.handovers(&answer.block().header).await?;
        Ok(self.verifier.slice((chain, height), answer, &handovers, clock::now())?)
    }

    /// The hand-overs from the trusted set to the header's, as the endpoint has them.
    async fn handovers(&self, header: &Header) -> Result<Vec<Handover>, ClientError> {
        let (since, _) = self.verifier.client().validators();
        let mut handovers = Vec::new();
        let mut from = since;
        while header.set_since > since && from < header.height && handovers.len() < HANDOVERS_MAX {
            let answer = self.remote.log().handovers(from, header.height).await?;
            handovers.extend(answer.handovers);
            match answer.next {
                Some(next) if next > from => from = next,
                _ => break,
            }
        }
        Ok(handovers)
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
