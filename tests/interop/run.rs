//! A world for one scenario, and what scenarios ask of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::types::{ChainId, UnixMillis};
use lockstep_devnet::json_rpc::JsonRpc;
use lockstep_devnet::world::accounts::Account;
use lockstep_devnet::world::options::{Options, Verifiers};
use lockstep_devnet::world::peers::Peers;
use lockstep_devnet::world::rollup::{ChainOptions, Rollup, Side};
use lockstep_devnet::world::{World, until};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a condition may take that has no time of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Accounts that every scenario may spend from.
pub(crate) const ACCOUNTS: usize = 60;

/// A running world. Its processes end when it is dropped; the directory stays if the scenario failed.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) accounts: Vec<Account>,
    directory: Option<tempfile::TempDir>,
}

/// A block of a chain, as its engine has it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
    /// Hashes of all transactions, deposits first.
    pub(crate) transactions: Vec<B256>,
}

impl Run {
    /// Starts a world with these chains, `(id, block time in seconds)`.
    pub(crate) async fn start(
        name: &str,
        chains: &[(u64, u64)],
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let peers = Peers::from_environment()
            .unwrap_or_else(|error| panic!("the real programs are missing: {error:#}"));
        let lockstep = PathBuf::from(
            std::env::var_os("LOCKSTEP_BIN").expect("LOCKSTEP_BIN names the program; see Makefile"),
        );
        let directory = tempfile::Builder::new()
            .prefix(&format!("lockstep-interop-{name}-"))
            .tempdir()
            .expect("a directory");
        let accounts: Vec<Account> =
            (0..ACCOUNTS).map(|index| Account::of_purpose(&format!("interop {index}"))).collect();
        let mut options = Options::new(directory.path().join("world"), lockstep, Some(peers));
        options.chains = chains
            .iter()
            .map(|(id, seconds)| ChainOptions { id: *id, block_time_seconds: *seconds })
            .collect();
        options.funded = accounts.iter().map(Account::address).collect();
        change(&mut options);
        eprintln!("{name}: {}", directory.path().display());
        let world = World::started(&options).await;
        let world = match world {
            Ok(world) => world,
            Err(error) => {
                let kept = directory.keep();
                panic!("{name}: the world does not start (logs in {}): {error:#}", kept.display());
            }
        };
        Self { world, accounts, directory: Some(directory) }
    }

    /// A world of one chain.
    pub(crate) async fn one(name: &str, seconds: u64) -> Self {
        Self::start(name, &[(901, seconds)], |_| {}).await
    }

    /// A world of one chain with a stock replica.
    pub(crate) async fn replicated(name: &str, seconds: u64) -> Self {
        Self::start(name, &[(901, seconds)], |options| options.verifiers = Verifiers::Stock).await
    }

    pub(crate) fn chain(&self, id: u64) -> &Rollup {
        self.world.rollup(id).expect("the chain")
    }

    /// Ends the scenario well: stops everything.
    pub(crate) async fn end(mut self) {
        self.world.stop().await.expect("every process ends");
        self.directory.take();
    }

    /// Waits until the chain's head is at least `number`.
    pub(crate) async fn head_at(&self, id: u64, number: u64, patience: Duration) -> Block {
        let side = &self.chain(id).sequencer;
        until(&format!("block {number} of chain {id}"), patience, async || {
            let head = head(side).await?;
            (head.number >= number).then_some(head)
        })
        .await
        .unwrap()
    }

    /// Waits for `count` more blocks.
    pub(crate) async fn more_blocks(&self, id: u64, count: u64, patience: Duration) -> Block {
        let now = head(&self.chain(id).sequencer).await.map_or(0, |block| block.number);
        self.head_at(id, now + count, patience).await
    }

    /// Sends a signed transaction to a chain's public port; gives its hash.
    pub(crate) async fn send(&self, id: u64, raw: &Bytes) -> B256 {
        let wallet = JsonRpc::new(self.chain(id).wallet_url());
        let hash: Value = wallet
            .call("eth_sendRawTransaction", json!([raw]))
            .await
            .unwrap_or_else(|error| panic!("chain {id} refused a transaction: {error}"));
        let hash: B256 = serde_json::from_value(hash).expect("a hash");
        assert_eq!(hash, keccak256(raw), "the port answers with the transaction's hash");
        hash
    }

    /// Waits until a transaction is in a block; gives the block's number.
    pub(crate) async fn landed(&self, id: u64, hash: B256, patience: Duration) -> u64 {
        let side = &self.chain(id).sequencer;
        until(&format!("transaction {hash} in a block of chain {id}"), patience, async || {
            side.landed(hash).await.ok().flatten()
        })
        .await
        .unwrap()
    }

    /// Waits until the safe head is at least `number`, so that L1 has the blocks up to there.
    pub(crate) async fn safe_at(&self, side: &Side, number: u64, patience: Duration) {
        until(
            &format!("block {number} safe at {}", side.process("op-node")),
            patience,
            async || {
                let heads = side.heads().await.ok()?;
                (heads.safe_head.number >= number).then_some(())
            },
        )
        .await
        .unwrap();
    }

    /// All blocks of a side from 1 to its head.
    pub(crate) async fn blocks(&self, side: &Side) -> Vec<Block> {
        let head = head(side).await.expect("a head").number;
        let mut blocks = Vec::new();
        for number in 1..=head {
            blocks.push(block(side, &format!("{number:#x}")).await.expect("a block"));
        }
        blocks
    }

    /// Compares a replica with the sequencer, block by block up to `number`.
    pub(crate) async fn expect_same(&self, id: u64, number: u64) {
        let chain = self.chain(id);
        let verifier = chain.verifier.as_ref().expect("a replica");
        for number in 1..=number {
            let tag = format!("{number:#x}");
            let (ours, theirs) = (block(&chain.sequencer, &tag).await, block(verifier, &tag).await);
            assert_eq!(
                ours.map(|block| block.hash),
                theirs.map(|block| block.hash),
                "block {number} of chain {id}"
            );
        }
    }

    /// Every transaction of `sent` is in the chain exactly once, and its blocks are what the log says.
    pub(crate) async fn expect_landed_once(&self, id: u64, sent: &[B256]) {
        let blocks = self.blocks(&self.chain(id).sequencer).await;
        let mut count = std::collections::BTreeMap::new();
        for hash in blocks.iter().flat_map(|block| &block.transactions) {
            *count.entry(*hash).or_insert(0u32) += 1;
        }
        let wrong: Vec<_> = sent.iter().filter(|hash| count.get(*hash) != Some(&1)).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} transactions are not in chain {id} exactly once: {:?}",
            wrong.len(),
            sent.len(),
            &wrong[..wrong.len().min(5)]
        );
    }

    /// Runs the auditor over all of a chain: its blocks are deposits and offered items, in order.
    pub(crate) fn expect_audited(&self, id: u64) {
        let chain = self.chain(id);
        let mut audit = Command::new(std::env::var_os("LOCKSTEP_BIN").expect("the program"));
        audit.args([
            "audit",
            "--json",
            "--chain",
            &id.to_string(),
            "--rpc",
            chain.sequencer.engine().url(),
            "--from",
            "1",
        ]);
        audit.arg("--genesis").arg(&self.world.layout.genesis_file);
        for endpoint in self.world.endpoints() {
            audit.args(["--endpoint", &endpoint]);
        }
        let output = audit.output().expect("the auditor runs");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "the auditor of chain {id} found something: {said}");
        eprintln!("audit of {id}: {}", said.lines().last().unwrap_or_default());
    }

    /// A transfer by the account with this number; the nonce is the caller's.
    pub(crate) fn transfer(&self, id: u64, account: usize, nonce: u64) -> Bytes {
        self.accounts[account].transfer(id, nonce, Address::repeat_byte(0x77), 1)
    }

    /// A transaction as an entry, admitted by the chain's gateway as if its engine had not been asked.
    pub(crate) fn admitted(&self, id: u64, bytes: Bytes) -> Entry {
        let transaction = Transaction { chain: ChainId(id), kind: ChainKind::Evm, bytes };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let expires = UnixMillis(now.as_millis() as u64 + 30_000);
        let entry = Entry::new(Body::Transaction(transaction), expires, None).expect("an entry");
        let network = self.world.layout.genesis.network_id();
        entry.admitted_by(network, self.chain(id).gateway_key.key()).expect("an admitted entry")
    }

    /// Seconds of processor time that a process has used so far.
    pub(crate) fn cpu_seconds(&self, name: &str) -> f64 {
        let process = self.world.processes().iter().find(|process| process.name() == name);
        let pid = process.and_then(|process| process.pid()).expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
        // After the name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| {
            fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0)
        };
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The sidecar's metrics, by name and labels as Prometheus writes them.
    pub(crate) async fn metrics(&self, id: u64) -> Metrics {
        let port = self.chain(id).sequencer.ports.health;
        let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics"))
            .await
            .expect("metrics")
            .text()
            .await
            .expect("text");
        Metrics(text)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("the world's logs are kept in {}", directory.keep().display());
        }
    }
}

/// Metrics in Prometheus' text format.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The value of a series, named with its labels.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let line = self
            .0
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next())
            .and_then(|value| value.parse().ok())
            .unwrap_or(0.0)
    }

    /// What came since an earlier look. The first blocks of a chain are late by nature: op-node catches up with its clock.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let grown = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let value = value.parse::<f64>().ok()? - earlier.get(series);
            Some(format!("{series} {value}\n"))
        };
        Self(self.0.lines().filter(|line| !line.starts_with('#')).filter_map(grown).collect())
    }

    /// The least bound of a histogram below which this share of its observations lies.
    pub(crate) fn quantile(&self, histogram: &str, share: f64) -> String {
        let wanted = self.get(&format!("{histogram}_count")) * share;
        let prefix = format!("{histogram}_bucket{{le=\"");
        let mut bounds = self.0.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((bound.to_owned(), count.parse::<f64>().ok()?))
        });
        bounds.find(|(_, count)| *count >= wanted).map_or("?".to_owned(), |(bound, _)| bound)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBlock {
    number: String,
    hash: B256,
    timestamp: String,
    transactions: Vec<B256>,
}

/// The block of a side with this tag, or number in hex.
pub(crate) async fn block(side: &Side, tag: &str) -> Option<Block> {
    let raw: Option<RawBlock> =
        side.engine().call("eth_getBlockByNumber", json!([tag, false])).await.ok()?;
    let raw = raw?;
    let quantity = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Some(Block {
        number: quantity(&raw.number)?,
        hash: raw.hash,
        timestamp: quantity(&raw.timestamp)?,
        transactions: raw.transactions,
    })
}

/// A side's head.
pub(crate) async fn head(side: &Side) -> Option<Block> {
    block(side, "latest").await
}

/// An account's balance on a side.
pub(crate) async fn balance(side: &Side, address: Address) -> U256 {
    let answer: Value =
        side.engine().call("eth_getBalance", json!([address, "latest"])).await.expect("a balance");
    serde_json::from_value(answer).expect("a quantity")
}
