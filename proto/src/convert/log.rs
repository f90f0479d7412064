//! `log.proto`: what is asked of the log, and its answers with their proofs.

use bytes::Bytes;
use lockstep_core::encoding::Canonical;
use lockstep_core::light_client::Handover;
use lockstep_core::limits::{CHAINS_MAX, SLICE_RANGE_MAX};
use lockstep_core::params::{ChainParams, Genesis, NetworkParams};
use lockstep_core::proof::{
    AbsenceProof, CertifiedHeader, RangeProof, SliceProof, TransactionProof,
};
use lockstep_core::slice::Slice;
use lockstep_core::types::{BlockHash, ChainId, Height};
use lockstep_core::validator_set::{Validator, ValidatorSet};

use alloy_primitives::B256;
use alloy_rlp::{Decodable, Encodable};

use super::{Field, canonical, hash_bytes};
use crate::error::InvalidMessage;
use crate::v1;

mod records;

pub use records::{RECORD_HEIGHTS_MAX, RecordHeightsQuery, RecordKind};

/// Bytes of a slice: a block's batches and what each item adds (index, kind, bundle, lengths).
pub const SLICE_BYTES_MAX: usize = 6 << 20;
/// Bytes of a proof without items: header, certificate, and two paths of at most ten hashes.
pub const PROOF_BYTES_MAX: usize = 64 << 10;
/// Bytes of a transaction's proof: an item of the greatest entry, and its paths.
pub const TRANSACTION_PROOF_BYTES_MAX: usize = 512 << 10;
/// Bytes of a range proof.
pub const RANGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a validator set.
pub const VALIDATOR_SET_BYTES_MAX: usize = 64 << 10;
/// Bytes of a hand-over: header, certificate, validator set.
pub const HANDOVER_BYTES_MAX: usize = 128 << 10;
/// Bytes of a genesis: a validator set and 1,024 chains of 32 keys.
pub const GENESIS_BYTES_MAX: usize = 2 << 20;
/// Hand-overs of one answer: so many of the greatest size fit a message.
pub const HANDOVERS_PER_ANSWER_MAX: usize = 32;

const _: () = assert!(SLICE_BYTES_MAX + PROOF_BYTES_MAX < RANGE_BYTES_MAX);
const _: () = assert!(HANDOVERS_PER_ANSWER_MAX * HANDOVER_BYTES_MAX < RANGE_BYTES_MAX);

/// Which block is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockAt {
    /// By height, from 1.
    Height(Height),
    /// By hash.
    Hash(BlockHash),
}

/// A chain's slice of one height with its proof, or the proof of its absence. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvenSlice {
    /// The chain has a slice.
    Present {
        /// The slice.
        slice: Slice,
        /// Its proof.
        proof: SliceProof,
    },
    /// The chain has none.
    Absent(AbsenceProof),
}

/// A part of a range of slices. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// The slices of the heights that the answer covers.
    pub proof: RangeProof,
    /// Where to ask on; `None` if the whole range is covered.
    pub next: Option<Height>,
}

/// Where the log has a transaction. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenTransaction {
    /// The proof, which says all.
    pub proof: TransactionProof,
}

/// Hand-overs of a range of heights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handovers {
    /// In ascending order of height, at most [`HANDOVERS_PER_ANSWER_MAX`].
    pub handovers: Vec<Handover>,
    /// Where to ask on; `None` if the whole range is covered.
    pub next: Option<Height>,
}

/// Registered chains and network parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Chains, in ascending order of id.
    pub chains: Vec<ChainParams>,
    /// Network parameters.
    pub params: NetworkParams,
}

/// A checked range of heights of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlicesQuery {
    /// The chain.
    pub chain: ChainId,
    /// First height, from 1.
    pub from: Height,
    /// Last height, inclusive; not before `from`, at most [`SLICE_RANGE_MAX`] heights in all.
    pub to: Height,
}

fn chain(message: &'static str, id: u64) -> Result<ChainId, InvalidMessage> {
    Field(message, "chain_id").positive(id).map(ChainId)
}

fn height(
    message: &'static str,
    field: &'static str,
    height: u64,
) -> Result<Height, InvalidMessage> {
    Field(message, field).positive(height).map(Height)
}

const fn from_height(height: u64) -> Option<Height> {
    if height == 0 { None } else { Some(Height(height)) }
}

impl TryFrom<v1::GetBlockRequest> for BlockAt {
    type Error = InvalidMessage;

    fn try_from(request: v1::GetBlockRequest) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetBlockRequest";
        match request.at.ok_or_else(|| Field(MESSAGE, "at").missing())? {
            v1::get_block_request::At::Height(at) => {
                height(MESSAGE, "height", at).map(Self::Height)
            }
            v1::get_block_request::At::BlockHash(hash) => {
                Field(MESSAGE, "block_hash").hash(&hash).map(BlockHash).map(Self::Hash)
            }
        }
    }
}

impl From<BlockAt> for v1::GetBlockRequest {
    fn from(at: BlockAt) -> Self {
        let at = match at {
            BlockAt::Height(height) => v1::get_block_request::At::Height(height.0),
            BlockAt::Hash(hash) => v1::get_block_request::At::BlockHash(hash_bytes(hash.0)),
        };
        Self { at: Some(at) }
    }
}

/// Chain and height of a slice.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn slice_query(request: &v1::GetSliceRequest) -> Result<(ChainId, Height), InvalidMessage> {
    const MESSAGE: &str = "GetSliceRequest";
    Ok((chain(MESSAGE, request.chain_id)?, height(MESSAGE, "height", request.height)?))
}

impl TryFrom<v1::GetSlicesRequest> for SlicesQuery {
    type Error = InvalidMessage;

    fn try_from(request: v1::GetSlicesRequest) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetSlicesRequest";
        let chain = chain(MESSAGE, request.chain_id)?;
        let from = height(MESSAGE, "from_height", request.from_height)?;
        let to = height(MESSAGE, "to_height", request.to_height)?;
        let field = Field(MESSAGE, "to_height");
        match to.0.checked_sub(from.0) {
            None => Err(field.out_of_range(format!("is {to}, before from_height {from}"))),
            Some(more) if more >= SLICE_RANGE_MAX => Err(field.out_of_range(format!(
                "is {to}, more than {SLICE_RANGE_MAX} heights from {from} on"
            ))),
            Some(_) => Ok(Self { chain, from, to }),
        }
    }
}

/// Chain and first height of a stream of slices; no height asks for what comes after the head.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn slice_stream_query(
    request: &v1::StreamSlicesRequest,
) -> Result<(ChainId, Option<Height>), InvalidMessage> {
    Ok((chain("StreamSlicesRequest", request.chain_id)?, from_height(request.from_height)))
}

/// First height of a stream of blocks; none asks for what comes after the head.
#[must_use]
pub const fn block_stream_query(request: &v1::StreamBlocksRequest) -> Option<Height> {
    from_height(request.from_height)
}

/// Height of a validator set; none asks for that of the next height.
#[must_use]
pub const fn validator_set_query(request: &v1::GetValidatorSetRequest) -> Option<Height> {
    from_height(request.height)
}

/// Chain and hash of a transaction.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn transaction_query(
    request: &v1::GetTransactionProofRequest,
) -> Result<(ChainId, B256), InvalidMessage> {
    const MESSAGE: &str = "GetTransactionProofRequest";
    let chain = chain(MESSAGE, request.chain_id)?;
    Ok((chain, Field(MESSAGE, "transaction_hash").hash(&request.transaction_hash)?))
}

/// The first height after a time.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn height_at(response: &v1::GetHeightAtResponse) -> Result<Height, InvalidMessage> {
    height("GetHeightAtResponse", "height", response.height)
}

/// First and last height of hand-overs.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn handovers_query(
    request: &v1::GetHandoversRequest,
) -> Result<(Height, Height), InvalidMessage> {
    const MESSAGE: &str = "GetHandoversRequest";
    let from = height(MESSAGE, "from_height", request.from_height)?;
    let to = height(MESSAGE, "to_height", request.to_height)?;
    if to < from {
        let reason = format!("is {to}, before from_height {from}");
        return Err(Field(MESSAGE, "to_height").out_of_range(reason));
    }
    Ok((from, to))
}

impl ProvenSlice {
    /// The header that the proof rests on.
    #[must_use]
    pub const fn block(&self) -> &CertifiedHeader {
        match self {
            Self::Present { proof, .. } => &proof.block,
            Self::Absent(proof) => &proof.block,
        }
    }

    /// The message for `chain`.
    #[must_use]
    pub fn to_v1(&self, chain: ChainId) -> v1::ProvenSlice {
        let height = self.block().header.height.0;
        let (slice, proof) = match self {
            Self::Present { slice, proof } => (canonical(slice), canonical(proof)),
            Self::Absent(proof) => (Bytes::new(), canonical(proof)),
        };
        v1::ProvenSlice { chain_id: chain.0, height, slice, proof }
    }
}

impl TryFrom<v1::ProvenSlice> for ProvenSlice {
    type Error = InvalidMessage;

    fn try_from(message: v1::ProvenSlice) -> Result<Self, InvalidMessage> {
        let proof = Field("ProvenSlice", "proof");
        if message.slice.is_empty() {
            return Ok(Self::Absent(proof.canonical(&message.proof, PROOF_BYTES_MAX)?));
        }
        Ok(Self::Present {
            slice: Field("ProvenSlice", "slice").canonical(&message.slice, SLICE_BYTES_MAX)?,
            proof: proof.canonical(&message.proof, PROOF_BYTES_MAX)?,
        })
    }
}

impl From<&SliceRange> for v1::GetSlicesResponse {
    fn from(range: &SliceRange) -> Self {
        Self {
            proof: canonical(&range.proof),
            to_height: range.proof.blocks.last().map_or(0, |block| block.header.height.0),
            next_height: range.next.map_or(0, |height| height.0),
        }
    }
}

impl TryFrom<v1::GetSlicesResponse> for SliceRange {
    type Error = InvalidMessage;

    fn try_from(message: v1::GetSlicesResponse) -> Result<Self, InvalidMessage> {
        let field = Field("GetSlicesResponse", "proof");
        let proof = field.canonical(&message.proof, RANGE_BYTES_MAX)?;
        Ok(Self { proof, next: from_height(message.next_height) })
    }
}

impl From<&ProvenTransaction> for v1::ProvenTransaction {
    fn from(ProvenTransaction { proof }: &ProvenTransaction) -> Self {
        Self {
            height: proof.block.header.height.0,
            index: proof.item.index,
            proof: canonical(proof),
        }
    }
}

impl TryFrom<v1::ProvenTransaction> for ProvenTransaction {
    type Error = InvalidMessage;

    fn try_from(message: v1::ProvenTransaction) -> Result<Self, InvalidMessage> {
        let field = Field("ProvenTransaction", "proof");
        Ok(Self { proof: field.canonical(&message.proof, TRANSACTION_PROOF_BYTES_MAX)? })
    }
}

/// A validator set that decides `height`, as a message.
#[must_use]
pub fn validator_set_to_v1(height: Height, set: &ValidatorSet) -> v1::ValidatorSet {
    let mut bytes = vec![lockstep_core::encoding::VERSION];
    set.encode(&mut bytes);
    v1::ValidatorSet {
        height: height.0,
        validator_set: bytes.into(),
        validators: set.iter().map(v1::Validator::from).collect(),
    }
}

/// A validator set and the height it decides; the decoded validators only repeat the bytes and are not looked at.
///
/// # Errors
/// [`InvalidMessage`] names the field.
pub fn validator_set_from_v1(
    message: &v1::ValidatorSet,
) -> Result<(Height, ValidatorSet), InvalidMessage> {
    const MESSAGE: &str = "ValidatorSet";
    let height = height(MESSAGE, "height", message.height)?;
    let field = Field(MESSAGE, "validator_set");
    field.sized(&message.validator_set, VALIDATOR_SET_BYTES_MAX)?;
    let mut rest = match message.validator_set.split_first() {
        Some((&lockstep_core::encoding::VERSION, rest)) => rest,
        _ => return Err(field.malformed("has another encoding version")),
    };
    let validators =
        Vec::<Validator>::decode(&mut rest).map_err(|error| field.malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(field.malformed("has trailing bytes"));
    }
    let set = ValidatorSet::new(validators).map_err(|e| field.malformed(e.to_string()))?;
    Ok((height, set))
}

impl From<&Registry> for v1::GetChainsResponse {
    fn from(registry: &Registry) -> Self {
        Self {
            chains: registry.chains.iter().map(v1::ChainParams::from).collect(),
            params: Some((&registry.params).into()),
        }
    }
}

impl TryFrom<v1::GetChainsResponse> for Registry {
    type Error = InvalidMessage;

    fn try_from(message: v1::GetChainsResponse) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetChainsResponse";
        Field(MESSAGE, "chains").counted(message.chains.len(), 0, CHAINS_MAX)?;
        let params = message.params.ok_or_else(|| Field(MESSAGE, "params").missing())?;
        let params = params.try_into().map_err(|e: InvalidMessage| e.inside(MESSAGE, "params"))?;
        let chains =
            message.chains.into_iter().map(ChainParams::try_from).collect::<Result<_, _>>()?;
        Ok(Self { chains, params })
    }
}

impl From<&Genesis> for v1::Genesis {
    fn from(genesis: &Genesis) -> Self {
        Self {
            network_id: hash_bytes(genesis.network_id().0),
            genesis: genesis.to_canonical().into(),
        }
    }
}

impl TryFrom<v1::Genesis> for Genesis {
    type Error = InvalidMessage;

    /// Reads and validates the canonical bytes; the network id beside them only repeats their hash.
    fn try_from(message: v1::Genesis) -> Result<Self, InvalidMessage> {
        let field = Field("Genesis", "genesis");
        let genesis: Self = field.canonical(&message.genesis, GENESIS_BYTES_MAX)?;
        genesis.validate().map_err(|error| field.malformed(error.to_string()))?;
        Ok(genesis)
    }
}

impl From<&Handovers> for v1::GetHandoversResponse {
    fn from(answer: &Handovers) -> Self {
        let handovers = answer
            .handovers
            .iter()
            .map(|handover| v1::Handover {
                height: handover.block.header.height.0,
                handover: canonical(handover),
            })
            .collect();
        Self { handovers, next_height: answer.next.map_or(0, |height| height.0) }
    }
}

impl TryFrom<v1::GetHandoversResponse> for Handovers {
    type Error = InvalidMessage;

    fn try_from(message: v1::GetHandoversResponse) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "GetHandoversResponse";
        let field = Field(MESSAGE, "handovers");
        field.counted(message.handovers.len(), 0, HANDOVERS_PER_ANSWER_MAX)?;
        let handovers = message
            .handovers
            .iter()
            .map(|one| field.canonical(&one.handover, HANDOVER_BYTES_MAX))
            .collect::<Result<_, _>>()?;
        Ok(Self { handovers, next: from_height(message.next_height) })
    }
}

#[cfg(test)]
mod tests;
