//! Merkle trees in the shape of RFC 6962 (section 2.1), over keccak256 with a tag of its own for leaf, node and root.
//!
//! `root = H(ROOT, count as u32 BE, tree)`, so a root commits to how many leaves there are; the tree of no leaves is 32
//! zero bytes. A tree of n > 1 leaves splits at the greatest power of two below n.

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
    let tree = peaks.into_iter().rev().map(|(_, hash)| hash).reduce(|right, left| node(left, right));
    seal(count, tree.unwrap_or_default())
}
