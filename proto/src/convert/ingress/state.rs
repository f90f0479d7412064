//! The states of an entry, as types and as messages.

use std::sync::Arc;

use lockstep_core::admission::LeaveOut;
use lockstep_core::certificate::Certificate;
use lockstep_core::limits::LEGS_MAX;
use lockstep_core::types::{BlockHash, EntryId, Height};

use super::super::block::certificate;
use super::super::{Field, canonical, hash_bytes};
use super::legs::{LegStatus, Stage};
use super::{Milestone, entry_id};
use crate::error::{ErrorCode, InvalidMessage};
use crate::v1;

/// Bytes of the detail of a drop.
const DETAIL_BYTES_MAX: usize = 256;

/// Why an entry was left out for good, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Its expiry passed before a block took it.
    Expired,
    /// Its expiry was too far after the block's time.
    ExpiresTooLate,
    /// One of its chains is not registered.
    UnknownChain,
    /// It says EVM where the registry says opaque, or the other way round.
    KindMismatch,
    /// One of its transactions was ordered already as a part of another entry.
    Duplicate,
    /// The network does not offer the guarantee it asks for.
    Guarantee,
    /// A record that is not signed by a sequencer key of its chain.
    NotSequencer,
    /// It asks more of a chain than the chain's full budget.
    TooLarge,
    /// Two blocks had no room for it. It may be submitted again.
    OverBudget,
    /// One of its transactions declares more gas than its chain takes of one.
    TransactionGas,
    /// A reason that this version does not know.
    Unknown,
}

impl DropReason {
    /// The word for why a validator did not take an entry, or gave it up.
    #[must_use]
    pub const fn of(reason: &LeaveOut) -> Self {
        match reason {
            LeaveOut::Expired { .. } => Self::Expired,
            LeaveOut::ExpiresTooLate { .. } => Self::ExpiresTooLate,
            LeaveOut::UnknownChain { .. } => Self::UnknownChain,
            LeaveOut::Kind { .. } => Self::KindMismatch,
            LeaveOut::UnsupportedGuarantee => Self::Guarantee,
            LeaveOut::NotSequencer { .. } => Self::NotSequencer,
            LeaveOut::TransactionGas { .. } => Self::TransactionGas,
            LeaveOut::TooLarge { .. } => Self::TooLarge,
            LeaveOut::Duplicate { .. } => Self::Duplicate,
            LeaveOut::OverBudget { .. } | LeaveOut::RecordCap { .. } => Self::OverBudget,
        }
    }

    /// The code of a refusal for this reason.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownChain | Self::KindMismatch => ErrorCode::UnknownChain,
            Self::NotSequencer | Self::Guarantee | Self::TooLarge | Self::TransactionGas => {
                ErrorCode::NotAllowed
            }
            Self::ExpiresTooLate => ErrorCode::ExpiresTooLate,
            Self::OverBudget => ErrorCode::Overloaded,
            Self::Expired | Self::Duplicate | Self::Unknown => ErrorCode::Expired,
        }
    }
}

/// Why an entry will not be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// In one word.
    pub reason: DropReason,
    /// For people; at most 256 bytes travel.
    pub detail: String,
}

impl Dropped {
    /// What a [`LeaveOut`] for which the entry was given up means to the submitter.
    #[must_use]
    pub fn of(reason: &LeaveOut) -> Self {
        Self { reason: DropReason::of(reason), detail: reason.to_string() }
    }
}

/// Where the log has an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Height of the log block.
    pub height: Height,
    /// Index in the block, counted from 0 over all chains.
    pub index: u32,
    /// The block.
    pub block: BlockHash,
    /// The block's certificate; shared by all entries of the block.
    pub certificate: Arc<Certificate>,
    /// What became of it on each of its chains, in the entry's order; none for a record.
    pub legs: Vec<LegStatus>,
}

impl Decided {
    /// How far the entry has come: as the least of its legs.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.legs.iter().map(|leg| leg.state.stage()).min().unwrap_or(Stage::Decided)
    }
}

/// How far an entry has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// This node holds it. No promise.
    Received,
    /// A log block has it; what became of it on its chains is there, too.
    Decided(Decided),
    /// It will not be ordered.
    Dropped(Dropped),
}

impl EntryState {
    /// Whether no other state follows, unless a chain takes one back: the entry was dropped, or each of its legs was
    /// skipped or is as far as the node can tell.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Received => false,
            Self::Decided(decided) => decided.legs.iter().all(LegStatus::is_final),
            Self::Dropped(_) => true,
        }
    }

    /// Whether the entry has come as far as `milestone`, on each of its chains. A dropped one never does, and a skipped
    /// leg is not included.
    #[must_use]
    pub fn has_reached(&self, milestone: Milestone) -> bool {
        let decided = match self {
            Self::Received => return milestone == Milestone::Received,
            Self::Decided(decided) => decided,
            Self::Dropped(_) => return false,
        };
        match milestone {
            Milestone::Received | Milestone::Decided => true,
            Milestone::Included => decided.stage() >= Stage::Included,
            Milestone::Safe => decided.stage() >= Stage::Safe,
            Milestone::Finalized => decided.stage() >= Stage::Finalized,
        }
    }

    pub(super) fn to_v1(&self) -> v1::State {
        match self {
            Self::Received => v1::State::Received,
            Self::Decided(decided) => decided.stage().into(),
            Self::Dropped(_) => v1::State::Dropped,
        }
    }
}

/// A state of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryStatus {
    /// The entry.
    pub id: EntryId,
    /// How far it has come.
    pub state: EntryState,
}

impl From<&EntryStatus> for v1::EntryStatus {
    fn from(status: &EntryStatus) -> Self {
        let mut message = Self {
            id: hash_bytes(status.id.0),
            state: status.state.to_v1().into(),
            ..Self::default()
        };
        match &status.state {
            EntryState::Received => {}
            EntryState::Decided(decided) => {
                message.decided = Some(decided.into());
                message.legs = decided.legs.iter().map(Into::into).collect();
            }
            EntryState::Dropped(dropped) => message.dropped = Some(dropped.into()),
        }
        message
    }
}

impl TryFrom<v1::EntryStatus> for EntryStatus {
    type Error = InvalidMessage;

    fn try_from(status: v1::EntryStatus) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "EntryStatus";
        let id = entry_id(MESSAGE, &status.id)?;
        let field = Field(MESSAGE, "state");
        let state = match v1::State::try_from(status.state) {
            Ok(v1::State::Received) => EntryState::Received,
            Ok(v1::State::Dropped) => {
                let dropped = status.dropped.ok_or_else(|| Field(MESSAGE, "dropped").missing())?;
                EntryState::Dropped(dropped.into())
            }
            Ok(v1::State::Unspecified) => return Err(field.missing()),
            Ok(state) => EntryState::Decided(decided(status.decided, status.legs, state)?),
            Err(_) => return Err(field.out_of_range(format!("{} is no state", status.state))),
        };
        Ok(Self { id, state })
    }
}

fn decided(
    decision: Option<v1::Decision>,
    legs: Vec<v1::LegStatus>,
    state: v1::State,
) -> Result<Decided, InvalidMessage> {
    const MESSAGE: &str = "EntryStatus";
    let decision = decision.ok_or_else(|| Field(MESSAGE, "decided").missing())?;
    Field(MESSAGE, "legs").counted(legs.len(), 0, LEGS_MAX)?;
    let legs = legs.into_iter().map(LegStatus::try_from).collect::<Result<_, _>>()?;
    let decided = Decided { legs, ..decision.try_into()? };
    let expected = v1::State::from(decided.stage());
    if state != expected {
        let reason = format!("is {state:?}, the least of the legs' is {expected:?}");
        return Err(Field(MESSAGE, "state").malformed(reason));
    }
    Ok(decided)
}

impl From<&Decided> for v1::Decision {
    fn from(decided: &Decided) -> Self {
        Self {
            height: decided.height.0,
            index: decided.index,
            block_hash: hash_bytes(decided.block.0),
            certificate: canonical(decided.certificate.as_ref()),
        }
    }
}

impl TryFrom<v1::Decision> for Decided {
    type Error = InvalidMessage;

    fn try_from(decision: v1::Decision) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "Decision";
        Ok(Self {
            height: Height(Field(MESSAGE, "height").positive(decision.height)?),
            index: decision.index,
            block: BlockHash(Field(MESSAGE, "block_hash").hash(&decision.block_hash)?),
            certificate: certificate(Field(MESSAGE, "certificate"), &decision.certificate)?.into(),
            legs: Vec::new(),
        })
    }
}

macro_rules! drop_reasons {
    ($($name:ident),+) => {
        impl From<&Dropped> for v1::Dropped {
            fn from(dropped: &Dropped) -> Self {
                let reason = match dropped.reason {
                    $(DropReason::$name => v1::DropReason::$name,)+
                    DropReason::Unknown => v1::DropReason::Unspecified,
                };
                let end = dropped.detail.floor_char_boundary(DETAIL_BYTES_MAX);
                let detail = dropped.detail.get(..end).unwrap_or_default().to_owned();
                Self { reason: reason.into(), detail }
            }
        }

        impl From<v1::Dropped> for Dropped {
            fn from(dropped: v1::Dropped) -> Self {
                let reason = match v1::DropReason::try_from(dropped.reason) {
                    $(Ok(v1::DropReason::$name) => DropReason::$name,)+
                    Ok(v1::DropReason::Unspecified) | Err(_) => DropReason::Unknown,
                };
                Self { reason, detail: dropped.detail }
            }
        }

        #[cfg(test)]
        pub(super) const DROP_REASONS: &[DropReason] = &[$(DropReason::$name,)+ DropReason::Unknown];
    };
}

drop_reasons!(
    Expired,
    ExpiresTooLate,
    UnknownChain,
    KindMismatch,
    Duplicate,
    Guarantee,
    NotSequencer,
    TooLarge,
    OverBudget,
    TransactionGas
);
