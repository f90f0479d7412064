//! Malachite's questions to the application, in our words; and the answers, back in malachite's.

use lockstep_core::certificate::{Certificate, CommitSignature};
use lockstep_core::signing::Signature;
use lockstep_core::types::{Height, Round};
use malachitebft_app_channel::AppMsg;
use malachitebft_app_channel::app::engine::host::{HeightParams, Next, SyncedValueOutcome};
use malachitebft_app_channel::app::streaming::{StreamContent, StreamMessage};
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_app_channel::app::types::{
    LocallyProposedValue, MisbehaviorEvidence, PeerId as MalachitePeerId, ProposedValue,
};
use malachitebft_sync::{RawDecidedValue, Response};
use tokio::sync::{mpsc, oneshot};

use crate::context::{self, Context, Part, ValidatorAddress, ValidatorSet, Value};
use crate::hub::transport_id;
use crate::inbox::Waiting;
use crate::request::{
    Evidence, PartContent, PartMessage, ProposedBlock, Request, StartHeight, StreamId, SyncOutcome,
};

/// Passes malachite's questions and the reader's requests on until malachite or the application is gone. Each answer is
/// carried back by a task of its own, because some may overtake others; malachite itself asks one at a time, so its
/// questions come first and starve nobody.
pub(crate) async fn forward(
    mut questions: mpsc::Receiver<AppMsg<Context>>,
    mut inbox: mpsc::Receiver<Waiting>,
    requests: mpsc::Sender<Request>,
) {
    loop {
        let (request, slot) = tokio::select! {
            biased;
            question = questions.recv() => match question {
                Some(question) => (translate(question), None),
                None => return,
            },
            Some(Waiting { request, slot }) = inbox.recv() => (Some(request), slot),
        };
        if let Some(request) = request
            && requests.send(request).await.is_err()
        {
            return;
        }
        // Free only now: what waits here takes its peer's place, too.
        drop(slot);
    }
}

/// A sender of our answer; a task makes malachite's of it. If either side is dropped, so is the other.
fn carry<A, M>(
    mut reply: oneshot::Sender<M>,
    convert: impl FnOnce(A) -> M + Send + 'static,
) -> oneshot::Sender<A>
where
    A: Send + 'static,
    M: Send + 'static,
{
    let (sender, answer) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            answer = answer => if let Ok(answer) = answer {
                // Malachite may have stopped meanwhile.
                reply.send(convert(answer)).ok();
            },
            () = reply.closed() => {}
        }
    });
    sender
}

/// The request, unless the question has an answer that is always the same.
fn translate(question: AppMsg<Context>) -> Option<Request> {
    Some(match question {
        AppMsg::ConsensusReady { reply } => Request::Ready { reply: carry(reply, height_params) },
        AppMsg::StartedRound { height, round, proposer, reply_value, .. } => {
            let reply = carry(reply_value, |blocks: Vec<_>| {
                blocks.into_iter().map(proposed_value).collect()
            });
            let (height, round) = (height.into(), core_round(round));
            Request::StartedRound { height, round, proposer: proposer.0, reply }
        }
        AppMsg::GetValue { height, round, timeout, reply } => {
            let value = move |block| LocallyProposedValue::new(height, round, Value(block));
            let (height, round) = (height.into(), core_round(round));
            Request::GetValue { height, round, timeout, reply: carry(reply, value) }
        }
        AppMsg::RestreamProposal { height, round, valid_round, address, value_id } => {
            Request::Restream {
                height: height.into(),
                round: core_round(round),
                valid_round: valid_round.as_u32().map(Round),
                proposer: address.0,
                block: value_id,
            }
        }
        AppMsg::ReceivedProposalPart { from, part, reply, .. } => {
            return received(from, part, reply);
        }
        AppMsg::Decided { certificate, reply, .. } => {
            Request::Decided { certificate: core_certificate(&certificate), reply }
        }
        AppMsg::Finalized { certificate, evidence, reply, .. } => Request::Finalized {
            certificate: core_certificate(&certificate),
            evidence: core_evidence(&evidence),
            reply: carry(reply, next),
        },
        AppMsg::GetHistoryMinHeight { .. }
        | AppMsg::GetDecidedValues { .. }
        | AppMsg::ProcessSyncedValue { .. } => return sync_question(question),
        // Never asked: vote extensions are disabled at every height.
        AppMsg::ExtendVote { .. } | AppMsg::VerifyVoteExtensions { .. } => return None,
    })
}

/// The request for a question of value sync.
fn sync_question(question: AppMsg<Context>) -> Option<Request> {
    match question {
        AppMsg::GetHistoryMinHeight { reply } => {
            Some(Request::HistoryMin { reply: carry(reply, |height: Height| height.into()) })
        }
        AppMsg::GetDecidedValues { range, reply } => Some(Request::GetDecided {
            first: (*range.start()).into(),
            last: (*range.end()).into(),
            reply: carry(reply, |values: Vec<_>| values.into_iter().map(decided_value).collect()),
        }),
        AppMsg::ProcessSyncedValue { height, round, proposer, value_bytes, reply } => {
            Some(Request::ProcessSynced {
                height: height.into(),
                round: core_round(round),
                proposer: proposer.0,
                bytes: value_bytes,
                reply: carry(reply, sync_outcome),
            })
        }
        AppMsg::ConsensusReady { .. }
        | AppMsg::StartedRound { .. }
        | AppMsg::GetValue { .. }
        | AppMsg::ExtendVote { .. }
        | AppMsg::VerifyVoteExtensions { .. }
        | AppMsg::RestreamProposal { .. }
        | AppMsg::ReceivedProposalPart { .. }
        | AppMsg::Decided { .. }
        | AppMsg::Finalized { .. } => None,
    }
}

fn received(
    from: MalachitePeerId,
    part: StreamMessage<Part>,
    reply: oneshot::Sender<Option<ProposedValue<Context>>>,
) -> Option<Request> {
    let reply = carry(reply, |block: Option<ProposedBlock>| block.map(proposed_value));
    let content = match part.content {
        StreamContent::Data(Part::Redelivered { height, block }) => {
            return Some(Request::Redelivered { height, block, reply });
        }
        StreamContent::Data(Part::First(first)) => PartContent::First(first),
        StreamContent::Data(Part::Data(data)) => PartContent::Data(data),
        StreamContent::Fin => PartContent::Fin,
    };
    let stream = StreamId(part.stream_id.to_bytes());
    let part = PartMessage { stream, sequence: part.sequence, content };
    transport_id(from).map(|from| Request::ReceivedPart { from, part, reply })
}

/// Rounds that malachite names are always there; it writes "none" for "before the first".
pub(crate) fn core_round(round: mc::Round) -> Round {
    Round(round.as_u32().unwrap_or_default())
}

fn malachite_round(round: Option<Round>) -> mc::Round {
    round.map_or(mc::Round::Nil, |round| mc::Round::new(round.0))
}

fn height_params(start: StartHeight) -> (context::Height, HeightParams<Context>) {
    let set = ValidatorSet::new(start.validators);
    (start.height.into(), HeightParams::new(set, start.timeouts.into(), start.target_time))
}

fn next(start: StartHeight) -> Next<Context> {
    let (height, params) = height_params(start);
    Next::Start(height, params)
}

pub(crate) fn proposed_value(block: ProposedBlock) -> ProposedValue<Context> {
    ProposedValue {
        height: block.height.into(),
        round: mc::Round::new(block.round.0),
        valid_round: malachite_round(block.valid_round),
        proposer: ValidatorAddress(block.proposer),
        value: Value(block.block),
        validity: mc::Validity::from_bool(block.is_valid),
    }
}

fn sync_outcome(outcome: SyncOutcome) -> SyncedValueOutcome<Context> {
    match outcome {
        SyncOutcome::Valid(block) => SyncedValueOutcome::Verdict(proposed_value(block)),
        SyncOutcome::PeerFault => SyncedValueOutcome::PeerFault,
        SyncOutcome::Retry => SyncedValueOutcome::LocalTransientError,
    }
}

pub(crate) fn core_certificate(certificate: &mc::CommitCertificate<Context>) -> Certificate {
    let signatures = certificate.commit_signatures.iter();
    Certificate {
        height: certificate.height.into(),
        round: core_round(certificate.round),
        block: certificate.value_id,
        signatures: core_signatures(signatures.map(|s| (s.address, s.signature))),
    }
}

/// In ascending order of address, each validator's first.
fn core_signatures(
    signatures: impl Iterator<Item = (ValidatorAddress, Signature)>,
) -> Vec<CommitSignature> {
    let mut signatures: Vec<_> = signatures
        .map(|(address, signature)| CommitSignature { validator: address.0, signature })
        .collect();
    signatures.sort_by_key(|s| s.validator);
    signatures.dedup_by_key(|s| s.validator);
    signatures
}

/// A certificate that came by sync, in our words.
pub(crate) fn certificate_of(certificate: &mc::ExtendedCommitCertificate<Context>) -> Certificate {
    let signatures = certificate.commit_signatures.iter();
    Certificate {
        height: certificate.height.into(),
        round: core_round(certificate.round),
        block: certificate.value_id,
        signatures: core_signatures(signatures.map(|s| (s.address, s.signature))),
    }
}

/// The value and its certificate, if a response is the one of this height and nothing else.
pub(crate) fn one_decided(
    height: Height,
    Response::ValueResponse(response): Response<Context>,
) -> Option<(bytes::Bytes, Certificate)> {
    let [value] = <[_; 1]>::try_from(response.values).ok()?;
    let certificate = certificate_of(&value.certificate);
    (certificate.height == height).then_some((value.value_bytes, certificate))
}

/// A certificate as it goes by sync.
pub(crate) fn extended_certificate(
    certificate: &Certificate,
) -> mc::ExtendedCommitCertificate<Context> {
    let signature = |s: &CommitSignature| {
        mc::ExtendedCommitSignature::new(ValidatorAddress(s.validator), s.signature, None)
    };
    mc::ExtendedCommitCertificate {
        height: certificate.height.into(),
        round: mc::Round::new(certificate.round.0),
        value_id: certificate.block,
        commit_signatures: certificate.signatures.iter().map(signature).collect(),
    }
}

fn decided_value((value, certificate): (bytes::Bytes, Certificate)) -> RawDecidedValue<Context> {
    RawDecidedValue::new(value, extended_certificate(&certificate))
}

pub(crate) fn core_evidence(evidence: &MisbehaviorEvidence<Context>) -> Vec<Evidence> {
    let votes = evidence.votes.iter().flat_map(|(validator, pairs)| {
        pairs.iter().filter_map(|(first, second)| {
            Some(Evidence::Votes {
                validator: validator.0,
                first: (first.message.to_core()?, first.signature),
                second: (second.message.to_core()?, second.signature),
            })
        })
    });
    let proposals = evidence.proposals.iter().flat_map(|(validator, pairs)| {
        pairs.iter().filter_map(|(first, second)| {
            Some(Evidence::Proposals {
                validator: validator.0,
                first: (first.message.to_core()?, first.signature),
                second: (second.message.to_core()?, second.signature),
            })
        })
    });
    votes.chain(proposals).collect()
}

#[cfg(test)]
mod tests;
