//! Frames of class `Parts`.

use bytes::Bytes;
use lockstep_core::certificate::Proposal;
use lockstep_core::limits::{PART_BYTES_MAX, PARTS_MAX, SYNCED_VALUE_BYTES_MAX};
use lockstep_core::types::{Height, Round};
use lockstep_proto::v1 as proto;
use lockstep_proto::v1::parts_frame::Content;

use super::{WireError, address, block, copy, round, signature, valid_round};
use crate::network::Class;
use crate::request::{FirstPart, PartContent, PartMessage, STREAM_ID_BYTES_MAX, StreamId};

pub(crate) fn decode(frame: Bytes) -> Result<PartMessage, WireError> {
    let frame: proto::PartsFrame = super::decode(frame, Class::Parts.frame_bytes_max())?;
    let content = match frame.content.ok_or(WireError::Missing { field: "content" })? {
        Content::First(m) => PartContent::First(first(&m)?),
        Content::Data(data) => PartContent::Data(data),
        Content::Last(proto::LastPart {}) => PartContent::Fin,
    };
    let part = PartMessage { stream: StreamId(frame.stream), sequence: frame.sequence, content };
    check(&part)?;
    Ok(part)
}

pub(crate) fn encode(part: &PartMessage) -> Result<Bytes, WireError> {
    check(part)?;
    let content = match &part.content {
        PartContent::First(first) => Content::First(first_message(first)),
        PartContent::Data(data) => Content::Data(data.clone()),
        PartContent::Fin => Content::Last(proto::LastPart {}),
    };
    let frame = proto::PartsFrame {
        stream: part.stream.0.clone(),
        sequence: part.sequence,
        content: Some(content),
    };
    super::encode(&frame, Class::Parts.frame_bytes_max())
}

/// The limits of a part, the same for what comes and what goes.
fn check(part: &PartMessage) -> Result<(), WireError> {
    let got = part.stream.0.len();
    if got == 0 || got > STREAM_ID_BYTES_MAX {
        return Err(WireError::Length { field: "stream", got });
    }
    if part.sequence >= PARTS_MAX as u64 {
        return Err(WireError::Range { field: "sequence", got: part.sequence });
    }
    match &part.content {
        PartContent::First(first) if first.bytes_total > SYNCED_VALUE_BYTES_MAX as u64 => {
            Err(WireError::Range { field: "first.bytes_total", got: first.bytes_total })
        }
        PartContent::Data(data) if data.len() > PART_BYTES_MAX => {
            Err(WireError::Length { field: "data", got: data.len() })
        }
        PartContent::First(_) | PartContent::Data(_) | PartContent::Fin => Ok(()),
    }
}

fn first(m: &proto::FirstPart) -> Result<FirstPart, WireError> {
    let at = round("first.round", m.round)?;
    let valid = valid_round("first.valid_round", m.valid_round)?;
    Ok(FirstPart {
        proposal: Proposal {
            height: Height(m.height),
            round: Round(at.as_u32().unwrap_or_default()),
            valid_round: valid.as_u32().map(Round),
            block: block("first.block", &m.block)?,
        },
        proposer: address("first.proposer", &m.proposer)?.0,
        bytes_total: m.bytes_total,
        signature: signature("first.signature", &m.signature)?,
    })
}

fn first_message(m: &FirstPart) -> proto::FirstPart {
    proto::FirstPart {
        height: m.proposal.height.0,
        round: m.proposal.round.0,
        valid_round: m.proposal.valid_round.map(|round| round.0),
        proposer: copy(m.proposer.as_slice()),
        block: copy(m.proposal.block.0.as_slice()),
        bytes_total: m.bytes_total,
        signature: copy(&m.signature.0),
    }
}
