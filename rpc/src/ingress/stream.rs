//! The stream of submissions: several per message, several messages at a time, answers in order.
//!
//! A refused submission, even a whole refused message, is an answer like any other. Only what is no protobuf ends the
//! stream, because nothing behind it can be told apart.

use futures::StreamExt;
use lockstep_core::entry::Entry;
use lockstep_proto::convert::ingress::{Form, check_submission_count, result_to_v1, submission};
use lockstep_proto::error::Refusal;
use lockstep_proto::v1;
use tonic::Streaming;

use super::{IngressService, now};
use crate::limits::STREAM_IN_FLIGHT_MAX;
use crate::node::Submission;
use crate::quota::Client;
use crate::reads::internal;
use crate::streams::Answers;

/// One message's submissions, sorted into what is known by now and what goes to the node.
#[derive(Debug, Default)]
struct Admitted {
    /// One result per submission, in its place; `None` where the node has to answer.
    results: Vec<Option<Result<Submission, Refusal>>>,
    /// For each entry that goes to the node, the place of its answer and the form it came in.
    pending: Vec<(usize, Form)>,
    /// What goes to the node.
    entries: Vec<Entry>,
}

impl IngressService {
    pub(super) fn answer_stream(
        &self,
        client: Client,
        requests: Streaming<v1::SubmitStreamRequest>,
    ) -> Answers<v1::SubmitStreamResponse> {
        let service = self.clone();
        let answers = requests
            .take_until(self.streams.closing())
            .map(move |request| {
                let service = service.clone();
                async move {
                    match request {
                        Ok(request) => Ok(service.answer(client, request).await),
                        Err(status) => Err(crate::server::with_details(&status)),
                    }
                }
            })
            .buffered(STREAM_IN_FLIGHT_MAX);
        Box::pin(answers)
    }

    async fn answer(
        &self,
        client: Client,
        request: v1::SubmitStreamRequest,
    ) -> v1::SubmitStreamResponse {
        let v1::SubmitStreamRequest { sequence, submissions } = request;
        let results = match check_submission_count(submissions.len()) {
            Err(refusal) => vec![Err(refusal)],
            Ok(()) => self.submit_many(client, submissions).await,
        };
        let results = results
            .iter()
            .map(|result| {
                self.count(result.is_ok());
                result_to_v1(result.as_ref().map(|s| (s.id, &s.state, s.is_known)))
            })
            .collect();
        v1::SubmitStreamResponse { sequence, results }
    }

    async fn submit_many(
        &self,
        client: Client,
        submissions: Vec<v1::Submission>,
    ) -> Vec<Result<Submission, Refusal>> {
        let now = now();
        let converted: Vec<_> = submissions.into_iter().map(|one| submission(one, now)).collect();
        let Admitted { mut results, pending, entries } = self.admit(client, converted);
        if !entries.is_empty() {
            let answers = self.ingress.submit(entries).await;
            for ((place, form), answer) in pending.into_iter().zip(answers) {
                if let Some(result) = results.get_mut(place) {
                    *result = Some(answer.map_err(|refusal| form.place(refusal)));
                }
            }
        }
        let missing = || Err(internal("the node gave no answer", &"one per entry was expected"));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Charges what could be converted.
    fn admit(&self, client: Client, converted: Vec<Result<(Entry, Form), Refusal>>) -> Admitted {
        let sizes = converted.iter().flatten().map(|(entry, _)| entry.raw().len() as u64).collect();
        let mut charged = self.charge(client, sizes).into_iter();
        let mut admitted = Admitted::default();
        for (place, converted) in converted.into_iter().enumerate() {
            let charged = converted.and_then(|one| charged.next().unwrap_or(Ok(())).map(|()| one));
            match charged {
                Err(refusal) => admitted.results.push(Some(Err(refusal))),
                Ok((entry, form)) => {
                    admitted.results.push(None);
                    admitted.pending.push((place, form));
                    admitted.entries.push(entry);
                }
            }
        }
        admitted
    }
}
