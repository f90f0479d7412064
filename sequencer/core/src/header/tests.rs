//! The hash commits to every field; the bytes have one form.

use super::*;
use crate::encoding::InvalidEncoding;
use crate::limits::HEADER_BYTES_MAX;

fn header() -> Header {
    Header {
        network_id: NetworkId(B256::repeat_byte(1)),
        height: Height(2),
        round: Round(0),
        parent: BlockHash(B256::repeat_byte(3)),
        timestamp_ms: UnixMillis(1_700_000_000_000),
        proposer: Address::repeat_byte(4),
        validators_hash: B256::repeat_byte(5),
        next_validators_hash: B256::repeat_byte(6),
        set_since: Height(1),
        cut_hash: B256::repeat_byte(7),
        slices_root: B256::repeat_byte(8),
        state_hash: B256::repeat_byte(9),
    }
}

/// One header per field, each with another value in that field alone.
macro_rules! each_field {
    ($($field:ident => $value:expr),+ $(,)?) => {{
        // Names every field, so that a new one does not compile before it has a row.
        let Header { $($field: _),+ } = header();
        [$((stringify!($field), Header { $field: $value, ..header() })),+]
    }};
}

#[test]
fn the_hash_changes_with_each_field() {
    let other = B256::repeat_byte(0xee);
    let table = each_field! {
        network_id => NetworkId(other),
        height => Height(3),
        round => Round(1),
        parent => BlockHash(other),
        timestamp_ms => UnixMillis(1_700_000_000_001),
        proposer => Address::repeat_byte(0xee),
        validators_hash => other,
        next_validators_hash => other,
        set_since => Height(2),
        cut_hash => other,
        slices_root => other,
        state_hash => other,
    };
    let mut hashes = vec![header().hash()];
    for (field, changed) in table {
        assert_eq!(Header::from_canonical(&changed.to_canonical()), Ok(changed.clone()), "{field}");
        assert!(!hashes.contains(&changed.hash()), "{field}");
        hashes.push(changed.hash());
    }
}

#[test]
fn each_bit_of_the_bytes_is_hashed_or_refused() {
    let bytes = header().to_canonical();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            if let Ok(other) = Header::from_canonical(&changed) {
                assert_ne!(other.hash(), header().hash(), "byte {at}");
                assert_eq!(other.to_canonical(), changed);
            }
        }
    }
}

#[test]
fn the_bytes_are_the_version_and_the_fields_in_order() {
    let bytes = header().to_canonical();
    let mut expected = vec![1, 0xf9, 1, 6, 0xa0];
    expected.extend([1; 32]);
    expected.extend([2, 0x80, 0xa0]);
    expected.extend([3; 32]);
    expected.extend([0x86, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0x94]);
    expected.extend([4; 20]);
    for (byte, before) in [(5, None), (6, None), (7, Some(1)), (8, None), (9, None)] {
        expected.extend(before);
        expected.push(0xa0);
        expected.extend([byte; 32]);
    }
    assert_eq!(bytes, expected);
    let tagged = [b"lockstep/head/v1".as_slice(), &bytes].concat();
    assert_eq!(header().hash().0, alloy_primitives::keccak256(tagged));
}

#[test]
fn other_versions_and_trailing_bytes_are_refused() {
    let bytes = header().to_canonical();
    assert_eq!(Header::from_canonical(&[]), Err(InvalidEncoding::Version { got: None }));
    let other = [&[2], &bytes[1..]].concat();
    assert_eq!(Header::from_canonical(&other), Err(InvalidEncoding::Version { got: Some(2) }));
    let longer = [&bytes[..], &[0, 0]].concat();
    let expected = Err(InvalidEncoding::TrailingBytes { count: 2 });
    assert_eq!(Header::from_canonical(&longer), expected);
    for length in 1..bytes.len() {
        let cut = Header::from_canonical(&bytes[..length]);
        assert!(matches!(cut, Err(InvalidEncoding::Rlp(_))), "{length}");
    }
}

#[test]
fn the_largest_header_stays_below_its_limit() {
    let most = Header {
        height: Height(u64::MAX),
        round: Round(u32::MAX),
        timestamp_ms: UnixMillis(u64::MAX),
        set_since: Height(u64::MAX),
        ..header()
    };
    assert!(most.to_canonical().len() <= HEADER_BYTES_MAX);
}
