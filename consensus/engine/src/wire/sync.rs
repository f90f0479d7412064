//! Frames of class `Sync`: requests and responses of value sync.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lockstep_core::limits::{
    CERTIFICATE_BYTES_MAX, SYNC_RESPONSE_BYTES_MAX, SYNCED_VALUE_BYTES_MAX,
};
use lockstep_proto::v1 as proto;
use lockstep_proto::v1::sync_frame::Message;
use malachitebft_sync::{RawDecidedValue, Request, Response, ValueRequest, ValueResponse};
use prost::Message as _;

use super::{WireError, certificates};
use crate::config::SYNC_HEIGHTS_MAX;
use crate::context::{Context, Height};
use crate::network::Class;

/// Bytes of one value with its certificate and the lengths of both.
const VALUE_BYTES_MAX: usize = SYNCED_VALUE_BYTES_MAX + CERTIFICATE_BYTES_MAX + 16;

/// What a frame of class `Sync` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncMessage {
    /// Asks.
    Request(Request<Context>),
    /// Answers. The values are decoded by [`response`], once it is known that they were asked for.
    Response(proto::ValueResponse),
}

/// The requester's number of the request, and what the frame says.
pub(crate) fn decode(frame: Bytes) -> Result<(u64, SyncMessage), WireError> {
    let frame: proto::SyncFrame = super::decode(frame, Class::Sync.frame_bytes_max())?;
    let message = match frame.message.ok_or(WireError::Missing { field: "message" })? {
        Message::ValueRequest(m) => SyncMessage::Request(request(&m)?),
        Message::ValueResponse(m) => SyncMessage::Response(m),
    };
    Ok((frame.request, message))
}

pub(crate) fn encode_request(
    number: u64,
    Request::ValueRequest(request): &Request<Context>,
) -> Result<Bytes, WireError> {
    let message =
        proto::ValueRequest { first: request.range.start().0, last: request.range.end().0 };
    frame(number, Message::ValueRequest(message))
}

pub(crate) fn encode_response(
    number: u64,
    response: &Response<Context>,
) -> Result<Bytes, WireError> {
    frame(number, Message::ValueResponse(response_message(response)?))
}

fn frame(request: u64, message: Message) -> Result<Bytes, WireError> {
    let frame = proto::SyncFrame { request, message: Some(message) };
    super::encode(&frame, Class::Sync.frame_bytes_max())
}

fn request(m: &proto::ValueRequest) -> Result<Request<Context>, WireError> {
    let heights = m.last.checked_sub(m.first).and_then(|more| more.checked_add(1));
    if m.first == 0 || heights.is_none_or(|heights| heights > SYNC_HEIGHTS_MAX) {
        return Err(WireError::Range { field: "value_request.last", got: m.last });
    }
    Ok(Request::ValueRequest(ValueRequest::new(Height(m.first)..=Height(m.last))))
}

/// The values of a response: consecutive heights from its first one on.
pub(crate) fn response(m: &proto::ValueResponse) -> Result<Response<Context>, WireError> {
    let mut rest = m.values.clone();
    let mut values = Vec::new();
    let mut height = m.first;
    while rest.has_remaining() {
        if values.len() as u64 >= SYNC_HEIGHTS_MAX {
            return Err(WireError::Length { field: "value_response.values", got: values.len() });
        }
        let value = value(&mut rest)?;
        if value.certificate.height != Height(height) {
            let got = value.certificate.height.0;
            return Err(WireError::Range { field: "certificate.height", got });
        }
        height = height.saturating_add(1);
        values.push(value);
    }
    Ok(Response::ValueResponse(ValueResponse::new(Height(m.first), values)))
}

/// Takes one value off `rest`.
fn value(rest: &mut Bytes) -> Result<RawDecidedValue<Context>, WireError> {
    let before = rest.len();
    let length = prost::decode_length_delimiter(&mut *rest)?;
    let used = before.saturating_sub(rest.len());
    if used != prost::length_delimiter_len(length) {
        return Err(WireError::NotCanonical {
            expected: prost::length_delimiter_len(length),
            got: used,
        });
    }
    if length > rest.len() {
        return Err(WireError::Length { field: "value_response.values", got: length });
    }
    let m: proto::SyncedValue = super::decode(rest.split_to(length), VALUE_BYTES_MAX)?;
    if m.value.len() > SYNCED_VALUE_BYTES_MAX {
        return Err(WireError::Length { field: "value", got: m.value.len() });
    }
    let certificate: proto::CommitCertificate =
        super::decode(m.certificate, CERTIFICATE_BYTES_MAX)?;
    Ok(RawDecidedValue::new(m.value, certificates::commit(&certificate)?))
}

pub(crate) fn response_message(
    Response::ValueResponse(response): &Response<Context>,
) -> Result<proto::ValueResponse, WireError> {
    let mut values = BytesMut::new();
    for value in &response.values {
        let certificate = certificates::commit_message(&value.certificate)?.encode_to_vec();
        let value = proto::SyncedValue {
            value: value.value_bytes.clone(),
            certificate: certificate.into(),
        };
        values.reserve(value.encoded_len().saturating_add(16));
        value.encode_length_delimited(&mut values).map_err(|_| WireError::TooLong {
            got: value.encoded_len(),
            max: values.remaining_mut(),
        })?;
    }
    if values.len() > SYNC_RESPONSE_BYTES_MAX {
        return Err(WireError::TooLong { got: values.len(), max: SYNC_RESPONSE_BYTES_MAX });
    }
    Ok(proto::ValueResponse { first: response.start_height.0, values: values.freeze() })
}

/// Bytes of a response's values, without encoding them.
pub(crate) fn response_bytes(
    Response::ValueResponse(response): &Response<Context>,
) -> Result<usize, WireError> {
    let mut bytes = 0usize;
    for value in &response.values {
        let certificate = certificates::commit_message(&value.certificate)?.encoded_len();
        bytes = bytes
            .saturating_add(value.value_bytes.len())
            .saturating_add(certificate)
            .saturating_add(32);
    }
    Ok(bytes)
}
