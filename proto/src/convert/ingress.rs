//! `ingress.proto`: submissions to entries, and the states of entries both ways.

use alloy_primitives::{B256, Bytes as CoreBytes};
use bytes::Bytes;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::limits::ENTRY_BYTES_MAX;
use lockstep_core::signing::Signature;
use lockstep_core::types::{ChainId, EntryId, UnixMillis};

use super::bundle::refuse_entry;
use super::{Field, hash_bytes};
use crate::error::{ErrorCode, InvalidMessage, Refusal};
use crate::v1;

mod legs;
mod state;

pub use legs::{BlockId, Landing, LegState, LegStatus, Stage};
pub use state::{Decided, DropReason, Dropped, EntryState, EntryStatus};

/// Submissions of one message of a stream.
pub const SUBMISSIONS_MAX: usize = 4_096;
/// Milliseconds a submit call may wait for a state. Below the 10 s that a call may take; `WatchStatus` waits longer.
pub const WAIT_MS_MAX: u64 = 8_000;
/// Milliseconds after which an entry expires whose submitter leaves that to the node.
pub const EXPIRES_MS_DEFAULT: u64 = 30_000;

/// A state that a call can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// This node holds the entry.
    Received,
    /// A log block has it.
    Decided,
    /// Each of its chains has it in a block.
    Included,
    /// In a safe block, each of its chains.
    Safe,
    /// In a finalized block, each of its chains.
    Finalized,
}

/// For what a submit call waits, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub milestone: Milestone,
    /// How long, in milliseconds, 1..=[`WAIT_MS_MAX`].
    pub timeout_ms: u64,
}

/// How an entry was submitted: which fields its faults lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a transaction.
    Transaction,
    /// As a bundle.
    Bundle,
    /// As the entry's bytes.
    Entry,
}

impl Form {
    /// The same refusal with the field of the submission that it is about, if it names none and is about one.
    #[must_use]
    pub fn place(self, refusal: Refusal) -> Refusal {
        let body = match self {
            Self::Transaction => "transaction",
            Self::Bundle => "bundle",
            Self::Entry => "entry",
        };
        let field = match refusal.code {
            _ if !refusal.field.is_empty() => return refusal,
            ErrorCode::InvalidEntry
            | ErrorCode::InvalidTransaction
            | ErrorCode::InvalidBundle
            | ErrorCode::UnknownChain
            | ErrorCode::NotAllowed => body,
            ErrorCode::InvalidSignature if self == Self::Entry => body,
            ErrorCode::InvalidSignature => "gateway_signature",
            ErrorCode::Expired | ErrorCode::ExpiresTooLate if self == Self::Entry => body,
            ErrorCode::Expired | ErrorCode::ExpiresTooLate => "expires_ms",
            ErrorCode::Malformed
            | ErrorCode::Missing
            | ErrorCode::OutOfRange
            | ErrorCode::MessageTooLarge
            | ErrorCode::NotFound
            | ErrorCode::OverQuota
            | ErrorCode::Overloaded
            | ErrorCode::NotReady
            | ErrorCode::Timeout
            | ErrorCode::Internal
            | ErrorCode::UnknownMethod
            | ErrorCode::TooSlow
            | ErrorCode::Compressed => return refusal,
        };
        refusal.of_field(field)
    }
}

/// A submit call, checked but for the entry's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The entry.
    pub entry: Entry,
    /// How it was submitted.
    pub form: Form,
    /// For what to wait.
    pub wait: Option<Wait>,
}

/// The answer to a submit call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The entry and its state.
    pub status: EntryStatus,
    /// Whether the node knew the entry before.
    pub is_known: bool,
    /// Whether the state that was waited for is reached; true if none was.
    pub is_reached: bool,
}

/// An accepted submission of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The entry's id.
    pub id: EntryId,
    /// The state's name: a stream's answers carry no certificates.
    pub state: v1::State,
    /// Whether the node knew the entry before.
    pub is_known: bool,
}

/// Which entry a status call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusKey {
    /// By its id.
    Id(EntryId),
    /// By a transaction in it, for decided entries.
    Transaction(ChainId, B256),
}

impl Submit {
    /// The call of a transaction. `now` is used for an expiry that is left to the node.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field.
    pub fn transaction(
        request: v1::SubmitTransactionRequest,
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        const MESSAGE: &str = "SubmitTransactionRequest";
        let wait = wait(request.wait, MESSAGE)?;
        let body = transaction_body(request.transaction, MESSAGE)?;
        let (entry, form) = entry_of(body, request.expires_ms, &request.gateway_signature, now)?;
        Ok(Self { entry, form, wait })
    }

    /// The call of a bundle. `now` is used for an expiry that is left to the node.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field.
    pub fn bundle(request: v1::SubmitBundleRequest, now: UnixMillis) -> Result<Self, Refusal> {
        const MESSAGE: &str = "SubmitBundleRequest";
        let wait = wait(request.wait, MESSAGE)?;
        let body = bundle_body(request.bundle, MESSAGE)?;
        let (entry, form) = entry_of(body, request.expires_ms, &request.gateway_signature, now)?;
        Ok(Self { entry, form, wait })
    }

    /// The call of an entry's bytes.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field.
    pub fn entry(request: &v1::SubmitEntryRequest) -> Result<Self, Refusal> {
        const MESSAGE: &str = "SubmitEntryRequest";
        let wait = wait(request.wait, MESSAGE)?;
        let (entry, form) = raw_entry(&request.entry, MESSAGE)?;
        Ok(Self { entry, form, wait })
    }
}

/// The entry of one submission of a stream. `now` is used for an expiry that is left to the node.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn submission(submission: v1::Submission, now: UnixMillis) -> Result<(Entry, Form), Refusal> {
    const MESSAGE: &str = "Submission";
    let v1::Submission { body, expires_ms, gateway_signature } = submission;
    let body = match body {
        None => return Err(Field(MESSAGE, "body").missing().into()),
        Some(v1::submission::Body::Transaction(transaction)) => {
            transaction_body(Some(transaction), MESSAGE)?
        }
        Some(v1::submission::Body::Bundle(bundle)) => bundle_body(Some(bundle), MESSAGE)?,
        Some(v1::submission::Body::Entry(bytes)) => {
            for (field, is_set) in [
                ("expires_ms", expires_ms != 0),
                ("gateway_signature", !gateway_signature.is_empty()),
            ] {
                if is_set {
                    let reason = "must not be set beside the bytes of an entry, which hold it";
                    return Err(Field(MESSAGE, field).out_of_range(reason).into());
                }
            }
            return raw_entry(&bytes, MESSAGE);
        }
    };
    entry_of(body, expires_ms, &gateway_signature, now)
}

/// Checks the count of one message's submissions.
///
/// # Errors
/// A [`Refusal`] of the field `submissions`.
pub fn check_submission_count(count: usize) -> Result<(), Refusal> {
    Ok(Field("SubmitStreamRequest", "submissions").counted(count, 1, SUBMISSIONS_MAX)?)
}

fn transaction_body(
    transaction: Option<v1::Transaction>,
    message: &'static str,
) -> Result<Body, InvalidMessage> {
    let transaction = transaction.ok_or_else(|| Field(message, "transaction").missing())?;
    let transaction =
        transaction.try_into().map_err(|e: InvalidMessage| e.inside(message, "transaction"))?;
    Ok(Body::Transaction(transaction))
}

fn bundle_body(bundle: Option<v1::Bundle>, message: &'static str) -> Result<Body, InvalidMessage> {
    let bundle = bundle.ok_or_else(|| Field(message, "bundle").missing())?;
    Ok(Body::Bundle(bundle.try_into().map_err(|e: InvalidMessage| e.inside(message, "bundle"))?))
}

fn entry_of(
    body: Body,
    expires_ms: u64,
    gateway: &Bytes,
    now: UnixMillis,
) -> Result<(Entry, Form), Refusal> {
    let expires = match expires_ms {
        0 => now.plus(EXPIRES_MS_DEFAULT),
        ms => UnixMillis(ms),
    };
    let gateway = match gateway.is_empty() {
        true => None,
        false => Some(Signature(Field("Submission", "gateway_signature").fixed(gateway)?)),
    };
    let form = match &body {
        Body::Transaction(_) => Form::Transaction,
        Body::Bundle(_) => Form::Bundle,
        Body::Record(_) => Form::Entry,
    };
    let entry = Entry::new(body, expires, gateway);
    Ok((entry.map_err(|error| form.place(refuse_entry(&error)))?, form))
}

fn raw_entry(bytes: &Bytes, message: &'static str) -> Result<(Entry, Form), Refusal> {
    Field(message, "entry").sized(bytes, ENTRY_BYTES_MAX)?;
    // A copy, so that one small entry does not keep the whole message it came in alive.
    let entry = Entry::decode(CoreBytes::copy_from_slice(bytes));
    let entry = entry.map_err(|error| Form::Entry.place(refuse_entry(&error)))?;
    Ok((entry, Form::Entry))
}

fn wait(wait: Option<v1::Wait>, message: &'static str) -> Result<Option<Wait>, InvalidMessage> {
    let Some(v1::Wait { state, timeout_ms }) = wait else {
        return Ok(None);
    };
    let milestone = match v1::State::try_from(state) {
        Ok(v1::State::Received) => Milestone::Received,
        Ok(v1::State::Decided) => Milestone::Decided,
        Ok(v1::State::Included) => Milestone::Included,
        Ok(v1::State::Safe) => Milestone::Safe,
        Ok(v1::State::Finalized) => Milestone::Finalized,
        Ok(v1::State::Unspecified) => return Err(Field(message, "wait.state").missing()),
        Ok(v1::State::Dropped | v1::State::Skipped) | Err(_) => {
            let reason = format!(
                "{state} is none of 1 (RECEIVED), 2 (DECIDED), 5 (INCLUDED), 7 (SAFE), 8 (FINALIZED)"
            );
            return Err(Field(message, "wait.state").out_of_range(reason));
        }
    };
    if !(1..=WAIT_MS_MAX).contains(&timeout_ms) {
        let reason = format!("is {timeout_ms}, expected 1..={WAIT_MS_MAX}");
        return Err(Field(message, "wait.timeout_ms").out_of_range(reason));
    }
    Ok(Some(Wait { milestone, timeout_ms }))
}

impl From<Wait> for v1::Wait {
    fn from(wait: Wait) -> Self {
        let state = match wait.milestone {
            Milestone::Received => v1::State::Received,
            Milestone::Decided => v1::State::Decided,
            Milestone::Included => v1::State::Included,
            Milestone::Safe => v1::State::Safe,
            Milestone::Finalized => v1::State::Finalized,
        };
        Self { state: state.into(), timeout_ms: wait.timeout_ms }
    }
}

/// An entry's id from 32 bytes.
///
/// # Errors
/// [`InvalidMessage`] of the field `id`.
pub fn entry_id(message: &'static str, id: &[u8]) -> Result<EntryId, InvalidMessage> {
    Field(message, "id").hash(id).map(EntryId)
}

impl TryFrom<v1::GetStatusRequest> for StatusKey {
    type Error = InvalidMessage;

    fn try_from(request: v1::GetStatusRequest) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetStatusRequest";
        match request.key.ok_or_else(|| Field(MESSAGE, "key").missing())? {
            v1::get_status_request::Key::Id(id) => entry_id(MESSAGE, &id).map(Self::Id),
            v1::get_status_request::Key::Transaction(key) => {
                let chain = Field(MESSAGE, "transaction.chain_id").positive(key.chain_id)?;
                let field = Field(MESSAGE, "transaction.transaction_hash");
                Ok(Self::Transaction(ChainId(chain), field.hash(&key.transaction_hash)?))
            }
        }
    }
}

impl From<StatusKey> for v1::GetStatusRequest {
    fn from(key: StatusKey) -> Self {
        let key = match key {
            StatusKey::Id(id) => v1::get_status_request::Key::Id(hash_bytes(id.0)),
            StatusKey::Transaction(chain, hash) => {
                v1::get_status_request::Key::Transaction(v1::TransactionKey {
                    chain_id: chain.0,
                    transaction_hash: hash_bytes(hash),
                })
            }
        };
        Self { key: Some(key) }
    }
}

impl From<&Submitted> for v1::SubmitResponse {
    fn from(submitted: &Submitted) -> Self {
        Self {
            status: Some((&submitted.status).into()),
            is_known: submitted.is_known,
            is_reached: submitted.is_reached,
        }
    }
}

impl TryFrom<v1::SubmitResponse> for Submitted {
    type Error = InvalidMessage;

    fn try_from(response: v1::SubmitResponse) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "SubmitResponse";
        let status = response.status.ok_or_else(|| Field(MESSAGE, "status").missing())?;
        Ok(Self {
            status: status.try_into()?,
            is_known: response.is_known,
            is_reached: response.is_reached,
        })
    }
}

/// One result of a stream as a message.
#[must_use]
pub fn result_to_v1(result: Result<(EntryId, &EntryState, bool), &Refusal>) -> v1::SubmitResult {
    let result = match result {
        Ok((id, state, is_known)) => v1::submit_result::Result::Accepted(v1::Accepted {
            id: hash_bytes(id.0),
            state: state.to_v1().into(),
            is_known,
        }),
        Err(refusal) => v1::submit_result::Result::Error(refusal.to_v1()),
    };
    v1::SubmitResult { result: Some(result) }
}

/// One result of a stream: accepted, or why not.
///
/// # Errors
/// [`InvalidMessage`] if the message is neither.
pub fn result_from_v1(
    result: v1::SubmitResult,
) -> Result<Result<Accepted, Refusal>, InvalidMessage> {
    const MESSAGE: &str = "SubmitResult";
    match result.result.ok_or_else(|| Field(MESSAGE, "result").missing())? {
        v1::submit_result::Result::Error(error) => Ok(Err(Refusal::from_v1(&error))),
        v1::submit_result::Result::Accepted(accepted) => Ok(Ok(Accepted {
            id: entry_id("Accepted", &accepted.id)?,
            state: accepted.state(),
            is_known: accepted.is_known,
        })),
    }
}

#[cfg(test)]
mod tests;
