//! Bundles: transactions of several chains that go into one log block together, or not at all.
//!
//! The co-ordering rule: all legs of a bundle are taken by the same log block and share its index there, or none is.

use alloy_primitives::Bytes;
use alloy_rlp::{BufMut, Decodable, Encodable};

use crate::encoding::{decode_bounded, decode_list, encode_list, expect_end, list_length};
use crate::limits::{LEG_TRANSACTIONS_MAX, LEGS_MAX, LEGS_MIN};
use crate::params::ChainKind;
use crate::record::byte_enum;
use crate::transaction::{InvalidTransaction, check_size};
use crate::types::ChainId;

/// What a bundle is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// All legs in one log block, or none.
    CoOrdered,
    /// All legs succeed in their L2 blocks, or none is there. Reserved: entries that ask for it are left out.
    CoExecuted,
}

byte_enum!(Guarantee { CoOrdered = 1, CoExecuted = 2 });

/// A bundle's part on one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The chain.
    pub chain: ChainId,
    /// EVM or opaque; must be what the registry says.
    pub kind: ChainKind,
    /// 1..=[`LEG_TRANSACTIONS_MAX`] transactions, in order.
    pub transactions: Vec<Bytes>,
}

/// 2..=[`LEGS_MAX`] legs of different chains, in the order their submitter chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    legs: Vec<Leg>,
    guarantee: Guarantee,
}

/// Why a bundle was refused. Every variant is permanent: the same bytes can never become valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// Fewer than [`LEGS_MIN`] or more than [`LEGS_MAX`] legs.
    #[error("bundle has {count} legs, expected {LEGS_MIN}..={LEGS_MAX}")]
    LegCount {
        /// How many.
        count: usize,
    },
    /// The leg of `chain` carries no transaction.
    #[error("leg for chain {chain} is empty")]
    EmptyLeg {
        /// The leg's chain.
        chain: ChainId,
    },
    /// The leg of `chain` carries more than [`LEG_TRANSACTIONS_MAX`] transactions.
    #[error(
        "leg for chain {chain} has {count} transactions, at most {LEG_TRANSACTIONS_MAX} are allowed"
    )]
    LegTooLong {
        /// The leg's chain.
        chain: ChainId,
        /// How many.
        count: usize,
    },
    /// Two legs are of one chain.
    #[error("bundle has two legs for chain {chain}")]
    DuplicateLeg {
        /// The chain.
        chain: ChainId,
    },
    /// A leg is for chain 0, the network's own.
    #[error("leg for chain 0, the network's own namespace")]
    NetworkLeg,
    /// One transaction stands twice in the bundle.
    #[error("leg for chain {chain} holds a transaction twice")]
    DuplicateTransaction {
        /// The leg's chain.
        chain: ChainId,
    },
    /// A transaction is empty or too large.
    #[error("leg for chain {chain}: {error}")]
    Transaction {
        /// The leg's chain.
        chain: ChainId,
        /// Why.
        error: InvalidTransaction,
    },
}

impl Bundle {
    /// Checks the shape of the legs and makes them a bundle. The transactions' own bytes are checked by
    /// [`Entry::check`](crate::entry::Entry::check).
    ///
    /// # Errors
    /// [`InvalidBundle`] names the leg and the rule.
    pub fn new(legs: Vec<Leg>, guarantee: Guarantee) -> Result<Self, InvalidBundle> {
        let count = legs.len();
        if !(LEGS_MIN..=LEGS_MAX).contains(&count) {
            return Err(InvalidBundle::LegCount { count });
        }
        for (place, leg) in legs.iter().enumerate() {
            leg.validate()?;
            if legs.iter().take(place).any(|earlier| earlier.chain == leg.chain) {
                return Err(InvalidBundle::DuplicateLeg { chain: leg.chain });
            }
        }
        Ok(Self { legs, guarantee })
    }

    /// The legs, in the submitter's order.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// What the bundle is promised.
    #[must_use]
    pub const fn guarantee(&self) -> Guarantee {
        self.guarantee
    }
}

impl Leg {
    fn validate(&self) -> Result<(), InvalidBundle> {
        let (chain, count) = (self.chain, self.transactions.len());
        if chain == ChainId::NETWORK {
            return Err(InvalidBundle::NetworkLeg);
        }
        if count == 0 {
            return Err(InvalidBundle::EmptyLeg { chain });
        }
        if count > LEG_TRANSACTIONS_MAX {
            return Err(InvalidBundle::LegTooLong { chain, count });
        }
        for (place, bytes) in self.transactions.iter().enumerate() {
            check_size(bytes).map_err(|error| InvalidBundle::Transaction { chain, error })?;
            if self.transactions.iter().take(place).any(|earlier| earlier == bytes) {
                return Err(InvalidBundle::DuplicateTransaction { chain });
            }
        }
        Ok(())
    }
}

impl Encodable for Leg {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(&[&self.chain, &self.kind, &self.transactions], out);
    }
    fn length(&self) -> usize {
        list_length(&[&self.chain, &self.kind, &self.transactions])
    }
}

impl Decodable for Leg {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut decode_list(bytes)?;
        let leg = Self {
            chain: Decodable::decode(payload)?,
            kind: Decodable::decode(payload)?,
            // One too many is kept for `Bundle::new` to name.
            transactions: decode_bounded(payload, LEG_TRANSACTIONS_MAX.saturating_add(1))?,
        };
        expect_end(payload)?;
        Ok(leg)
    }
}

impl Encodable for Bundle {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(&[&self.guarantee, &self.legs], out);
    }
    fn length(&self) -> usize {
        list_length(&[&self.guarantee, &self.legs])
    }
}

impl Bundle {
    /// Legs and guarantee as they stand in the bytes; the caller makes them a bundle by [`Bundle::new`].
    pub(crate) fn decode_parts(bytes: &mut &[u8]) -> alloy_rlp::Result<(Vec<Leg>, Guarantee)> {
        let payload = &mut decode_list(bytes)?;
        let guarantee = Decodable::decode(payload)?;
        let legs = decode_bounded(payload, LEGS_MAX.saturating_add(1))?;
        expect_end(payload)?;
        Ok((legs, guarantee))
    }
}

#[cfg(test)]
mod tests;
