//! What a certified header must have.

use super::*;
use crate::block::fixtures::{keys, validators};

fn verify(log: &Log, block: &CertifiedHeader) -> Result<(), InvalidHeader> {
    block.verify(log.network(), &log.set(1))
}

#[test]
fn a_header_may_be_decided_in_a_later_round() {
    let log = log();
    let header = log.block(2).header.clone();
    for round in [0, 1, 7, u32::MAX] {
        let block = certify(header.clone(), log.keys(2), Round(round));
        assert_eq!(verify(&log, &block), Ok(()));
        assert_eq!(CertifiedHeader::from_canonical(&block.to_canonical()), Ok(block));
    }
}

#[test]
fn each_wrong_header_is_refused_by_name() {
    let log = log();
    let good = log.block(2).clone();
    let other = B256::repeat_byte(0xee);
    let changed = |change: &dyn Fn(&mut Header)| verify(&log, &log.changed(2, change));
    assert_eq!(changed(&|_| ()), Ok(()));
    let (expected, got) = (log.network(), NetworkId(other));
    let refused = Err(InvalidHeader::Network { expected, got });
    assert_eq!(changed(&|header| header.network_id = got), refused);
    let (expected, got) = (log.set(2).hash(), other);
    let refused = Err(InvalidHeader::Validators { expected, got });
    assert_eq!(changed(&|header| header.validators_hash = other), refused);
    let expected = good.header.proposer;
    let refused = Err(InvalidHeader::Proposer { expected, got: stranger() });
    assert_eq!(changed(&|header| header.proposer = stranger()), refused);
    // The proposer of round 0, in a header built for round 1.
    let (built_for, got) = (Round(1), Round(0));
    let refused = Err(InvalidHeader::Round { built_for, got });
    assert_eq!(changed(&|header| header.round = Round(1)), refused);
    let mut header = good.header.clone();
    header.round = Round(1);
    let expected = log.set(2).proposer(Height(2), Round(1)).address;
    let refused = Err(InvalidHeader::Proposer { expected, got: header.proposer });
    assert_eq!(verify(&log, &certify(header, log.keys(2), Round(1))), refused);

    let mut block = good.clone();
    block.certificate.height = Height(3);
    let refused = Err(InvalidHeader::Height { expected: Height(2), got: Height(3) });
    assert_eq!(verify(&log, &block), refused);
    let mut block = good.clone();
    block.header.state_hash = other;
    let (expected, got) = (block.header.hash(), good.certificate.block);
    assert_eq!(verify(&log, &block), Err(InvalidHeader::Block { expected, got }));
    let two = certify(good.header.clone(), &log.keys(2)[..2], Round(0));
    let error = InvalidCertificate::Power { got: 2, total: 3 };
    assert_eq!(verify(&log, &two), Err(InvalidHeader::Certificate(error)));
    let set = validators(&keys(4));
    let (expected, got) = (set.hash(), good.header.validators_hash);
    let refused = Err(InvalidHeader::Validators { expected, got });
    assert_eq!(good.verify(log.network(), &set), refused);
}

#[test]
fn each_proof_rests_on_its_header() {
    let log = log();
    let (network, set) = (log.network(), log.set(1));
    let bad = certify(log.block(1).header.clone(), &log.keys(1)[..2], Round(0));
    let is_header = |result| matches!(result, Err(InvalidProof::Header(_)));
    let slice = log.slice(1, 10).unwrap();
    let proof = SliceProof { block: bad.clone(), ..log.slice_proof(1, 10).unwrap() };
    assert!(is_header(proof.verify(network, &set, slice)));
    let proof = AbsenceProof { block: bad.clone(), ..log.absence_proof(1, 11).unwrap() };
    assert!(is_header(proof.verify(network, &set, ChainId(11))));
    let hash = transactions(&slice.items)[0];
    let proof =
        TransactionProof { block: bad.clone(), ..log.transaction_proof(1, 10, hash).unwrap() };
    assert!(is_header(proof.verify(network, &set, ChainId(10), hash)));
    let proof = RangeProof { certificate: bad.certificate, ..log.range_proof(1, 1, 10) };
    assert!(is_header(proof.verify(network, &set, ChainId(10), Height(1))));
}
