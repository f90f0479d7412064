//! Every byte of every proof, changed: it does not decode, or it does not verify.

use super::*;

/// Changes each byte in nine ways and cuts and extends the whole.
fn check<T: Canonical + PartialEq + core::fmt::Debug>(
    proof: &T,
    verify: impl Fn(&T) -> Result<(), InvalidProof>,
) {
    assert_eq!(verify(proof), Ok(()));
    let bytes = proof.to_canonical();
    let must_fail = |changed: &[u8], what: &str, at: usize| {
        if let Ok(other) = T::from_canonical(changed) {
            assert_eq!(other.to_canonical(), changed, "{what} {at}: two encodings of one value");
            assert!(verify(&other).is_err(), "{what} {at}: {other:?}");
        }
    };
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            changed[at] = bytes[at] ^ flip;
            must_fail(&changed, "changed", at);
        }
        changed.remove(at);
        must_fail(&changed, "without", at);
        must_fail(&bytes[..at], "cut to", at);
        for more in [0, 0x80, bytes[at]] {
            let mut longer = bytes.clone();
            longer.insert(at, more);
            if longer != bytes {
                must_fail(&longer, "longer", at);
            }
        }
    }
    assert!(T::from_canonical(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_slice_proof_fails_with_any_byte_changed() {
    let log = log();
    for (height, chain) in [(1, 10), (3, 30)] {
        let slice = log.slice(height, chain).unwrap();
        let proof = log.slice_proof(height, chain).unwrap();
        check(&proof, |proof| proof.verify(log.network(), &log.set(height), slice));
    }
}

#[test]
fn a_slice_beside_its_proof_fails_with_any_byte_changed() {
    let log = log();
    let proof = log.slice_proof(1, 30).unwrap();
    let slice = log.slice(1, 30).unwrap();
    check(slice, |slice| proof.verify(log.network(), &log.set(1), slice));
}

#[test]
fn an_absence_proof_fails_with_any_byte_changed() {
    let log = log();
    for (height, chain) in [(1, 5), (1, 15), (1, 99), (4, 20)] {
        let proof = log.absence_proof(height, chain).unwrap();
        check(&proof, |proof| proof.verify(log.network(), &log.set(height), ChainId(chain)));
    }
}

#[test]
fn a_range_proof_fails_with_any_byte_changed() {
    let log = log();
    let proof = log.range_proof(2, 5, 20);
    check(&proof, |proof| proof.verify(log.network(), &log.set(5), ChainId(20), Height(2)));
}

#[test]
fn a_transaction_proof_fails_with_any_byte_changed() {
    let keys = crate::block::fixtures::keys(3);
    let log = Log::new(vec![(1, keys)], 1, |_| vec![5, 6, 7, 8, 9]);
    let slice = log.slice(1, 9).unwrap();
    let hashes = transactions(&slice.items);
    for hash in [hashes[0], hashes[4]] {
        let proof = log.transaction_proof(1, 9, hash).unwrap();
        check(&proof, |proof| proof.verify(log.network(), &log.set(1), ChainId(9), hash));
    }
}
