//! Admission: may this entry be ordered, as far as time and registry say?
//!
//! | rule | [`check`], before signatures are checked | [`needs`], after |
//! |---|---|---|
//! | time | yes | yes |
//! | registry, kind, guarantee | yes | yes |
//! | sequencer of a record | no: its signer is not known yet | yes |
//! | gas of each transaction, fits a full bucket | no: declared gas is not known yet | yes |
//!
//! Assembly asks for every entry of a cut, and a validator's ingress asks the same of what is submitted to it, so no
//! honest validator takes an entry that every block leaves out. [`LeaveOut`] is the one type of reasons. This file does
//! not know duplicates, the present level of a bucket or other entries: those are
//! [`assemble`](crate::block::assemble)'s business.

use crate::budget::{self, Amount, Demand};
use crate::bundle::Guarantee;
use crate::dedup::Decision;
use crate::entry::{Body, CheckedEntry, Entry};
use crate::limits::EXPIRES_MS_MAX;
use crate::params::ChainKind;
use crate::planted::{Bug, planted};
use crate::state::{ChainState, Committed};
use crate::types::{ChainId, UnixMillis};

/// Why an entry is not ordered. It never makes its batch or the block invalid.
///
/// Where [`LeaveOut::is_final`], the entry can be forgotten; else its owner carries it in a later batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveOut {
    /// It expired before the block's time, or exactly then.
    #[error("expires_ms {expires} is not after the time {timestamp}")]
    Expired {
        /// The entry's expiry.
        expires: UnixMillis,
        /// The block's time; at ingress, the validator's clock.
        timestamp: UnixMillis,
    },
    /// It would live longer than [`EXPIRES_MS_MAX`] after the block's time.
    #[error("expires_ms {expires} is more than {EXPIRES_MS_MAX} ms after the time {timestamp}")]
    ExpiresTooLate {
        /// The entry's expiry.
        expires: UnixMillis,
        /// The block's time; at ingress, the validator's clock.
        timestamp: UnixMillis,
    },
    /// One of its chains is not registered.
    #[error("chain {chain} is not registered")]
    UnknownChain {
        /// The chain.
        chain: ChainId,
    },
    /// It says EVM of an opaque chain, or the other way round.
    #[error("chain {chain} is registered with the other kind")]
    Kind {
        /// The chain.
        chain: ChainId,
    },
    /// It asks for a guarantee that this version does not give.
    #[error("the guarantee co-executed is not supported")]
    UnsupportedGuarantee,
    /// The record's signer is no sequencer of the chain.
    #[error("record of chain {chain} is not signed by one of its sequencers")]
    NotSequencer {
        /// The chain.
        chain: ChainId,
    },
    /// One of its transactions declares more gas than its chain takes of one.
    #[error("a transaction declares {got} gas, chain {chain} takes at most {max}")]
    TransactionGas {
        /// The chain.
        chain: ChainId,
        /// What the transaction declares.
        got: u64,
        /// The chain's `transaction_gas_max`.
        max: u64,
    },
    /// A full bucket, or a full open share for an entry without the chain's gateway, is too small for it.
    #[error("asks more of chain {chain} than its full budget")]
    TooLarge {
        /// The chain.
        chain: ChainId,
    },
    /// One of its transactions, or the record, is already in the log, or in this block.
    #[error("already ordered at height {} with index {}", earlier.height, earlier.index)]
    Duplicate {
        /// Where.
        earlier: Decision,
    },
    /// The chain's budget has no room, or the entry waits behind one of its lane for which there was none, or yields to
    /// a bundle for which there was none. Not final.
    #[error("over the budget of chain {chain}")]
    OverBudget {
        /// The chain.
        chain: ChainId,
    },
    /// The block has the chain's greatest number of records already. Not final.
    #[error("the block holds enough records of chain {chain}")]
    RecordCap {
        /// The chain.
        chain: ChainId,
    },
}

impl LeaveOut {
    /// Whether no later block can take the entry.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::OverBudget { .. } | Self::RecordCap { .. } => false,
            Self::Expired { .. }
            | Self::ExpiresTooLate { .. }
            | Self::UnknownChain { .. }
            | Self::Kind { .. }
            | Self::UnsupportedGuarantee
            | Self::NotSequencer { .. }
            | Self::TransactionGas { .. }
            | Self::TooLarge { .. }
            | Self::Duplicate { .. } => true,
        }
    }
}

/// What an entry asks of one chain's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The chain.
    pub chain: ChainId,
    /// Sum over the entry's transactions for the chain.
    pub demand: Demand,
}

/// What an entry that may be ordered asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Room in the bucket of each of its chains; one need per chain, at least one, in the entry's order.
    Budget(Vec<Need>),
    /// A place among the records of this chain.
    Record(ChainId),
}

/// Whether an entry may be ordered at `timestamp`, as far as its bytes show before signatures are checked.
///
/// # Errors
/// [`LeaveOut`] names the first rule that the entry breaks.
pub fn check(committed: &Committed, timestamp: UnixMillis, entry: &Entry) -> Result<(), LeaveOut> {
    check_time(timestamp, entry.expires())?;
    match entry.body() {
        Body::Transaction(t) => check_kind(committed, t.chain, t.kind),
        Body::Bundle(bundle) => {
            bundle.legs().iter().try_for_each(|leg| check_kind(committed, leg.chain, leg.kind))?;
            match bundle.guarantee() {
                Guarantee::CoOrdered => Ok(()),
                Guarantee::CoExecuted => Err(LeaveOut::UnsupportedGuarantee),
            }
        }
        Body::Record(record) => registered(committed, record.chain).map(|_| ()),
    }
}

/// Whether an entry may be ordered at `timestamp`, and what it asks for. Includes [`check`].
///
/// # Errors
/// [`LeaveOut`] names the first rule that the entry breaks.
pub fn needs(
    committed: &Committed,
    timestamp: UnixMillis,
    checked: &CheckedEntry,
) -> Result<Needs, LeaveOut> {
    check(committed, timestamp, checked.entry())?;
    let needs = needs_of(committed, checked)?;
    match &needs {
        Needs::Budget(needs) => {
            check_gas(committed, checked)?;
            needs.iter().try_for_each(|need| check_fits(committed, need))?;
        }
        Needs::Record(chain) => {
            let sequencers = &registered(committed, *chain)?.params.sequencers;
            if !checked.record_signer().is_some_and(|signer| sequencers.contains(&signer)) {
                return Err(LeaveOut::NotSequencer { chain: *chain });
            }
        }
    }
    Ok(needs)
}

/// What an entry asks for, whether or not it may be ordered.
///
/// # Errors
/// [`LeaveOut::UnknownChain`] if one of its chains is not registered.
pub fn needs_of(committed: &Committed, checked: &CheckedEntry) -> Result<Needs, LeaveOut> {
    let need = |chain| need(committed, checked, chain);
    match checked.entry().body() {
        Body::Transaction(t) => Ok(Needs::Budget(vec![need(t.chain)?])),
        Body::Bundle(bundle) => {
            let needs = bundle.legs().iter().map(|leg| need(leg.chain));
            Ok(Needs::Budget(needs.collect::<Result<_, _>>()?))
        }
        Body::Record(record) => Ok(Needs::Record(record.chain)),
    }
}

fn check_time(timestamp: UnixMillis, expires: UnixMillis) -> Result<(), LeaveOut> {
    if expires <= timestamp && !planted(Bug::ExpiryOff) {
        return Err(LeaveOut::Expired { expires, timestamp });
    }
    if expires > timestamp.plus(EXPIRES_MS_MAX) {
        return Err(LeaveOut::ExpiresTooLate { expires, timestamp });
    }
    Ok(())
}

fn registered(committed: &Committed, chain: ChainId) -> Result<&ChainState, LeaveOut> {
    committed.chain(chain).ok_or(LeaveOut::UnknownChain { chain })
}

fn check_kind(committed: &Committed, chain: ChainId, kind: ChainKind) -> Result<(), LeaveOut> {
    if registered(committed, chain)?.params.kind == kind {
        Ok(())
    } else {
        Err(LeaveOut::Kind { chain })
    }
}

/// What declares much gas and uses little takes room from others at no cost.
fn check_gas(committed: &Committed, checked: &CheckedEntry) -> Result<(), LeaveOut> {
    for transaction in checked.transactions() {
        let (chain, got) = (transaction.chain, transaction.gas);
        let max = registered(committed, chain)?.params.transaction_gas_max;
        if got > max {
            return Err(LeaveOut::TransactionGas { chain, got, max });
        }
    }
    Ok(())
}

/// What no full bucket holds must not make its lane wait, block after block.
fn check_fits(committed: &Committed, need: &Need) -> Result<(), LeaveOut> {
    let (chain, percent) = (need.chain, committed.params.open_share_percent);
    if budget::can_ever_fit(registered(committed, chain)?, percent, &need.demand) {
        Ok(())
    } else {
        Err(LeaveOut::TooLarge { chain })
    }
}

/// What the entry asks of one of its chains: the sum over its transactions there.
fn need(committed: &Committed, checked: &CheckedEntry, chain: ChainId) -> Result<Need, LeaveOut> {
    let gateways = &registered(committed, chain)?.params.gateways;
    let amount = checked
        .transactions()
        .iter()
        .filter(|t| t.chain == chain)
        .fold(Amount::default(), |sum, t| sum.plus(Amount { gas: t.gas, bytes: t.bytes }));
    let is_admitted = checked.gateway().is_some_and(|key| gateways.contains(&key));
    let is_open = !gateways.is_empty() && !is_admitted;
    Ok(Need { chain, demand: Demand { amount, is_open } })
}

#[cfg(test)]
mod tests;
