//! A block's body as references: which entry of which batch has which index.
//!
//! The slices of an old height follow from these and the batches alone, without the state that assembly needed.
//!
//! Bytes: RLP `[batches, references]`. `batches` are the positions that are referred to, in order of their first
//! use; `references` is a byte string of four bytes for each taken entry, in order of index: the batch's place in
//! `batches` and the entry's place in the batch, each a big-endian u16. So one index is found without reading the
//! others.

use alloy_primitives::Bytes;
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use lockstep_core::batch::BatchPosition;
use lockstep_core::limits::{BATCH_ENTRIES_MAX, CUT_BATCHES_MAX};
use std::collections::BTreeMap;

/// Bytes of one reference.
const REFERENCE_BYTES: usize = 4;

const _: () = assert!(CUT_BATCHES_MAX <= 1 << 16 && BATCH_ENTRIES_MAX <= 1 << 16);

/// Where a taken entry's bytes are. Its index in the block is its place in the list, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakenEntry {
    /// The batch.
    pub batch: BatchPosition,
    /// Place in the batch, counted from 0, below [`BATCH_ENTRIES_MAX`].
    pub entry: u32,
}

/// The stored form of a list of [`TakenEntry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(super) struct Body {
    batches: Vec<BatchPosition>,
    references: Bytes,
}

impl Body {
    /// The stored form; `None` if there are more batches or greater places than a cut and a batch allow.
    pub(super) fn new(taken: &[TakenEntry]) -> Option<Self> {
        let mut batches = Vec::new();
        let mut places: BTreeMap<BatchPosition, u16> = BTreeMap::new();
        let mut references = Vec::with_capacity(taken.len().saturating_mul(REFERENCE_BYTES));
        for TakenEntry { batch, entry } in taken {
            let place = match places.get(batch) {
                Some(place) => *place,
                None => {
                    let place = u16::try_from(batches.len()).ok()?;
                    places.insert(*batch, place);
                    batches.push(*batch);
                    place
                }
            };
            references.extend_from_slice(&place.to_be_bytes());
            references.extend_from_slice(&u16::try_from(*entry).ok()?.to_be_bytes());
        }
        Some(Self { batches, references: references.into() })
    }

    /// RLP bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length());
        self.encode(&mut out);
        out
    }

    /// Reads [`Body::to_bytes`]; `None` if they are anything else.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let body = Self::decode(&mut bytes).ok()?;
        let is_whole = bytes.is_empty() && body.references.len().is_multiple_of(REFERENCE_BYTES);
        (is_whole && body.taken().is_some()).then_some(body)
    }

    /// The list; `None` if a reference names a batch that is not there.
    pub(super) fn taken(&self) -> Option<Vec<TakenEntry>> {
        let (references, _) = self.references.as_chunks::<REFERENCE_BYTES>();
        references.iter().map(|reference| self.resolve(*reference)).collect()
    }

    /// What has this index; `None` if nothing has.
    pub(super) fn at(&self, index: u32) -> Option<TakenEntry> {
        let (references, _) = self.references.as_chunks::<REFERENCE_BYTES>();
        self.resolve(*references.get(usize::try_from(index).ok()?)?)
    }

    fn resolve(&self, [a, b, c, d]: [u8; REFERENCE_BYTES]) -> Option<TakenEntry> {
        let batch = *self.batches.get(usize::from(u16::from_be_bytes([a, b])))?;
        Some(TakenEntry { batch, entry: u32::from(u16::from_be_bytes([c, d])) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use lockstep_core::types::{Incarnation, Sequence};

    fn taken(owner: u8, sequence: u64, entry: u32) -> TakenEntry {
        let (owner, incarnation) = (Address::repeat_byte(owner), Incarnation(9));
        TakenEntry {
            batch: BatchPosition { owner, incarnation, sequence: Sequence(sequence) },
            entry,
        }
    }

    #[test]
    fn a_body_reads_back_in_order_and_by_index() {
        let list = vec![taken(2, 0, 0), taken(1, 5, 4_095), taken(2, 0, 1), taken(2, 1, 0)];
        let body = Body::new(&list).unwrap();
        let read = Body::from_bytes(&body.to_bytes()).unwrap();
        assert_eq!(read.taken().unwrap(), list);
        for (index, taken) in list.iter().enumerate() {
            assert_eq!(read.at(index as u32), Some(*taken));
        }
        assert_eq!(read.at(4), None);
        assert_eq!(read.at(u32::MAX), None);
    }

    #[test]
    fn an_empty_body_reads_back() {
        let body = Body::new(&[]).unwrap();
        assert_eq!(Body::from_bytes(&body.to_bytes()).unwrap().taken().unwrap(), vec![]);
    }

    #[test]
    fn a_place_beyond_a_batch_is_refused() {
        assert_eq!(Body::new(&[taken(1, 0, 1 << 16)]), None);
    }

    #[test]
    fn a_reference_to_no_batch_and_trailing_bytes_are_refused() {
        let body = Body::new(&[taken(1, 0, 0)]).unwrap();
        let wrong = Body { references: vec![0, 1, 0, 0].into(), ..body.clone() };
        assert_eq!(Body::from_bytes(&wrong.to_bytes()), None);
        let torn = Body { references: vec![0, 0, 0].into(), ..body.clone() };
        assert_eq!(Body::from_bytes(&torn.to_bytes()), None);
        let mut longer = body.to_bytes();
        longer.push(0);
        assert_eq!(Body::from_bytes(&longer), None);
    }
}
