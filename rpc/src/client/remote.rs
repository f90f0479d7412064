//! One node with all its services, over one connection.

use std::path::PathBuf;
use std::pin::pin;

use futures::StreamExt as _;
use lockstep_core::types::EntryId;
use lockstep_proto::convert::ingress::{EntryStatus, Milestone};

use super::{ClientError, Endpoint, IngressClient, LogClient};

/// One node, to ask and to submit to. Nothing that it answers is trusted.
#[derive(Clone, Debug)]
pub struct Remote {
    url: String,
    ingress: IngressClient,
    log: LogClient,
}

impl Remote {
    /// The node at this endpoint, connected to. The connection comes back by itself after it was lost.
    ///
    /// # Errors
    /// If it is not an endpoint, if the certificates cannot be read, or if nobody answers.
    pub async fn connect(url: &str, ca: Option<&PathBuf>) -> Result<Self, ClientError> {
        let endpoint = Endpoint { authority: ca.cloned(), ..Endpoint::new(url) };
        let channel = endpoint.connect().await?;
        Ok(Self {
            url: url.to_owned(),
            ingress: IngressClient::new(channel.clone()),
            log: LogClient::new(channel),
        })
    }

    /// The endpoint, as the user named it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of its log.
    #[must_use]
    pub fn log(&self) -> LogClient {
        self.log.clone()
    }

    /// A client of its ingress.
    #[must_use]
    pub fn ingress(&self) -> IngressClient {
        self.ingress.clone()
    }

    /// The state in which an entry has come as far as `milestone`, waited for; or the one that no other follows.
    ///
    /// # Errors
    /// The node's refusal, or that it ended the stream before.
    pub async fn status_at(
        &self,
        id: EntryId,
        milestone: Milestone,
    ) -> Result<EntryStatus, ClientError> {
        let mut states = pin!(self.ingress().watch(id).await?);
        while let Some(status) = states.next().await {
            let status = status?;
            if status.state.has_reached(milestone) || status.state.is_final() {
                return Ok(status);
            }
        }
        Err(ClientError::Ended)
    }
}
