//! The one shape of every error: a code, the field at fault, the reason, and what to do.
//!
//! [`InvalidMessage`] is what a conversion says; [`Refusal`] is what a service answers. A refusal becomes a gRPC status
//! whose code follows from its own code, and whose details have a [`v1::Error`] where ordinary clients look for it.

use tonic::{Code, Status};

use crate::{details, v1};

/// Bytes of a refusal's reason; longer ones are cut.
const REASON_BYTES_MAX: usize = 1_024;
/// Bytes of a refusal's field and of its action; longer ones are cut.
const FIELD_BYTES_MAX: usize = 256;
/// Greatest retry hint, in milliseconds: an hour.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $action:literal;)+) => {
        /// What went wrong, in one word. The gRPC code and the advice follow from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The gRPC code of an answer with this code.
            #[must_use]
            pub const fn status(self) -> Code {
                match self { $(Self::$name => Code::$status,)+ }
            }

            /// What the caller can do about it.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$name => $action,)+ }
            }

            const fn to_v1(self) -> v1::ErrorCode {
                match self { $(Self::$name => v1::ErrorCode::$name,)+ }
            }

            /// The code of this number; `Internal` for numbers that this version does not know.
            fn from_v1(code: i32) -> Self {
                match v1::ErrorCode::try_from(code) {
                    $(Ok(v1::ErrorCode::$name) => Self::$name,)+
                    Ok(v1::ErrorCode::Unspecified) | Err(_) => Self::Internal,
                }
            }
        }
    };
}

error_codes! {
    /// The message is not protobuf of its type.
    Malformed => InvalidArgument, "encode the message as its .proto says";
    /// A field that must be set is not.
    Missing => InvalidArgument, "set the field";
    /// A number, a length or a count is outside its range.
    OutOfRange => InvalidArgument, "keep the field within its range";
    /// The message has more bytes than the server takes.
    MessageTooLarge => OutOfRange, "send less in one message";
    /// The bytes of an entry can never be valid.
    InvalidEntry => InvalidArgument, "encode the entry as the format says; the same bytes will never be accepted";
    /// The bytes of a transaction can never be valid.
    InvalidTransaction => InvalidArgument, "sign the transaction again; the same bytes will never be accepted";
    /// A bundle's shape is wrong.
    InvalidBundle => InvalidArgument, "mend the bundle; the same legs will never be accepted";
    /// A signature of a gateway or a sequencer is none.
    InvalidSignature => InvalidArgument, "sign again over the right network and id";
    /// The chain is not registered, or is of the other kind.
    UnknownChain => FailedPrecondition, "ask GetChains which chains are registered, and as what";
    /// The entry's expiry has passed.
    Expired => FailedPrecondition, "submit again with a later expires_ms, and check the clock";
    /// The entry's expiry is too far away.
    ExpiresTooLate => InvalidArgument, "take an expires_ms within the next 60,000 ms, and check the clock";
    /// The network does not do that yet, or the signer may not.
    NotAllowed => FailedPrecondition, "do not retry; ask the network's operators";
    /// There is no such thing here, or not yet.
    NotFound => NotFound, "check the key; if it is recent, ask again later or ask another node";
    /// This client used up its quota.
    OverQuota => ResourceExhausted, "wait for retry_after_ms, then send more slowly";
    /// The node has too much to do.
    Overloaded => ResourceExhausted, "wait for retry_after_ms, or use another node";
    /// The node does not take part now.
    NotReady => Unavailable, "use another node, or ask again when this one's health says it serves";
    /// The call took too long.
    Timeout => DeadlineExceeded, "ask again; submissions are idempotent";
    /// The node is at fault.
    Internal => Internal, "use another node, and tell this one's operator";
    /// The node has no such method.
    UnknownMethod => Unimplemented, "use the services of lockstep.v1";
    /// The reader of a stream was too slow.
    TooSlow => ResourceExhausted, "open the stream again from the last height that was read";
    /// The message is compressed in a way that the node does not read.
    Compressed => Unimplemented, "send messages without compression";
}

impl ErrorCode {
    /// Whether a refusal with this code is for good: the same bytes will never be taken, by this node or another one.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        match self {
            Self::Malformed
            | Self::Missing
            | Self::OutOfRange
            | Self::MessageTooLarge
            | Self::InvalidEntry
            | Self::InvalidTransaction
            | Self::InvalidBundle
            | Self::InvalidSignature
            | Self::UnknownChain
            | Self::NotAllowed => true,
            Self::Expired
            | Self::ExpiresTooLate
            | Self::NotFound
            | Self::OverQuota
            | Self::Overloaded
            | Self::NotReady
            | Self::Timeout
            | Self::Internal
            | Self::UnknownMethod
            | Self::Compressed
            | Self::TooSlow => false,
        }
    }
}

/// Why a message was refused by its conversion. Permanent: the same message can never be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {reason}")]
pub struct InvalidMessage {
    /// Name of the message in its `.proto`.
    pub message: &'static str,
    /// The field at fault, as a dotted path; empty where the message as a whole is.
    pub field: String,
    /// What kind of fault.
    pub code: ErrorCode,
    /// Why, for people.
    pub reason: String,
}

impl InvalidMessage {
    /// A fault of `field` in `message`.
    pub fn new(
        message: &'static str,
        field: impl Into<String>,
        code: ErrorCode,
        reason: impl Into<String>,
    ) -> Self {
        Self { message, field: field.into(), code, reason: reason.into() }
    }

    /// `field` must be set and is not.
    pub fn missing(message: &'static str, field: impl Into<String>) -> Self {
        Self::new(message, field, ErrorCode::Missing, "must be set")
    }

    /// `field` is outside its range.
    pub fn out_of_range(
        message: &'static str,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::new(message, field, ErrorCode::OutOfRange, reason)
    }

    /// The same fault, seen from the message that holds this one as `outer`.
    #[must_use]
    pub fn inside(mut self, message: &'static str, outer: &str) -> Self {
        self.field = match self.field.is_empty() {
            true => outer.to_owned(),
            false => format!("{outer}.{}", self.field),
        };
        Self { message, ..self }
    }
}

/// What a service answers instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What went wrong, in one word.
    pub code: ErrorCode,
    /// Which field of the request, as a dotted path; empty if none is at fault.
    pub field: String,
    /// Why, for people.
    pub reason: String,
    /// What the caller can do.
    pub action: String,
    /// When to try again, in milliseconds; `None` if a retry of the same call cannot help.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal that no field is to blame for; its advice is the code's.
    pub fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        let action = code.action().to_owned();
        Self { code, field: String::new(), reason: reason.into(), action, retry_after_ms: None }
    }

    /// The same refusal, because of `field`.
    #[must_use]
    pub fn of_field(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// The same refusal with a hint when to try again.
    #[must_use]
    pub fn retry_after(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(ms.clamp(1, RETRY_AFTER_MS_MAX)), ..self }
    }

    /// The refusal as a message.
    #[must_use]
    pub fn to_v1(&self) -> v1::Error {
        v1::Error {
            code: self.code.to_v1().into(),
            field: cut(&self.field, FIELD_BYTES_MAX),
            reason: cut(&self.reason, REASON_BYTES_MAX),
            action: cut(&self.action, FIELD_BYTES_MAX),
            retry_after_ms: self.retry_after_ms.unwrap_or_default(),
        }
    }

    /// The refusal in a message from a server. Never fails: unknown codes are `Internal`, long texts are cut.
    #[must_use]
    pub fn from_v1(error: &v1::Error) -> Self {
        let hint = error.retry_after_ms.min(RETRY_AFTER_MS_MAX);
        Self {
            code: ErrorCode::from_v1(error.code),
            field: cut(&error.field, FIELD_BYTES_MAX),
            reason: cut(&error.reason, REASON_BYTES_MAX),
            action: cut(&error.action, FIELD_BYTES_MAX),
            retry_after_ms: (hint > 0).then_some(hint),
        }
    }

    /// The refusal in a gRPC status. A status without our details, from a proxy say, is read by its code.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        match details::decode(status.details()) {
            Some(error) => Self::from_v1(&error),
            None => {
                let reason = match status.message() {
                    "" => status.code().description(),
                    message => message,
                };
                Self::new(code_of_status(status.code()), cut(reason, REASON_BYTES_MAX))
            }
        }
    }
}

impl From<InvalidMessage> for Refusal {
    fn from(error: InvalidMessage) -> Self {
        Self::new(error.code, error.reason).of_field(error.field)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal.field.is_empty() {
            true => cut(&refusal.reason, REASON_BYTES_MAX),
            false => cut(&format!("{}: {}", refusal.field, refusal.reason), REASON_BYTES_MAX),
        };
        let code = refusal.code.status();
        let details = details::encode(code, &message, &refusal.to_v1());
        Self::with_details(code, message, details)
    }
}

/// Our code for a status that was not made by us: the gRPC library's own refusals.
const fn code_of_status(code: Code) -> ErrorCode {
    match code {
        Code::InvalidArgument => ErrorCode::Malformed,
        Code::OutOfRange => ErrorCode::MessageTooLarge,
        Code::NotFound => ErrorCode::NotFound,
        Code::ResourceExhausted => ErrorCode::Overloaded,
        Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::AlreadyExists => ErrorCode::NotAllowed,
        Code::Unavailable | Code::Aborted => ErrorCode::NotReady,
        Code::DeadlineExceeded | Code::Cancelled => ErrorCode::Timeout,
        Code::Unimplemented => ErrorCode::UnknownMethod,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorCode::Internal,
    }
}

/// At most `bytes_max` bytes of `text`, whole characters only.
fn cut(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_its_status() {
        for &code in ErrorCode::ALL {
            let refusal = Refusal::new(code, "why").of_field("a.b[1]").retry_after(250);
            let status = Status::from(refusal.clone());
            assert_eq!(status.code(), code.status());
            assert_eq!(status.message(), "a.b[1]: why");
            assert_eq!(Refusal::from_status(&status), refusal);
        }
    }

    #[test]
    fn every_code_of_the_proto_has_one_here() {
        for number in 1..=21 {
            let code = ErrorCode::from_v1(number);
            assert_eq!(i32::from(code.to_v1()), number);
        }
        assert!(v1::ErrorCode::try_from(22).is_err(), "a new code needs a line in `error_codes!`");
        assert_eq!(ErrorCode::ALL.len(), 21);
        assert_eq!(ErrorCode::from_v1(0), ErrorCode::Internal);
        assert_eq!(ErrorCode::from_v1(99), ErrorCode::Internal);
    }

    #[test]
    fn a_status_of_the_library_is_read_by_its_code() {
        let refusal = Refusal::from_status(&Status::out_of_range("too large"));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (ErrorCode::MessageTooLarge, "too large")
        );
        let garbage = Status::with_details(Code::NotFound, "gone", vec![0xff; 9].into());
        assert_eq!(Refusal::from_status(&garbage).code, ErrorCode::NotFound);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let refusal =
            Refusal::new(ErrorCode::Internal, "ü".repeat(1_000)).of_field("x".repeat(999));
        let error = refusal.to_v1();
        assert_eq!((error.reason.len(), error.field.len()), (1_024, 256));
        assert!(Status::from(refusal).message().len() <= REASON_BYTES_MAX);
        assert_eq!(cut("aü", 2), "a");
    }

    #[test]
    fn an_inner_fault_names_the_whole_path() {
        let error = InvalidMessage::missing("Leg", "kind")
            .inside("Bundle", "legs[3]")
            .inside("Request", "bundle");
        assert_eq!(error.to_string(), "Request.bundle.legs[3].kind: must be set");
        let whole = InvalidMessage::missing("Bundle", "").inside("Request", "bundle");
        assert_eq!(whole.field, "bundle");
    }

    #[test]
    fn every_action_fits() {
        assert!(ErrorCode::ALL.iter().all(|code| code.action().len() <= FIELD_BYTES_MAX));
    }
}
