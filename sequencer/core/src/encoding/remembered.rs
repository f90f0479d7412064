//! Hashes that were computed before, in the simulator's build alone: its nodes hash the same bytes many times over, and
//! keccak is most of what a seed costs. What is remembered is compared whole, so the hashes are those of every other build.

use std::cell::RefCell;

use alloy_primitives::B256;
use alloy_primitives::map::HashMap;

use super::{Tag, keccak};

/// All are forgotten when their inputs are so long together.
const BYTES_MAX: usize = 1 << 23;

#[derive(Default)]
struct Memory {
    hashes: HashMap<Vec<u8>, B256>,
    bytes: usize,
    input: Vec<u8>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The hash of these pieces.
pub(super) fn hash(tag: Tag, pieces: &[&[u8]]) -> B256 {
    MEMORY.with_borrow_mut(|Memory { hashes, bytes, input }| {
        input.clear();
        input.extend_from_slice(&tag.0);
        pieces.iter().for_each(|piece| input.extend_from_slice(piece));
        if let Some(hash) = hashes.get(input) {
            return *hash;
        }
        let hash = keccak(tag, pieces);
        if *bytes > BYTES_MAX {
            hashes.clear();
            *bytes = 0;
        }
        *bytes = bytes.saturating_add(input.len());
        hashes.insert(input.clone(), hash);
        hash
    })
}
