//! Questions and answers of the log: each survives the wire, and each fault is named.

use lockstep_core::proof::{Absence, RangeBlock, SlicePlace, SlicePresence};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::{Content, Item};
use lockstep_core::types::UnixMillis;

use super::*;
use crate::convert::block::tests::certified;
use crate::error::ErrorCode;

fn slice() -> Slice {
    let content = Content::Transaction { bytes: vec![1, 2, 3].into() };
    Slice { chain: ChainId(901), items: vec![Item { index: 4, content }] }
}

fn set() -> ValidatorSet {
    let mut keys: Vec<_> = (1..=4).map(|n| SigningKey::from_bytes([n; 32]).unwrap()).collect();
    keys.sort_by_key(SigningKey::address);
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 2,
        network_address: "/ip4/10.0.0.1/tcp/1".to_owned(),
    };
    ValidatorSet::new(keys.iter().map(validator).collect()).unwrap()
}

fn present() -> ProvenSlice {
    let slice = slice();
    let proof = SliceProof::build(certified(), &[slice.summary()], slice.chain).unwrap();
    ProvenSlice::Present { slice, proof }
}

fn absent() -> ProvenSlice {
    ProvenSlice::Absent(AbsenceProof::build(certified(), &[], ChainId(901)).unwrap())
}

fn range() -> RangeProof {
    let presence = SlicePresence::build(&[slice().summary()], ChainId(901), Some(slice())).unwrap();
    let block = RangeBlock { header: certified().header, presence };
    RangeProof::build(vec![block], certified().certificate).unwrap()
}

#[test]
fn slices_survive_the_wire() {
    for proven in [present(), absent()] {
        let message = proven.to_v1(ChainId(901));
        assert_eq!((message.chain_id, message.height), (901, 7));
        assert_eq!(ProvenSlice::try_from(message).unwrap(), proven);
    }
    for next in [None, Some(Height(8))] {
        let range = SliceRange { proof: range(), next };
        let message = v1::GetSlicesResponse::from(&range);
        assert_eq!(message.to_height, 7);
        assert_eq!(SliceRange::try_from(message).unwrap(), range);
    }
}

#[test]
fn a_transactions_proof_survives_the_wire() {
    let slice = slice();
    let hash = alloy_primitives::keccak256([1, 2, 3]);
    let proof = TransactionProof::build(certified(), &[slice.summary()], &slice, hash).unwrap();
    let proven = ProvenTransaction { proof };
    let message = v1::ProvenTransaction::from(&proven);
    assert_eq!((message.height, message.index), (7, 4));
    assert_eq!(ProvenTransaction::try_from(message).unwrap(), proven);
}

#[test]
fn a_slices_proof_is_bounded_and_canonical() {
    fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::ProvenSlice)) {
        let mut message = present().to_v1(ChainId(901));
        spoil(&mut message);
        let error = ProvenSlice::try_from(message).unwrap_err();
        assert_eq!((error.code, error.field.as_str()), (code, field));
    }
    check(ErrorCode::Missing, "proof", |m| m.proof = Bytes::new());
    check(ErrorCode::OutOfRange, "proof", |m| m.proof = vec![1; PROOF_BYTES_MAX + 1].into());
    check(ErrorCode::OutOfRange, "slice", |m| m.slice = vec![1; SLICE_BYTES_MAX + 1].into());
    check(ErrorCode::Malformed, "slice", |m| m.slice = [m.slice.as_ref(), &[0]].concat().into());
    check(ErrorCode::Malformed, "proof", |m| m.slice = Bytes::new());
}

#[test]
fn ranges_of_heights_are_checked() {
    let check = |chain_id, from_height, to_height| {
        SlicesQuery::try_from(v1::GetSlicesRequest { chain_id, from_height, to_height })
            .map(|query| (query.chain.0, query.from.0, query.to.0))
            .map_err(|error| error.field)
    };
    assert_eq!(check(9, 5, 5), Ok((9, 5, 5)));
    assert_eq!(check(9, 1, SLICE_RANGE_MAX), Ok((9, 1, SLICE_RANGE_MAX)));
    assert_eq!(check(9, 1, SLICE_RANGE_MAX + 1), Err("to_height".to_owned()));
    assert_eq!(check(9, 5, 4), Err("to_height".to_owned()));
    assert_eq!(check(9, 0, 4), Err("from_height".to_owned()));
    assert_eq!(check(9, 1, 0), Err("to_height".to_owned()));
    assert_eq!(check(0, 1, 1), Err("chain_id".to_owned()));
}

#[test]
fn other_questions_are_checked() {
    let hash = || vec![1; 32].into();
    for at in [BlockAt::Height(Height(3)), BlockAt::Hash(BlockHash(B256::repeat_byte(1)))] {
        assert_eq!(BlockAt::try_from(v1::GetBlockRequest::from(at)).unwrap(), at);
    }
    let field = |at| BlockAt::try_from(v1::GetBlockRequest { at }).unwrap_err().field;
    assert_eq!(field(None), "at");
    assert_eq!(field(Some(v1::get_block_request::At::Height(0))), "height");
    assert_eq!(field(Some(v1::get_block_request::At::BlockHash(Bytes::new()))), "block_hash");

    let slice = |chain_id, height| slice_query(&v1::GetSliceRequest { chain_id, height });
    assert_eq!(slice(1, 2).unwrap(), (ChainId(1), Height(2)));
    assert_eq!(slice(0, 2).unwrap_err().field, "chain_id");
    assert_eq!(slice(1, 0).unwrap_err().field, "height");

    let stream = |chain_id, from_height| {
        slice_stream_query(&v1::StreamSlicesRequest { chain_id, from_height })
    };
    assert_eq!(stream(1, 0).unwrap(), (ChainId(1), None));
    assert_eq!(stream(1, 9).unwrap(), (ChainId(1), Some(Height(9))));
    assert_eq!(stream(0, 9).unwrap_err().field, "chain_id");

    let transaction = |chain_id, transaction_hash| {
        transaction_query(&v1::GetTransactionProofRequest { chain_id, transaction_hash })
    };
    assert_eq!(transaction(1, hash()).unwrap().0, ChainId(1));
    assert_eq!(transaction(0, hash()).unwrap_err().field, "chain_id");
    assert_eq!(transaction(1, Bytes::new()).unwrap_err().field, "transaction_hash");

    let handovers = |from_height, to_height| {
        handovers_query(&v1::GetHandoversRequest { from_height, to_height })
    };
    assert_eq!(handovers(1, 1).unwrap(), (Height(1), Height(1)));
    assert_eq!(handovers(0, 1).unwrap_err().field, "from_height");
    assert_eq!(handovers(2, 1).unwrap_err().field, "to_height");
}

#[test]
fn validator_sets_survive_the_wire_and_their_faults_are_named() {
    let message = validator_set_to_v1(Height(4), &set());
    assert_eq!(message.validators.len(), 4);
    assert_eq!(validator_set_from_v1(&message).unwrap(), (Height(4), set()));
    let check = |code, spoil: fn(&mut v1::ValidatorSet)| {
        let mut spoilt = message.clone();
        spoil(&mut spoilt);
        assert_eq!(validator_set_from_v1(&spoilt).unwrap_err().code, code);
    };
    check(ErrorCode::Missing, |m| m.height = 0);
    check(ErrorCode::Missing, |m| m.validator_set = Bytes::new());
    check(ErrorCode::OutOfRange, |m| m.validator_set = vec![1; VALIDATOR_SET_BYTES_MAX + 1].into());
    check(ErrorCode::Malformed, |m| m.validator_set = vec![2, 0xc0].into());
    check(ErrorCode::Malformed, |m| m.validator_set = vec![1, 0xc0].into());
    check(ErrorCode::Malformed, |m| {
        m.validator_set = [m.validator_set.as_ref(), &[0]].concat().into();
    });
}

#[test]
fn genesis_registry_and_handovers_survive_the_wire() {
    let genesis = Genesis {
        name: "test".to_owned(),
        timestamp: UnixMillis(1_700_000_000_000),
        params: NetworkParams::default(),
        validators: set(),
        chains: Vec::new(),
    };
    let message = v1::Genesis::from(&genesis);
    assert_eq!(Genesis::try_from(message.clone()).unwrap(), genesis);
    let unnamed = v1::Genesis::from(&Genesis { name: String::new(), ..genesis });
    assert_eq!(Genesis::try_from(unnamed).unwrap_err().code, ErrorCode::Malformed);
    let empty = v1::Genesis { genesis: Bytes::new(), ..message };
    assert_eq!(Genesis::try_from(empty).unwrap_err().code, ErrorCode::Missing);

    let registry = Registry { chains: Vec::new(), params: NetworkParams::default() };
    let message = v1::GetChainsResponse::from(&registry);
    assert_eq!(Registry::try_from(message).unwrap(), registry);
    assert_eq!(Registry::try_from(v1::GetChainsResponse::default()).unwrap_err().field, "params");

    let handover = Handover { block: certified(), next_set: set() };
    let answer = Handovers { handovers: vec![handover.clone()], next: Some(Height(8)) };
    let message = v1::GetHandoversResponse::from(&answer);
    assert_eq!(Handovers::try_from(message).unwrap(), answer);
    let many = Handovers { handovers: vec![handover; HANDOVERS_PER_ANSWER_MAX + 1], next: None };
    let error = Handovers::try_from(v1::GetHandoversResponse::from(&many)).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::OutOfRange, "handovers"));
}

/// The limits of proofs hold what the greatest block can need.
#[test]
fn the_greatest_proof_fits_its_limit() {
    use lockstep_core::certificate::CommitSignature;
    use lockstep_core::limits::VALIDATORS_MAX;
    use lockstep_core::signing::Signature;
    let mut block = certified();
    let signature = CommitSignature {
        validator: alloy_primitives::Address::repeat_byte(9),
        signature: Signature([7; 65]),
    };
    block.certificate.signatures = vec![signature; VALIDATORS_MAX];
    let summaries: Vec<_> = (1..=CHAINS_MAX as u64)
        .map(|id| Slice { chain: ChainId(id * 2), ..slice() }.summary())
        .collect();
    let place = SlicePlace::build(&summaries, ChainId(CHAINS_MAX as u64)).unwrap();
    let present = SliceProof { block: block.clone(), place };
    assert!(present.to_canonical().len() < PROOF_BYTES_MAX);
    let absence = Absence::build(&summaries, ChainId(CHAINS_MAX as u64 + 1)).unwrap();
    assert_eq!(absence.neighbours.len(), 2);
    assert!(AbsenceProof { block, absence }.to_canonical().len() < PROOF_BYTES_MAX);
}
