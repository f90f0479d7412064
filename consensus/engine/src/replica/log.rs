//! Entries of a replica's log, as the engine writes them to its file.

use alloy_primitives::Address;
use bytes::Bytes;
use malachitebft_app_channel::app::consensus as malachite;
use malachitebft_app_channel::app::engine::wal::{decode_entry, encode_entry};

use crate::codec::EngineCodec;
use crate::context::Context;
use crate::wal::OwnMessage;

/// An entry of the log, as the engine writes it.
pub(super) fn encoded(entry: malachite::Input<Context>) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    encode_entry(entry, &EngineCodec, &mut bytes)?;
    Ok(bytes.into())
}

/// What `validator` itself signed, if this entry of a log is that: what [`crate::inspect_wal`] reports of a file.
#[must_use]
pub fn own_message(entry: &Bytes, validator: Address) -> Option<OwnMessage> {
    match decode_entry(&EngineCodec, entry.as_ref()).ok()? {
        malachite::Input::Vote(signed) if signed.message.validator.0 == validator => {
            signed.message.to_core().map(OwnMessage::Vote)
        }
        malachite::Input::Proposal(signed) if signed.message.validator.0 == validator => {
            signed.message.to_core().map(OwnMessage::Proposal)
        }
        malachite::Input::StartHeight(..)
        | malachite::Input::Vote(_)
        | malachite::Input::Proposal(_)
        | malachite::Input::PolkaCertificate(_)
        | malachite::Input::RoundCertificate(_)
        | malachite::Input::Propose(_)
        | malachite::Input::TimeoutElapsed(_)
        | malachite::Input::ProposedValue(..)
        | malachite::Input::SyncValueResponse(_) => None,
    }
}
