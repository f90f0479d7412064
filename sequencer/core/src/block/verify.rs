//! What a validator checks of a block before it prevotes, and what a follower checks of one it is given.
//!
//! Objective rules give [`InvalidBlock`]: every honest validator that has the same bytes says the same. Timeliness is
//! the one subjective rule, asked once, of a fresh proposal. Source: design section 2, "What a validator checks".

use alloy_primitives::{Address, B256};

use crate::batch::CheckedBatch;
use crate::block::{Assembly, CannotAssemble, assemble};
use crate::cut::Cut;
use crate::dedup::Dedup;
use crate::header::Header;
use crate::params::NetworkParams;
use crate::planted::{Bug, planted};
use crate::state::State;
use crate::types::{BlockHash, Height, NetworkId, Round, UnixMillis};
use crate::waste;

/// Why a block was refused: one variant per rule.
///
/// Whoever proposed it is at fault, with one exception: where not [`InvalidBlock::is_objective`], the caller brought
/// other batches than the cut names, and must get the right ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// Of another network.
    #[error("block is of network {got}, expected {expected}")]
    Network {
        /// Ours.
        expected: NetworkId,
        /// The header's.
        got: NetworkId,
    },
    /// Not the height after the state's.
    #[error("block has height {got}, expected {expected}")]
    Height {
        /// The next height.
        expected: Height,
        /// The header's.
        got: Height,
    },
    /// Not on the state's block.
    #[error("block has parent {got}, expected {expected}")]
    Parent {
        /// Hash of the state's block.
        expected: BlockHash,
        /// The header's.
        got: BlockHash,
    },
    /// Not later than its parent.
    #[error("block has time {got}, its parent {parent}")]
    Timestamp {
        /// The parent's time.
        parent: UnixMillis,
        /// The header's.
        got: UnixMillis,
    },
    /// Not the proposer of the header's round.
    #[error("block names proposer {got}, expected {expected}")]
    Proposer {
        /// Whose turn it was.
        expected: Address,
        /// The header's.
        got: Address,
    },
    /// Not the set that decides this height.
    #[error("block has validators_hash {got}, expected {expected}")]
    ValidatorsHash {
        /// Hash of the set.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// Not the set that decides the next height.
    #[error("block has next_validators_hash {got}, expected {expected}")]
    NextValidatorsHash {
        /// Hash of the set.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// Not the height since which the set decides.
    #[error("block has set_since {got}, expected {expected}")]
    SetSince {
        /// The state's.
        expected: Height,
        /// The header's.
        got: Height,
    },
    /// The header is not of this cut.
    #[error("block has cut_hash {got}, expected {expected}")]
    CutHash {
        /// Hash of the cut.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// The cut breaks a rule, or these are not its batches.
    #[error("{0}")]
    Assembly(#[from] CannotAssemble),
    /// Assembly gives other slices.
    #[error("block has slices_root {got}, expected {expected}")]
    SlicesRoot {
        /// What assembly gives.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// Assembly gives another state.
    #[error("block has state_hash {got}, expected {expected}")]
    StateHash {
        /// What assembly gives.
        expected: B256,
        /// The header's.
        got: B256,
    },
    /// A fresh proposal's header is of another round, or a header is of a later round than its proposal.
    #[error(
        "header is of round {got}, its proposal of round {proposal} (valid round {valid_round:?})"
    )]
    RoundMismatch {
        /// The proposal's round.
        proposal: Round,
        /// The proposal's valid round.
        valid_round: Option<Round>,
        /// The header's.
        got: Round,
    },
}

impl InvalidBlock {
    /// Whether the block itself is wrong, whatever batches one holds.
    #[must_use]
    pub const fn is_objective(&self) -> bool {
        match self {
            Self::Assembly(error) => error.is_objective(),
            Self::Network { .. }
            | Self::Height { .. }
            | Self::Parent { .. }
            | Self::Timestamp { .. }
            | Self::Proposer { .. }
            | Self::ValidatorsHash { .. }
            | Self::NextValidatorsHash { .. }
            | Self::SetSince { .. }
            | Self::CutHash { .. }
            | Self::SlicesRoot { .. }
            | Self::StateHash { .. }
            | Self::RoundMismatch { .. } => true,
        }
    }
}

/// Fails with the variant of a rule unless both sides are equal.
macro_rules! expect_equal {
    ($variant:ident, $expected:expr, $got:expr) => {
        if $expected != $got {
            return Err(InvalidBlock::$variant { expected: $expected, got: $got });
        }
    };
}

/// Checks all that needs no batches: every field of the header but the two that assembly gives, and the cut.
///
/// # Errors
/// [`InvalidBlock`] names the first rule that is broken. Always objective.
pub fn check_header(state: &State, header: &Header, cut: &Cut) -> Result<(), InvalidBlock> {
    let committed = &state.committed;
    expect_equal!(Network, state.network_id, header.network_id);
    expect_equal!(Height, state.height.next(), header.height);
    if !planted(Bug::AnyParent) {
        expect_equal!(Parent, state.head, header.parent);
    }
    if header.timestamp_ms <= state.timestamp && !planted(Bug::TimeGoesBack) {
        return Err(InvalidBlock::Timestamp { parent: state.timestamp, got: header.timestamp_ms });
    }
    let proposer = committed.validators.proposer(header.height, header.round).address;
    if !planted(Bug::AnyProposer) {
        expect_equal!(Proposer, proposer, header.proposer);
    }
    expect_equal!(ValidatorsHash, committed.validators.hash(), header.validators_hash);
    expect_equal!(
        NextValidatorsHash,
        committed.next_validators.hash(),
        header.next_validators_hash
    );
    expect_equal!(SetSince, committed.set_since, header.set_since);
    expect_equal!(CutHash, cut.hash(), header.cut_hash);
    let steps = cut.steps(&committed.lanes).map_err(CannotAssemble::Cut)?;
    waste::check(committed, &steps).map_err(CannotAssemble::Cut)?;
    Ok(())
}

/// Checks a block against the state before it and gives what it takes. Arguments as for [`assemble`].
///
/// # Errors
/// [`InvalidBlock`] names the first rule that is broken.
pub fn verify(
    state: &State,
    dedup: &Dedup,
    header: &Header,
    cut: &Cut,
    batches: &[CheckedBatch],
) -> Result<Assembly, InvalidBlock> {
    check_header(state, header, cut)?;
    let assembly = assemble(state, dedup, header.timestamp_ms, cut, batches)?;
    if !planted(Bug::AnySlices) {
        expect_equal!(SlicesRoot, assembly.slices_root, header.slices_root);
    }
    if !planted(Bug::AnyState) {
        expect_equal!(StateHash, assembly.committed.hash(), header.state_hash);
    }
    Ok(assembly)
}

/// Checks the header's round against its proposal's: the same for a fresh proposal, no later one for a block that is
/// proposed again.
///
/// # Errors
/// [`InvalidBlock::RoundMismatch`].
pub fn check_round(
    header: &Header,
    proposal: Round,
    valid_round: Option<Round>,
) -> Result<(), InvalidBlock> {
    let got = header.round;
    let is_too_early = got.0 < proposal.0 && valid_round.is_none();
    if (is_too_early || got.0 > proposal.0) && !planted(Bug::RoundNotCompared) {
        return Err(InvalidBlock::RoundMismatch { proposal, valid_round, got });
    }
    Ok(())
}

/// Whether a fresh proposal's time is near enough to `now`, when its first part arrived:
/// `−delay_ms · (1 + round) − drift_ms ≤ timestamp − now ≤ drift_ms`.
#[must_use]
pub fn is_timely(
    params: &NetworkParams,
    round: Round,
    timestamp: UnixMillis,
    now: UnixMillis,
) -> bool {
    let rounds = (round.0 as u64).saturating_add(1);
    let late_ms_max = params.delay_ms.saturating_mul(rounds).saturating_add(params.drift_ms);
    let is_near = timestamp.since(now) <= params.drift_ms && now.since(timestamp) <= late_ms_max;
    is_near || planted(Bug::AlwaysTimely)
}

/// The time a proposer gives its block: now, but later than the parent.
#[must_use]
pub fn proposal_timestamp(parent: UnixMillis, now: UnixMillis) -> UnixMillis {
    parent.plus(1).max(now)
}
