//! What an item takes of a block, counted as the protocol counts: declared gas and estimated compressed bytes.
//!
//! An item is weighed once, when its slice arrives: the estimate compresses every transaction, which costs more than
//! all else that an offer does. Nothing is executed and no state is known. Sources: OP specs, `fjord/exec-engine.md`
//! (the estimate) and `jovian/exec-engine.md` (the DA footprint, which is the estimate times a scalar).

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Header};

use crate::encoding::decode_list;
use crate::limits::TRANSACTION_GAS_MIN;
use crate::params::ChainKind;
use crate::slice::{Content, Item};

/// What transactions take of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Declared gas, at least [`TRANSACTION_GAS_MIN`] per transaction; 0 on an opaque chain.
    pub gas: u64,
    /// Estimated compressed bytes, at least 100 per transaction.
    pub bytes: u64,
    /// The greatest estimate of one of the transactions.
    pub transaction_bytes: u64,
}

impl Weight {
    /// Weight of one transaction. What declares no gas that can be read fits no block.
    #[must_use]
    pub fn of(kind: ChainKind, transaction: &[u8]) -> Self {
        let bytes = op_alloy_flz::tx_estimated_size_fjord_bytes(transaction);
        let gas = match kind {
            ChainKind::Opaque => 0,
            ChainKind::Evm => {
                declared_gas(transaction).map_or(u64::MAX, |gas| gas.max(TRANSACTION_GAS_MIN))
            }
        };
        Self { gas, bytes, transaction_bytes: bytes }
    }

    /// Weight of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            gas: self.gas.saturating_add(other.gas),
            bytes: self.bytes.saturating_add(other.bytes),
            transaction_bytes: self.transaction_bytes.max(other.transaction_bytes),
        }
    }
}

/// Reads the gas limit of an EIP-2718 transaction that the log has checked, and nothing else of it.
fn declared_gas(transaction: &[u8]) -> alloy_rlp::Result<u64> {
    let (fields_before, mut rest) = match transaction {
        [0xc0..=0xff, ..] => (2, transaction),
        [1, rest @ ..] => (3, rest),
        [2 | 4, rest @ ..] => (4, rest),
        _ => return Err(alloy_rlp::Error::Custom("unknown type of transaction")),
    };
    let payload = &mut decode_list(&mut rest)?;
    for _ in 0..fields_before {
        Header::decode_bytes(payload, false)?;
    }
    u64::decode(payload)
}

/// An item with what its slice need be read for only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The item.
    pub item: Item,
    /// Sum over its transactions; nothing for a record.
    pub weight: Weight,
    /// keccak256 of each of its transactions, in order; empty for a record.
    pub hashes: Vec<B256>,
}

impl Weighed {
    /// Weighs an item of a chain of this kind.
    #[must_use]
    pub fn new(kind: ChainKind, item: Item) -> Self {
        let weight = item
            .transactions()
            .iter()
            .fold(Weight::default(), |sum, bytes| sum.plus(Weight::of(kind, bytes)));
        let hashes = item.transactions().iter().map(keccak256).collect();
        Self { item, weight, hashes }
    }

    /// Whether it is a record, which takes no part in blocks.
    #[must_use]
    pub const fn is_record(&self) -> bool {
        matches!(self.item.content, Content::Record(_))
    }
}

#[cfg(test)]
mod tests;
