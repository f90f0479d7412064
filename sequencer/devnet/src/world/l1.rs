//! The L1 of a world: anvil on a genesis with a portal and a system config per chain.
//!
//! What happens on it (deposits, changes of a chain's configuration, reorgs) is asked for here as well.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use eyre::{OptionExt as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::accounts::users;
use super::peers::Peers;
use crate::json_rpc::{self, CallError, JsonRpc};
use crate::process::Program;

/// Its chain id.
pub const L1_CHAIN: u64 = 900;
/// Seconds between two of its blocks.
pub const L1_BLOCK_TIME_SECONDS: u64 = 2;
/// Blocks of an epoch: a block is safe one epoch later, finalized two.
const EPOCH_BLOCKS: u64 = 4;
/// Gas of a deposit or of a change of a configuration.
const CALL_GAS: u64 = 300_000;

/// A user deposit.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// Who gets it on L2.
    pub to: Address,
    /// Wei that are minted on L2 and sent on.
    pub value: u64,
    /// Gas on L2.
    pub gas: u64,
    /// Call data.
    pub data: Bytes,
}

/// Block 0.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Start {
    #[serde(deserialize_with = "json_rpc::hash")]
    pub(super) hash: B256,
    timestamp: String,
}

/// The L1.
#[derive(Clone, Debug)]
pub struct L1 {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Directory of its files.
    pub directory: PathBuf,
    /// Timestamp of block 0, seconds since 1970.
    pub genesis_time: u64,
    rpc: JsonRpc,
}

impl L1 {
    pub(super) fn new(port: u16, directory: PathBuf, genesis_time: u64) -> Self {
        let rpc = JsonRpc::new(format!("http://127.0.0.1:{port}"));
        Self { port, directory, genesis_time, rpc }
    }

    /// Its JSON-RPC, HTTP and WebSocket on one port.
    #[must_use]
    pub const fn rpc(&self) -> &JsonRpc {
        &self.rpc
    }

    /// Its chain configuration, for op-node.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("l1-config.json")
    }

    /// Writes its genesis; `signers` are the chains' unsafe block signers.
    pub(super) fn genesis(
        &self,
        peers: &Peers,
        logs: &Path,
        signers: &[(u64, Address)],
        funded: &[Address],
    ) -> Program {
        let mut arguments = words(&["l1", "-out", &shown(&self.directory)]);
        arguments.extend(words(&["-time", &self.genesis_time.to_string()]));
        for (chain, signer) in signers {
            arguments.extend(words(&["-chain", &format!("{chain}={signer}")]));
        }
        arguments.extend(words(&["-fund", &listed(funded)]));
        Program {
            name: "genesis of L1".to_owned(),
            file: peers.file("genesis"),
            arguments,
            log: logs.join("genesis.log"),
            home: None,
        }
    }

    pub(super) fn anvil(&self, peers: &Peers, logs: &Path) -> Program {
        let genesis = self.directory.join("l1-genesis.json");
        let mut arguments = words(&["--host=127.0.0.1", "--hardfork=prague", "--quiet"]);
        arguments.extend([
            format!("--port={}", self.port),
            format!("--chain-id={L1_CHAIN}"),
            format!("--block-time={L1_BLOCK_TIME_SECONDS}"),
            format!("--slots-in-an-epoch={EPOCH_BLOCKS}"),
            format!("--init={}", shown(&genesis)),
        ]);
        Program {
            name: "anvil".to_owned(),
            file: peers.file("anvil"),
            arguments,
            log: logs.join("anvil.log"),
            home: None,
        }
    }

    /// Block 0, `None` if nobody answers yet.
    pub(super) async fn start(&self) -> Option<Start> {
        self.rpc.call("eth_getBlockByNumber", json!(["0x0", false])).await.ok()
    }

    /// Whether block 0 is the one that was asked for.
    pub(super) fn check(&self, start: &Start) -> eyre::Result<()> {
        let (got, expected) = (&start.timestamp, format!("{:#x}", self.genesis_time));
        ensure!(*got == expected, "anvil's block 0 has timestamp {got}, expected {expected}");
        Ok(())
    }

    /// Sends a deposit for a chain; returns the hash of the L1 transaction.
    ///
    /// # Errors
    /// If anvil refuses.
    pub async fn deposit(&self, chain: u64, deposit: &Deposit) -> Result<B256, CallError> {
        let value = U256::from(deposit.value).to_be_bytes::<32>();
        let mut opaque = [value, value].concat();
        opaque.extend_from_slice(&deposit.gas.to_be_bytes());
        opaque.push(0);
        opaque.extend_from_slice(&deposit.data);
        let data = [deposit.to.into_word().to_vec(), word(32), dynamic(&opaque)].concat();
        self.send(numbered(0x11, chain), &data, deposit.value).await
    }

    /// Announces a change of a chain's configuration (`ConfigUpdate`); returns the hash of the L1 transaction.
    ///
    /// # Errors
    /// If anvil refuses.
    pub async fn update_config(
        &self,
        chain: u64,
        kind: u64,
        data: &[u8],
    ) -> Result<B256, CallError> {
        let data = [word(0), word(kind), word(32), dynamic(data)].concat();
        self.send(numbered(0x22, chain), &data, 0).await
    }

    /// Replaces the last `depth` blocks. Their transactions are sent again: anvil forgets them, as a real L1 would not,
    /// and a batcher would wait for ever. Returns how many there were.
    ///
    /// # Errors
    /// If anvil does not answer or refuses.
    pub async fn reorg(&self, depth: u64) -> eyre::Result<usize> {
        let top = self.rpc.quantity("eth_blockNumber", json!([])).await?;
        let mut transactions = Vec::new();
        let first = top.checked_sub(depth).ok_or_eyre("the L1 has not as many blocks")?;
        for number in first.saturating_add(1)..=top {
            let number = json!([format!("{number:#x}"), false]);
            let block: Value = self.rpc.call("eth_getBlockByNumber", number).await?;
            let hashes = block.get("transactions").and_then(Value::as_array).cloned();
            for hash in hashes.unwrap_or_default() {
                transactions
                    .push(self.rpc.call("eth_getRawTransactionByHash", json!([hash])).await?);
            }
        }
        let _: Value = self.rpc.call("anvil_reorg", json!([depth, []])).await?;
        for raw in &transactions {
            let raw: &Value = raw;
            let sent: Result<Value, _> =
                self.rpc.call("eth_sendRawTransaction", json!([raw])).await;
            if let Err(error) = sent {
                // In a block after all, or sent again by its owner.
                tracing::debug!(%error, "a transaction of a replaced block");
            }
        }
        Ok(transactions.len())
    }

    /// From the first user, whose key anvil has.
    async fn send(&self, to: Address, data: &[u8], value: u64) -> Result<B256, CallError> {
        let from = users().first().map(|account| account.address().to_string());
        let transaction = json!({
            "from": from,
            "to": to.to_string(),
            "data": hex::encode_prefixed(data),
            "value": format!("{value:#x}"),
            "gas": format!("{CALL_GAS:#x}"),
        });
        self.rpc.hash("eth_sendTransaction", json!([transaction])).await
    }
}

/// The address of a chain's contract on L1, as `deploy/peers/genesis` numbers them: 0x11 the portal, 0x22 the system config,
/// 0xff the batch inbox.
#[must_use]
pub fn numbered(kind: u8, chain: u64) -> Address {
    let mut bytes = [0; 20];
    if let Some(first) = bytes.first_mut() {
        *first = kind;
    }
    if let Some(last) = bytes.get_mut(12..) {
        last.copy_from_slice(&chain.to_be_bytes());
    }
    bytes.into()
}

/// A number as a word of the ABI.
fn word(number: u64) -> Vec<u8> {
    U256::from(number).to_be_bytes::<32>().to_vec()
}

/// Bytes as the ABI has them: length, bytes, zeros up to a word's end.
fn dynamic(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = word(bytes.len() as u64);
    encoded.extend_from_slice(bytes);
    encoded.resize(encoded.len().next_multiple_of(32), 0);
    encoded
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn listed(addresses: &[Address]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn contracts_are_numbered_by_their_chain() {
        let portal = address!("1100000000000000000000000000000000000385");
        assert_eq!(numbered(0x11, 901), portal);
    }

    #[test]
    fn bytes_are_padded_to_a_word() {
        assert_eq!(dynamic(&[]), word(0));
        assert_eq!(dynamic(&[7; 32]).len(), 64);
        let encoded = dynamic(&[7; 33]);
        assert_eq!((encoded.len(), encoded[31], encoded[64], encoded[65]), (96, 33, 7, 0));
    }
}
