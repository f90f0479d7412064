//! Real transactions of a public OP chain against the rules: all that users signed are taken, deposits are refused.
//!
//! The blocks (OP Sepolia, with their execution witnesses) are not in this repository: they are looked for beside the
//! clone, and where they are not the test says so and checks nothing. That a sender is the right one is seen from the
//! chain's own state: its account in the witness, reached by a Merkle-Patricia path from the parent block's state root,
//! has exactly the transaction's nonce. (One of the blocks comes without a witness.)

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use alloy_rlp::{Decodable, Header};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::transaction::{InvalidTransaction, check};
use lockstep_core::types::{ChainId, NetworkId, UnixMillis};
use serde_json::Value as Json;

const OP_SEPOLIA: ChainId = ChainId(11_155_420);

/// Unpacks the blocks, if they are there.
fn blocks(to: &Path) -> Option<Vec<PathBuf>> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/op-sepolia-blocks/blocks.tar.xz");
    if !archive.is_file() {
        println!("nothing checked: no blocks at {}", archive.display());
        return None;
    }
    let unpacked = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(to).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        println!("nothing checked: tar cannot unpack {}", archive.display());
        return None;
    }
    let mut blocks: Vec<_> = fs::read_dir(to)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("fixture.json").is_file())
        .collect();
    blocks.sort();
    assert!(!blocks.is_empty(), "the archive has no blocks");
    Some(blocks)
}

/// A block's transactions, and the state of its parent as far as the witness has it.
struct Block {
    transactions: Vec<Bytes>,
    state_root: B256,
    witness: BTreeMap<B256, Vec<u8>>,
}

impl Block {
    fn read(path: &Path) -> Self {
        let json: Json =
            serde_json::from_str(&fs::read_to_string(path.join("fixture.json")).unwrap()).unwrap();
        let bytes = |value: &Json| hex::decode(value.as_str().unwrap()).unwrap();
        let transactions = json["executing_payload"]["transactions"].as_array().unwrap();
        let witness = fs::read_to_string(path.join("kv.txt")).unwrap();
        let node = |line: &str| {
            let (key, value) = line.split_once(" : ").unwrap();
            (B256::from_slice(&hex::decode(key).unwrap()), hex::decode(value.trim()).unwrap())
        };
        Self {
            transactions: transactions.iter().map(|t| bytes(t).into()).collect(),
            state_root: B256::from_slice(&bytes(&json["parent_header"]["stateRoot"])),
            witness: witness.lines().filter(|line| !line.is_empty()).map(node).collect(),
        }
    }

    /// The account's nonce after the parent block; `None` for a block without a witness.
    fn nonce(&self, address: Address) -> Option<u64> {
        if self.witness.is_empty() {
            return None;
        }
        let path: Vec<u8> =
            keccak256(address).iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
        let mut rest = &path[..];
        let mut hash = self.state_root;
        loop {
            let node = self.witness.get(&hash).unwrap_or_else(|| panic!("no account {address}"));
            let items = items(node);
            if items.len() == 17 {
                hash = B256::from_slice(items[usize::from(rest[0])]);
                rest = &rest[1..];
                continue;
            }
            let (part, is_leaf) = nibbles(items[0]);
            rest = rest.strip_prefix(&part[..]).unwrap_or_else(|| panic!("no account {address}"));
            if !is_leaf {
                hash = B256::from_slice(items[1]);
                continue;
            }
            assert_eq!(rest, [0u8; 0]);
            let mut account = Header::decode_bytes(&mut { items[1] }, true).unwrap();
            return Some(u64::decode(&mut account).unwrap());
        }
    }
}

/// The strings of a node's list.
fn items(node: &[u8]) -> Vec<&[u8]> {
    let mut payload = Header::decode_bytes(&mut &*node, true).unwrap();
    let mut items = Vec::new();
    while !payload.is_empty() {
        items.push(Header::decode_bytes(&mut payload, false).unwrap());
    }
    items
}

/// A path in its compact form, and whether it ends at a leaf.
fn nibbles(compact: &[u8]) -> (Vec<u8>, bool) {
    let all: Vec<u8> = compact.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let from = if all[0] & 1 == 1 { 1 } else { 2 };
    (all[from..].to_vec(), all[0] & 2 == 2)
}

#[test]
fn every_transaction_of_users_is_taken_and_every_deposit_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some(blocks) = blocks(directory.path()) else { return };
    let (mut taken, mut deposits, mut witnessed) = (0, 0, 0);
    for path in blocks {
        let block = Block::read(&path);
        let mut nonces = BTreeMap::new();
        for bytes in &block.transactions {
            let checked = check(OP_SEPOLIA, ChainKind::Evm, bytes);
            if bytes[0] == 0x7e {
                assert_eq!(checked, Err(InvalidTransaction::Type { got: 0x7e }));
                deposits += 1;
                continue;
            }
            let checked = checked.unwrap_or_else(|error| panic!("{}: {error}", hex::encode(bytes)));
            let sender = checked.sender.unwrap();
            assert_eq!((checked.chain, checked.hash), (OP_SEPOLIA, keccak256(bytes)));
            assert_eq!(checked.bytes, bytes.len() as u64);
            let envelope = TxEnvelope::decode_2718_exact(bytes).unwrap();
            assert_eq!(checked.gas, envelope.gas_limit());
            let first = block.nonce(sender);
            witnessed += u32::from(first.is_some());
            let nonce = nonces.entry(sender).or_insert(first.unwrap_or(envelope.nonce()));
            assert_eq!(envelope.nonce(), *nonce, "{sender}");
            *nonce += 1;
            elsewhere_is_refused(bytes);
            survives_as_an_entry(bytes);
            taken += 1;
        }
    }
    println!(
        "{taken} transactions taken, {witnessed} senders in the state, {deposits} deposits refused"
    );
    assert!(taken >= 20 && witnessed >= 20 && deposits >= 1);
}

fn elsewhere_is_refused(bytes: &Bytes) {
    let refused = check(ChainId(10), ChainKind::Evm, bytes);
    let expected = InvalidTransaction::ChainId { expected: ChainId(10), got: OP_SEPOLIA };
    assert_eq!(refused, Err(expected));
}

fn survives_as_an_entry(bytes: &Bytes) {
    let body = Transaction { chain: OP_SEPOLIA, kind: ChainKind::Evm, bytes: bytes.clone() };
    let entry = Entry::new(Body::Transaction(body), UnixMillis(1), None).unwrap();
    let read = Entry::decode(entry.raw().clone()).unwrap();
    assert_eq!(read, entry);
    assert_eq!(read.check(NetworkId::ZERO).unwrap().transactions().len(), 1);
}
