//! secp256k1 signatures as Ethereum has them: 65 bytes `r ‖ s ‖ v`, low-s, v 27 or 28, over a keccak256 digest.
//!
//! So a validator *is* an Ethereum address and a contract can check everything with `ecrecover`. Signing is
//! deterministic (RFC 6979). Source: yellow paper appendix F, EIP-2 (low-s).

use alloy_primitives::{Address, B256, hex, keccak256};
use alloy_rlp::{BufMut, Decodable, Encodable};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

#[cfg(feature = "keyed-hash")]
pub mod keyed_hash;

/// 65 bytes `r ‖ s ‖ v` with v 27 or 28. Nothing is checked before [`recover`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 65]);

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Signature(0x{})", hex::encode(self.0))
    }
}

impl Encodable for Signature {
    fn encode(&self, out: &mut dyn BufMut) {
        self.0.encode(out);
    }
    fn length(&self) -> usize {
        self.0.length()
    }
}

impl Decodable for Signature {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        <[u8; 65]>::decode(bytes).map(Self)
    }
}

/// Why a signature was refused. Permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// `v` is neither 27 nor 28.
    #[error("signature has v {v}, expected 27 or 28")]
    RecoveryId {
        /// The last byte.
        v: u8,
    },
    /// `s` is in the upper half of the group order (EIP-2).
    #[error("signature has a high s")]
    HighS,
    /// `r` or `s` is out of range, or no key belongs to them.
    #[error("signature recovers to no key")]
    Unrecoverable,
}

/// Half of the group order of secp256k1, big-endian: the greatest low `s`.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// The address whose key made `signature` over `digest`. Costs about 50 µs of one core.
///
/// # Errors
/// [`InvalidSignature`] if no key can have made it, or if it is not in its one canonical form.
pub fn recover(digest: B256, signature: &Signature) -> Result<Address, InvalidSignature> {
    #[cfg(feature = "keyed-hash")]
    if keyed_hash::is_on() {
        return keyed_hash::recover(digest, signature);
    }
    let [compact @ .., v] = &signature.0;
    let id = match *v {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        v => return Err(InvalidSignature::RecoveryId { v }),
    };
    if compact.get(32..).is_none_or(|s| s > HALF_ORDER.as_slice()) {
        return Err(InvalidSignature::HighS);
    }
    let signature = RecoverableSignature::from_compact(compact, id)
        .map_err(|_| InvalidSignature::Unrecoverable)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(digest.0), &signature)
        .map_err(|_| InvalidSignature::Unrecoverable)?;
    Ok(address_of(&key))
}

/// The Ethereum address of a public key: the last 20 bytes of keccak256 of its 64 bytes.
fn address_of(key: &PublicKey) -> Address {
    let [_, point @ ..] = key.serialize_uncompressed();
    Address::from_word(keccak256(point))
}

/// A secp256k1 secret key. `Debug` prints the address only.
#[derive(Clone)]
pub struct SigningKey {
    secret: SecretKey,
    address: Address,
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigningKey({})", self.address)
    }
}

impl SigningKey {
    /// The key with these 32 bytes, big-endian.
    ///
    /// # Errors
    /// [`InvalidSignature::Unrecoverable`] if they are zero or not below the group order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidSignature> {
        let secret =
            SecretKey::from_byte_array(bytes).map_err(|_| InvalidSignature::Unrecoverable)?;
        let address = address_of(&PublicKey::from_secret_key(SECP256K1, &secret));
        Ok(Self { secret, address })
    }

    /// The key's Ethereum address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The compressed public key, 33 bytes (SEC 1).
    #[must_use]
    pub fn public_key(&self) -> [u8; 33] {
        PublicKey::from_secret_key(SECP256K1, &self.secret).serialize()
    }

    /// Signs a digest; equal inputs give equal bytes (RFC 6979), and `s` is low.
    #[must_use]
    pub fn sign(&self, digest: B256) -> Signature {
        #[cfg(feature = "keyed-hash")]
        if keyed_hash::is_on() {
            return keyed_hash::sign(self.address, digest);
        }
        let signature =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (id, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        let v = if matches!(id, RecoveryId::One | RecoveryId::Three) { 28 } else { 27 };
        for (to, from) in bytes.iter_mut().zip(compact.iter().chain([&v])) {
            *to = *from;
        }
        Signature(bytes)
    }
}

/// The address of a compressed public key (33 bytes, SEC 1), `None` if it is not a point of the curve.
#[must_use]
pub fn address_of_public_key(compressed: &[u8; 33]) -> Option<Address> {
    PublicKey::from_slice(compressed).ok().map(|key| address_of(&key))
}

#[cfg(test)]
mod tests;
