//! Malachite's codec traits over [`crate::wire`]: for the write-ahead log, and for the size of sync responses. The
//! network does not use them.

use bytes::Bytes;
use malachitebft_app_channel::app::consensus::{ProposedValue, SignedConsensusMsg};
use malachitebft_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachitebft_sync::{Request, Response, Status};

use crate::context::Context;
use crate::wire::certificates::PolkaCertificate;
use crate::wire::{WireError, log, sync};

/// The codec of the write-ahead log and of the sync actor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineCodec;

impl Codec<SignedConsensusMsg<Context>> for EngineCodec {
    type Error = WireError;
    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<Context>, WireError> {
        log::decode_message(bytes)
    }
    fn encode(&self, m: &SignedConsensusMsg<Context>) -> Result<Bytes, WireError> {
        log::encode_message(m)
    }
}

impl Codec<ProposedValue<Context>> for EngineCodec {
    type Error = WireError;
    fn decode(&self, bytes: Bytes) -> Result<ProposedValue<Context>, WireError> {
        log::decode_block(bytes)
    }
    fn encode(&self, m: &ProposedValue<Context>) -> Result<Bytes, WireError> {
        log::encode_block(m)
    }
}

impl Codec<PolkaCertificate> for EngineCodec {
    type Error = WireError;
    fn decode(&self, bytes: Bytes) -> Result<PolkaCertificate, WireError> {
        log::decode_polka(bytes)
    }
    fn encode(&self, m: &PolkaCertificate) -> Result<Bytes, WireError> {
        log::encode_polka(m)
    }
}

/// The sync actor wants these types' codec but asks only for the size of a response; the network actor sends them as
/// frames of its own.
const SENT_AS_FRAME: WireError = WireError::NeverSent { what: "a sync message outside a frame" };

impl Codec<Status<Context>> for EngineCodec {
    type Error = WireError;
    fn decode(&self, _: Bytes) -> Result<Status<Context>, WireError> {
        Err(SENT_AS_FRAME)
    }
    fn encode(&self, _: &Status<Context>) -> Result<Bytes, WireError> {
        Err(SENT_AS_FRAME)
    }
}

impl Codec<Request<Context>> for EngineCodec {
    type Error = WireError;
    fn decode(&self, _: Bytes) -> Result<Request<Context>, WireError> {
        Err(SENT_AS_FRAME)
    }
    fn encode(&self, _: &Request<Context>) -> Result<Bytes, WireError> {
        Err(SENT_AS_FRAME)
    }
}

impl Codec<Response<Context>> for EngineCodec {
    type Error = WireError;
    fn decode(&self, _: Bytes) -> Result<Response<Context>, WireError> {
        Err(SENT_AS_FRAME)
    }
    fn encode(&self, _: &Response<Context>) -> Result<Bytes, WireError> {
        Err(SENT_AS_FRAME)
    }
}

impl HasEncodedLen<Response<Context>> for EngineCodec {
    fn encoded_len(&self, m: &Response<Context>) -> Result<usize, WireError> {
        sync::response_bytes(m)
    }
}
