//! The stream of submissions: several per message, several messages at a time, answers in order.
//!
//! A refused submission, even a whole refused message, is an answer like any other. Only what is no protobuf ends the
//! stream, because nothing behind it can be told apart.

use futures::{Stream, StreamExt};
use lockstep_core::entry::Entry;
use lockstep_proto::convert::ingress::{Form, check_submission_count, result_to_v1, submission};
use lockstep_proto::error::Refusal;
use lockstep_proto::v1;
use tonic::{Status, Streaming};

use super::{IngressService, now};
use crate::limits::STREAM_IN_FLIGHT_MAX;
use crate::node::Submission;
use crate::quota::Client;
use crate::reads::internal;
use crate::streams::{Answers, StreamPlace};
use crate::turns::Turn;

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

/// One message on its way: what is known by now, and its turn at the node, if it needs one.
struct Message {
    sequence: u64,
    admitted: Admitted,
    turn: Option<Result<Turn, Refusal>>,
}

impl IngressService {
    pub(super) fn answer_stream(
        &self,
        client: Client,
        requests: Streaming<v1::SubmitStreamRequest>,
    ) -> Result<Answers<v1::SubmitStreamResponse>, Refusal> {
        let requests = until_lost(requests, self.streams.place(client)?);
        let (admitting, service) = (self.clone(), self.clone());
        let answers = requests
            // One after the other, so that the node gets the messages in their order.
            .then(move |request| {
                let service = admitting.clone();
                async move { Ok(service.admit_message(client, request?).await) }
            })
            .map(move |message: Result<Message, Status>| {
                let service = service.clone();
                async move { Ok(service.answer(client, message?).await) }
            })
            .buffered(STREAM_IN_FLIGHT_MAX);
        Ok(Box::pin(answers))
    }

    /// Converts and charges a message, and waits until the node may check it.
    async fn admit_message(&self, client: Client, request: v1::SubmitStreamRequest) -> Message {
        let v1::SubmitStreamRequest { sequence, submissions } = request;
        let admitted = match check_submission_count(submissions.len()) {
            Err(refusal) => Admitted { results: vec![Some(Err(refusal))], ..Admitted::default() },
            Ok(()) => {
                let now = now();
                let convert = |one| submission(one, now);
                self.admit(client, submissions.into_iter().map(convert).collect())
            }
        };
        let turn = match admitted.entries.len() {
            0 => None,
            count => Some(self.checks.turn(client, count).await.map_err(Refusal::from)),
        };
        Message { sequence, admitted, turn }
    }

    async fn answer(&self, client: Client, message: Message) -> v1::SubmitStreamResponse {
        let Message { sequence, admitted, turn } = message;
        let Admitted { mut results, pending, entries } = admitted;
        let answers = match turn {
            None => Vec::new(),
            Some(Ok(turn)) => {
                let answers = self.ingress.submit(client, entries).await;
                drop(turn);
                answers
            }
            Some(Err(refusal)) => vec![Err(refusal); entries.len()],
        };
        for ((place, form), answer) in pending.into_iter().zip(answers) {
            if let Some(result) = results.get_mut(place) {
                *result = Some(answer.map_err(|refusal| form.place(refusal)));
            }
        }
        let missing = || Err(internal("the node gave no answer", &"one per entry was expected"));
        let result = |result: Option<Result<Submission, Refusal>>| {
            let result = result.unwrap_or_else(missing);
            self.count(result.is_ok());
            result_to_v1(result.as_ref().map(|s| (s.id, &s.state, s.is_known)))
        };
        v1::SubmitStreamResponse { sequence, results: results.into_iter().map(result).collect() }
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

/// The requests until the client has no place for its stream any more, which is the last item then.
fn until_lost(
    requests: Streaming<v1::SubmitStreamRequest>,
    place: StreamPlace,
) -> impl Stream<Item = Result<v1::SubmitStreamRequest, Status>> {
    futures::stream::unfold(Some((requests, place)), |open| async {
        let (mut requests, mut place) = open?;
        let request = tokio::select! {
            refusal = place.lost() => return Some((Err(refusal.into()), None)),
            request = requests.next() => request?,
        };
        match request {
            Ok(request) => Some((Ok(request), Some((requests, place)))),
            Err(status) => Some((Err(crate::server::with_details(&status)), None)),
        }
    })
}
