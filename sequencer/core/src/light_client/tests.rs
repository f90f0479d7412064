//! From a trusted start through two hand-overs to headers, slices, absences and transactions; and each lie on the way.

use alloy_primitives::{B256, keccak256};

use super::*;
use crate::block::fixtures::{key, keys, validators};
use crate::certificate::InvalidCertificate;
use crate::proof::fixtures::{Log, START, certify, stranger};
use crate::signing::SigningKey;
use crate::types::Round;

const NOW: UnixMillis = UnixMillis(START + 60_000);

fn chosen(numbers: &[u8]) -> Vec<SigningKey> {
    let mut keys: Vec<_> = numbers.iter().map(|n| key(*n)).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

/// Three validators; a fourth from height 5 on; from height 9 on one of them is another.
fn log() -> Log {
    let schedule = vec![(1, keys(3)), (5, chosen(&[1, 2, 3, 4])), (9, chosen(&[2, 3, 4, 5]))];
    Log::new(schedule, 12, |height| if height % 3 == 0 { vec![10] } else { vec![10, 20, 30] })
}

fn from_genesis(log: &Log) -> LightClient {
    LightClient::from_genesis(&log.genesis, log.genesis.timestamp).unwrap()
}

fn from_header(log: &Log, height: u64) -> LightClient {
    let header = log.block(height).header.clone();
    let time = header.timestamp_ms;
    LightClient::from_header(header.hash(), header, log.set(height), time).unwrap()
}

/// Checks the header with the log's hand-overs.
fn verify(client: &mut LightClient, log: &Log, block: &CertifiedHeader) -> Result<(), NotVerified> {
    client.verify_header(block, &log.handovers(), NOW)
}

fn head(client: &LightClient) -> Option<u64> {
    client.head().map(|header| header.height.0)
}

#[test]
fn every_header_is_believed_from_the_genesis_on() {
    let log = log();
    let mut step = from_genesis(&log);
    for block in &log.blocks {
        assert_eq!(verify(&mut step, &log, block), Ok(()));
        assert_eq!(step.head(), Some(&block.header));
        let mut jump = from_genesis(&log);
        assert_eq!(verify(&mut jump, &log, block), Ok(()));
        assert_eq!(jump.head(), Some(&block.header));
        assert_eq!(jump.network(), log.network());
    }
    assert_eq!(step.validators(), (Height(9), &log.set(9)));
}

#[test]
fn every_later_header_is_believed_from_a_trusted_one_on() {
    let log = log();
    for start in 1..=12 {
        for height in start..=12 {
            let mut client = from_header(&log, start);
            assert_eq!(verify(&mut client, &log, log.block(height)), Ok(()), "{start} to {height}");
            assert_eq!(head(&client), Some(height));
        }
    }
}

#[test]
fn hand_overs_survive_their_encoding() {
    for handover in log().handovers() {
        assert_eq!(Handover::from_canonical(&handover.to_canonical()), Ok(handover));
    }
}

#[test]
fn a_start_must_be_what_the_user_named() {
    let log = log();
    let header = log.block(3).header.clone();
    let start = |hash, set| LightClient::from_header(hash, header.clone(), set, NOW).err();
    assert_eq!(start(header.hash(), log.set(3)), None);
    let expected = BlockHash(B256::repeat_byte(1));
    let got = header.hash();
    assert_eq!(start(expected, log.set(3)), Some(InvalidStart::Hash { expected, got }));
    assert_eq!(start(got, log.set(5)), Some(InvalidStart::Validators));
    let mut genesis = log.genesis;
    genesis.name.clear();
    let refused = LightClient::from_genesis(&genesis, NOW).err();
    assert!(matches!(refused, Some(InvalidStart::Genesis(InvalidGenesis::OutOfRange { .. }))));
}

#[test]
fn an_omitted_hand_over_shows() {
    let log = log();
    let all = log.handovers();
    let attempt = |height: u64, handovers: &[Handover]| {
        from_genesis(&log).verify_header(log.block(height), handovers, NOW)
    };
    let omitted = |height, expected, got| {
        let (height, expected, got) = (Height(height), Height(expected), Height(got));
        Err(NotVerified::OmittedHandover { height, expected, got })
    };
    assert_eq!(attempt(4, &[]), Ok(()));
    assert_eq!(attempt(5, &[]), omitted(5, 1, 5));
    assert_eq!(attempt(8, &all[..1]), Ok(()));
    assert_eq!(attempt(9, &all[..1]), omitted(9, 5, 9));
    assert_eq!(attempt(12, &[]), omitted(12, 1, 9));
    // The second without the first: its header is of the set since height 5.
    assert_eq!(attempt(12, &all[1..]), omitted(8, 1, 5));
    let backward: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(attempt(12, &backward), omitted(8, 1, 5));
    // Those behind the header and those before the trusted set are passed over.
    assert_eq!(attempt(6, &all), Ok(()));
    let mut late = from_header(&log, 10);
    assert_eq!(late.verify_header(log.block(12), &all, NOW), Ok(()));
}

#[test]
fn a_set_that_returns_does_not_hide_the_change() {
    // The first set again from height 9 on.
    let log =
        Log::new(vec![(1, keys(3)), (5, chosen(&[4, 5, 6, 7])), (9, keys(3))], 10, |_| vec![]);
    let (height, expected, got) = (Height(10), Height(1), Height(9));
    let omitted = Err(NotVerified::OmittedHandover { height, expected, got });
    assert_eq!(from_genesis(&log).verify_header(log.block(10), &[], NOW), omitted);
    assert_eq!(verify(&mut from_genesis(&log), &log, log.block(10)), Ok(()));
}

#[test]
fn a_wrong_hand_over_is_refused() {
    let log = log();
    let good = log.handover(1);
    let attempt =
        |handover: Handover| from_genesis(&log).verify_header(log.block(6), &[handover], NOW);
    assert_eq!(attempt(good.clone()), Ok(()));
    let refused = |height| Err(NotVerified::Handover { height: Height(height) });
    let with_set = |next_set| attempt(Handover { next_set, ..good.clone() });
    assert_eq!(with_set(log.set(9)), refused(4));
    assert_eq!(with_set(log.set(1)), refused(4));
    // A header that hands over to nobody.
    let same = Handover { block: log.block(3).clone(), next_set: log.set(1) };
    assert_eq!(attempt(same), refused(3));
    // Decided by the new set, not by the old one.
    let mut forged = good.clone();
    forged.block = certify(good.block.header.clone(), log.keys(5), Round(0));
    let error = InvalidCertificate::Stranger { validator: key(4).address() };
    let error = InvalidHeader::Certificate(error);
    assert_eq!(attempt(forged), Err(NotVerified::HandoverHeader { height: Height(4), error }));
    let mut weak = good.clone();
    weak.block = certify(good.block.header.clone(), &log.keys(4)[..2], Round(0));
    assert!(matches!(attempt(weak), Err(NotVerified::HandoverHeader { .. })));
    // The set of the genesis decides height 2, too.
    let early = log.changed(1, |header| header.next_validators_hash = log.set(5).hash());
    assert_eq!(attempt(Handover { block: early, next_set: log.set(5) }), refused(1));
    let many = vec![good; HANDOVERS_MAX + 1];
    let refused = Err(NotVerified::TooManyHandovers { count: HANDOVERS_MAX + 1 });
    assert_eq!(from_genesis(&log).verify_header(log.block(3), &many, NOW), refused);
    assert_eq!(from_genesis(&log).verify_header(log.block(3), &many[1..], NOW), Ok(()));
}

#[test]
fn a_header_by_another_set_is_refused() {
    let log = log();
    let attempt = |block: &CertifiedHeader| verify(&mut from_genesis(&log), &log, block);
    let of = |height, error| Err(NotVerified::Header { height: Height(height), error });
    // The fourth validator signs before its time; the three of old decide after theirs.
    let header = log.block(4).header.clone();
    let error = InvalidCertificate::Stranger { validator: key(4).address() };
    let early = certify(header, log.keys(5), Round(0));
    assert_eq!(attempt(&early), of(4, InvalidHeader::Certificate(error)));
    let (expected, got) = (log.set(10).hash(), log.set(1).hash());
    let late = log.changed(10, |header| header.validators_hash = got);
    assert_eq!(attempt(&late), of(10, InvalidHeader::Validators { expected, got }));
    let two = certify(log.block(3).header.clone(), &log.keys(3)[..2], Round(0));
    let error = InvalidCertificate::Power { got: 2, total: 3 };
    assert_eq!(attempt(&two), of(3, InvalidHeader::Certificate(error)));
    let proposer = log.changed(3, |header| header.proposer = stranger());
    assert!(matches!(
        attempt(&proposer),
        Err(NotVerified::Header { error: InvalidHeader::Proposer { .. }, .. })
    ));
    let network = log.changed(3, |header| header.network_id = NetworkId::ZERO);
    assert!(matches!(
        attempt(&network),
        Err(NotVerified::Header { error: InvalidHeader::Network { .. }, .. })
    ));
}

#[test]
fn nothing_is_believed_after_an_error() {
    let log = log();
    let mut client = from_header(&log, 2);
    let two = certify(log.block(6).header.clone(), &log.keys(6)[..2], Round(0));
    assert!(verify(&mut client, &log, &two).is_err());
    assert_eq!((head(&client), client.validators()), (Some(2), (Height(1), &log.set(1))));
    assert_eq!(verify(&mut client, &log, log.block(6)), Ok(()));
}

#[test]
fn trust_ages() {
    let log = log();
    let at = |ms: u64| UnixMillis(START + ms);
    let attempt = |client: &mut LightClient, height, now| {
        client.verify_header(log.block(height), &log.handovers(), now)
    };
    let mut client = from_genesis(&log);
    let now = at(TRUST_MS + 1);
    let stale = Err(NotVerified::Stale { trusted_at: at(0), now });
    assert_eq!(attempt(&mut client, 12, now), stale);
    assert_eq!(attempt(&mut client, 12, at(TRUST_MS)), Ok(()));
    // A newer header renews the trust up to its own time.
    assert_eq!(attempt(&mut client, 12, at(TRUST_MS + 3_000)), Ok(()));
    let now = at(TRUST_MS + 3_001);
    assert_eq!(
        attempt(&mut client, 12, now),
        Err(NotVerified::Stale { trusted_at: at(3_000), now })
    );
    // An older one does not.
    let mut client = from_header(&log, 10);
    assert_eq!(attempt(&mut client, 9, NOW), Ok(()));
    assert_eq!(attempt(&mut client, 12, at(TRUST_MS + 2_500)), Ok(()));
    // A time in the future renews it up to the present only.
    let future = log.changed(11, |header| header.timestamp_ms = at(10 * TRUST_MS));
    let mut client = from_header(&log, 10);
    assert_eq!(client.verify_header(&future, &[], NOW), Ok(()));
    let now = UnixMillis(NOW.0 + TRUST_MS + 1);
    let stale = Err(NotVerified::Stale { trusted_at: NOW, now });
    assert_eq!(client.verify_header(&future, &[], now), stale);
}

#[test]
fn older_headers_of_the_same_set_are_shown_too() {
    let log = log();
    let mut client = from_header(&log, 7);
    for height in [6, 5] {
        assert_eq!(verify(&mut client, &log, log.block(height)), Ok(()));
        assert_eq!(head(&client), Some(7), "the newest stays");
    }
    let refused = Err(NotVerified::TooOld { height: Height(4), since: Height(5) });
    assert_eq!(verify(&mut client, &log, log.block(4)), refused);
    // A range that ends at a newer header shows them.
    let range = log.range_proof(1, 7, 20);
    let about = (ChainId(20), Height(1));
    assert_eq!(client.verify_range(&range, about, &[], NOW), Ok(()));
}

#[test]
fn a_fork_is_reported_with_both_sides() {
    let log = log();
    let fork = |result| match result {
        Err(NotVerified::Fork(fork)) => *fork,
        other => panic!("{other:?}"),
    };
    let change = |header: &mut Header| header.state_hash = B256::repeat_byte(0xee);
    let mut client = from_genesis(&log);
    assert_eq!(verify(&mut client, &log, log.block(6)), Ok(()));
    let other = log.changed(6, change);
    let found = fork(verify(&mut client, &log, &other));
    assert_eq!(found.trusted, log.block(6).header);
    assert_eq!(found.trusted_certificate.as_ref(), Some(&log.block(6).certificate));
    assert_eq!(found.other, other);
    assert_eq!(verify(&mut client, &log, log.block(6)), Ok(()));

    // A header that the user named has no certificate.
    let mut client = from_header(&log, 6);
    assert_eq!(fork(verify(&mut client, &log, &other)).trusted_certificate, None);
    // The next and the one before, on another branch.
    let next = log.changed(7, |header| header.parent = other.header.hash());
    assert_eq!(fork(verify(&mut client, &log, &next)).other, next);
    let before = log.changed(5, change);
    assert_eq!(fork(verify(&mut client, &log, &before)).other, before);
    // The same without a quorum is no fork.
    let weak = certify(other.header, &log.keys(6)[..2], Round(0));
    assert!(matches!(verify(&mut client, &log, &weak), Err(NotVerified::Header { .. })));
}

#[test]
fn a_fork_shows_inside_a_range_and_a_hand_over() {
    let log = log();
    let mut other = log.clone();
    for height in 7..=12u64 {
        let mut header = other.header(height, log.block(height).header.slices_root);
        header.state_hash = B256::repeat_byte(0xee);
        other.blocks[height as usize - 1] = certify(header, other.keys(height), Round(0));
    }
    let mut client = from_header(&log, 7);
    let about = (ChainId(10), Height(5));
    let shown = client.verify_range(&log.range_proof(5, 8, 10), about, &[], NOW);
    assert_eq!((shown, head(&client)), (Ok(()), Some(8)));
    let mut client = from_header(&log, 7);
    let range = other.range_proof(5, 8, 10);
    let result = client.verify_range(&range, about, &[], NOW);
    let Err(NotVerified::Fork(fork)) = result else { panic!("{result:?}") };
    assert_eq!((&fork.trusted, &fork.other), (&log.block(7).header, other.block(8)));
    assert_eq!(head(&client), Some(7));

    let mut client = from_header(&log, 8);
    let result = client.verify_header(other.block(12), &other.handovers(), NOW);
    let Err(NotVerified::Fork(fork)) = result else { panic!("{result:?}") };
    assert_eq!(&fork.other, other.block(8));
}

#[test]
fn slices_absences_and_transactions_are_shown_across_hand_overs() {
    let log = log();
    for height in 1..=12 {
        let mut client = from_genesis(&log);
        for slice in log.slices(height) {
            let proof = log.slice_proof(height, slice.chain.0).unwrap();
            assert_eq!(client.verify_slice(&proof, slice, &log.handovers(), NOW), Ok(()));
            assert_eq!(head(&client), Some(height));
            let hash = keccak256(&slice.items[0].transactions()[0]);
            let proof = log.transaction_proof(height, slice.chain.0, hash).unwrap();
            let about = (slice.chain, hash);
            assert_eq!(client.verify_transaction(&proof, about, &log.handovers(), NOW), Ok(()));
        }
        for chain in [5, 15, 99] {
            let proof = log.absence_proof(height, chain).unwrap();
            let shown = client.verify_absence(&proof, ChainId(chain), &log.handovers(), NOW);
            assert_eq!(shown, Ok(()));
        }
    }
    let mut client = from_genesis(&log);
    for chain in [10, 20, 99] {
        let proof = log.range_proof(1, 12, chain);
        let about = (ChainId(chain), Height(1));
        assert_eq!(client.verify_range(&proof, about, &log.handovers(), NOW), Ok(()));
    }
}

#[test]
fn what_is_not_shown_moves_nothing() {
    let log = log();
    let mut client = from_genesis(&log);
    let all = log.handovers();
    let (ten, twenty) = (log.slice(1, 10).unwrap(), log.slice(1, 20).unwrap());
    let proof = log.slice_proof(1, 10).unwrap();
    let refused = |result: Result<(), NotVerified>| matches!(result, Err(NotVerified::Proof(_)));
    assert!(refused(client.verify_slice(&proof, twenty, &all, NOW)));
    let absence = log.absence_proof(1, 15).unwrap();
    assert!(refused(client.verify_absence(&absence, ChainId(20), &all, NOW)));
    let hash = keccak256(&ten.items[0].transactions()[0]);
    let transaction = log.transaction_proof(1, 10, hash).unwrap();
    let wrong = (ChainId(10), B256::ZERO);
    assert!(refused(client.verify_transaction(&transaction, wrong, &all, NOW)));
    let range = log.range_proof(1, 3, 10);
    assert!(refused(client.verify_range(&range, (ChainId(10), Height(2)), &all, NOW)));
    assert!(refused(client.verify_range(&range, (ChainId(20), Height(1)), &all, NOW)));
    let none = RangeProof { blocks: vec![], ..range };
    assert!(refused(client.verify_range(&none, (ChainId(10), Height(1)), &all, NOW)));
    assert_eq!(client.head(), None);

    // And what is shown under a header that is not decided.
    let two = certify(log.block(1).header.clone(), &log.keys(1)[..2], Round(0));
    let proof = SliceProof { block: two, ..proof };
    let result = client.verify_slice(&proof, ten, &all, NOW);
    assert!(matches!(result, Err(NotVerified::Header { .. })));
    assert_eq!(client.head(), None);
    assert_eq!(validators(log.keys(1)), log.set(1));
}
