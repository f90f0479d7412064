//! Values as they travel: a proposal's payload and a synced value.
//!
//! Both are RLP `[header, cut, [batch bytes…]]` with the version byte in front. They differ in what the batches are: a
//! payload attaches those that the proposer can't assume held, a synced value has every batch of the cut in the order
//! of its steps. Where bytes came from is never part of validity. Decoding checks bounds and shape; the batches stay
//! bytes, which the caller decodes and checks on its pool.

use alloy_primitives::Bytes;
use alloy_rlp::Decodable;

use crate::cut::Cut;
use crate::encoding::{VERSION, decode_list, encode_list, expect_end};
use crate::header::Header;
use crate::limits::{
    BATCH_BYTES_MAX, CUT_BATCHES_MAX, CUT_BYTES_MAX, HEADER_BYTES_MAX, SYNCED_VALUE_BYTES_MAX,
    VALIDATORS_MAX,
};

/// What a proposal's parts carry, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The block's header; its hash is the value.
    pub header: Header,
    /// The cut.
    pub cut: Cut,
    /// Bytes of attached batches; any of the cut's, in any order.
    pub batches: Vec<Bytes>,
}

/// A decided block with all that it takes to verify it from the state before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedValue {
    /// The block's header; its hash is the value.
    pub header: Header,
    /// The cut.
    pub cut: Cut,
    /// Bytes of every batch the cut adds: lane after lane in address order, each lane's by ascending sequence.
    pub batches: Vec<Bytes>,
}

/// Why a payload or a synced value was refused. Permanent; whoever sent it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// More than [`SYNCED_VALUE_BYTES_MAX`].
    #[error("value has {count} bytes, at most {SYNCED_VALUE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its bytes.
        count: usize,
    },
    /// The version byte is another one, or missing.
    #[error("value has another encoding version than {VERSION}")]
    Version,
    /// Not canonical RLP of a value.
    #[error("value is not canonical RLP: {0}")]
    Encoding(alloy_rlp::Error),
    /// The header is longer than [`HEADER_BYTES_MAX`].
    #[error("header has {count} bytes, at most {HEADER_BYTES_MAX} are allowed")]
    Header {
        /// Its bytes.
        count: usize,
    },
    /// The cut names more than [`VALIDATORS_MAX`] lanes.
    #[error("cut names {count} lanes, at most {VALIDATORS_MAX} are allowed")]
    Lanes {
        /// How many.
        count: usize,
    },
    /// More than [`CUT_BATCHES_MAX`] batches.
    #[error("value has more than {CUT_BATCHES_MAX} batches")]
    Batches,
    /// A batch is longer than [`BATCH_BYTES_MAX`].
    #[error("batch {index} has {count} bytes, at most {BATCH_BYTES_MAX} are allowed")]
    Batch {
        /// Which, counted from 0.
        index: usize,
        /// Its bytes.
        count: usize,
    },
    /// The batches together are longer than [`CUT_BYTES_MAX`].
    #[error("batches have {count} bytes, at most {CUT_BYTES_MAX} are allowed")]
    Bytes {
        /// Their bytes.
        count: usize,
    },
}

impl From<alloy_rlp::Error> for InvalidValue {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Encoding(error)
    }
}

macro_rules! value {
    ($name:ident) => {
        impl $name {
            /// Its bytes, at most [`SYNCED_VALUE_BYTES_MAX`] for a valid block.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                let mut out = vec![VERSION];
                encode_list(&[&self.header, &self.cut, &self.batches], &mut out);
                out.into()
            }

            /// Reads a value that fills `raw` exactly. Batches are slices of `raw`, not copies.
            ///
            /// # Errors
            /// [`InvalidValue`] if it is too large, breaks a bound, or is not canonical.
            pub fn decode(raw: &Bytes) -> Result<Self, InvalidValue> {
                let (header, cut, batches) = decode(raw)?;
                Ok(Self { header, cut, batches })
            }
        }
    };
}

value!(Payload);
value!(SyncedValue);

fn decode(raw: &Bytes) -> Result<(Header, Cut, Vec<Bytes>), InvalidValue> {
    if raw.len() > SYNCED_VALUE_BYTES_MAX {
        return Err(InvalidValue::TooLarge { count: raw.len() });
    }
    let mut rest = match raw.split_first() {
        Some((&VERSION, rest)) => rest,
        _ => return Err(InvalidValue::Version),
    };
    let payload = &mut decode_list(&mut rest)?;
    expect_end(rest)?;
    let before = payload.len();
    let header = Header::decode(payload)?;
    let count = before.saturating_sub(payload.len());
    if count > HEADER_BYTES_MAX {
        return Err(InvalidValue::Header { count });
    }
    let cut = Cut::decode(payload)?;
    if cut.lanes.len() > VALIDATORS_MAX {
        return Err(InvalidValue::Lanes { count: cut.lanes.len() });
    }
    let batches = decode_batches(raw, decode_list(payload)?)?;
    expect_end(payload)?;
    Ok((header, cut, batches))
}

fn decode_batches(raw: &Bytes, mut payload: &[u8]) -> Result<Vec<Bytes>, InvalidValue> {
    let (mut batches, mut sum) = (Vec::new(), 0usize);
    while !payload.is_empty() {
        let index = batches.len();
        if index >= CUT_BATCHES_MAX {
            return Err(InvalidValue::Batches);
        }
        let bytes = alloy_rlp::Header::decode_bytes(&mut payload, false)?;
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(InvalidValue::Batch { index, count: bytes.len() });
        }
        sum = sum.saturating_add(bytes.len());
        if sum > CUT_BYTES_MAX {
            return Err(InvalidValue::Bytes { count: sum });
        }
        // A single byte below 0x80 is its own encoding, and an empty string points nowhere: both are slices of `raw`,
        // too, but for the empty one.
        batches.push(if bytes.is_empty() { Bytes::new() } else { raw.slice_ref(bytes) });
    }
    Ok(batches)
}

#[cfg(test)]
mod tests;
