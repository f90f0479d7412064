//! The details of a refused call, as ordinary gRPC clients read them: a `google.rpc.Status` in `grpc-status-details-bin`,
//! with our [`v1::Error`] inside (gRPC's "Richer error model").
//!
//! The two messages of Google's are written out here, because nothing else of theirs is needed:
//! <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>.

use bytes::Bytes;
use prost::Message;
use tonic::Code;

use crate::v1;

/// The type that an [`Any`] with our error has.
const TYPE_URL: &str = "type.googleapis.com/lockstep.v1.Error";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The details of a status with this code and message.
pub(crate) fn encode(code: Code, message: &str, error: &v1::Error) -> Bytes {
    let any = Any { type_url: TYPE_URL.to_owned(), value: error.encode_to_vec().into() };
    let status = RpcStatus { code: code.into(), message: message.to_owned(), details: vec![any] };
    status.encode_to_vec().into()
}

/// Our error in the details of a status; `None` if there is none.
pub(crate) fn decode(details: &[u8]) -> Option<v1::Error> {
    let status = RpcStatus::decode(details).ok()?;
    let ours = status.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
    v1::Error::decode(ours.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes as Google's own messages have them: numbers and types of fields are what other clients rely on.
    #[test]
    fn details_are_a_status_with_our_error_in_an_any() {
        let error = v1::Error { reason: "why".to_owned(), ..v1::Error::default() };
        let url = b"type.googleapis.com/lockstep.v1.Error";
        let value = b"\x1a\x03why";
        let any = [&[0x0a, 37][..], url, &[0x12, 5], value].concat();
        let expected = [&[0x08, 5, 0x12, 4][..], b"gone", &[0x1a, 46], &any].concat();
        assert_eq!(encode(Code::NotFound, "gone", &error), expected);
        assert_eq!(decode(&expected), Some(error));
    }

    #[test]
    fn others_details_are_not_ours() {
        let any =
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), ..Any::default() };
        let status = RpcStatus { details: vec![any], ..RpcStatus::default() };
        assert_eq!(decode(&status.encode_to_vec()), None);
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0xff; 9]), None);
    }
}
