//! The ends of each range.

use super::*;

#[test]
fn heights_and_sequences_stop_at_their_ends() {
    assert_eq!(Height::GENESIS.previous(), None);
    assert_eq!(Height(1).previous(), Some(Height::GENESIS));
    assert_eq!(Height(1).next(), Height(2));
    assert_eq!(Height(u64::MAX).next(), Height(u64::MAX));
    assert_eq!(Sequence(0).next(), Sequence(1));
    assert_eq!(Sequence(u64::MAX).next(), Sequence(u64::MAX));
}

#[test]
fn times_saturate() {
    assert_eq!(UnixMillis(5).plus(2), UnixMillis(7));
    assert_eq!(UnixMillis(u64::MAX).plus(1), UnixMillis(u64::MAX));
    assert_eq!(UnixMillis(5).since(UnixMillis(2)), 3);
    assert_eq!(UnixMillis(2).since(UnixMillis(5)), 0);
}

#[test]
fn digests_show_all_their_bytes() {
    let id = EntryId(B256::repeat_byte(0xab));
    assert_eq!(id.to_string(), format!("0x{}", "ab".repeat(32)));
    assert_eq!(format!("{id:?}"), format!("EntryId({id})"));
    assert_eq!(Height(7).to_string(), "7");
}

#[test]
fn numbers_and_digests_are_encoded_as_what_they_hold() {
    assert_eq!(alloy_rlp::encode(Height(1_024)), alloy_rlp::encode(1_024u64));
    assert_eq!(alloy_rlp::encode(BlockHash::ZERO), alloy_rlp::encode(B256::ZERO));
    // A leading zero, and a round beyond 32 bits.
    assert!(Height::decode(&mut [0x82, 0, 1].as_slice()).is_err());
    assert!(Round::decode(&mut [0x85, 1, 0, 0, 0, 0].as_slice()).is_err());
}
