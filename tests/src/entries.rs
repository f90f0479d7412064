//! Entries and transactions for scenarios. The chains are those of [`crate::cluster`].

use alloy_primitives::B256;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::record::{Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId, UnixMillis};
use lockstep_node::clock;
use lockstep_node::load::wallet::Wallet;

/// An EVM chain.
pub const EVM_A: ChainId = ChainId(901);
/// Another EVM chain.
pub const EVM_B: ChainId = ChainId(902);
/// A chain that is not EVM.
pub const OPAQUE: ChainId = ChainId(903);

/// A chain that is not EVM and whose sequencer signs records.
pub const SEQUENCED: ChainId = ChainId(904);

/// The sequencer key of [`SEQUENCED`].
#[must_use]
pub fn sequencer() -> SigningKey {
    SigningKey::from_bytes([0x5e; 32]).expect("a key")
}

/// A record of a chain, signed with a key that may be its sequencer's; it expires in 30 s.
#[must_use]
pub fn record(network: NetworkId, chain: ChainId, body: RecordBody, key: &SigningKey) -> Entry {
    let record = Record::sign(network, chain, body, key);
    Entry::new(Body::Record(record), expires_in(30_000), None).expect("the record is short")
}

/// An expiry so many milliseconds from now.
#[must_use]
pub fn expires_in(ms: u64) -> UnixMillis {
    clock::now().plus(ms)
}

/// An entry with these bytes for the chain that is not EVM; it expires in 30 s.
#[must_use]
pub fn opaque(text: &str) -> Entry {
    opaque_until(text, expires_in(30_000))
}

/// An entry with these bytes for the chain that is not EVM.
#[must_use]
pub fn opaque_until(text: &str, expires: UnixMillis) -> Entry {
    let bytes = text.as_bytes().to_vec().into();
    let transaction = Transaction { chain: OPAQUE, kind: ChainKind::Opaque, bytes };
    Entry::new(Body::Transaction(transaction), expires, None).expect("the bytes are few enough")
}

/// Accounts of a chain; another number gives other accounts.
#[must_use]
pub fn wallet(chain: ChainId, number: u8) -> Wallet {
    Wallet::new(chain, 4, B256::repeat_byte(number))
}
