//! The protocol's types as malachite's `Context` wants them. Private to the crate.
//!
//! The value is the block's hash, and so is its id: what a block holds is the application's. Vote extensions are not
//! used. Whose turn it is, `lockstep_core` says.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate as core_certificate;
use lockstep_core::signing::Signature;
use lockstep_core::types::{self as core_types, BlockHash};
use lockstep_core::validator_set as core_set;
use malachitebft_app_channel::app::types::core as mc;
use mc::{NilOrVal, Round, VotingPower};

use crate::request::{FirstPart, Timeouts};

/// A height, as malachite counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl mc::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl From<core_types::Height> for Height {
    fn from(height: core_types::Height) -> Self {
        Self(height.0)
    }
}

impl From<Height> for core_types::Height {
    fn from(height: Height) -> Self {
        Self(height.0)
    }
}

/// A validator: its Ethereum address, which is its public key too, because signatures recover to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValidatorAddress(pub(crate) Address);

impl fmt::Display for ValidatorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl mc::Address for ValidatorAddress {}

/// The value: the block's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) BlockHash);

impl mc::Value for Value {
    type Id = BlockHash;

    fn id(&self) -> BlockHash {
        self.0
    }
}

/// A proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: Value,
    pub(crate) valid_round: Round,
    pub(crate) validator: ValidatorAddress,
}

impl mc::Proposal<Context> for Proposal {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &Value {
        &self.value
    }
    fn take_value(self) -> Value {
        self.value
    }
    fn pol_round(&self) -> Round {
        self.valid_round
    }
    fn validator_address(&self) -> &ValidatorAddress {
        &self.validator
    }
}

impl Proposal {
    /// What is signed; `None` without a round, which nothing that is signed lacks.
    pub(crate) fn to_core(self) -> Option<core_certificate::Proposal> {
        Some(core_certificate::Proposal {
            height: self.height.into(),
            round: core_types::Round(self.round.as_u32()?),
            valid_round: self.valid_round.as_u32().map(core_types::Round),
            block: self.value.0,
        })
    }
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) vote_type: mc::VoteType,
    pub(crate) value: NilOrVal<BlockHash>,
    pub(crate) validator: ValidatorAddress,
}

impl mc::Vote<Context> for Vote {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<BlockHash> {
        self.value
    }
    fn vote_type(&self) -> mc::VoteType {
        self.vote_type
    }
    fn validator_address(&self) -> &ValidatorAddress {
        &self.validator
    }
    fn extension(&self) -> Option<&mc::SignedExtension<Context>> {
        None
    }
    fn take_extension(&mut self) -> Option<mc::SignedExtension<Context>> {
        None
    }
    fn extend(self, _: mc::SignedExtension<Context>) -> Self {
        self
    }
}

impl Vote {
    /// What is signed; `None` without a round, which nothing that is signed lacks.
    pub(crate) fn to_core(self) -> Option<core_certificate::Vote> {
        let block = match self.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(block) => Some(block),
        };
        Some(core_certificate::Vote {
            height: self.height.into(),
            round: core_types::Round(self.round.as_u32()?),
            vote_type: match self.vote_type {
                mc::VoteType::Prevote => core_certificate::VoteType::Prevote,
                mc::VoteType::Precommit => core_certificate::VoteType::Precommit,
            },
            block,
        })
    }
}

/// What a stream of parts carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first one.
    First(FirstPart),
    /// Bytes of the proposal.
    Data(Bytes),
    /// Not a part: the application's own call to hand a complete block over. It has no encoding.
    Redelivered {
        /// The height.
        height: core_types::Height,
        /// The block.
        block: BlockHash,
    },
}

impl mc::ProposalPart<Context> for Part {
    fn is_first(&self) -> bool {
        matches!(self, Self::First(_))
    }
    fn is_last(&self) -> bool {
        false
    }
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    address: ValidatorAddress,
    power: VotingPower,
}

impl mc::Validator<Context> for Validator {
    fn address(&self) -> &ValidatorAddress {
        &self.address
    }
    fn public_key(&self) -> &ValidatorAddress {
        &self.address
    }
    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// A validator set; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidatorSet {
    set: Arc<core_set::ValidatorSet>,
    /// The same validators in the same order.
    members: Arc<[Validator]>,
}

impl ValidatorSet {
    pub(crate) fn new(set: core_set::ValidatorSet) -> Self {
        let members = set
            .iter()
            .map(|v| Validator { address: ValidatorAddress(v.address), power: v.power })
            .collect();
        Self { set: Arc::new(set), members }
    }

    fn member(&self, address: Address) -> Option<&Validator> {
        self.set.place(address).and_then(|place| self.members.get(place))
    }
}

impl mc::ValidatorSet<Context> for ValidatorSet {
    fn count(&self) -> usize {
        self.members.len()
    }
    fn total_voting_power(&self) -> VotingPower {
        self.set.total_power()
    }
    fn get_by_address(&self, address: &ValidatorAddress) -> Option<&Validator> {
        self.member(address.0)
    }
    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.members.get(index)
    }
}

/// The signing scheme: secp256k1 with recovery, over the digests of `lockstep_core::certificate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secp256k1;

/// Bytes that are no signature or no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} bytes, expected {expected}")]
pub(crate) struct WrongLength {
    expected: usize,
    got: usize,
}

impl mc::SigningScheme for Secp256k1 {
    type DecodingError = WrongLength;
    type Signature = Signature;
    type PublicKey = ValidatorAddress;
    /// Keys are the application's; the engine holds none.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, WrongLength> {
        let wrong = WrongLength { expected: 65, got: bytes.len() };
        bytes.try_into().map(Signature).map_err(|_| wrong)
    }
    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<ValidatorAddress, WrongLength> {
        let wrong = WrongLength { expected: 20, got: bytes.len() };
        Address::try_from(bytes).map(ValidatorAddress).map_err(|_| wrong)
    }
    fn encode_public_key(public_key: &ValidatorAddress) -> Vec<u8> {
        public_key.0.to_vec()
    }
}

/// Malachite's timeouts, from ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinearTimeouts(mc::LinearTimeouts);

impl From<Timeouts> for LinearTimeouts {
    fn from(t: Timeouts) -> Self {
        Self(mc::LinearTimeouts {
            propose: t.propose,
            propose_delta: t.propose_delta,
            prevote: t.prevote,
            prevote_delta: t.prevote_delta,
            precommit: t.precommit,
            precommit_delta: t.precommit_delta,
            rebroadcast: t.rebroadcast,
            max_timeout: t.max,
        })
    }
}

impl mc::Timeouts<Context> for LinearTimeouts {
    fn duration_for(&self, timeout: mc::Timeout) -> std::time::Duration {
        self.0.duration_for(timeout)
    }
}

/// All of the above.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context;

impl mc::Context for Context {
    type Address = ValidatorAddress;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = ValidatorSet;
    type Timeouts = LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Secp256k1;

    fn select_proposer<'a>(
        &self,
        validators: &'a ValidatorSet,
        height: Height,
        round: Round,
    ) -> &'a Validator {
        let round = core_types::Round(round.as_u32().unwrap_or_default());
        let proposer = validators.set.proposer(height.into(), round).address;
        validators.member(proposer).expect("the proposer is a member of its set")
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        valid_round: Round,
        validator: ValidatorAddress,
    ) -> Proposal {
        Proposal { height, round, value, valid_round, validator }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        validator: ValidatorAddress,
    ) -> Vote {
        Vote { height, round, vote_type: mc::VoteType::Prevote, value, validator }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        validator: ValidatorAddress,
    ) -> Vote {
        Vote { height, round, vote_type: mc::VoteType::Precommit, value, validator }
    }
}
