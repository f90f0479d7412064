//! Messages of the lanes between validators: one kind byte, then the message's canonical bytes.
//!
//! Batches and acknowledgements are canonical already, because they are hashed and signed; a request is three small
//! numbers. So no second format stands between the wire and the store.

use bytes::Bytes;
use lockstep_core::batch::Acknowledgement;
use lockstep_core::encoding::{Canonical, InvalidEncoding};
use lockstep_core::lane::BatchRange;

/// Bytes of an acknowledgement or a request: a tip per lane of the greatest set, and some.
const SMALL_BYTES_MAX: usize = 100 * lockstep_core::limits::VALIDATORS_MAX + 256;

/// One message of the lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneMessage {
    /// Kind 1: a batch, pushed by its owner or sent because it was asked for. Not decoded here.
    Batch(Bytes),
    /// Kind 2: what the sender stores durably.
    Acknowledgement(Acknowledgement),
    /// Kind 3: batches the sender lacks.
    Request(BatchRange),
}

/// Why a frame is no message of the lanes. Its sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLaneMessage {
    /// No bytes.
    #[error("lane message is empty")]
    Empty,
    /// A kind this version does not know.
    #[error("lane message of kind {got}, expected 1, 2 or 3")]
    Kind {
        /// The kind byte.
        got: u8,
    },
    /// An acknowledgement or a request of too many bytes.
    #[error("lane message of kind {kind} has {count} bytes, at most {SMALL_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its kind.
        kind: u8,
        /// Its bytes.
        count: usize,
    },
    /// Not the canonical bytes of its kind.
    #[error("lane message of kind {kind}: {error}")]
    Encoding {
        /// Its kind.
        kind: u8,
        /// Why.
        error: InvalidEncoding,
    },
}

impl LaneMessage {
    /// The message's frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Batch(raw) => (1, raw.clone()),
            Self::Acknowledgement(ack) => (2, ack.to_canonical().into()),
            Self::Request(range) => (3, range.to_canonical().into()),
        };
        let mut frame = Vec::with_capacity(body.len().saturating_add(1));
        frame.push(kind);
        frame.extend_from_slice(&body);
        frame.into()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`InvalidLaneMessage`]; a batch's own bytes are not looked at.
    pub fn decode(mut frame: Bytes) -> Result<Self, InvalidLaneMessage> {
        if frame.is_empty() {
            return Err(InvalidLaneMessage::Empty);
        }
        let body = frame.split_off(1);
        let kind = frame.first().copied().unwrap_or_default();
        let small = |body: &Bytes| match body.len() {
            count if count > SMALL_BYTES_MAX => Err(InvalidLaneMessage::TooLarge { kind, count }),
            _ => Ok(()),
        };
        let encoding = |error| InvalidLaneMessage::Encoding { kind, error };
        match kind {
            1 => Ok(Self::Batch(body)),
            2 => {
                small(&body)?;
                Acknowledgement::from_canonical(&body).map(Self::Acknowledgement).map_err(encoding)
            }
            3 => {
                small(&body)?;
                BatchRange::from_canonical(&body).map(Self::Request).map_err(encoding)
            }
            got => Err(InvalidLaneMessage::Kind { got }),
        }
    }
}
