//! A stand-in for secp256k1 in the simulator's build alone: a hash over the signer's address and the digest.
//!
//! Anyone can make one, so nothing that talks to a network may be built with it: the feature `keyed-hash` is the
//! simulator's. It is a switch of the thread, because one seed of many runs with real signatures in the same program.

use std::cell::Cell;

use alloy_primitives::{Address, B256};

use super::{InvalidSignature, Signature};

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread signs and recovers with the hash, or with secp256k1 again.
pub fn switch(on: bool) {
    IS_ON.set(on);
}

pub(crate) fn is_on() -> bool {
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

/// Four words, each mixed of all the others: no two signers or digests of a run meet by chance.
fn hash(address: Address, digest: B256) -> B256 {
    let mut state = [0x9e37_79b9_7f4a_7c15u64, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 1];
    let words = address.as_slice().chunks(8).chain(digest.as_slice().chunks(8));
    for word in words {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        let mut carry = u64::from_be_bytes(bytes);
        for lane in &mut state {
            *lane = (*lane ^ carry).wrapping_mul(0x2545_f491_4f6c_dd1d);
            *lane ^= *lane >> 29;
            carry = lane.rotate_left(23);
        }
    }
    let mut hash = B256::ZERO;
    let bytes = state.iter().flat_map(|lane| lane.to_be_bytes());
    hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_of_its_signer_and_digest_alone() {
        let (alice, bob) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let (one, other) = (B256::repeat_byte(3), B256::repeat_byte(4));
        let signature = sign(alice, one);
        assert_eq!(recover(one, &signature), Ok(alice));
        assert!(recover(other, &signature).is_err());
        for at in 0..65 {
            let mut damaged = signature;
            damaged.0[at] ^= 1;
            assert_ne!(recover(one, &damaged), Ok(alice), "byte {at}");
        }
        assert_ne!(sign(bob, one), signature);
    }
}
