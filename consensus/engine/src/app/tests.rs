//! Certificates and evidence in our words.

use alloy_primitives::{Address, B256};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::signing::Signature;
use lockstep_core::types::BlockHash;

use super::*;
use crate::context;
use crate::inbox::{PROPOSALS_PER_PEER_MAX, Slots};

fn signed_vote(validator: u8, block: Option<u8>) -> mc::SignedVote<Context> {
    let value = block.map_or(mc::NilOrVal::Nil, |b| mc::NilOrVal::Val(hash(b)));
    let vote = context::Vote {
        height: context::Height(4),
        round: mc::Round::new(1),
        vote_type: mc::VoteType::Precommit,
        value,
        validator: ValidatorAddress(Address::repeat_byte(validator)),
    };
    mc::SignedVote::new(vote, Signature([validator; 65]))
}

fn signed_proposal(block: u8) -> mc::SignedProposal<Context> {
    let proposal = context::Proposal {
        height: context::Height(4),
        round: mc::Round::new(1),
        value: Value(hash(block)),
        valid_round: mc::Round::new(0),
        validator: ValidatorAddress(Address::repeat_byte(1)),
    };
    mc::SignedProposal::new(proposal, Signature([block; 65]))
}

fn hash(byte: u8) -> BlockHash {
    BlockHash(B256::repeat_byte(byte))
}

#[test]
fn certificate_is_sorted_by_validator() {
    let votes = vec![signed_vote(9, Some(1)), signed_vote(2, Some(1)), signed_vote(5, Some(1))];
    let certificate =
        mc::CommitCertificate::new(context::Height(4), mc::Round::new(1), hash(1), votes);
    let ours = core_certificate(&certificate);
    let validators: Vec<_> = ours.signatures.iter().map(|s| s.validator).collect();
    assert_eq!(validators, [2, 5, 9].map(Address::repeat_byte));
    assert_eq!((ours.height, ours.round, ours.block), (Height(4), Round(1), hash(1)));
}

#[test]
fn evidence_keeps_both_messages_with_their_signatures() {
    let mut evidence =
        MisbehaviorEvidence { votes: Default::default(), proposals: Default::default() };
    evidence.votes.add(signed_vote(3, Some(1)), signed_vote(3, None));
    evidence.proposals.add(signed_proposal(1), signed_proposal(2));

    let vote =
        |block| Vote { height: Height(4), round: Round(1), vote_type: VoteType::Precommit, block };
    let proposal = |block| Proposal {
        height: Height(4),
        round: Round(1),
        valid_round: Some(Round(0)),
        block: hash(block),
    };
    let expected = [
        Evidence::Votes {
            validator: Address::repeat_byte(3),
            first: (vote(Some(hash(1))), Signature([3; 65])),
            second: (vote(None), Signature([3; 65])),
        },
        Evidence::Proposals {
            validator: Address::repeat_byte(1),
            first: (proposal(1), Signature([1; 65])),
            second: (proposal(2), Signature([2; 65])),
        },
    ];
    assert_eq!(core_evidence(&evidence), expected);
}

#[tokio::test]
async fn answer_is_carried_and_either_side_learns_that_the_other_is_gone() {
    let (reply, theirs) = oneshot::channel();
    carry(reply, |answer: u8| u16::from(answer)).send(7).unwrap();
    assert_eq!(theirs.await, Ok(7));

    let (reply, theirs) = oneshot::channel::<u8>();
    drop(carry(reply, |answer: u8| answer));
    assert!(theirs.await.is_err(), "the application dropped its question");

    let (reply, theirs) = oneshot::channel::<u8>();
    let mut ours = carry(reply, |answer: u8| answer);
    drop(theirs);
    ours.closed().await;
}

#[tokio::test]
async fn waiting_request_keeps_its_place_until_the_application_has_room() {
    let slots = Slots::default();
    let wait = || {
        let request = Request::HistoryMin { reply: oneshot::channel().0 };
        Waiting { request, slot: slots.take() }
    };
    let (questions, asked) = mpsc::channel(1);
    let (waiting, inbox) = mpsc::channel(PROPOSALS_PER_PEER_MAX);
    let (requests, mut received) = mpsc::channel(1);
    for _ in 0..PROPOSALS_PER_PEER_MAX {
        waiting.send(wait()).await.unwrap();
    }
    let forwarding = tokio::spawn(forward(asked, inbox, requests));
    while received.is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert!(slots.take().is_some(), "what the application can take has left its place");
    let held: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
    assert_eq!(held.len(), 1, "the others keep theirs");
    for _ in 0..PROPOSALS_PER_PEER_MAX {
        received.recv().await.unwrap();
    }
    drop(questions);
    forwarding.await.unwrap();
}
