//! Every codec: what is encoded decodes to itself, and no bytes whatever are decoded to something with other bytes.

use malachitebft_app_channel::app::consensus::{LivenessMsg, ProposedValue, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::network::Status;
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_sync::{RawDecidedValue, Request, Response, ValueRequest, ValueResponse};
use proptest::prelude::*;

use super::sync::SyncMessage;
use super::votes::VotesMessage;
use super::*;
use crate::context::{Context, Height, Proposal, Value, Vote};
use crate::request::{FirstPart, PartContent, PartMessage, StreamId};

fn hash(byte: u8) -> BlockHash {
    BlockHash(B256::repeat_byte(byte))
}

fn validator(byte: u8) -> ValidatorAddress {
    ValidatorAddress(Address::repeat_byte(byte))
}

fn signed(byte: u8) -> Signature {
    Signature([byte; 65])
}

fn a_vote(vote_type: mc::VoteType, value: NilOrVal<BlockHash>) -> mc::SignedVote<Context> {
    let vote =
        Vote { height: Height(7), round: Round::new(0), vote_type, value, validator: validator(1) };
    mc::SignedVote::new(vote, signed(2))
}

fn a_proposal(valid_round: Round) -> mc::SignedProposal<Context> {
    let proposal = Proposal {
        height: Height(u64::MAX),
        round: Round::new(3),
        value: Value(hash(4)),
        valid_round,
        validator: validator(1),
    };
    mc::SignedProposal::new(proposal, signed(5))
}

fn a_polka(signatures: u8) -> certificates::PolkaCertificate {
    mc::PolkaCertificate {
        height: Height(7),
        round: Round::new(1),
        value_id: hash(9),
        polka_signatures: (0..signatures)
            .map(|i| mc::PolkaSignature::new(validator(i), signed(i)))
            .collect(),
    }
}

fn a_round_certificate(signatures: usize) -> certificates::RoundCertificate {
    let signature = mc::RoundSignature::new(
        mc::VoteType::Precommit,
        NilOrVal::Val(hash(1)),
        validator(2),
        signed(3),
    );
    mc::RoundCertificate {
        height: Height(7),
        round: Round::new(1),
        cert_type: mc::RoundCertificateType::Skip,
        round_signatures: vec![signature; signatures],
    }
}

fn a_value(height: u64, bytes: usize) -> RawDecidedValue<Context> {
    let signature = mc::ExtendedCommitSignature::new(validator(1), signed(2), None);
    let certificate = mc::ExtendedCommitCertificate {
        height: Height(height),
        round: Round::new(0),
        value_id: hash(3),
        commit_signatures: vec![signature; 3],
    };
    RawDecidedValue::new(vec![7; bytes].into(), certificate)
}

fn a_response(first: u64, count: usize, bytes: usize) -> Response<Context> {
    let values = (first..).take(count).map(|height| a_value(height, bytes)).collect();
    Response::ValueResponse(ValueResponse::new(Height(first), values))
}

fn a_request(first: u64, last: u64) -> Request<Context> {
    Request::ValueRequest(ValueRequest::new(Height(first)..=Height(last)))
}

fn a_part(content: PartContent) -> PartMessage {
    PartMessage { stream: StreamId(Bytes::from_static(b"s")), sequence: 0, content }
}

fn a_first() -> FirstPart {
    FirstPart {
        proposal: lockstep_core::certificate::Proposal {
            height: lockstep_core::types::Height(1),
            round: lockstep_core::types::Round(2),
            valid_round: Some(lockstep_core::types::Round(1)),
            block: hash(1),
        },
        proposer: Address::repeat_byte(1),
        bytes_total: 5,
        signature: signed(6),
    }
}

fn votes_messages() -> Vec<VotesMessage> {
    let nil = a_vote(mc::VoteType::Prevote, NilOrVal::Nil);
    let val = a_vote(mc::VoteType::Precommit, NilOrVal::Val(hash(8)));
    vec![
        VotesMessage::Consensus(SignedConsensusMsg::Vote(nil)),
        VotesMessage::Consensus(SignedConsensusMsg::Vote(val.clone())),
        VotesMessage::Consensus(SignedConsensusMsg::Proposal(a_proposal(Round::Nil))),
        VotesMessage::Consensus(SignedConsensusMsg::Proposal(a_proposal(Round::new(0)))),
        VotesMessage::Liveness(LivenessMsg::Vote(val)),
        VotesMessage::Liveness(LivenessMsg::PolkaCertificate(a_polka(100))),
        VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(a_round_certificate(200))),
        VotesMessage::Status(Status::new(Height(9), Height(0))),
    ]
}

fn parts() -> Vec<PartMessage> {
    vec![
        a_part(PartContent::First(a_first())),
        a_part(PartContent::Data(vec![1; PART_BYTES_MAX].into())),
        a_part(PartContent::Data(Bytes::new())),
        a_part(PartContent::Fin),
    ]
}

#[test]
fn votes_frames_round_trip() {
    for message in votes_messages() {
        assert_eq!(votes::decode(votes::encode(&message).unwrap()).unwrap(), message);
    }
}

#[test]
fn parts_frames_round_trip() {
    for part in parts() {
        assert_eq!(super::parts::decode(super::parts::encode(&part).unwrap()).unwrap(), part);
    }
}

#[test]
fn sync_frames_round_trip() {
    let request = a_request(3, 102);
    let (number, message) = sync::decode(sync::encode_request(9, &request).unwrap()).unwrap();
    assert_eq!((number, message), (9, SyncMessage::Request(request)));

    for response in [a_response(3, 0, 0), a_response(3, 5, 1_000), a_response(1, 100, 0)] {
        let (number, message) = sync::decode(sync::encode_response(9, &response).unwrap()).unwrap();
        let SyncMessage::Response(message) = message else { panic!("not a response") };
        assert_eq!((number, sync::response(&message).unwrap()), (9, response));
    }
}

#[test]
fn log_entries_round_trip() {
    let vote = SignedConsensusMsg::Vote(a_vote(mc::VoteType::Prevote, NilOrVal::Nil));
    let proposal = SignedConsensusMsg::Proposal(a_proposal(Round::new(2)));
    for message in [vote, proposal] {
        assert_eq!(log::decode_message(log::encode_message(&message).unwrap()).unwrap(), message);
    }
    let block = ProposedValue::<Context> {
        height: Height(1),
        round: Round::new(0),
        valid_round: Round::Nil,
        proposer: validator(1),
        value: Value(hash(2)),
        validity: mc::Validity::Invalid,
    };
    assert_eq!(log::decode_block(log::encode_block(&block).unwrap()).unwrap(), block);
    assert_eq!(log::decode_polka(log::encode_polka(&a_polka(3)).unwrap()).unwrap(), a_polka(3));
}

#[test]
fn largest_value_fits_a_response_and_its_size_is_not_underestimated() {
    let response = a_response(1, 1, lockstep_core::limits::SYNCED_VALUE_BYTES_MAX);
    let frame = sync::encode_response(u64::MAX, &response).unwrap();
    assert!(sync::response_bytes(&response).unwrap() >= frame.len() - 32);
    let (_, SyncMessage::Response(message)) = sync::decode(frame).unwrap() else { panic!() };
    sync::response(&message).unwrap();
}

#[test]
fn signatures_over_the_limit_are_refused() {
    let polka = VotesMessage::Liveness(LivenessMsg::PolkaCertificate(a_polka(101)));
    let frame = votes::encode(&polka).unwrap();
    assert_eq!(votes::decode(frame), Err(WireError::Length { field: "signatures", got: 101 }));
    let round = VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(a_round_certificate(201)));
    if let Ok(frame) = votes::encode(&round) {
        assert!(votes::decode(frame).is_err());
    }
}

#[test]
fn parts_over_the_limits_are_neither_sent_nor_taken() {
    let too_long = a_part(PartContent::Data(vec![1; PART_BYTES_MAX + 1].into()));
    let too_late = PartMessage {
        sequence: lockstep_core::limits::PARTS_MAX as u64,
        ..a_part(PartContent::Fin)
    };
    let nameless = PartMessage { stream: StreamId(Bytes::new()), ..a_part(PartContent::Fin) };
    let bytes_total = lockstep_core::limits::SYNCED_VALUE_BYTES_MAX as u64 + 1;
    let too_big = a_part(PartContent::First(FirstPart { bytes_total, ..a_first() }));
    for part in [too_long, too_late, nameless, too_big] {
        assert!(super::parts::encode(&part).is_err(), "{part:?}");
    }
    let frame = lockstep_proto::v1::PartsFrame {
        stream: Bytes::new(),
        sequence: 0,
        content: Some(lockstep_proto::v1::parts_frame::Content::Last(
            lockstep_proto::v1::LastPart {},
        )),
    };
    assert_eq!(
        super::parts::decode(frame.encode_to_vec().into()),
        Err(WireError::Length { field: "stream", got: 0 })
    );
}

#[test]
fn ranges_out_of_bounds_are_refused() {
    for (first, last) in [(0, 5), (5, 4), (1, 101), (1, u64::MAX), (0, u64::MAX)] {
        let m = lockstep_proto::v1::ValueRequest { first, last };
        let frame = lockstep_proto::v1::SyncFrame {
            request: 1,
            message: Some(lockstep_proto::v1::sync_frame::Message::ValueRequest(m)),
        };
        assert!(sync::decode(frame.encode_to_vec().into()).is_err(), "{first}..={last}");
    }
}

#[test]
fn response_with_a_gap_between_heights_is_refused() {
    let values = vec![a_value(3, 1), a_value(5, 1)];
    let response = Response::ValueResponse(ValueResponse::new(Height(3), values));
    let message = sync::response_message(&response).unwrap();
    assert_eq!(
        sync::response(&message),
        Err(WireError::Range { field: "certificate.height", got: 5 })
    );
}

#[test]
fn rounds_that_could_overflow_are_refused() {
    let mut vote = a_vote(mc::VoteType::Prevote, NilOrVal::Nil);
    vote.message.round = Round::new(ROUND_MAX);
    let frame = votes::encode(&VotesMessage::Liveness(LivenessMsg::Vote(vote))).unwrap();
    let got = u64::from(ROUND_MAX);
    assert_eq!(votes::decode(frame), Err(WireError::Range { field: "vote.round", got }));
}

#[test]
fn trailing_bytes_and_unknown_fields_are_refused() {
    for message in votes_messages() {
        let frame = votes::encode(&message).unwrap();
        // A varint field that nobody knows.
        let unknown: Bytes = [frame.as_ref(), &[0x78, 0x01]].concat().into();
        assert!(matches!(votes::decode(unknown), Err(WireError::NotCanonical { .. })));
        // The same field twice: the last one would win.
        let twice: Bytes = [frame.as_ref(), frame.as_ref()].concat().into();
        assert!(votes::decode(twice).is_err());
    }
}

#[test]
fn frames_over_their_class_size_are_refused_before_parsing() {
    for class in [Class::Votes, Class::Parts, Class::Sync] {
        let frame = Bytes::from(vec![0; class.frame_bytes_max() + 1]);
        let error = match class {
            Class::Votes => votes::decode(frame).map(drop),
            Class::Parts => super::parts::decode(frame).map(drop),
            Class::Sync => sync::decode(frame).map(drop),
        };
        assert!(matches!(error, Err(WireError::TooLong { .. })), "{class:?}");
    }
}

/// Decodes bytes with every codec; what decodes must encode to the same bytes.
fn check_every_codec(bytes: &Bytes) {
    if let Ok(m) = votes::decode(bytes.clone()) {
        assert_eq!(votes::encode(&m).unwrap(), bytes);
    }
    if let Ok(m) = super::parts::decode(bytes.clone()) {
        assert_eq!(super::parts::encode(&m).unwrap(), bytes);
    }
    match sync::decode(bytes.clone()) {
        Ok((number, SyncMessage::Request(m))) => {
            assert_eq!(sync::encode_request(number, &m).unwrap(), bytes);
        }
        Ok((number, SyncMessage::Response(m))) => {
            if let Ok(m) = sync::response(&m) {
                assert_eq!(sync::encode_response(number, &m).unwrap(), bytes);
            }
        }
        Err(_) => {}
    }
    if let Ok(m) = log::decode_message(bytes.clone()) {
        assert_eq!(log::encode_message(&m).unwrap(), bytes);
    }
    if let Ok(m) = log::decode_block(bytes.clone()) {
        assert_eq!(log::encode_block(&m).unwrap(), bytes);
    }
    if let Ok(m) = log::decode_polka(bytes.clone()) {
        assert_eq!(log::encode_polka(&m).unwrap(), bytes);
    }
}

fn valid_frames() -> Vec<Bytes> {
    let small = |part: &PartMessage| !matches!(&part.content, PartContent::Data(d) if d.len() > 9);
    let mut frames: Vec<Bytes> =
        votes_messages().iter().map(|m| votes::encode(m).unwrap()).collect();
    frames.extend(parts().iter().filter(|p| small(p)).map(|p| super::parts::encode(p).unwrap()));
    frames.push(sync::encode_request(1, &a_request(1, 5)).unwrap());
    frames.push(sync::encode_response(1, &a_response(1, 3, 9)).unwrap());
    frames
}

proptest! {
    #[test]
    fn no_codec_panics_on_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_every_codec(&bytes.into());
    }

    #[test]
    fn damaged_frames_are_refused_or_are_other_frames(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let frames = valid_frames();
        let mut bytes = frames[which.index(frames.len())].to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        check_every_codec(&bytes.clone().into());
        bytes.truncate(cut.index(bytes.len()));
        check_every_codec(&bytes.into());
    }
}
