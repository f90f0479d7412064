//! Entries and transactions for scenarios. The chains are those of [`crate::cluster`].

use alloy_primitives::B256;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::record::{Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId, UnixMillis};
use lockstep_devnet::load::wallet::Wallet;
use lockstep_node::clock;

/// An EVM chain.
pub const EVM_A: ChainId = ChainId(901);
/// Another EVM chain.
pub const EVM_B: ChainId = ChainId(902);
/// A chain that is not EVM.
pub const OPAQUE: ChainId = ChainId(903);

/// A chain that is not EVM and whose sequencer signs records.
pub const SEQUENCED: ChainId = ChainId(904);

/// A chain that is not EVM and has room for [`TIGHT_BYTES_PER_SECOND`] only.
pub const TIGHT: ChainId = ChainId(905);
/// The budget of [`TIGHT`]. Its bucket holds one entry of the greatest size, 288 KiB, and is full at first.
pub const TIGHT_BYTES_PER_SECOND: u64 = 40_000;

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

/// An entry of so many bytes for [`TIGHT`], told apart by its number.
#[must_use]
pub fn tight(number: u32, bytes: usize, expires: UnixMillis) -> Entry {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(bytes.max(body.len()), 0x7a);
    let transaction = Transaction { chain: TIGHT, kind: ChainKind::Opaque, bytes: body.into() };
    Entry::new(Body::Transaction(transaction), expires, None).expect("the bytes are few enough")
}

/// Accounts of a chain; another number gives other accounts.
#[must_use]
pub fn wallet(chain: ChainId, number: u8) -> Wallet {
    Wallet::new(chain, 4, B256::repeat_byte(number))
}
