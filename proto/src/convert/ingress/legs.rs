//! What became of an entry on each of its chains, as types and as messages.

use alloy_primitives::B256;
use lockstep_core::record::SkipReason;
use lockstep_core::types::ChainId;

use super::super::{Field, hash_bytes};
use crate::error::InvalidMessage;
use crate::v1;

/// How far a leg has come; a later one is greater. An entry has come as far as the least of its legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A log block has it.
    Decided,
    /// A block of its chain passed over it.
    Skipped,
    /// A block of its chain has it.
    Included,
    /// A safe block of its chain has it.
    Safe,
    /// A finalized block of its chain has it.
    Finalized,
}

/// A chain's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// Where a chain has a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// The block.
    pub block: BlockId,
    /// Index of the first transaction in the block, from 0, deposits included; `None` where the node does not look into
    /// the chain's blocks.
    pub index: Option<u32>,
}

/// What became of a leg on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegState {
    /// Nothing yet.
    Decided,
    /// A block passed over it.
    Skipped {
        /// The block.
        block: BlockId,
        /// Why, as the block's record says; `None` where it does not.
        reason: Option<SkipReason>,
    },
    /// A block has it.
    Included(Landing),
    /// A block has it that can be derived from L1.
    Safe(Landing),
    /// A block has it that can be derived from finalized L1 blocks.
    Finalized(Landing),
}

/// A leg and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegStatus {
    /// The chain.
    pub chain: ChainId,
    /// What became of it.
    pub state: LegState,
    /// The furthest stage that the node can tell of it: `Decided`, `Included` or `Finalized`.
    pub last: Stage,
}

impl LegState {
    /// How far that is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Decided => Stage::Decided,
            Self::Skipped { .. } => Stage::Skipped,
            Self::Included(_) => Stage::Included,
            Self::Safe(_) => Stage::Safe,
            Self::Finalized(_) => Stage::Finalized,
        }
    }

    /// The block that has it, or that passed over it.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Self::Decided => None,
            Self::Skipped { block, .. } => Some(*block),
            Self::Included(at) | Self::Safe(at) | Self::Finalized(at) => Some(at.block),
        }
    }
}

impl LegStatus {
    /// Whether the node will tell no other state of it, unless its chain takes one back.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let stage = self.state.stage();
        stage == Stage::Skipped || stage >= self.last
    }
}

impl From<Stage> for v1::State {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Decided => Self::Decided,
            Stage::Skipped => Self::Skipped,
            Stage::Included => Self::Included,
            Stage::Safe => Self::Safe,
            Stage::Finalized => Self::Finalized,
        }
    }
}

fn stage(field: Field, state: i32) -> Result<Stage, InvalidMessage> {
    match v1::State::try_from(state) {
        Ok(v1::State::Decided) => Ok(Stage::Decided),
        Ok(v1::State::Skipped) => Ok(Stage::Skipped),
        Ok(v1::State::Included) => Ok(Stage::Included),
        Ok(v1::State::Safe) => Ok(Stage::Safe),
        Ok(v1::State::Finalized) => Ok(Stage::Finalized),
        Ok(v1::State::Unspecified) => Err(field.missing()),
        Ok(v1::State::Received | v1::State::Dropped) | Err(_) => {
            Err(field.out_of_range(format!("{state} is no state of a leg")))
        }
    }
}

const fn reason_to_v1(reason: Option<SkipReason>) -> v1::SkipReason {
    match reason {
        None => v1::SkipReason::Unspecified,
        Some(SkipReason::Invalid) => v1::SkipReason::Invalid,
        Some(SkipReason::Stale) => v1::SkipReason::Stale,
        Some(SkipReason::TooLarge) => v1::SkipReason::TooLarge,
        Some(SkipReason::OverLimit) => v1::SkipReason::OverLimit,
    }
}

fn reason(reason: i32) -> Option<SkipReason> {
    match v1::SkipReason::try_from(reason) {
        Ok(v1::SkipReason::Invalid) => Some(SkipReason::Invalid),
        Ok(v1::SkipReason::Stale) => Some(SkipReason::Stale),
        Ok(v1::SkipReason::TooLarge) => Some(SkipReason::TooLarge),
        Ok(v1::SkipReason::OverLimit) => Some(SkipReason::OverLimit),
        Ok(v1::SkipReason::Unspecified) | Err(_) => None,
    }
}

impl From<&LegStatus> for v1::LegStatus {
    fn from(leg: &LegStatus) -> Self {
        let LegStatus { chain, state, last } = leg;
        let mut message = Self {
            chain_id: chain.0,
            state: v1::State::from(state.stage()).into(),
            last_state: v1::State::from(*last).into(),
            ..Self::default()
        };
        if let Some(BlockId { number, hash }) = state.block() {
            message.block_number = number;
            message.block_hash = hash_bytes(hash);
        }
        match state {
            LegState::Decided => {}
            LegState::Skipped { reason, .. } => message.skip_reason = reason_to_v1(*reason).into(),
            LegState::Included(at) | LegState::Safe(at) | LegState::Finalized(at) => {
                message.index = at.index;
            }
        }
        message
    }
}

impl TryFrom<v1::LegStatus> for LegStatus {
    type Error = InvalidMessage;

    fn try_from(message: v1::LegStatus) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "LegStatus";
        let chain = ChainId(Field(MESSAGE, "chain_id").positive(message.chain_id)?);
        let last = stage(Field(MESSAGE, "last_state"), message.last_state)?;
        let block = || -> Result<BlockId, InvalidMessage> {
            let hash = Field(MESSAGE, "block_hash").hash(&message.block_hash)?;
            Ok(BlockId { number: message.block_number, hash })
        };
        let landing = || Ok(Landing { block: block()?, index: message.index });
        let state = match stage(Field(MESSAGE, "state"), message.state)? {
            Stage::Decided => LegState::Decided,
            Stage::Skipped => {
                LegState::Skipped { block: block()?, reason: reason(message.skip_reason) }
            }
            Stage::Included => LegState::Included(landing()?),
            Stage::Safe => LegState::Safe(landing()?),
            Stage::Finalized => LegState::Finalized(landing()?),
        };
        Ok(Self { chain, state, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn block() -> BlockId {
        BlockId { number: 17, hash: B256::repeat_byte(3) }
    }

    fn leg(state: LegState) -> LegStatus {
        LegStatus { chain: ChainId(901), state, last: Stage::Finalized }
    }

    fn states() -> Vec<LegState> {
        let (block, index) = (block(), Some(0));
        let mut states = vec![
            LegState::Decided,
            LegState::Included(Landing { block, index: None }),
            LegState::Included(Landing { block, index }),
            LegState::Safe(Landing { block, index: Some(7) }),
            LegState::Finalized(Landing { block, index }),
        ];
        let reasons =
            [SkipReason::Invalid, SkipReason::Stale, SkipReason::TooLarge, SkipReason::OverLimit];
        let reasons = reasons.into_iter().map(Some).chain([None]);
        states.extend(reasons.map(|reason| LegState::Skipped { block, reason }));
        states
    }

    #[test]
    fn every_state_of_a_leg_survives_the_wire() {
        for state in states() {
            for last in [Stage::Decided, Stage::Included, Stage::Finalized] {
                let leg = LegStatus { last, ..leg(state) };
                assert_eq!(LegStatus::try_from(v1::LegStatus::from(&leg)), Ok(leg));
            }
        }
    }

    #[test]
    fn each_fault_of_a_leg_is_named() {
        fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::LegStatus)) {
            let state = LegState::Included(Landing { block: block(), index: None });
            let mut message = v1::LegStatus::from(&leg(state));
            spoil(&mut message);
            let error = LegStatus::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field));
        }
        check(ErrorCode::Missing, "chain_id", |m| m.chain_id = 0);
        check(ErrorCode::Missing, "state", |m| m.state = 0);
        check(ErrorCode::OutOfRange, "state", |m| m.state = v1::State::Received.into());
        check(ErrorCode::OutOfRange, "state", |m| m.state = v1::State::Dropped.into());
        check(ErrorCode::Missing, "last_state", |m| m.last_state = 0);
        check(ErrorCode::Missing, "block_hash", |m| m.block_hash = bytes::Bytes::new());
        check(ErrorCode::OutOfRange, "block_hash", |m| m.block_hash = vec![1; 31].into());
    }

    #[test]
    fn a_leg_is_final_when_it_was_skipped_or_the_node_can_tell_no_more() {
        let landing = Landing { block: block(), index: None };
        let skipped = LegState::Skipped { block: block(), reason: None };
        for (state, last, expected) in [
            (LegState::Decided, Stage::Decided, true),
            (LegState::Decided, Stage::Included, false),
            (skipped, Stage::Finalized, true),
            (LegState::Included(landing), Stage::Included, true),
            (LegState::Included(landing), Stage::Finalized, false),
            (LegState::Safe(landing), Stage::Finalized, false),
            (LegState::Finalized(landing), Stage::Finalized, true),
        ] {
            let leg = LegStatus { last, ..leg(state) };
            assert_eq!(leg.is_final(), expected, "{leg:?}");
        }
    }
}
