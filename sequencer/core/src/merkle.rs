//! Merkle trees in the shape of RFC 6962 (section 2.1), over keccak256 with a tag of its own for leaf, node and root.
//!
//! `root = H(ROOT, count as u32 BE, tree)`, so a root commits to how many leaves there are; the tree of no leaves is 32
//! zero bytes. A tree of n > 1 leaves splits at the greatest power of two below n.
//!
//! Two sides that share nothing but the three hash functions: [`root`] and [`proof`] build from all leaves, [`verify`]
//! walks up from one leaf (RFC 9162 section 2.1.3.2) and accepts exactly one path per place.

use alloy_primitives::B256;

use crate::encoding::{hash, tag};

/// Hash of a leaf's bytes.
#[must_use]
pub fn leaf(bytes: &[u8]) -> B256 {
    hash(tag::LEAF, &[bytes])
}

fn node(left: B256, right: B256) -> B256 {
    hash(tag::NODE, &[left.as_slice(), right.as_slice()])
}

fn seal(count: u32, tree: B256) -> B256 {
    hash(tag::ROOT, &[&count.to_be_bytes(), tree.as_slice()])
}

/// Root over no leaves.
#[must_use]
pub fn root_of_none() -> B256 {
    seal(0, B256::ZERO)
}

/// Root over hashed leaves, in order. At most `u32::MAX` leaves.
#[must_use]
pub fn root(leaves: impl IntoIterator<Item = B256>) -> B256 {
    // Peaks of complete trees, greatest first: (leaves, hash). Merging equal sizes as they come gives RFC 6962's shape.
    let mut peaks: Vec<(u32, B256)> = Vec::new();
    let mut count = 0u32;
    for leaf in leaves {
        count = count.saturating_add(1);
        let mut peak = (1u32, leaf);
        while let Some(&(size, left)) = peaks.last()
            && size == peak.0
        {
            peaks.pop();
            peak = (size.saturating_mul(2), node(left, peak.1));
        }
        peaks.push(peak);
    }
    let tree =
        peaks.into_iter().rev().map(|(_, hash)| hash).reduce(|right, left| node(left, right));
    seal(count, tree.unwrap_or_default())
}

/// The path that proves the place of leaf `index`: siblings from the leaf up. `None` if there is no such leaf.
#[expect(clippy::missing_panics_doc, reason = "a chunk is not empty")]
#[must_use]
pub fn proof(leaves: &[B256], index: u32) -> Option<Vec<B256>> {
    let mut place = usize::try_from(index).ok().filter(|place| *place < leaves.len())?;
    let mut path = Vec::new();
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        // A last node without a partner goes up unchanged, and adds nothing to the path.
        path.extend(level.get(place ^ 1));
        place >>= 1;
        let pair = |pair: &[B256]| match pair {
            [left, right] => node(*left, *right),
            lone => *lone.first().expect("a chunk is not empty"),
        };
        level = level.chunks(2).map(pair).collect();
    }
    Some(path)
}

/// Why a path proves nothing. Whoever sent it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// There is no such leaf.
    #[error("leaf {index} of {count}")]
    Index {
        /// The place claimed.
        index: u32,
        /// How many leaves are claimed.
        count: u32,
    },
    /// The path is shorter or longer than the one of this place.
    #[error("path of leaf {index} of {count} has {got} hashes, which is not its length")]
    Length {
        /// The place claimed.
        index: u32,
        /// How many leaves are claimed.
        count: u32,
        /// Hashes in the path.
        got: usize,
    },
    /// The path ends at another root.
    #[error("path ends at root {got}, expected {expected}")]
    Root {
        /// The root that was to be proven.
        expected: B256,
        /// Where the path ends.
        got: B256,
    },
}

/// Checks that `leaf` is leaf `index` of the `count` leaves under `root`.
///
/// # Errors
/// [`InvalidPath`] if it is not shown to be.
pub fn verify(
    root: B256,
    count: u32,
    index: u32,
    leaf: B256,
    path: &[B256],
) -> Result<(), InvalidPath> {
    if index >= count {
        return Err(InvalidPath::Index { index, count });
    }
    let wrong_length = InvalidPath::Length { index, count, got: path.len() };
    // Places of the node on the way and of the last node, on the same level.
    let (mut place, mut last) = (index, count.saturating_sub(1));
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return Err(wrong_length);
        }
        if place % 2 == 1 || place == last {
            hash = node(*sibling, hash);
            // A last node without a partner goes up until it is a right child.
            while place % 2 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(hash, *sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    let got = seal(count, hash);
    if got == root { Ok(()) } else { Err(InvalidPath::Root { expected: root, got }) }
}

#[cfg(test)]
mod tests;
