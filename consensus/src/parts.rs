//! Puts proposals together from their parts. Pure, and bounded per peer: a peer has [`STREAMS_PER_PEER_MAX`] streams
//! under way, each with at most [`PARTS_MAX`] parts and the bytes its first part announced.
//!
//! Parts may come in any order. It does not know whether a proposal is valid, nor whose turn it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep_core::limits::{PART_BYTES_MAX, PARTS_MAX, SYNCED_VALUE_BYTES_MAX};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{Height, UnixMillis};
use lockstep_engine::{FirstPart, PartContent, PartMessage, StreamId};

/// Proposals that one peer may have under way: this height's and the next's, and a re-proposal of each.
pub const STREAMS_PER_PEER_MAX: usize = 4;
/// Heights ahead of ours for which parts are kept.
pub const HEIGHTS_AHEAD_MAX: u64 = 4;

/// A proposal whose parts are all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// What its proposer signed.
    pub first: FirstPart,
    /// The payload's bytes, as many as the first part said.
    pub payload: Bytes,
    /// When the first part came.
    pub arrived: UnixMillis,
}

/// Why a part was refused. The peer that sent it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPart {
    /// Another part stands at this place of the stream already.
    #[error("part {sequence} came twice with different content")]
    Twice {
        /// Its place.
        sequence: u64,
    },
    /// More parts than any proposal has.
    #[error("part {sequence}, at most {PARTS_MAX} parts are allowed")]
    TooMany {
        /// Its place.
        sequence: u64,
    },
    /// The first part isn't at place 0, or another part is.
    #[error("part {sequence} is of the wrong kind for its place")]
    Place {
        /// Its place.
        sequence: u64,
    },
    /// An empty part, or one of more than [`PART_BYTES_MAX`].
    #[error("part of {count} bytes, expected 1..={PART_BYTES_MAX}")]
    PartBytes {
        /// Its bytes.
        count: usize,
    },
    /// The first part announces more than any proposal has.
    #[error("proposal of {count} bytes, at most {SYNCED_VALUE_BYTES_MAX} are allowed")]
    Announced {
        /// Announced bytes.
        count: u64,
    },
    /// The parts together are not as long as the first part announced.
    #[error("proposal has {got} bytes, its first part announced {expected}")]
    Length {
        /// Announced.
        expected: u64,
        /// Counted.
        got: u64,
    },
}

/// What a part led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All parts are there.
    Complete(Complete),
    /// More are needed.
    Pending,
    /// Of a height that is decided, or too far ahead; ignored.
    Stale,
}

#[derive(Debug, Default)]
struct Stream {
    first: Option<FirstPart>,
    /// When the first part came.
    arrived: UnixMillis,
    data: BTreeMap<u64, Bytes>,
    bytes: u64,
    end: Option<u64>,
    /// When the stream began, in parts received by this assembler.
    age: u64,
}

/// Streams under way, by peer.
#[derive(Debug)]
pub struct Assembler<Peer> {
    streams: BTreeMap<(Peer, StreamId), Stream>,
    height: Height,
    clock: u64,
}

impl<Peer: Ord + Clone> Assembler<Peer> {
    /// An assembler for proposals of `height` and a few after it.
    #[must_use]
    pub const fn new(height: Height) -> Self {
        Self { streams: BTreeMap::new(), height, clock: 0 }
    }

    /// How many streams are under way, of all peers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// Forgets proposals below `height`, the one now being decided. Where the first part was of no use, or comes after others,
    /// the stream's name has the height; a name that is none of [`split`]'s is forgotten.
    pub fn advance(&mut self, height: Height) {
        self.height = height;
        self.streams.retain(|(_, name), stream| {
            let of = stream.first.as_ref().map(|first| first.proposal.height);
            of.or_else(|| named_height(name)).is_some_and(|of| of >= height)
        });
    }

    /// Takes one part, which came `now`.
    ///
    /// # Errors
    /// [`InvalidPart`]; the stream it belongs to is forgotten.
    pub fn insert(
        &mut self,
        now: UnixMillis,
        from: Peer,
        part: PartMessage,
    ) -> Result<Progress, InvalidPart> {
        let PartMessage { mut stream, sequence, content } = part;
        if planted(Bug::StreamsMixed) {
            stream = StreamId(Bytes::new());
        }
        let key = (from, stream);
        let result = self.insert_at(now, &key, sequence, content);
        if !matches!(result, Ok(Progress::Pending)) {
            self.streams.remove(&key);
        }
        result
    }

    fn insert_at(
        &mut self,
        now: UnixMillis,
        key: &(Peer, StreamId),
        sequence: u64,
        content: PartContent,
    ) -> Result<Progress, InvalidPart> {
        if sequence >= PARTS_MAX as u64 {
            return Err(InvalidPart::TooMany { sequence });
        }
        if let PartContent::First(first) = &content
            && self.is_stale(first.proposal.height)
        {
            return Ok(Progress::Stale);
        }
        self.make_room(key);
        self.clock = self.clock.saturating_add(1);
        let stream = self
            .streams
            .entry(key.clone())
            .or_insert_with(|| Stream { age: self.clock, ..Stream::default() });
        if stream.first.is_none() {
            stream.arrived = now;
        }
        stream.insert(sequence, content)?;
        stream.complete()
    }

    const fn is_stale(&self, height: Height) -> bool {
        height.0 < self.height.0 || height.0 > self.height.0.saturating_add(HEIGHTS_AHEAD_MAX)
    }

    /// A peer's oldest stream gives way to its newest.
    fn make_room(&mut self, key: &(Peer, StreamId)) {
        if self.streams.contains_key(key) || planted(Bug::StreamsUnbounded) {
            return;
        }
        let of_peer = || self.streams.iter().filter(|((peer, _), _)| *peer == key.0);
        let oldest = of_peer().min_by_key(|(_, stream)| stream.age).map(|(key, _)| key.clone());
        if of_peer().count() >= STREAMS_PER_PEER_MAX
            && let Some(oldest) = oldest
        {
            self.streams.remove(&oldest);
        }
    }
}

impl Stream {
    fn insert(&mut self, sequence: u64, content: PartContent) -> Result<(), InvalidPart> {
        let is_first = matches!(content, PartContent::First(_));
        if is_first != (sequence == 0) {
            return Err(InvalidPart::Place { sequence });
        }
        match content {
            PartContent::First(first) => {
                let count = first.bytes_total;
                if count > SYNCED_VALUE_BYTES_MAX as u64 {
                    return Err(InvalidPart::Announced { count });
                }
                if self.first.as_ref().is_some_and(|held| *held != first) {
                    return Err(InvalidPart::Twice { sequence });
                }
                self.first = Some(first);
            }
            PartContent::Data(bytes) => self.insert_data(sequence, bytes)?,
            PartContent::Fin => {
                if self.end.is_some_and(|end| end != sequence) {
                    return Err(InvalidPart::Twice { sequence });
                }
                self.end = Some(sequence);
            }
        }
        Ok(())
    }

    fn insert_data(&mut self, sequence: u64, bytes: Bytes) -> Result<(), InvalidPart> {
        let count = bytes.len();
        if count == 0 || count > PART_BYTES_MAX {
            return Err(InvalidPart::PartBytes { count });
        }
        if let Some(held) = self.data.get(&sequence) {
            return if *held == bytes { Ok(()) } else { Err(InvalidPart::Twice { sequence }) };
        }
        self.bytes = self.bytes.saturating_add(count as u64);
        self.data.insert(sequence, bytes);
        match &self.first {
            Some(first) if self.bytes > first.bytes_total => {
                Err(InvalidPart::Length { expected: first.bytes_total, got: self.bytes })
            }
            _ => Ok(()),
        }
    }

    fn complete(&mut self) -> Result<Progress, InvalidPart> {
        let (Some(first), Some(end)) = (&self.first, self.end) else {
            return Ok(Progress::Pending);
        };
        // Data stands at places 1..end.
        let is_whole = self.data.len() as u64 == end.saturating_sub(1)
            && self.data.last_key_value().is_none_or(|(last, _)| *last < end);
        if !is_whole {
            return match self.data.last_key_value() {
                Some((&last, _)) if last >= end => Err(InvalidPart::Place { sequence: last }),
                _ => Ok(Progress::Pending),
            };
        }
        let (expected, got) = (first.bytes_total, self.bytes);
        if expected != got {
            return Err(InvalidPart::Length { expected, got });
        }
        let payload: Vec<u8> = self.data.values().flat_map(|part| part.iter().copied()).collect();
        Ok(Progress::Complete(Complete {
            first: *first,
            payload: payload.into(),
            arrived: self.arrived,
        }))
    }
}

/// The height in a stream's name, as [`split`] puts it there. Whoever lies about it keeps its own streams from others of its own.
fn named_height(name: &StreamId) -> Option<Height> {
    name.0.first_chunk().map(|height| Height(u64::from_be_bytes(*height)))
}

/// The parts of a proposal's stream: first, data, end.
///
/// The stream is named by height, round, block and a checksum of the payload. A proposal that is published again may have
/// other batches with it; under one name its parts would meet what is left of the first time, and be refused.
pub fn split(first: FirstPart, payload: &Bytes) -> Vec<PartMessage> {
    let proposal = first.proposal;
    let mut id = Vec::with_capacity(48);
    id.extend_from_slice(&proposal.height.0.to_be_bytes());
    id.extend_from_slice(&proposal.round.0.to_be_bytes());
    id.extend_from_slice(proposal.block.0.as_slice());
    id.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    let stream = StreamId(id.into());
    let data = (0..payload.len())
        .step_by(PART_BYTES_MAX)
        .map(|at| payload.slice(at..payload.len().min(at.saturating_add(PART_BYTES_MAX))))
        .map(PartContent::Data);
    let contents = core::iter::once(PartContent::First(first)).chain(data);
    let message = |(sequence, content)| PartMessage { stream: stream.clone(), sequence, content };
    (0u64..).zip(contents.chain([PartContent::Fin])).map(message).collect()
}

#[cfg(test)]
mod tests;
