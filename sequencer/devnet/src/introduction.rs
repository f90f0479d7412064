//! What a user of a devnet needs to know once: where everything is, who has money, how to break and mend it.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::process::{self, Process};
use crate::world::World;
use crate::world::accounts::{self, Account};
use crate::world::l1::L1_CHAIN;
use crate::world::rollup::Rollup;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Introduction {
    network: String,
    directory: String,
    is_resumed: bool,
    /// The chains of the network.
    chains: Vec<u64>,
    validators: Vec<ValidatorIntroduced>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l1: Option<L1Introduced>,
    /// Those of the chains that are built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rollups: Vec<RollupIntroduced>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<AccountIntroduced>,
    processes: Vec<ProcessIntroduced>,
    verify: String,
}

/// One validator.
#[derive(Debug, Serialize)]
struct ValidatorIntroduced {
    index: u16,
    mesh: u16,
    grpc: String,
    health: String,
    metrics: String,
    log: String,
}

/// The L1.
#[derive(Debug, Serialize)]
struct L1Introduced {
    chain: u64,
    rpc: String,
}

/// One OP chain.
#[derive(Debug, Serialize)]
struct RollupIntroduced {
    chain: u64,
    block_time_seconds: u64,
    wallet: String,
    wallet_ws: String,
    engine: String,
    node: String,
    portal: String,
}

/// A funded account.
#[derive(Debug, Serialize)]
struct AccountIntroduced {
    address: String,
    private_key: String,
}

/// One process.
#[derive(Debug, Serialize)]
struct ProcessIntroduced {
    name: String,
    pid: Option<u32>,
    /// Starts it again after it was stopped or killed.
    start: String,
    log: String,
}

impl Introduction {
    /// Of a world that runs.
    #[must_use]
    pub fn of(world: &World, lockstep: &str) -> Self {
        let layout = &world.layout;
        let endpoint = world.endpoints().into_iter().next().unwrap_or_default();
        let genesis = process::quoted(&layout.genesis_file.display().to_string());
        let has_rollups = world.l1().is_some();
        let users = if has_rollups { accounts::users() } else { Vec::new() };
        Self {
            network: layout.genesis.network_id().to_string(),
            directory: layout.directory.display().to_string(),
            is_resumed: layout.is_resumed,
            chains: layout.genesis.chains.iter().map(|chain| chain.id.0).collect(),
            validators: layout.places.iter().map(ValidatorIntroduced::of).collect(),
            l1: world
                .l1()
                .map(|l1| L1Introduced { chain: L1_CHAIN, rpc: l1.rpc().url().to_owned() }),
            rollups: world.rollups().iter().map(RollupIntroduced::of).collect(),
            accounts: users.iter().map(AccountIntroduced::of).collect(),
            processes: world.processes().iter().map(ProcessIntroduced::of).collect(),
            verify: format!("{lockstep} verify --endpoint {endpoint} --genesis {genesis} --follow"),
        }
    }
}

impl ValidatorIntroduced {
    fn of(place: &crate::layout::Place) -> Self {
        let http = format!("http://127.0.0.1:{}", place.ports.http);
        Self {
            index: place.index,
            mesh: place.ports.mesh,
            grpc: place.endpoint(),
            health: format!("{http}/healthz"),
            metrics: format!("{http}/metrics"),
            log: place.log.display().to_string(),
        }
    }
}

impl RollupIntroduced {
    fn of(rollup: &Rollup) -> Self {
        Self {
            chain: rollup.id(),
            block_time_seconds: rollup.options.block_time_seconds,
            wallet: rollup.wallet_url(),
            wallet_ws: rollup.wallet_ws_url(),
            engine: rollup.sequencer.engine().url().to_owned(),
            node: rollup.sequencer.node().url().to_owned(),
            portal: rollup.portal().to_string(),
        }
    }
}

impl AccountIntroduced {
    fn of(account: &Account) -> Self {
        let private_key = format!("0x{}", account.secret_hex());
        Self { address: account.address().to_string(), private_key }
    }
}

impl ProcessIntroduced {
    fn of(process: &Process) -> Self {
        Self {
            name: process.name().to_owned(),
            pid: process.pid(),
            start: process.start_line(),
            log: process.program().log.display().to_string(),
        }
    }
}

impl Display for Introduction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let chains: Vec<String> = self.chains.iter().map(ToString::to_string).collect();
        writeln!(f, "network {}", self.network)?;
        let data = if self.is_resumed { "kept data" } else { "fresh data" };
        writeln!(f, "chains {}; {data} in {}", chains.join(", "), self.directory)?;
        for one in &self.validators {
            let ValidatorIntroduced { index, mesh, grpc, health, metrics, .. } = one;
            writeln!(f, "validator {index}")?;
            writeln!(f, "  gRPC {grpc}  mesh 127.0.0.1:{mesh}")?;
            writeln!(f, "  {health}  {metrics}")?;
        }
        self.write_chains(f)?;
        writeln!(f, "\nlogs:")?;
        for ProcessIntroduced { log, .. } in &self.processes {
            writeln!(f, "  {log}")?;
        }
        writeln!(f, "\nkill a process, and start it again:")?;
        for one in &self.processes {
            let pid = one.pid.map_or_else(String::new, |pid| format!("kill -9 {pid};  "));
            writeln!(f, "  {pid}{}", one.start)?;
        }
        writeln!(f, "\nverify what any validator says, trusting the genesis alone:")?;
        writeln!(f, "  {}", self.verify)?;
        write!(f, "\nCtrl-C stops all")
    }
}

impl Introduction {
    fn write_chains(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(L1Introduced { chain, rpc }) = &self.l1 {
            writeln!(f, "L1, chain {chain}\n  {rpc}")?;
        }
        for one in &self.rollups {
            let RollupIntroduced { chain, block_time_seconds, wallet, wallet_ws, .. } = one;
            writeln!(f, "chain {chain}, a block every {block_time_seconds} s")?;
            writeln!(f, "  wallets {wallet}  {wallet_ws}")?;
            writeln!(
                f,
                "  op-geth {}  op-node {}  portal on L1 {}",
                one.engine, one.node, one.portal
            )?;
        }
        if !self.accounts.is_empty() {
            writeln!(
                f,
                "\naccounts with a million ETH on L1 and on each chain (the keys are public):"
            )?;
        }
        for AccountIntroduced { address, private_key } in &self.accounts {
            writeln!(f, "  {address}  {private_key}")?;
        }
        Ok(())
    }
}
