//! What the offer of a block must know of its deposits: the gas they declare, and what the first one says of L1.
//!
//! Reads OP deposit transactions (type 0x7e) and the call data of the L1-attributes deposit, which is the first
//! transaction of every L2 block. It checks no source hash and executes nothing: an execution engine did, or will.
//! Sources: OP specs, `deposits.md`; `l1-attributes.md` of Ecotone, Isthmus and Jovian.
//!
//! | call data | selector | bytes | L1 number | L1 time | sequence number | DA footprint scalar |
//! |---|---|---|---|---|---|---|
//! | Bedrock, ABI words | `015d8eb9` | 260 | 28..36 | 60..68 | 156..164 | |
//! | Ecotone, packed | `440a5e20` | 164 | 28..36 | 20..28 | 12..20 | |
//! | Isthmus, packed | `098999be` | 176 | 28..36 | 20..28 | 12..20 | |
//! | Jovian, packed | `3db6be2b` | 178 | 28..36 | 20..28 | 12..20 | 176..178 |
//!
//! Fees are read since Isthmus: scalars of L1's base fee (4..8) and blob base fee (8..12), these fees themselves (36..68 and
//! 68..100), the operator fee's scalar (164..168) and constant (168..176).

use alloy_primitives::{Address, B256, TxKind, U256, address};
use alloy_rlp::{Decodable, Header};

use crate::encoding::{decode_list, expect_end};

/// Type byte of a deposit transaction. What does not begin with it is a user's.
pub const DEPOSIT_TYPE: u8 = 0x7e;

/// Sender of the L1-attributes deposit, and of upgrades since Karst. Nobody has its key.
pub const DEPOSITOR: Address = address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001");

/// The first 19 bytes of the senders of contract deployments in upgrades, 0x4210…00 to 0x4210…ff.
const DEPLOYERS: [u8; 19] = {
    let mut prefix = [0; 19];
    prefix[0] = 0x42;
    prefix[1] = 0x10;
    prefix
};

/// The scalar that a block means by 0.
const SCALAR_DEFAULT: u16 = 400;

/// Whether a transaction is a deposit.
#[must_use]
pub fn is_deposit(transaction: &[u8]) -> bool {
    transaction.first() == Some(&DEPOSIT_TYPE)
}

/// What counts of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposit<'a> {
    /// Its sender.
    pub from: Address,
    /// Gas it takes of the block's limit at most: what it declares, or 0 for a system transaction before Regolith.
    pub gas: u64,
    /// Its call data.
    pub data: &'a [u8],
}

/// Why a deposit was refused. Permanent: no block can hold these bytes as a deposit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeposit {
    /// Another type of transaction, or no bytes.
    #[error("transaction type {got:?}, expected {DEPOSIT_TYPE:#04x}")]
    Type {
        /// The first byte, `None` where there are no bytes at all.
        got: Option<u8>,
    },
    /// Not the RLP of a deposit's eight fields.
    #[error("not a deposit's RLP: {0}")]
    Rlp(alloy_rlp::Error),
}

impl From<alloy_rlp::Error> for InvalidDeposit {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Rlp(error)
    }
}

impl<'a> Deposit<'a> {
    /// Reads `0x7e ‖ RLP [source_hash, from, to, mint, value, gas_limit, is_system, data]`.
    ///
    /// # Errors
    /// [`InvalidDeposit`] on anything else, trailing bytes included.
    pub fn decode(transaction: &'a [u8]) -> Result<Self, InvalidDeposit> {
        let Some((&DEPOSIT_TYPE, mut rest)) = transaction.split_first() else {
            return Err(InvalidDeposit::Type { got: transaction.first().copied() });
        };
        let payload = &mut decode_list(&mut rest)?;
        expect_end(rest)?;
        B256::decode(payload)?;
        let from = Address::decode(payload)?;
        TxKind::decode(payload)?;
        let [_mint, _value] = [U256::decode(payload)?, U256::decode(payload)?];
        let gas_limit = u64::decode(payload)?;
        let is_system = bool::decode(payload)?;
        let data = Header::decode_bytes(payload, false)?;
        expect_end(payload)?;
        Ok(Self { from, gas: if is_system { 0 } else { gas_limit }, data })
    }

    /// Whether it is part of a protocol upgrade, if it is not the block's first.
    ///
    /// Upgrades come from 0x4210…xx (Ecotone to Jovian), from the [`DEPOSITOR`] and from the zero address (proxies, and
    /// all of Karst and later). None of them can be the sender of a user's deposit.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.from == DEPOSITOR
            || self.from == Address::ZERO
            || self.from.as_slice().starts_with(&DEPLOYERS)
    }
}

/// What the L1-attributes deposit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Info {
    /// Number of the L1 origin.
    pub number: u64,
    /// Timestamp of the L1 origin, seconds.
    pub timestamp: u64,
    /// Place of the L2 block in its epoch, from 0.
    pub sequence_number: u64,
    /// Gas that one estimated compressed byte counts for, never 0; `None` before Jovian.
    pub da_footprint_gas_scalar: Option<u16>,
    /// What transactions pay beside their gas; `None` before Isthmus.
    pub fees: Option<FeeParams>,
}

/// What decides the fees that a transaction pays beside its gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeParams {
    /// Weight of L1's base fee, in millionths.
    pub base_fee_scalar: u32,
    /// Weight of L1's blob base fee, in millionths.
    pub blob_base_fee_scalar: u32,
    /// L1's base fee, in wei per gas.
    pub base_fee: U256,
    /// L1's blob base fee, in wei per gas.
    pub blob_base_fee: U256,
    /// The operator's fee per gas: in millionths of a wei before Jovian, in hundreds of wei since.
    pub operator_fee_scalar: u32,
    /// The operator's fee per transaction, in wei.
    pub operator_fee_constant: u64,
}

/// Why the call data of a first deposit was refused. A chain of a later fork may write a form that is not known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidL1Info {
    /// Not a selector of the known forms.
    #[error("l1 attributes have selector {got:02x?}, which is not of a known form")]
    Selector {
        /// The first four bytes, or as many as there are.
        got: Vec<u8>,
    },
    /// A known selector with another count of bytes.
    #[error("l1 attributes have {got} bytes, expected {expected}")]
    Length {
        /// What the form has.
        expected: usize,
        /// What was there.
        got: usize,
    },
    /// A number of the Bedrock form that is greater than 64 bits.
    #[error("l1 attributes have a number of more than 64 bits at byte {at}")]
    Number {
        /// Where its word begins.
        at: usize,
    },
}

impl L1Info {
    /// Reads the call data of a block's first deposit, in any of the four forms.
    ///
    /// # Errors
    /// [`InvalidL1Info`] on any other bytes.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidL1Info> {
        match data.first_chunk() {
            Some([0x01, 0x5d, 0x8e, 0xb9]) => Self::decode_words(checked(data)?),
            Some([0x44, 0x0a, 0x5e, 0x20]) => Ok(Self::packed(checked::<164>(data)?, None)),
            Some([0x09, 0x89, 0x99, 0xbe]) => {
                let data = checked::<176>(data)?;
                Ok(Self { fees: Some(FeeParams::packed(data)), ..Self::packed(data, None) })
            }
            Some([0x3d, 0xb6, 0xbe, 0x2b]) => {
                let data = checked::<178>(data)?;
                let scalar = match u16::from_be_bytes(at(data, 176)) {
                    0 => SCALAR_DEFAULT,
                    scalar => scalar,
                };
                let fees = Some(FeeParams::packed(data));
                Ok(Self { fees, ..Self::packed(data, Some(scalar)) })
            }
            _ => Err(InvalidL1Info::Selector { got: data.iter().take(4).copied().collect() }),
        }
    }

    fn packed<const N: usize>(data: &[u8; N], da_footprint_gas_scalar: Option<u16>) -> Self {
        Self {
            number: u64::from_be_bytes(at(data, 28)),
            timestamp: u64::from_be_bytes(at(data, 20)),
            sequence_number: u64::from_be_bytes(at(data, 12)),
            da_footprint_gas_scalar,
            fees: None,
        }
    }

    fn decode_words(data: &[u8; 260]) -> Result<Self, InvalidL1Info> {
        let word = |begin: usize| {
            let number = U256::from_be_bytes::<32>(at(data, begin));
            u64::try_from(number).map_err(|_| InvalidL1Info::Number { at: begin })
        };
        Ok(Self {
            number: word(4)?,
            timestamp: word(36)?,
            sequence_number: word(132)?,
            da_footprint_gas_scalar: None,
            fees: None,
        })
    }
}

impl FeeParams {
    fn packed<const N: usize>(data: &[u8; N]) -> Self {
        Self {
            base_fee_scalar: u32::from_be_bytes(at(data, 4)),
            blob_base_fee_scalar: u32::from_be_bytes(at(data, 8)),
            base_fee: U256::from_be_bytes::<32>(at(data, 36)),
            blob_base_fee: U256::from_be_bytes::<32>(at(data, 68)),
            operator_fee_scalar: u32::from_be_bytes(at(data, 164)),
            operator_fee_constant: u64::from_be_bytes(at(data, 168)),
        }
    }
}

fn checked<const N: usize>(data: &[u8]) -> Result<&[u8; N], InvalidL1Info> {
    data.try_into().map_err(|_| InvalidL1Info::Length { expected: N, got: data.len() })
}

/// The `M` bytes from `begin` on; zeros where there are none, which no caller asks for.
fn at<const N: usize, const M: usize>(data: &[u8; N], begin: usize) -> [u8; M] {
    data.get(begin..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; M])
}

#[cfg(test)]
mod tests;
