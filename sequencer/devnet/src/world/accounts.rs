//! Accounts of a devnet's L1 and chains. Their keys are public knowledge or made on the spot: nothing of value is behind them.

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, b256, hex, keccak256};
use libp2p::PeerId;
use lockstep_core::signing::SigningKey;
use rand::Rng as _;

use crate::load::wallet;

/// Gas of a plain transfer.
pub const TRANSFER_GAS: u64 = 21_000;
/// Highest fee of a transfer, in wei per gas: ten times the base fee that the chains begin with.
pub const FEE_MAX: u128 = 10_000_000_000;

/// The first ten accounts of the mnemonic "test test test test test test test test test test test junk", which every
/// wallet's tests know.
const USERS: [B256; 10] = [
    b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    b256!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    b256!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    b256!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    b256!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    b256!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
];

/// A key whose secret may be shown.
#[derive(Clone, Debug)]
pub struct Account {
    secret: B256,
    key: SigningKey,
}

impl Account {
    /// The account with this secret; `None` if it is none.
    #[must_use]
    pub fn of_secret(secret: B256) -> Option<Self> {
        let key = SigningKey::from_bytes(secret.0).ok()?;
        Some(Self { secret, key })
    }

    /// The account that belongs to a purpose, the same in every devnet.
    #[must_use]
    pub fn of_purpose(purpose: &str) -> Self {
        Self::first(keccak256(format!("lockstep devnet {purpose}")))
    }

    /// A new account.
    #[must_use]
    pub fn random() -> Self {
        Self::first(B256::from(rand::rng().random::<[u8; 32]>()))
    }

    /// Almost every digest is a key.
    fn first(mut digest: B256) -> Self {
        loop {
            if let Some(account) = Self::of_secret(digest) {
                return account;
            }
            digest = keccak256(digest);
        }
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.key.address()
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its secret.
    #[must_use]
    pub const fn secret(&self) -> B256 {
        self.secret
    }

    /// Its secret, 64 hex digits.
    #[must_use]
    pub fn secret_hex(&self) -> String {
        hex::encode(self.secret)
    }

    /// EIP-2718 bytes of a transaction, signed by it.
    #[must_use]
    pub fn sign(&self, transaction: TxEip1559) -> Bytes {
        wallet::sign(transaction, &self.key)
    }

    /// EIP-2718 bytes of a transfer of `value` wei.
    #[must_use]
    pub fn transfer(&self, chain: u64, nonce: u64, to: Address, value: u64) -> Bytes {
        self.sign(TxEip1559 {
            chain_id: chain,
            nonce,
            gas_limit: TRANSFER_GAS,
            max_fee_per_gas: FEE_MAX,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            value: U256::from(value),
            access_list: Default::default(),
            input: Bytes::new(),
        })
    }

    /// The peer id of an op-node with this key: the multihash `identity` of the key in libp2p's protobuf.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        // identity, 37 bytes; type, secp256k1; data, 33 bytes.
        let head = [0x00, 37, 0x08, 0x02, 0x12, 33];
        PeerId::from_bytes(&[head.as_slice(), &self.key.public_key()].concat()).ok()
    }
}

/// The accounts that are there for users, all of them funded on L1 and on each chain.
#[must_use]
pub fn users() -> Vec<Account> {
    USERS.into_iter().filter_map(Account::of_secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn users_are_those_of_the_mnemonic() {
        let users = users();
        assert_eq!(users.len(), 10);
        assert_eq!(users[0].address(), address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(users[9].address(), address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"));
    }

    #[test]
    fn purposes_have_accounts_of_their_own() {
        let address = |purpose| Account::of_purpose(purpose).address();
        assert_eq!(address("batcher 901"), address("batcher 901"));
        assert_ne!(address("batcher 901"), address("batcher 902"));
        assert_ne!(Account::random().address(), Account::random().address());
    }

    #[test]
    fn peer_id_is_the_one_that_op_node_gives_itself() {
        let secret = b256!("ae91a385a3d4868b5f618dffd7534deddf5dc9060f873979f080dd58e8925b1a");
        let peer = Account::of_secret(secret).and_then(|account| account.peer_id());
        let expected = "16Uiu2HAmA8pnBGX2tiFWTsVSMQB6YchuVjXWYKB6Kzpj8TxW5JYD";
        assert_eq!(peer.expect("has one").to_string(), expected);
    }
}
