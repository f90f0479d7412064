//! A stand-in for secp256k1 in the simulator's build alone: a hash over the signer's address and the digest.
//!
//! Anyone can make one, so nothing that talks to a network may be built with it: the feature `keyed-hash` is the
//! simulator's. It is a switch of the thread, because one seed of many runs with real signatures in the same program.

use std::cell::Cell;

use alloy_primitives::{Address, B256, keccak256};

use super::{InvalidSignature, Signature};

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread signs and recovers with the hash, or with secp256k1 again.
pub fn switch(on: bool) {
    IS_ON.set(on);
}

pub(super) fn is_on() -> bool {
    IS_ON.get()
}

/// 20 bytes address, 32 bytes hash, 12 bytes zero, 27.
pub(super) fn sign(address: Address, digest: B256) -> Signature {
    let hash = hash(address, digest);
    let mut bytes = [0; 65];
    let parts = address.as_slice().iter().chain(hash.as_slice());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    if let Some(v) = bytes.last_mut() {
        *v = 27;
    }
    Signature(bytes)
}

pub(super) fn recover(digest: B256, signature: &Signature) -> Result<Address, InvalidSignature> {
    let address = signature.0.first_chunk().copied().map(Address::new).unwrap_or_default();
    if *signature == sign(address, digest) {
        Ok(address)
    } else {
        Err(InvalidSignature::Unrecoverable)
    }
}

fn hash(address: Address, digest: B256) -> B256 {
    let mut bytes = [0u8; 52];
    let parts = address.as_slice().iter().chain(digest.as_slice());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    keccak256(bytes)
}
