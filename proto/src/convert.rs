//! Checked conversions between generated messages and the types of `lockstep-core`: one module per `.proto`.
//!
//! From a message to a core type everything is checked, and the first fault is named by message, field and reason.
//! Counts are checked before anything is allocated for them. The other way cannot fail.

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use lockstep_core::encoding::Canonical;

use crate::error::{ErrorCode, InvalidMessage};

pub mod block;
pub mod bundle;
pub mod certificate;
pub mod ingress;
pub mod log;
pub mod types;

/// A field of a message, for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field(pub(crate) &'static str, pub(crate) &'static str);

impl Field {
    pub(crate) fn missing(self) -> InvalidMessage {
        InvalidMessage::missing(self.0, self.1)
    }

    pub(crate) fn out_of_range(self, reason: impl Into<String>) -> InvalidMessage {
        InvalidMessage::out_of_range(self.0, self.1, reason)
    }

    pub(crate) fn malformed(self, reason: impl Into<String>) -> InvalidMessage {
        InvalidMessage::new(self.0, self.1, ErrorCode::Malformed, reason)
    }

    /// Exactly `N` bytes.
    pub(crate) fn fixed<const N: usize>(self, bytes: &[u8]) -> Result<[u8; N], InvalidMessage> {
        if bytes.is_empty() {
            return Err(self.missing());
        }
        bytes
            .try_into()
            .map_err(|_| self.out_of_range(format!("has {} bytes, expected {N}", bytes.len())))
    }

    pub(crate) fn hash(self, bytes: &[u8]) -> Result<B256, InvalidMessage> {
        self.fixed(bytes).map(B256::new)
    }

    pub(crate) fn address(self, bytes: &[u8]) -> Result<Address, InvalidMessage> {
        self.fixed(bytes).map(Address::new)
    }

    /// `1..=max` bytes.
    pub(crate) fn sized(self, bytes: &[u8], max: usize) -> Result<(), InvalidMessage> {
        match bytes.len() {
            0 => Err(self.missing()),
            count if count > max => {
                Err(self.out_of_range(format!("has {count} bytes, at most {max} are allowed")))
            }
            _ => Ok(()),
        }
    }

    /// Canonical bytes of a `T`, at most `max`.
    pub(crate) fn canonical<T: Canonical>(
        self,
        bytes: &[u8],
        max: usize,
    ) -> Result<T, InvalidMessage> {
        self.sized(bytes, max)?;
        T::from_canonical(bytes).map_err(|error| self.malformed(error.to_string()))
    }

    /// `min..=max` items.
    pub(crate) fn counted(
        self,
        count: usize,
        min: usize,
        max: usize,
    ) -> Result<(), InvalidMessage> {
        if (min..=max).contains(&count) {
            return Ok(());
        }
        Err(self.out_of_range(format!("has {count} items, expected {min}..={max}")))
    }

    /// Not zero.
    pub(crate) fn positive(self, number: u64) -> Result<u64, InvalidMessage> {
        if number == 0 { Err(self.missing()) } else { Ok(number) }
    }
}

pub(crate) fn canonical<T: Canonical>(value: &T) -> Bytes {
    value.to_canonical().into()
}

pub(crate) fn hash_bytes(hash: B256) -> Bytes {
    Bytes::copy_from_slice(hash.as_slice())
}

pub(crate) fn address_bytes(address: Address) -> Bytes {
    Bytes::copy_from_slice(address.as_slice())
}
