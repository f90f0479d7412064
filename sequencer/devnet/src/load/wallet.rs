//! Accounts that sign transfers: several per chain, each with growing nonces, so that no two transactions are equal.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use eyre::WrapErr as _;
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, UnixMillis};

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Fees of a transfer, in wei per gas; plausible, and paid to nobody.
const MAX_FEE: u128 = 1_000_000_000;

/// An account of one chain.
#[derive(Debug)]
struct Account {
    key: SigningKey,
    nonce: u64,
}

/// The accounts of one chain, which take turns.
#[derive(Debug)]
pub struct Wallet {
    chain: ChainId,
    accounts: Vec<Account>,
    turn: usize,
}

impl Wallet {
    /// `count` accounts (at least one) whose keys follow from the seed and the chain.
    #[must_use]
    pub fn new(chain: ChainId, count: usize, seed: B256) -> Self {
        let mut accounts = Vec::new();
        let mut digest = keccak256([seed.as_slice(), &chain.0.to_be_bytes()].concat());
        while accounts.len() < count.max(1) {
            digest = keccak256(digest);
            // Almost every digest is a key.
            if let Ok(key) = SigningKey::from_bytes(digest.0) {
                accounts.push(Account { key, nonce: 0 });
            }
        }
        Self { chain, accounts, turn: 0 }
    }

    /// The chain of the accounts.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The next transfer: EIP-2718 bytes of an EIP-1559 transaction, about 110 of them.
    #[must_use]
    pub fn transfer(&mut self) -> Bytes {
        let count = self.accounts.len();
        let turn = self.turn;
        self.turn = turn.saturating_add(1).checked_rem(count).unwrap_or_default();
        let to =
            self.accounts.get(self.turn).map_or(Address::ZERO, |account| account.key.address());
        let chain_id = self.chain.0;
        let Some(account) = self.accounts.get_mut(turn) else { return Bytes::new() };
        let transaction = TxEip1559 {
            chain_id,
            nonce: account.nonce,
            gas_limit: TRANSFER_GAS,
            max_fee_per_gas: MAX_FEE,
            max_priority_fee_per_gas: MAX_FEE,
            to: TxKind::Call(to),
            value: U256::from(account.nonce.saturating_add(1)),
            access_list: Default::default(),
            input: Bytes::new(),
        };
        account.nonce = account.nonce.saturating_add(1);
        sign(transaction, &account.key)
    }

    /// An entry with the next transfer.
    ///
    /// # Errors
    /// If the entry's shape is wrong, which a transfer's never is.
    pub fn transaction(&mut self, expires: UnixMillis) -> eyre::Result<Entry> {
        let transaction =
            Transaction { chain: self.chain, kind: ChainKind::Evm, bytes: self.transfer() };
        Entry::new(Body::Transaction(transaction), expires, None).wrap_err("making an entry")
    }
}

/// An entry with a bundle: the next transfer of each wallet, all in one log block or none.
///
/// # Errors
/// If there are fewer than two wallets, or two of one chain.
pub fn bundle(wallets: &mut [&mut Wallet], expires: UnixMillis) -> eyre::Result<Entry> {
    let leg = |wallet: &mut &mut Wallet| Leg {
        chain: wallet.chain(),
        kind: ChainKind::Evm,
        transactions: vec![wallet.transfer()],
    };
    let legs = wallets.iter_mut().map(leg).collect();
    let bundle = Bundle::new(legs, Guarantee::CoOrdered).wrap_err("making a bundle")?;
    Entry::new(Body::Bundle(bundle), expires, None).wrap_err("making an entry")
}

/// EIP-2718 bytes of a transaction, signed.
#[must_use]
pub fn sign(transaction: TxEip1559, key: &SigningKey) -> Bytes {
    let signature = key.sign(transaction.signature_hash());
    let (r, rest) = signature.0.split_at(32);
    let (s, v) = rest.split_at(32);
    let is_odd = v.first() == Some(&28);
    let signature =
        alloy_primitives::Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), is_odd);
    transaction.into_signed(signature).encoded_2718().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::types::NetworkId;
    use std::collections::BTreeSet;

    const EXPIRES: UnixMillis = UnixMillis(60_000);

    fn wallet(chain: u64) -> Wallet {
        Wallet::new(ChainId(chain), 3, B256::repeat_byte(7))
    }

    #[test]
    fn transfers_pass_every_check_and_no_two_are_equal() {
        let mut wallet = wallet(901);
        let mut ids = BTreeSet::new();
        let mut senders = BTreeSet::new();
        for _ in 0..30 {
            let entry = wallet.transaction(EXPIRES).expect("is an entry");
            ids.insert(entry.id());
            let checked = entry.check(NetworkId::ZERO).expect("passes every check");
            let transaction = checked.transactions().first().expect("has one");
            assert_eq!((transaction.chain, transaction.gas), (ChainId(901), TRANSFER_GAS));
            assert!((105..=125).contains(&transaction.bytes), "{} bytes", transaction.bytes);
            senders.insert(transaction.sender);
        }
        assert_eq!((ids.len(), senders.len()), (30, 3));
    }

    #[test]
    fn bundle_has_a_leg_of_each_chain() {
        let (mut a, mut b) = (wallet(901), wallet(902));
        let entry = bundle(&mut [&mut a, &mut b], EXPIRES).expect("is an entry");
        let checked = entry.check(NetworkId::ZERO).expect("passes every check");
        let chains: Vec<_> = checked.transactions().iter().map(|t| t.chain.0).collect();
        assert_eq!(chains, [901, 902]);
        assert!(bundle(&mut [&mut a], EXPIRES).is_err());
        assert!(bundle(&mut [], EXPIRES).is_err());
    }

    #[test]
    fn other_seeds_and_other_chains_have_other_accounts() {
        let address = |chain, seed: u8| {
            Wallet::new(ChainId(chain), 1, B256::repeat_byte(seed)).accounts[0].key.address()
        };
        let all = BTreeSet::from([address(1, 1), address(1, 2), address(2, 1), address(2, 2)]);
        assert_eq!(all.len(), 4);
        assert_eq!(address(1, 1), address(1, 1));
    }
}
