//! `bundle.proto`: transactions and bundles as users write them, to the body of an entry.

use alloy_primitives::Bytes as CoreBytes;
use bytes::Bytes;
use lockstep_core::bundle::{Bundle, Guarantee, InvalidBundle, Leg};
use lockstep_core::entry::{InvalidEntry, Transaction};
use lockstep_core::limits::{LEG_TRANSACTIONS_MAX, LEGS_MAX, TRANSACTION_BYTES_MAX};
use lockstep_core::types::ChainId;

use super::Field;
use super::types::{chain_kind, chain_kind_to_v1};
use crate::error::{ErrorCode, InvalidMessage, Refusal};
use crate::v1;

impl From<&Transaction> for v1::Transaction {
    fn from(transaction: &Transaction) -> Self {
        Self {
            chain_id: transaction.chain.0,
            kind: chain_kind_to_v1(transaction.kind).into(),
            raw: transaction.bytes.0.clone(),
        }
    }
}

impl From<&Bundle> for v1::Bundle {
    fn from(bundle: &Bundle) -> Self {
        let guarantee = match bundle.guarantee() {
            Guarantee::CoOrdered => v1::Guarantee::CoOrdered,
            Guarantee::CoExecuted => v1::Guarantee::CoExecuted,
        };
        let legs = bundle
            .legs()
            .iter()
            .map(|leg| v1::Leg {
                chain_id: leg.chain.0,
                kind: chain_kind_to_v1(leg.kind).into(),
                transactions: leg.transactions.iter().map(|bytes| bytes.0.clone()).collect(),
            })
            .collect();
        Self { legs, guarantee: guarantee.into() }
    }
}

impl TryFrom<v1::Transaction> for Transaction {
    type Error = InvalidMessage;

    fn try_from(transaction: v1::Transaction) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "Transaction";
        let chain = ChainId(Field(MESSAGE, "chain_id").positive(transaction.chain_id)?);
        let kind = chain_kind(Field(MESSAGE, "kind"), transaction.kind)?;
        Field(MESSAGE, "raw").sized(&transaction.raw, TRANSACTION_BYTES_MAX)?;
        Ok(Self { chain, kind, bytes: owned(transaction.raw) })
    }
}

impl TryFrom<v1::Bundle> for Bundle {
    type Error = InvalidMessage;

    fn try_from(bundle: v1::Bundle) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "Bundle";
        let guarantee = guarantee(Field(MESSAGE, "guarantee"), bundle.guarantee)?;
        Field(MESSAGE, "legs").counted(bundle.legs.len(), 0, LEGS_MAX)?;
        let mut legs = Vec::with_capacity(bundle.legs.len());
        for (place, message) in bundle.legs.into_iter().enumerate() {
            let leg = leg(message).map_err(|e| e.inside(MESSAGE, &format!("legs[{place}]")))?;
            legs.push(leg);
        }
        Self::new(legs, guarantee).map_err(|error| {
            InvalidMessage::new(MESSAGE, "legs", code_of_bundle(&error), error.to_string())
        })
    }
}

fn leg(leg: v1::Leg) -> Result<Leg, InvalidMessage> {
    const MESSAGE: &str = "Leg";
    let chain = ChainId(Field(MESSAGE, "chain_id").positive(leg.chain_id)?);
    let kind = chain_kind(Field(MESSAGE, "kind"), leg.kind)?;
    Field(MESSAGE, "transactions").counted(leg.transactions.len(), 1, LEG_TRANSACTIONS_MAX)?;
    let transactions = leg.transactions.into_iter().map(owned).collect();
    Ok(Leg { chain, kind, transactions })
}

fn guarantee(field: Field, guarantee: i32) -> Result<Guarantee, InvalidMessage> {
    match v1::Guarantee::try_from(guarantee) {
        Ok(v1::Guarantee::CoOrdered) => Ok(Guarantee::CoOrdered),
        Ok(v1::Guarantee::CoExecuted) => Ok(Guarantee::CoExecuted),
        Ok(v1::Guarantee::Unspecified) => Err(field.missing()),
        Err(_) => Err(field.out_of_range(format!("{guarantee} is no guarantee"))),
    }
}

/// The bytes alone: a small transaction must not keep the whole message it came in alive.
fn owned(bytes: Bytes) -> CoreBytes {
    CoreBytes::copy_from_slice(&bytes)
}

const fn code_of_bundle(error: &InvalidBundle) -> ErrorCode {
    match error {
        InvalidBundle::Transaction { .. } => ErrorCode::InvalidTransaction,
        InvalidBundle::LegCount { .. }
        | InvalidBundle::EmptyLeg { .. }
        | InvalidBundle::LegTooLong { .. }
        | InvalidBundle::DuplicateLeg { .. }
        | InvalidBundle::NetworkLeg
        | InvalidBundle::DuplicateTransaction { .. } => ErrorCode::InvalidBundle,
    }
}

/// The code for an entry that can never be valid.
#[must_use]
pub const fn code_of_entry(error: &InvalidEntry) -> ErrorCode {
    match error {
        InvalidEntry::Bundle(error) => code_of_bundle(error),
        InvalidEntry::Transaction { .. } | InvalidEntry::NetworkChain => {
            ErrorCode::InvalidTransaction
        }
        InvalidEntry::Gateway(_) | InvalidEntry::Record(_) => ErrorCode::InvalidSignature,
        InvalidEntry::TooLarge { .. }
        | InvalidEntry::Encoding(_)
        | InvalidEntry::Kind { .. }
        | InvalidEntry::RecordTooLarge { .. } => ErrorCode::InvalidEntry,
    }
}

/// What to answer for an entry that can never be valid. It names no field: that depends on how the entry was submitted.
#[must_use]
pub fn refuse_entry(error: &InvalidEntry) -> Refusal {
    Refusal::new(code_of_entry(error), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::params::ChainKind;

    fn bundle() -> Bundle {
        let leg = |chain, bytes: Vec<Vec<u8>>| Leg {
            chain: ChainId(chain),
            kind: ChainKind::Opaque,
            transactions: bytes.into_iter().map(Into::into).collect(),
        };
        let legs = vec![leg(902, vec![vec![1], vec![2]]), leg(901, vec![vec![3]])];
        Bundle::new(legs, Guarantee::CoOrdered).unwrap()
    }

    #[test]
    fn a_bundle_survives_the_wire() {
        assert_eq!(Bundle::try_from(v1::Bundle::from(&bundle())).unwrap(), bundle());
    }

    #[test]
    fn each_fault_of_a_bundle_is_named() {
        fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::Bundle)) {
            let mut message = v1::Bundle::from(&bundle());
            spoil(&mut message);
            let error = Bundle::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field), "{error}");
        }
        check(ErrorCode::Missing, "guarantee", |b| b.guarantee = 0);
        check(ErrorCode::OutOfRange, "guarantee", |b| b.guarantee = 9);
        check(ErrorCode::InvalidBundle, "legs", |b| b.legs.truncate(1));
        check(ErrorCode::InvalidBundle, "legs", |b| b.legs.clear());
        check(ErrorCode::OutOfRange, "legs", |b| b.legs = vec![b.legs[0].clone(); LEGS_MAX + 1]);
        check(ErrorCode::InvalidBundle, "legs", |b| b.legs[1].chain_id = 902);
        check(ErrorCode::Missing, "legs[1].chain_id", |b| b.legs[1].chain_id = 0);
        check(ErrorCode::OutOfRange, "legs[0].kind", |b| b.legs[0].kind = -1);
        check(ErrorCode::OutOfRange, "legs[1].transactions", |b| b.legs[1].transactions.clear());
        check(ErrorCode::OutOfRange, "legs[1].transactions", |b| {
            b.legs[1].transactions = vec![vec![1].into(); LEG_TRANSACTIONS_MAX + 1];
        });
        check(ErrorCode::InvalidTransaction, "legs", |b| b.legs[0].transactions[0] = Bytes::new());
        check(ErrorCode::InvalidBundle, "legs", |b| {
            let first = b.legs[0].transactions[0].clone();
            b.legs[0].transactions[1] = first;
        });
    }

    #[test]
    fn each_fault_of_a_transaction_is_named() {
        let good = v1::Transaction { chain_id: 901, kind: 1, raw: vec![1].into() };
        let check = |code, field: &str, message| {
            let error: InvalidMessage = Transaction::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field), "{error}");
        };
        check(ErrorCode::Missing, "chain_id", v1::Transaction { chain_id: 0, ..good.clone() });
        check(ErrorCode::Missing, "kind", v1::Transaction { kind: 0, ..good.clone() });
        check(ErrorCode::Missing, "raw", v1::Transaction { raw: Bytes::new(), ..good });
        let at_limit = v1::Transaction { raw: vec![1; TRANSACTION_BYTES_MAX].into(), ..good };
        assert!(Transaction::try_from(at_limit).is_ok());
        let over = v1::Transaction { raw: vec![1; TRANSACTION_BYTES_MAX + 1].into(), ..good };
        check(ErrorCode::OutOfRange, "raw", over);
    }
}
