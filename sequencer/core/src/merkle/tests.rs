//! Roots against a tree written out by RFC 6962's definition; paths against roots; every wrong path.

use alloy_primitives::{B256, keccak256};
use proptest::prelude::*;

use super::*;

fn leaves(count: u32) -> Vec<B256> {
    (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
}

/// `MTH` of RFC 6962 section 2.1, word for word, with the tags written out.
fn tree(leaves: &[B256]) -> B256 {
    match leaves {
        [] => B256::ZERO,
        [only] => *only,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = (tree(&leaves[..split]), tree(&leaves[split..]));
            keccak256([b"lockstep/node/v1".as_slice(), left.as_slice(), right.as_slice()].concat())
        }
    }
}

fn sealed(leaves: &[B256]) -> B256 {
    let count = (leaves.len() as u32).to_be_bytes();
    keccak256([b"lockstep/root/v1".as_slice(), &count, tree(leaves).as_slice()].concat())
}

/// `PATH` of RFC 6962 section 2.1.1.
fn path(index: usize, leaves: &[B256]) -> Vec<B256> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (below, beside) = if index < split {
        (path(index, &leaves[..split]), tree(&leaves[split..]))
    } else {
        (path(index - split, &leaves[split..]), tree(&leaves[..split]))
    };
    [below, vec![beside]].concat()
}

#[test]
fn roots_and_paths_have_the_shape_of_the_rfc() {
    assert_eq!(leaf(b"x"), keccak256(b"lockstep/leaf/v1x"));
    assert_eq!(root_of_none(), root([]));
    for count in 0..70 {
        let leaves = leaves(count);
        assert_eq!(root(leaves.iter().copied()), sealed(&leaves), "{count} leaves");
        for index in 0..count {
            assert_eq!(proof(&leaves, index), Some(path(index as usize, &leaves)));
        }
        assert_eq!(proof(&leaves, count), None);
    }
}

#[test]
fn every_place_has_one_path() {
    for count in 1..36 {
        let leaves = leaves(count);
        let root = root(leaves.iter().copied());
        for (index, leaf) in (0..).zip(&leaves) {
            let path = proof(&leaves, index).unwrap();
            assert_eq!(verify(root, count, index, *leaf, &path), Ok(()), "{index} of {count}");
            for other in (0..count).filter(|other| *other != index) {
                assert!(verify(root, count, other, *leaf, &path).is_err(), "{index} as {other}");
            }
            for other in (1..72).filter(|other| *other != count) {
                assert!(verify(root, other, index, *leaf, &path).is_err(), "{count} as {other}");
            }
        }
    }
}

#[test]
fn wrong_paths_are_refused_by_name() {
    let leaves = leaves(5);
    let root = root(leaves.iter().copied());
    let path = proof(&leaves, 1).unwrap();
    let check = |count, index, path: &[B256]| verify(root, count, index, leaves[1], path);
    assert_eq!(check(5, 1, &path), Ok(()));
    assert_eq!(check(5, 5, &path), Err(InvalidPath::Index { index: 5, count: 5 }));
    assert_eq!(check(0, 0, &[]), Err(InvalidPath::Index { index: 0, count: 0 }));
    let length = |got| Err(InvalidPath::Length { index: 1, count: 5, got });
    assert_eq!(check(5, 1, &path[..2]), length(2));
    assert_eq!(check(5, 1, &[path.clone(), vec![B256::ZERO]].concat()), length(4));
    assert_eq!(check(5, 1, &[]), length(0));
    let swapped = [path[1], path[0], path[2]];
    assert!(
        matches!(check(5, 1, &swapped), Err(InvalidPath::Root { expected, .. }) if expected == root)
    );
    assert!(verify(u32_max_root(), u32::MAX, u32::MAX - 1, leaves[0], &[B256::ZERO; 33]).is_err());
}

fn u32_max_root() -> B256 {
    seal(u32::MAX, B256::ZERO)
}

#[test]
fn a_root_commits_to_the_count() {
    let one = leaves(1);
    let two = [one[0], B256::ZERO];
    assert_ne!(root(one.iter().copied()), root(two));
    // The inner node of two leaves, taken for a leaf.
    let inner = node(one[0], one[0]);
    assert_ne!(root([inner]), root([one[0], one[0]]));
    assert_ne!(root([]), root([B256::ZERO]));
}

proptest! {
    #[test]
    fn what_is_built_verifies_and_nothing_near_it_does(
        count in 1u32..=70,
        index in 0u32..70,
        byte in 0usize..1_000,
        flip in 1u8..=255,
    ) {
        let index = index % count;
        let leaves = leaves(count);
        let root = root(leaves.iter().copied());
        let path = proof(&leaves, index).unwrap();
        let own = leaves[index as usize];
        prop_assert_eq!(verify(root, count, index, own, &path), Ok(()));
        let mut bytes: Vec<u8> = path.iter().flat_map(|hash| hash.0).chain(own.0).collect();
        let byte = byte % bytes.len();
        bytes[byte] ^= flip;
        let mut hashes: Vec<B256> = bytes.chunks(32).map(B256::from_slice).collect();
        let own = hashes.pop().unwrap();
        let is_root_error = matches!(
            verify(root, count, index, own, &hashes),
            Err(InvalidPath::Root { .. })
        );
        prop_assert!(is_root_error);
    }
}
