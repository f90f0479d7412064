//! Every canonical type: what is encoded decodes to the same, and no bytes make a decoder panic or have two readings.

use core::fmt::Debug;

use alloy_primitives::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{Acknowledged, Acknowledgement, Batch, BatchPosition};
use crate::block::fixtures::{A, B, Net, admitted, bundle, key, keys, leg, opaque, record, tx};
use crate::certificate::Certificate;
use crate::cut::Cut;
use crate::entry::Entry;
use crate::header::Header;
use crate::light_client::Handover;
use crate::params::Genesis;
use crate::proof::fixtures::{Log, slice};
use crate::proof::{AbsenceProof, CertifiedHeader, RangeProof, SliceProof, TransactionProof};
use crate::slice::{Item, Slice, SliceSummary};
use crate::state::{Committed, State};
use crate::types::{BatchDigest, Incarnation, NetworkId, Sequence};

#[test]
fn tags_are_unique() {
    let mut tags = tag::ALL.to_vec();
    tags.sort_by_key(|t| t.0);
    tags.dedup_by_key(|t| t.0);
    assert_eq!(tags.len(), tag::ALL.len());
    assert!(tag::ALL.iter().all(|tag| tag.0.is_ascii() && tag.0.starts_with(b"lockstep/")));
}

#[test]
fn a_hash_is_over_tag_and_pieces() {
    let whole = alloy_primitives::keccak256(b"lockstep/cuts/v1abcd");
    assert_eq!(hash(tag::CUT, &[b"ab", b"", b"cd"]), whole);
    assert_ne!(hash(tag::HEADER, &[b"abcd"]), whole);
}

/// Decodes bytes as one type. What decodes must encode to the same bytes again.
type Reader = fn(&[u8]) -> bool;

fn read<T: Canonical + Debug + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(value) = T::from_canonical(bytes) else { return false };
    assert_eq!(value.to_canonical(), bytes, "{value:?} has two encodings");
    true
}

fn network() -> NetworkId {
    Net::new(3).state.network_id
}

fn read_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(entry.raw(), bytes);
    // The body and the expiry, encoded anew; the gateway's signature is not to be had.
    if let Ok(again) = Entry::new(entry.body().clone(), entry.expires(), None) {
        assert_eq!(again.id(), entry.id());
        assert!(again.raw() == bytes || again.raw().len() + 66 <= bytes.len() + 4);
    }
    true
}

fn read_batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::decode(network(), Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(batch.raw(), bytes);
    true
}

/// Every type that has canonical bytes, its name, and an example's bytes.
fn examples() -> Vec<(&'static str, Reader, Vec<u8>)> {
    fn row<T: Canonical + Debug + PartialEq>(value: &T) -> (&'static str, Reader, Vec<u8>) {
        (core::any::type_name::<T>(), read::<T>, value.to_canonical())
    }
    let net = Net::new(3);
    let log = Log::small();
    let state = net.state.clone();
    let entries = vec![
        tx(A, 1, 20),
        admitted(&net, &bundle(vec![leg(A, &[opaque(2, 9)]), leg(B, &[opaque(3, 9)])])),
        record(&net, A, 1, &key(202)),
    ];
    let batch = net.batch(0, (1, 0), BatchDigest::ZERO, entries.clone());
    let position = BatchPosition {
        owner: keys(3)[0].address(),
        incarnation: Incarnation(1),
        sequence: Sequence(0),
    };
    let tips = vec![Acknowledged { position, digest: batch.digest() }];
    let acknowledgement = Acknowledgement::sign(network(), tips, &key(1));
    let slice = slice(A, 5);
    let hash = alloy_primitives::keccak256(&slice.items[0].transactions()[0]);
    let next_set = state.committed.validators.clone();
    let mut rows = vec![
        row::<Genesis>(&log.genesis),
        row::<State>(&state),
        row::<Committed>(&state.committed),
        row::<Cut>(&Cut::start(&state.committed.validators)),
        row::<Header>(&log.block(1).header),
        row::<Certificate>(&log.block(1).certificate),
        row::<CertifiedHeader>(log.block(1)),
        row::<Handover>(&Handover { block: log.block(1).clone(), next_set }),
        row::<Acknowledgement>(&acknowledgement),
        row::<Slice>(&slice),
        row::<SliceSummary>(&slice.summary()),
        row::<SliceProof>(&log.slice_proof(1, 10).unwrap()),
        row::<AbsenceProof>(&log.absence_proof(1, 15).unwrap()),
        row::<RangeProof>(&log.range_proof(2, 4, 20)),
        row::<TransactionProof>(&log.transaction_proof(1, 10, hash).unwrap()),
        ("Batch", read_batch, batch.raw().to_vec()),
    ];
    rows.extend(slice.items.iter().map(row::<Item>));
    rows.extend(entries.iter().map(|e| ("Entry", read_entry as Reader, e.raw().to_vec())));
    rows
}

#[test]
fn every_example_decodes_to_itself() {
    for (name, read, bytes) in examples() {
        assert!(read(&bytes), "{name}");
        assert!(!read(&[&bytes[..], &[0]].concat()), "{name} with a trailing byte");
        assert!(!read(&bytes[..bytes.len() - 1]), "{name} without its last byte");
        assert!(!read(&[]), "{name} of no bytes");
    }
}

#[test]
fn other_versions_are_refused() {
    for (name, read, mut bytes) in examples().into_iter().filter(|(name, ..)| *name != "Entry") {
        for version in [0, 2, 255] {
            bytes[0] = version;
            assert!(!read(&bytes), "{name}");
        }
    }
}

#[test]
fn lists_that_claim_more_than_there_is_are_refused() {
    for (name, read, bytes) in examples() {
        let first = usize::from(name != "Entry");
        for claim in [&[0xfb, 0xff, 0xff, 0xff, 0xff][..], &[0xff; 9], &[0xf8, 1], &[0xc0], &[0x80]]
        {
            assert!(!read(&[&bytes[..first], claim, &bytes[first..]].concat()), "{name}");
            assert!(!read(&[&bytes[..first], claim].concat()), "{name}");
        }
    }
}

#[test]
fn each_changed_byte_is_refused_or_another_value() {
    for (_, read, bytes) in examples() {
        for at in 0..bytes.len() {
            for flip in [1, 0x40, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                read(&changed);
            }
            read(&[&bytes[..at], &bytes[at + 1..]].concat());
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let readers = [
            read::<Genesis>, read::<State>, read::<Committed>, read::<Cut>, read::<Header>, read::<Certificate>,
            read::<CertifiedHeader>, read::<Handover>, read::<Acknowledgement>, read::<Slice>,
            read::<SliceSummary>, read::<Item>, read::<SliceProof>, read::<AbsenceProof>, read::<RangeProof>,
            read::<TransactionProof>, read_entry, read_batch,
        ];
        for read in readers {
            read(&bytes);
        }
        bytes.insert(0, VERSION);
        for read in readers {
            read(&bytes);
        }
    }

    #[test]
    fn spliced_bytes_never_panic(
        from: prop::sample::Index,
        into: prop::sample::Index,
        cut: prop::sample::Index,
        paste: prop::sample::Index,
    ) {
        let examples = examples();
        let (_, _, other) = &examples[from.index(examples.len())];
        let (_, read, bytes) = &examples[into.index(examples.len())];
        let (cut, paste) = (cut.index(bytes.len()), paste.index(other.len()));
        read(&[&bytes[..cut], &other[paste..]].concat());
        read(&[&bytes[..cut], &other[paste..], &bytes[cut..]].concat());
    }
}
