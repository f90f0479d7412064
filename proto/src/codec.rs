//! The codec of every service: prost's, with malformed messages refused by a typed error.
//!
//! Before prost sees a message its top-level fields are counted, because two bytes on the wire (an empty message in a
//! repeated field) become more than a hundred in memory. Nesting is bounded by prost (100 levels), bytes by tonic's
//! message limit.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::error::{ErrorCode, Refusal};

/// Top-level fields of one message: twice the most that any message of ours has (4,096 submissions).
pub const MESSAGE_FIELDS_MAX: usize = 8_192;

/// prost's codec with checked decoding.
#[derive(Clone, Copy, Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        CheckedDecoder(PhantomData)
    }
}

/// Decodes `U` after its fields were counted.
#[derive(Clone, Copy, Debug)]
pub struct CheckedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let count = count_fields(bytes.chunk());
        if count > MESSAGE_FIELDS_MAX {
            let reason = format!("message has over {MESSAGE_FIELDS_MAX} fields");
            return Err(Refusal::new(ErrorCode::OutOfRange, reason).into());
        }
        U::decode(bytes).map(Some).map_err(|error| malformed(&error).into())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

fn malformed(error: &prost::DecodeError) -> Refusal {
    Refusal::new(ErrorCode::Malformed, format!("message is not its type's protobuf: {error}"))
}

/// Counts top-level fields, up to one more than is allowed. Stops at what is not protobuf: prost names that better.
fn count_fields(mut bytes: &[u8]) -> usize {
    let mut count = 0usize;
    while !bytes.is_empty() && count <= MESSAGE_FIELDS_MAX {
        count = count.saturating_add(1);
        if skip_field(&mut bytes).is_none() {
            break;
        }
    }
    count
}

fn skip_field(bytes: &mut &[u8]) -> Option<()> {
    let tag = take_varint(bytes)?;
    let length = match tag & 7 {
        0 => return take_varint(bytes).map(drop),
        1 => 8,
        2 => usize::try_from(take_varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *bytes = bytes.get(length..)?;
    Some(())
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn fields_are_counted_as_prost_sees_them() {
        let request = v1::SubmitStreamRequest {
            sequence: 300,
            submissions: vec![v1::Submission::default(); 70],
        };
        assert_eq!(count_fields(&request.encode_to_vec()), 71);
        assert_eq!(count_fields(&[]), 0);
    }

    #[test]
    fn counting_stops_at_one_too_many() {
        let bytes = [0x12, 0x00].repeat(MESSAGE_FIELDS_MAX * 3);
        assert_eq!(count_fields(&bytes), MESSAGE_FIELDS_MAX + 1);
    }

    #[test]
    fn counting_stops_at_garbage() {
        for bytes in [&[0xff; 12][..], &[0x12, 0x7f, 0x00], &[0x0b], &[0x80]] {
            assert_eq!(count_fields(bytes), 1, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn counting_never_panics(bytes: Vec<u8>) {
            count_fields(&bytes);
        }
    }
}
