//! A chain's slices of consecutive heights in one proof, with one certificate.
//!
//! The last header is certified; each header names the one before it by hash, so it authenticates them all. Every
//! height says what the chain has there: the whole slice, or its absence.

use alloy_primitives::B256;
use alloy_rlp::{BufMut, Decodable, Encodable, Error, RlpDecodable, RlpEncodable};

use super::{
    Absence, CertifiedHeader, ChainId, Height, InvalidProof, NetworkId, SLICE_RANGE_MAX,
    SlicePlace, ValidatorSet, check_leaf,
};
use crate::certificate::Certificate;
use crate::encoding::{Canonical, decode_list, encode_list, expect_end, list_length};
use crate::header::Header;
use crate::slice::{Slice, SliceSummary};

/// What a chain has in one block: a slice, shown whole, or none, shown too.
///
/// Bytes: RLP `[1, slice, index, count, path]` or `[2, absence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlicePresence {
    /// The slice, and the place of its summary in the block's table.
    Present {
        /// The slice; its summary is computed from it.
        slice: Slice,
        /// Place of its summary, below `count`.
        index: u32,
        /// How many slices the table has.
        count: u32,
        /// Siblings from the summary's leaf up.
        path: Vec<B256>,
    },
    /// No slice.
    Absent(Absence),
}

impl SlicePresence {
    /// What `chain` has in a block with these summaries, in ascending order of chain. `slice` is the chain's, if it
    /// has one. `None` if the two do not agree.
    #[must_use]
    pub fn build(summaries: &[SliceSummary], chain: ChainId, slice: Option<Slice>) -> Option<Self> {
        let Some(slice) = slice else {
            return Some(Self::Absent(Absence::build(summaries, chain)?));
        };
        let SlicePlace { summary, index, count, path } = SlicePlace::build(summaries, chain)?;
        (summary == slice.summary()).then_some(Self::Present { slice, index, count, path })
    }

    /// Checks that the table under `slices_root` has exactly this of `chain`.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn check(&self, slices_root: B256, chain: ChainId) -> Result<(), InvalidProof> {
        match self {
            Self::Absent(absence) => absence.check(slices_root, chain),
            Self::Present { slice, index, count, path } => {
                if slice.chain != chain {
                    return Err(InvalidProof::Chain { expected: chain, got: slice.chain });
                }
                check_leaf(slices_root, *count, *index, &slice.summary(), path)
            }
        }
    }

    /// The slice, if there is one.
    #[must_use]
    pub const fn slice(&self) -> Option<&Slice> {
        match self {
            Self::Present { slice, .. } => Some(slice),
            Self::Absent(_) => None,
        }
    }
}

/// One height of a range.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct RangeBlock {
    /// The block's header.
    pub header: Header,
    /// What the chain has in it.
    pub presence: SlicePresence,
}

/// A chain's slices of 1..=[`SLICE_RANGE_MAX`] consecutive heights.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct RangeProof {
    /// The heights, in order.
    pub blocks: Vec<RangeBlock>,
    /// Certificate of the last header.
    pub certificate: Certificate,
}

impl Canonical for RangeProof {}

impl RangeProof {
    /// The proof over these blocks, in order, the last of which has this certificate.
    ///
    /// # Errors
    /// [`InvalidProof::RangeLength`] and [`InvalidProof::Link`] if the blocks are no range.
    pub fn build(blocks: Vec<RangeBlock>, certificate: Certificate) -> Result<Self, InvalidProof> {
        let proof = Self { blocks, certificate };
        proof.check_links()?;
        Ok(proof)
    }

    /// The last header with the certificate; `None` if there are no blocks.
    #[must_use]
    pub fn last(&self) -> Option<CertifiedHeader> {
        let header = self.blocks.last()?.header.clone();
        Some(CertifiedHeader { header, certificate: self.certificate.clone() })
    }

    /// Checks that these are all items of `chain` at the heights from `first` on, as many as the range has. `set` is
    /// the validator set of the last height.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn verify(
        &self,
        network: NetworkId,
        set: &ValidatorSet,
        chain: ChainId,
        first: Height,
    ) -> Result<(), InvalidProof> {
        self.last().ok_or(InvalidProof::RangeLength { count: 0 })?.verify(network, set)?;
        self.check(chain, first)
    }

    /// The same for a caller that knows the last header to be decided; the certificate is not looked at.
    ///
    /// # Errors
    /// [`InvalidProof`] if it is not shown.
    pub fn check(&self, chain: ChainId, first: Height) -> Result<(), InvalidProof> {
        self.check_links()?;
        let got = self.blocks.first().map_or(Height::GENESIS, |block| block.header.height);
        if got != first {
            return Err(InvalidProof::RangeStart { expected: first, got });
        }
        self.blocks
            .iter()
            .try_for_each(|block| block.presence.check(block.header.slices_root, chain))
    }

    fn check_links(&self) -> Result<(), InvalidProof> {
        let count = self.blocks.len();
        if count == 0 || count as u64 > SLICE_RANGE_MAX {
            return Err(InvalidProof::RangeLength { count });
        }
        for (before, after) in self.blocks.iter().zip(self.blocks.iter().skip(1)) {
            let (before, after) = (&before.header, &after.header);
            if after.height != before.height.next()
                || after.network_id != before.network_id
                || after.parent != before.hash()
            {
                return Err(InvalidProof::Link { height: after.height });
            }
        }
        Ok(())
    }
}

impl Encodable for SlicePresence {
    fn encode(&self, out: &mut dyn BufMut) {
        match self {
            Self::Present { slice, index, count, path } => {
                encode_list(&[&1u8, slice, index, count, path], out);
            }
            Self::Absent(absence) => encode_list(&[&2u8, absence], out),
        }
    }
    fn length(&self) -> usize {
        match self {
            Self::Present { slice, index, count, path } => {
                list_length(&[&1u8, slice, index, count, path])
            }
            Self::Absent(absence) => list_length(&[&2u8, absence]),
        }
    }
}

impl Decodable for SlicePresence {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let presence = match u8::decode(payload)? {
            1 => Self::Present {
                slice: Decodable::decode(payload)?,
                index: Decodable::decode(payload)?,
                count: Decodable::decode(payload)?,
                path: Decodable::decode(payload)?,
            },
            2 => Self::Absent(Decodable::decode(payload)?),
            _ => return Err(Error::Custom("unknown kind of presence")),
        };
        expect_end(payload)?;
        Ok(presence)
    }
}
