//! Formats and roots of slices.

use alloy_primitives::keccak256;

use super::*;
use crate::encoding::InvalidEncoding;
use crate::proof::fixtures::{items, slice};

fn leg(leg: u32, legs: u32, count: usize) -> Item {
    let content = Content::Leg {
        bundle: EntryId(B256::repeat_byte(1)),
        leg,
        legs,
        guarantee: Guarantee::CoOrdered,
        transactions: vec![Bytes::from_static(b"x"); count],
    };
    Item { index: 3, content }
}

fn transaction(index: u32) -> Item {
    Item { index, content: Content::Transaction { bytes: Bytes::from_static(b"tx") } }
}

fn decodes<T: Canonical + PartialEq + core::fmt::Debug>(value: &T) -> bool {
    match T::from_canonical(&value.to_canonical()) {
        Ok(decoded) => {
            assert_eq!(&decoded, value);
            true
        }
        Err(InvalidEncoding::Rlp(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn items_survive_their_encoding() {
    for item in items(10) {
        assert_eq!(alloy_rlp::encode(&item).len(), item.length());
        assert!(decodes(&item));
    }
    let kinds = [(1, transaction(3)), (2, leg(0, 2, 1))];
    for (kind, item) in kinds {
        let bytes = alloy_rlp::encode(&item);
        let payload = decode_list(&mut bytes.as_slice()).unwrap();
        assert_eq!(payload[..2], [3, kind]);
        for other in [0, 4, 9] {
            let mut changed = bytes.clone();
            let at = bytes.len() - payload.len() + 1;
            changed[at] = other;
            assert!(Item::decode(&mut changed.as_slice()).is_err());
        }
    }
}

#[test]
fn legs_hold_at_their_limits() {
    let cases = [
        (leg(0, 2, 1), true),
        (leg(1, 2, 16), true),
        (leg(15, 16, 1), true),
        (leg(2, 2, 1), false),
        (leg(0, 1, 1), false),
        (leg(0, 17, 1), false),
        (leg(0, 2, 0), false),
        (leg(0, 2, 17), false),
    ];
    for (item, expected) in cases {
        assert_eq!(decodes(&item), expected, "{item:?}");
    }
}

#[test]
fn slices_are_not_empty_and_in_order() {
    let of = |indexes: &[u32]| Slice {
        chain: ChainId(9),
        items: indexes.iter().map(|index| transaction(*index)).collect(),
    };
    let cases: [(&[u32], bool); 6] = [
        (&[0], true),
        (&[7, 9, 10], true),
        (&[], false),
        (&[1, 1], false),
        (&[2, 1], false),
        (&[1, 3, 2], false),
    ];
    for (indexes, expected) in cases {
        assert_eq!(decodes(&of(indexes)), expected, "{indexes:?}");
    }
    let most: Vec<u32> = (0..=SLICE_ITEMS_MAX as u32).collect();
    assert!(decodes(&of(&most[1..])));
    assert!(!decodes(&of(&most)));
}

#[test]
fn transactions_of_an_item_are_listed() {
    assert_eq!(transaction(1).transactions(), [Bytes::from_static(b"tx")]);
    assert_eq!(leg(0, 2, 3).transactions().len(), 3);
    let record = items(10).into_iter().find(|item| matches!(item.content, Content::Record(_)));
    assert_eq!(record.unwrap().transactions(), [] as [Bytes; 0]);
}

#[test]
fn a_summary_commits_to_every_item() {
    let whole = slice(ChainId(9), 10);
    let summary = whole.summary();
    let bytes: usize = whole.items.iter().map(|item| alloy_rlp::encode(item).len()).sum();
    assert_eq!((summary.chain, summary.items, summary.bytes), (ChainId(9), 10, bytes as u64));
    for at in 0..10 {
        let mut fewer = whole.clone();
        fewer.items.remove(at);
        assert_ne!(fewer.root(), whole.root());
        let mut twice = whole.clone();
        twice.items.insert(at, whole.items[at].clone());
        assert_ne!(twice.root(), whole.root());
        let mut moved = whole.clone();
        moved.items[at].index += 100;
        assert_ne!(moved.root(), whole.root());
    }
    let mut swapped = whole.clone();
    swapped.items.swap(0, 1);
    assert_ne!(swapped.root(), whole.root());
}

#[test]
fn roots_are_built_from_the_encodings() {
    let tagged = |tag: &[u8; 16], bytes: &[u8]| keccak256([tag.as_slice(), bytes].concat());
    // [3, 1, "tx"]
    let leaf = tagged(b"lockstep/leaf/v1", b"\xc5\x03\x01\x82tx");
    let only = Slice { chain: ChainId(9), items: vec![transaction(3)] };
    let root = tagged(b"lockstep/root/v1", &[&[0, 0, 0, 1], leaf.as_slice()].concat());
    assert_eq!(only.root(), root);
    // [9, root, 1, 6]
    let summary = [b"\xe4\x09\xa0", root.as_slice(), &[1, 6]].concat();
    let leaf = tagged(b"lockstep/leaf/v1", &summary);
    let table = tagged(b"lockstep/root/v1", &[&[0, 0, 0, 1], leaf.as_slice()].concat());
    assert_eq!(slices_root(&[only.summary()]), table);
    let empty = tagged(b"lockstep/root/v1", &[0; 36]);
    assert_eq!(slices_root(&[]), empty);
}
