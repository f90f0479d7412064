//! A chain's blocks as its public JSON-RPC tells them, and what of that is checked. Pure.
//!
//! A public endpoint gives transactions as fields, not as bytes. Of a user's transaction its hash is enough: the log has
//! the bytes of all that it offered. Of a deposit the bytes matter, so they are made anew from its fields and must have
//! the hash that the endpoint names: gas, sender and call data cannot be invented.
//!
//! Not checked: that the block's hash is that of its header, and that the header's root is that of the transactions.
//! Source: OP specs, `deposits.md`.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use lockstep_core::cursor::L2Block;
use lockstep_core::deposit::{DEPOSIT_TYPE, is_deposit};
use lockstep_core::window::Offer;
use lockstep_execution::attributes::Quantity;
use serde::Deserialize;

/// First byte of what stands for a transaction whose bytes are not known: no transaction begins with it.
const STAND_IN: u8 = 0;

/// A transaction of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockTransaction {
    /// A deposit, by its bytes.
    Deposit(Bytes),
    /// A user's, by its hash.
    User(B256),
}

/// A block of the audited chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBlock {
    /// L2 block number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of its parent.
    pub parent: B256,
    /// Timestamp, seconds.
    pub timestamp: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Its transactions, in order.
    pub transactions: Vec<BlockTransaction>,
}

/// Why an endpoint's block is not believed: it lies, or it is no endpoint of an OP chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// A deposit lacks a field.
    #[error("deposit {index} of block {number} has no {field}")]
    Field {
        /// The block.
        number: u64,
        /// Place of the deposit.
        index: usize,
        /// The field.
        field: &'static str,
    },
    /// A deposit's fields do not have the hash that the endpoint names.
    #[error(
        "deposit {index} of block {number} has hash {expected} by its fields, the endpoint names {got}"
    )]
    Deposit {
        /// The block.
        number: u64,
        /// Place of the deposit.
        index: usize,
        /// By its fields.
        expected: B256,
        /// As the endpoint says.
        got: B256,
    },
    /// Another block than the one asked for.
    #[error("block {got} is not block {expected}, which was asked for")]
    Number {
        /// Asked for.
        expected: u64,
        /// Answered.
        got: u64,
    },
}

/// A block with all its transactions, as `eth_getBlockByNumber` answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcBlock {
    number: Quantity,
    hash: B256,
    parent_hash: B256,
    timestamp: Quantity,
    gas_limit: Quantity,
    transactions: Vec<RpcTransaction>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcTransaction {
    hash: B256,
    #[serde(rename = "type")]
    kind: Option<Quantity>,
    source_hash: Option<B256>,
    from: Option<Address>,
    to: Option<Address>,
    mint: Option<U256>,
    value: Option<U256>,
    gas: Option<Quantity>,
    is_system_tx: Option<bool>,
    input: Option<Bytes>,
}

/// A deposit's fields in the order of its RLP.
#[derive(RlpEncodable)]
struct DepositFields {
    source_hash: B256,
    from: Address,
    to: TxKind,
    mint: U256,
    value: U256,
    gas: u64,
    is_system: bool,
    input: Bytes,
}

impl RpcBlock {
    /// The block, if it is the one with this number and its deposits are what their hashes say.
    ///
    /// # Errors
    /// [`InvalidAnswer`] says what is wrong with the answer.
    pub fn check(self, expected: u64) -> Result<ChainBlock, InvalidAnswer> {
        let number = self.number.0;
        if number != expected {
            return Err(InvalidAnswer::Number { expected, got: number });
        }
        let transactions = self.transactions.into_iter().enumerate();
        Ok(ChainBlock {
            number,
            hash: self.hash,
            parent: self.parent_hash,
            timestamp: self.timestamp.0,
            gas_limit: self.gas_limit.0,
            transactions: transactions
                .map(|(index, transaction)| transaction.check(number, index))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RpcTransaction {
    fn check(self, number: u64, index: usize) -> Result<BlockTransaction, InvalidAnswer> {
        if self.kind.is_none_or(|kind| kind.0 != u64::from(DEPOSIT_TYPE)) {
            return Ok(BlockTransaction::User(self.hash));
        }
        let missing = |field| InvalidAnswer::Field { number, index, field };
        let fields = DepositFields {
            source_hash: self.source_hash.ok_or_else(|| missing("sourceHash"))?,
            from: self.from.ok_or_else(|| missing("from"))?,
            to: TxKind::from(self.to),
            mint: self.mint.unwrap_or_default(),
            value: self.value.unwrap_or_default(),
            gas: self.gas.ok_or_else(|| missing("gas"))?.0,
            // op-geth leaves it out where it is false.
            is_system: self.is_system_tx.unwrap_or_default(),
            input: self.input.ok_or_else(|| missing("input"))?,
        };
        let mut bytes = vec![DEPOSIT_TYPE];
        fields.encode(&mut bytes);
        let expected = keccak256(&bytes);
        if expected != self.hash {
            return Err(InvalidAnswer::Deposit { number, index, expected, got: self.hash });
        }
        Ok(BlockTransaction::Deposit(bytes.into()))
    }
}

impl From<L2Block> for ChainBlock {
    fn from(block: L2Block) -> Self {
        let L2Block { number, hash, parent, timestamp, gas_limit, transactions } = block;
        let transactions = transactions.into_iter().map(|bytes| match is_deposit(&bytes) {
            true => BlockTransaction::Deposit(bytes),
            false => BlockTransaction::User(keccak256(&bytes)),
        });
        let transactions = transactions.collect();
        Self { number, hash, parent, timestamp, gas_limit, transactions }
    }
}

impl ChainBlock {
    /// Users' transactions and their places in the block.
    pub fn users(&self) -> impl Iterator<Item = (u32, B256)> {
        (0u32..).zip(&self.transactions).filter_map(|(index, transaction)| match transaction {
            BlockTransaction::Deposit(_) => None,
            BlockTransaction::User(hash) => Some((index, *hash)),
        })
    }

    /// The block as the core reads it, with the bytes of what it was offered. A transaction that was not offered is
    /// stood for by bytes that are nobody's.
    #[must_use]
    pub fn l2_block(&self, offer: Option<&Offer>) -> L2Block {
        let items = offer.into_iter().flat_map(|offer| &offer.items);
        let offered: BTreeMap<B256, &Bytes> = items
            .flat_map(|offered| {
                offered.item.hashes.iter().copied().zip(offered.item.item.transactions())
            })
            .collect();
        let bytes = |transaction: &BlockTransaction| match transaction {
            BlockTransaction::Deposit(bytes) => bytes.clone(),
            BlockTransaction::User(hash) => match offered.get(hash) {
                Some(bytes) => (*bytes).clone(),
                None => [&[STAND_IN], hash.as_slice()].concat().into(),
            },
        };
        L2Block {
            number: self.number,
            hash: self.hash,
            parent: self.parent,
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            transactions: self.transactions.iter().map(bytes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::deposit::Deposit;

    /// A deposit as op-geth writes it, and the hash of its bytes.
    fn deposit(more: &str) -> (String, B256) {
        let fields = DepositFields {
            source_hash: B256::repeat_byte(1),
            from: Address::repeat_byte(2),
            to: TxKind::Call(Address::repeat_byte(3)),
            mint: U256::from(7),
            value: U256::ZERO,
            gas: 1_000_000,
            is_system: false,
            input: Bytes::from_static(&[0x3d, 0xb6]),
        };
        let mut bytes = vec![DEPOSIT_TYPE];
        fields.encode(&mut bytes);
        assert_eq!(Deposit::decode(&bytes).expect("a deposit").gas, 1_000_000);
        let hash = keccak256(&bytes);
        let json = format!(
            r#"{{"type":"0x7e","hash":"{hash}","sourceHash":"{}","from":"{}","to":"{}","mint":"0x7","value":"0x0",
            "gas":"0xf4240","input":"0x3db6","nonce":"0x5","gasPrice":"0x0"{more}}}"#,
            B256::repeat_byte(1),
            Address::repeat_byte(2),
            Address::repeat_byte(3),
        );
        (json, hash)
    }

    fn block(transactions: &str) -> Result<ChainBlock, InvalidAnswer> {
        let json = format!(
            r#"{{"number":"0x7","hash":"{}","parentHash":"{}","timestamp":"0x10","gasLimit":"0x20","extraData":"0x",
            "transactions":[{transactions}]}}"#,
            B256::repeat_byte(7),
            B256::repeat_byte(6),
        );
        serde_json::from_str::<RpcBlock>(&json).expect("a block").check(7)
    }

    #[test]
    fn deposits_are_made_anew_and_users_transactions_are_hashes() {
        let (deposit, hash) = deposit("");
        let user = B256::repeat_byte(9);
        let users =
            format!(r#"{{"type":"0x2","hash":"{user}","gas":"0x5208"}},{{"hash":"{user}"}}"#);
        let block = block(&format!("{deposit},{users}")).expect("a block");
        let BlockTransaction::Deposit(bytes) = &block.transactions[0] else { panic!("{block:?}") };
        assert_eq!(keccak256(bytes), hash);
        assert_eq!(block.users().collect::<Vec<_>>(), [(1, user), (2, user)]);
    }

    #[test]
    fn deposit_with_another_hash_than_its_fields_have_is_refused() {
        let (honest, hash) = deposit("");
        for (from, to) in [
            ("0xf4240", "0xf4241"),
            ("0x3db6", "0x3db7"),
            (r#""mint":"0x7","#, ""),
            (r#""nonce""#, r#""isSystemTx":true,"nonce""#),
        ] {
            let lie = honest.replacen(from, to, 1);
            assert!(
                matches!(block(&lie), Err(InvalidAnswer::Deposit { index: 0, got, .. }) if got == hash),
                "{lie}"
            );
        }
        let missing = honest.replace("sourceHash", "source");
        let field = InvalidAnswer::Field { number: 7, index: 0, field: "sourceHash" };
        assert_eq!(block(&missing), Err(field));
    }

    #[test]
    fn another_block_than_the_one_asked_for_is_refused() {
        let json = format!(
            r#"{{"number":"0x8","hash":"{0}","parentHash":"{0}","timestamp":"0x1","gasLimit":"0x1","transactions":[]}}"#,
            B256::ZERO
        );
        let answer: RpcBlock = serde_json::from_str(&json).expect("a block");
        assert_eq!(answer.check(7), Err(InvalidAnswer::Number { expected: 7, got: 8 }));
    }

    #[test]
    fn engines_and_public_endpoints_blocks_are_the_same() {
        let (deposit, _) = deposit("");
        let public = block(&deposit).expect("a block");
        let engines = public.l2_block(None);
        assert_eq!(ChainBlock::from(engines), public);
    }

    #[test]
    fn stand_in_is_neither_a_deposit_nor_offered() {
        let user = B256::repeat_byte(9);
        let block = ChainBlock {
            number: 1,
            hash: B256::ZERO,
            parent: B256::ZERO,
            timestamp: 1,
            gas_limit: 1,
            transactions: vec![BlockTransaction::User(user)],
        };
        let bytes = &block.l2_block(None).transactions[0];
        assert!(!is_deposit(bytes));
        assert_ne!(keccak256(bytes), user);
    }
}
