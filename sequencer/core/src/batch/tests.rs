//! Batches and acknowledgements: each refusal by name, each limit at its edge.

use super::*;
use crate::block::fixtures::{A, EXPIRES, entry, key, keys, opaque, tx};
use crate::bundle::{Bundle, Guarantee};
use crate::encoding::Canonical as _;
use crate::entry::{Body, Transaction};
use crate::params::ChainKind;

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(9));
const FIRST: (Incarnation, Sequence) = (Incarnation(5), Sequence(0));
const PARENT: BatchDigest = BatchDigest(B256::repeat_byte(1));

fn signed(entries: Vec<Entry>) -> Result<Batch, InvalidBatch> {
    Batch::sign(NETWORK, FIRST, BatchDigest::ZERO, entries, &key(1))
}

fn entries(count: u32) -> Vec<Entry> {
    (0..count).map(|n| tx(A, n, 10)).collect()
}

fn decode(raw: impl Into<Bytes>) -> Result<Batch, InvalidBatch> {
    Batch::decode(NETWORK, raw.into())
}

/// The batch's bytes with another run of bytes in place of the first that equals `from`.
fn with(batch: &Batch, from: &[u8], to: &[u8]) -> Vec<u8> {
    let raw = batch.raw();
    let at = raw.windows(from.len()).position(|window| window == from).unwrap();
    [&raw[..at], to, &raw[at + from.len()..]].concat()
}

/// An entry of exactly this many bytes; at least 300, at most [`ENTRY_BYTES_MAX`](crate::limits::ENTRY_BYTES_MAX).
fn entry_of(size: usize, n: u32) -> Entry {
    let build = |bytes: usize| {
        let leg = |chain, n, size| crate::block::fixtures::leg(chain, &[opaque(n, size)]);
        let legs = vec![leg(A, n, bytes / 2), leg(crate::types::ChainId(20), n, bytes - bytes / 2)];
        entry(Body::Bundle(Bundle::new(legs, Guarantee::CoOrdered).unwrap()))
    };
    let guess = build(size - 100).raw().len();
    let entry = build(size - 100 + (size - guess));
    assert_eq!(entry.raw().len(), size);
    entry
}

#[test]
fn what_is_signed_decodes_and_checks() {
    for (place, parent) in [(FIRST, BatchDigest::ZERO), ((Incarnation(5), Sequence(1)), PARENT)] {
        let batch = Batch::sign(NETWORK, place, parent, entries(3), &key(1)).unwrap();
        assert_eq!(decode(batch.raw().clone()), Ok(batch.clone()));
        let position =
            BatchPosition { owner: key(1).address(), incarnation: place.0, sequence: place.1 };
        assert_eq!((batch.header().position, batch.header().parent), (position, parent));
        let checked = batch.clone().check().unwrap();
        assert_eq!((checked.raw(), checked.digest()), (batch.raw(), batch.digest()));
        assert_eq!((checked.header(), checked.position()), (batch.header(), position));
        assert!(checked.entries().iter().map(CheckedEntry::entry).eq(batch.entries()));
    }
}

#[test]
fn the_digest_commits_to_place_parent_and_entries() {
    let of = |network, place, parent, entries, n| {
        Batch::sign(network, place, parent, entries, &key(n)).unwrap().digest()
    };
    let (next, other) = ((Incarnation(5), Sequence(1)), BatchDigest(B256::repeat_byte(2)));
    let mut digests = [
        of(NETWORK, FIRST, BatchDigest::ZERO, entries(2), 1),
        of(NetworkId::ZERO, FIRST, BatchDigest::ZERO, entries(2), 1),
        of(NETWORK, (Incarnation(6), Sequence(0)), BatchDigest::ZERO, entries(2), 1),
        of(NETWORK, next, PARENT, entries(2), 1),
        of(NETWORK, next, other, entries(2), 1),
        of(NETWORK, (Incarnation(5), Sequence(2)), PARENT, entries(2), 1),
        of(NETWORK, FIRST, BatchDigest::ZERO, entries(3), 1),
        of(NETWORK, FIRST, BatchDigest::ZERO, entries(2).into_iter().rev().collect(), 1),
        of(NETWORK, FIRST, BatchDigest::ZERO, entries(2), 2),
    ];
    let count = digests.len();
    digests.sort_unstable();
    assert_eq!(digests.iter().collect::<std::collections::BTreeSet<_>>().len(), count);
}

#[test]
fn one_entry_of_a_batch_has_a_small_proof() {
    let batch = signed(entries(70)).unwrap();
    let leaves: Vec<B256> = batch.entries().iter().map(|e| merkle::leaf(e.raw())).collect();
    let BatchHeader { entries_root, entry_count, .. } = *batch.header();
    for index in 0..70 {
        let path = merkle::proof(&leaves, index).unwrap();
        assert!(path.len() <= 7);
        let leaf = merkle::leaf(batch.entries()[index as usize].raw());
        assert_eq!(merkle::verify(entries_root, entry_count, index, leaf, &path), Ok(()));
        let wrong = merkle::leaf(batch.entries()[(index as usize + 1) % 70].raw());
        assert!(merkle::verify(entries_root, entry_count, index, wrong, &path).is_err());
    }
}

#[test]
fn counts_hold_at_the_limit() {
    assert_eq!(signed(vec![]), Err(InvalidBatch::EntryCount { count: 0 }));
    assert_eq!(signed(entries(1)).unwrap().header().entry_count, 1);
    let most = signed(entries(BATCH_ENTRIES_MAX as u32)).unwrap();
    assert_eq!(decode(most.raw().clone()), Ok(most));
    let count = BATCH_ENTRIES_MAX + 1;
    assert_eq!(signed(entries(count as u32)), Err(InvalidBatch::EntryCount { count }));

    let header = signed(entries(1)).unwrap().header().clone();
    let signature = Signature([1; 65]);
    let too_many = encode(&header, &entries(count as u32), &signature);
    assert_eq!(decode(too_many), Err(InvalidBatch::EntryCount { count }));
    let none = encode(&header, &[], &signature);
    assert_eq!(decode(none), Err(InvalidBatch::EntryCount { count: 0 }));
}

#[test]
fn sizes_hold_at_the_limit() {
    let with = |last| vec![entry_of(200_000, 1), entry_of(200_000, 2), entry_of(last, 3)];
    let frame = signed(with(1_000)).unwrap().raw().len() - 401_000;
    assert!(frame <= crate::limits::BATCH_OVERHEAD_BYTES_MAX);
    let last = BATCH_BYTES_MAX - 400_000 - frame;
    let most = signed(with(last)).unwrap();
    assert_eq!(most.raw().len(), BATCH_BYTES_MAX);
    assert_eq!(decode(most.raw().clone()), Ok(most));
    let count = BATCH_BYTES_MAX + 1;
    let expected = Err(InvalidBatch::TooLarge { count });
    assert_eq!(signed(with(last + 1)), expected);
    assert_eq!(decode(vec![1; count]), expected);
}

#[test]
fn parents_are_of_the_right_kind() {
    let of = |sequence, parent| {
        let place = (Incarnation(5), Sequence(sequence));
        Batch::sign(NETWORK, place, parent, entries(1), &key(1)).err()
    };
    let refused =
        |sequence, parent| Some(InvalidBatch::Parent { sequence: Sequence(sequence), parent });
    assert_eq!(of(0, BatchDigest::ZERO), None);
    assert_eq!(of(0, PARENT), refused(0, PARENT));
    assert_eq!(of(1, PARENT), None);
    assert_eq!(of(1, BatchDigest::ZERO), refused(1, BatchDigest::ZERO));

    let batch = Batch::sign(NETWORK, (Incarnation(5), Sequence(1)), PARENT, entries(1), &key(1));
    let orphan = with(&batch.unwrap(), &[1; 32], &[0; 32]);
    assert_eq!(decode(orphan).err(), refused(1, BatchDigest::ZERO));
}

#[test]
fn one_batch_has_one_encoding() {
    let raw = signed(entries(2)).unwrap().raw().clone();
    assert_eq!(decode(Bytes::new()), Err(InvalidBatch::Version));
    let other = [&[2], &raw[1..]].concat();
    assert_eq!(decode(other), Err(InvalidBatch::Version));
    assert!(matches!(decode([&raw[..], &[0]].concat()), Err(InvalidBatch::Encoding(_))));
    for length in 1..raw.len() {
        assert!(matches!(decode(raw.slice(..length)), Err(InvalidBatch::Encoding(_))), "{length}");
    }
    let got = NetworkId(B256::repeat_byte(8));
    let elsewhere = with(&signed(entries(2)).unwrap(), &[9; 32], &[8; 32]);
    assert_eq!(decode(elsewhere), Err(InvalidBatch::Network { expected: NETWORK, got }));
}

#[test]
fn a_bad_entry_is_named() {
    let batch = signed(entries(3)).unwrap();
    let second = batch.entries()[1].raw();
    // Its kind is behind list, expiry (a list of 1 + 1 + 4 bytes in all) and gateway.
    let mut bad = second.to_vec();
    let at = bad.windows(2).position(|pair| pair == [0x80, 1]).unwrap() + 1;
    bad[at] = 4;
    let error = InvalidEntry::Kind { got: 4 };
    assert_eq!(decode(with(&batch, second, &bad)), Err(InvalidBatch::Entry { index: 1, error }));

    let deposit = Transaction { chain: A, kind: ChainKind::Evm, bytes: vec![0x7e, 0xc0].into() };
    let deposit = Entry::new(Body::Transaction(deposit), EXPIRES, None).unwrap();
    let unchecked = signed(vec![tx(A, 1, 10), deposit]).unwrap();
    let refused = unchecked.check().unwrap_err();
    assert!(matches!(
        refused,
        InvalidBatch::Entry { index: 1, error: InvalidEntry::Transaction { .. } }
    ));
}

#[test]
fn only_the_owner_signs_its_batches() {
    let (owner, signer) = (key(2).address(), key(1).address());
    let batch = signed(entries(2)).unwrap();
    assert_eq!(batch.check_owner(), Ok(()));
    // Another lane's name on a batch changes the digest: whoever that recovers to is not the owner.
    let claimed = decode(with(&batch, signer.as_slice(), owner.as_slice())).unwrap();
    let refused = claimed.check().unwrap_err();
    assert!(matches!(refused, InvalidBatch::NotOwner { owner: o, .. } if o == owner));
    // The owner's batch, signed by another key.
    let BatchHeader { position, .. } = batch.header().clone();
    let header = header_of(NETWORK, position, BatchDigest::ZERO, batch.entries()).unwrap();
    let forged = encode(&header, batch.entries(), &key(2).sign(batch.digest().0));
    let expected = InvalidBatch::NotOwner { owner: signer, signer: owner };
    assert_eq!(decode(forged).unwrap().check(), Err(expected));
    let unsigned = encode(&header, batch.entries(), &Signature([0; 65]));
    let error = InvalidSignature::RecoveryId { v: 0 };
    assert_eq!(decode(unsigned).unwrap().check(), Err(InvalidBatch::Signature(error)));
}

#[test]
fn entries_checked_elsewhere_must_be_the_batchs() {
    let checked = |entries: Vec<Entry>| -> Vec<CheckedEntry> {
        entries.into_iter().map(|entry| entry.check(NETWORK).unwrap()).collect()
    };
    let join = |list: Vec<Entry>| signed(entries(2)).unwrap().with_checked(checked(list)).err();
    assert_eq!(join(entries(2)), None);
    for other in [entries(1), entries(3), entries(2).into_iter().rev().collect()] {
        let count = other.len();
        assert_eq!(join(other), Some(InvalidBatch::EntryCount { count }));
    }
}

fn tips(count: u8) -> Vec<Acknowledged> {
    let tip = |key: &SigningKey| Acknowledged {
        position: BatchPosition {
            owner: key.address(),
            incarnation: Incarnation(3),
            sequence: Sequence(4),
        },
        digest: PARENT,
    };
    keys(count).iter().map(tip).collect()
}

#[test]
fn an_acknowledgement_is_signed_for_one_network() {
    let word = Acknowledgement::sign(NETWORK, tips(4), &key(1));
    assert_eq!(word.signer(), Ok(key(1).address()));
    assert_eq!(Acknowledgement::from_canonical(&word.to_canonical()), Ok(word.clone()));
    let elsewhere = Acknowledgement { network: NetworkId::ZERO, ..word.clone() };
    assert_ne!(elsewhere.signer(), Ok(key(1).address()));
    let fewer = Acknowledgement { tips: tips(3), ..word };
    assert_ne!(fewer.signer(), Ok(key(1).address()));
}

#[test]
fn an_acknowledgement_has_one_tip_per_lane_in_order() {
    let signer = |tips| Acknowledgement::sign(NETWORK, tips, &key(1)).signer();
    assert_eq!(signer(tips(100)), Ok(key(1).address()));
    let refused = Err(InvalidSignature::Unrecoverable);
    assert_eq!(signer(tips(101)), refused);
    assert_eq!(signer(tips(3).into_iter().rev().collect()), refused);
    assert_eq!(signer([tips(1), tips(1)].concat()), refused);
}
