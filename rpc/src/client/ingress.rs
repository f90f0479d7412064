//! The client of the ingress service.

use futures::{Stream, StreamExt};
use lockstep_core::entry::Entry;
use lockstep_core::signing::Signature;
use lockstep_core::types::{EntryId, UnixMillis};
use lockstep_proto::convert::ingress::{
    Accepted, EntryStatus, StatusKey, Submitted, Wait, result_from_v1,
};
use lockstep_proto::error::Refusal;
use lockstep_proto::v1;
use lockstep_proto::v1::ingress_client::IngressClient as Inner;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::ClientError;
use crate::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX, STREAM_IN_FLIGHT_MAX};

/// Submits entries and asks for their states; cheap to clone.
#[derive(Clone, Debug)]
pub struct IngressClient(Inner<Channel>);

impl IngressClient {
    /// A client over a connection.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(
            Inner::new(channel)
                .max_encoding_message_size(MESSAGE_IN_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_OUT_BYTES_MAX),
        )
    }

    /// Submits an entry as its bytes. Doing it twice is one submission.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses it or cannot be reached.
    pub async fn submit(
        &mut self,
        entry: &Entry,
        wait: Option<Wait>,
    ) -> Result<Submitted, ClientError> {
        let request =
            v1::SubmitEntryRequest { entry: entry.raw().0.clone(), wait: wait.map(Into::into) };
        let response = self.0.submit_entry(request).await?;
        Ok(response.into_inner().try_into()?)
    }

    /// Submits a transaction; the node makes the entry. No expiry leaves that to the node.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses it or cannot be reached.
    pub async fn submit_transaction(
        &mut self,
        transaction: &lockstep_core::entry::Transaction,
        (expires, gateway): (Option<UnixMillis>, Option<Signature>),
        wait: Option<Wait>,
    ) -> Result<Submitted, ClientError> {
        let request = v1::SubmitTransactionRequest {
            transaction: Some(transaction.into()),
            expires_ms: expires.map_or(0, |expires| expires.0),
            gateway_signature: gateway.map(|s| s.0.to_vec()).unwrap_or_default().into(),
            wait: wait.map(Into::into),
        };
        let response = self.0.submit_transaction(request).await?;
        Ok(response.into_inner().try_into()?)
    }

    /// Submits a bundle; the node makes the entry. No expiry leaves that to the node.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses it or cannot be reached.
    pub async fn submit_bundle(
        &mut self,
        bundle: &lockstep_core::bundle::Bundle,
        (expires, gateway): (Option<UnixMillis>, Option<Signature>),
        wait: Option<Wait>,
    ) -> Result<Submitted, ClientError> {
        let request = v1::SubmitBundleRequest {
            bundle: Some(bundle.into()),
            expires_ms: expires.map_or(0, |expires| expires.0),
            gateway_signature: gateway.map(|s| s.0.to_vec()).unwrap_or_default().into(),
            wait: wait.map(Into::into),
        };
        let response = self.0.submit_bundle(request).await?;
        Ok(response.into_inner().try_into()?)
    }

    /// The state of an entry.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] if the node knows nothing of it.
    pub async fn status(&mut self, key: StatusKey) -> Result<EntryStatus, ClientError> {
        let response = self.0.get_status(v1::GetStatusRequest::from(key)).await?;
        Ok(response.into_inner().try_into()?)
    }

    /// The states of an entry as they come, until a final one.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses or cannot be reached; each item may be one, too, and is the last then.
    pub async fn watch(
        &mut self,
        id: EntryId,
    ) -> Result<impl Stream<Item = Result<EntryStatus, ClientError>> + use<>, ClientError> {
        let request = v1::WatchStatusRequest { id: id.0.to_vec().into() };
        let states = self.0.watch_status(request).await?.into_inner();
        Ok(states.map(|state| Ok(EntryStatus::try_from(state?)?)))
    }

    /// Opens a stream of submissions. Both ends must be used: answers that nobody reads stop the stream.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses or cannot be reached.
    pub async fn open_stream(&mut self) -> Result<(StreamSender, StreamReceiver), ClientError> {
        let (sender, requests) = mpsc::channel(STREAM_IN_FLIGHT_MAX);
        let answers = self.0.submit_stream(ReceiverStream::new(requests)).await?.into_inner();
        Ok((StreamSender { sender, sequence: 0 }, StreamReceiver(answers)))
    }
}

/// The sending end of a stream of submissions. Dropping it lets the node answer the rest and end the stream.
#[derive(Debug)]
pub struct StreamSender {
    sender: mpsc::Sender<v1::SubmitStreamRequest>,
    sequence: u64,
}

impl StreamSender {
    /// Sends several entries as one message, and gives the sequence by which its answer is known.
    ///
    /// Waits while the node has enough to do. 1..=4,096 entries, and at most 1 MiB in all.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the node ended the stream; the receiver has the reason.
    pub async fn send(&mut self, entries: &[Entry]) -> Result<u64, ClientError> {
        let submissions = entries
            .iter()
            .map(|entry| v1::Submission {
                body: Some(v1::submission::Body::Entry(entry.raw().0.clone())),
                ..v1::Submission::default()
            })
            .collect();
        self.send_submissions(submissions).await
    }

    /// Sends one message of submissions of any form.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the node ended the stream; the receiver has the reason.
    pub async fn send_submissions(
        &mut self,
        submissions: Vec<v1::Submission>,
    ) -> Result<u64, ClientError> {
        let sequence = self.sequence;
        let request = v1::SubmitStreamRequest { sequence, submissions };
        self.sender.send(request).await.map_err(|_| ClientError::Ended)?;
        self.sequence = sequence.saturating_add(1);
        Ok(sequence)
    }
}

/// The receiving end of a stream of submissions.
#[derive(Debug)]
pub struct StreamReceiver(Streaming<v1::SubmitStreamResponse>);

/// The answer to one message: its sequence, and one result per submission.
pub type StreamAnswer = (u64, Vec<Result<Accepted, Refusal>>);

impl StreamReceiver {
    /// The next answer, in the order of the messages; `None` after the last.
    ///
    /// # Errors
    /// [`ClientError`] if the node ended the stream for a reason, or its answer makes no sense.
    pub async fn next(&mut self) -> Result<Option<StreamAnswer>, ClientError> {
        let Some(v1::SubmitStreamResponse { sequence, results }) = self.0.message().await? else {
            return Ok(None);
        };
        let results = results.into_iter().map(result_from_v1).collect::<Result<_, _>>()?;
        Ok(Some((sequence, results)))
    }
}
