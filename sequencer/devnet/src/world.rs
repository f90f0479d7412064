//! A whole network on this machine: the committee's validators, an L1, and OP chains that are built from the log.
//!
//! ```text
//! anvil (L1)                                   validators ─── gRPC ──┐
//!   ▲  ▲                                                             ▼
//!   │  └── op-node ── engine API ──► sidecar ── engine API ──► op-geth      of each chain, and perhaps
//!   └───── op-batcher                   ▲                                   a verifier: op-node ─► op-geth,
//!                                    wallets                                or a standby, and op-conductors
//! ```
//!
//! Every part is a process, known by its name (`anvil`, `validator-0`, `op-geth-901`, `sidecar-901`, `op-node-901`,
//! `op-batcher-901`, `verifier-op-geth-901`, …), and can be stopped, killed and started again. The world starts now: the
//! first blocks of L1 and of the chains have the time of [`World::prepare`]. It does not go on after its end: anvil forgets.
//!
//! ```text
//! devnet/           what the log needs: see `layout`
//!   l1/             l1-genesis.json, l1-config.json
//!   901/            genesis.json, rollup.json, jwt.hex, sequencer.key, gateway.key
//!     sequencer/    sidecar.toml, gossip.key, op-geth/, sidecar/
//!     verifier/
//!   logs/           <process>.log
//!   run/            <process>: a script that starts it by hand
//! ```

pub mod accounts;
mod chain_keys;
pub mod conductor;
pub mod l1;
pub mod options;
pub mod peers;
pub mod rollup;
pub mod sidecar;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use eyre::{OptionExt as _, WrapErr as _, bail, ensure, eyre};
use futures::future::try_join_all;
use lockstep_node::clock;
use lockstep_node::genesis::{ChainEntry, Kind};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::health;
use crate::layout::{Layout, Place, Plan};
use crate::ports;
use crate::process::{self, Process, Program};
use accounts::Account;
use chain_keys::ChainKeys;
use l1::L1;
use options::{Options, Verifiers};
use peers::Peers;
use rollup::{ChainOptions, Rollup, Side};

/// How long a part has to be ready.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked at meanwhile.
const START_INTERVAL: Duration = Duration::from_millis(100);

/// What a world has beside the log.
#[derive(Debug)]
struct Chains {
    peers: Peers,
    l1: L1,
    rollups: Vec<Rollup>,
    funded: Vec<Address>,
}

/// A network of processes. They end when it is dropped.
#[derive(Debug)]
pub struct World {
    /// Directory, genesis, validators' places.
    pub layout: Layout,
    logs: PathBuf,
    processes: Vec<Process>,
    chains: Option<Chains>,
}

impl World {
    /// Makes the files of a world; nothing is started.
    ///
    /// # Errors
    /// Says what is in the way (a directory in use, a process of an earlier devnet, a port), and what to do about it.
    pub fn prepare(options: &Options) -> eyre::Result<Self> {
        let has_rollups = options.peers.is_some();
        ensure!(!(has_rollups && options.keep), "a devnet with rollups cannot go on later");
        let mut directory = options.directory.clone();
        if has_rollups {
            directory = std::path::absolute(directory).wrap_err("finding the directory")?;
        }
        let genesis_time = clock::now().0 / 1_000;
        let keys: Vec<ChainKeys> = options.chains.iter().map(|_| ChainKeys::random()).collect();
        let entry = |(chain, keys): (&ChainOptions, &ChainKeys)| match has_rollups {
            true => keys.entry(chain, genesis_time),
            false => ChainEntry::new(chain.id, Kind::Evm),
        };
        let layout = Layout::prepare(&Plan {
            directory,
            validators: options.validators,
            chains: options.chains.iter().zip(&keys).map(entry).collect(),
            keep: options.keep,
            base_port: options.base_port,
            port_blocks: options.port_blocks()?,
        })?;
        let validator = |place| Process::new(Program::validator(&options.lockstep, place));
        let processes = layout.places.iter().map(validator).collect();
        let logs = layout.directory.join("logs");
        let mut world = Self { layout, logs, processes, chains: None };
        if let Some(peers) = &options.peers {
            world.prepare_chains(options, peers, genesis_time, &keys)?;
        }
        Ok(world)
    }

    fn prepare_chains(
        &mut self,
        options: &Options,
        peers: &Peers,
        genesis_time: u64,
        keys: &[ChainKeys],
    ) -> eyre::Result<()> {
        let (directory, scripts) = (&self.layout.directory, self.layout.directory.join("run"));
        for made in [&self.logs, &scripts, &directory.join("l1")] {
            fs::create_dir(made).wrap_err_with(|| format!("making {}", made.display()))?;
        }
        let first_port = |index: u16| {
            let block = options.validators.saturating_add(index);
            ports::block(self.layout.base_port, block).ok_or_eyre("there are not enough ports")
        };
        let l1 = L1::new(first_port(0)?, directory.join("l1"), genesis_time);
        let mut rollups = Vec::new();
        let chains = u16::try_from(options.chains.len()).wrap_err("counting chains")?;
        for ((index, chain), keys) in (0u16..).zip(&options.chains).zip(keys) {
            let block = index.saturating_mul(2);
            let first =
                (first_port(block.saturating_add(1))?, first_port(block.saturating_add(2))?);
            let conductors = chains.saturating_mul(2).saturating_add(index).saturating_add(1);
            let is_conducted = options.verifiers == Verifiers::Conducted;
            let conductors = is_conducted.then(|| first_port(conductors)).transpose()?;
            let first = (first.0, first.1, conductors);
            let mut rollup = keys.rollup(&self.layout, chain, first, options.verifiers)?;
            rollup.state_scheme = options.state_scheme;
            rollups.push(rollup);
        }
        let mut funded: Vec<Address> = accounts::users().iter().map(Account::address).collect();
        funded.extend(rollups.iter().map(|rollup| rollup.batcher.address()));
        funded.extend(&options.funded);
        for place in &self.layout.places {
            name_engines(place, &rollups)?;
        }
        let mut programs = vec![l1.anvil(peers, &self.logs)];
        for rollup in &rollups {
            chain_keys::write_files(&self.layout, rollup, options.when_silent)?;
            for side in rollup.sides() {
                programs.push(rollup.engine_program(peers, &self.logs, side));
                if side.has_sidecar {
                    programs.push(rollup.sidecar_program(&options.lockstep, &self.logs, side));
                }
                programs.push(rollup.node_program(peers, &self.logs, &l1, side));
                programs.extend(conductor::program(rollup, peers, &self.logs, side));
            }
            programs.push(rollup.batcher_program(peers, &self.logs, &l1));
        }
        self.processes.extend(programs.into_iter().map(Process::new));
        for process in &mut self.processes {
            process.write_script(&scripts)?;
        }
        self.chains = Some(Chains { peers: peers.clone(), l1, rollups, funded });
        Ok(())
    }

    /// Makes and starts a world: [`World::prepare`] and [`World::start`].
    ///
    /// # Errors
    /// As those.
    pub async fn started(options: &Options) -> eyre::Result<Self> {
        let mut world = Self::prepare(options)?;
        world.start(&mut |_| {}).await?;
        Ok(world)
    }

    /// Starts everything; returns when all parts answer. The chains' first blocks may still have to come. `say` is told
    /// what is being waited for, again and again.
    ///
    /// # Errors
    /// Names a part that does not start; the last lines of its log are in the message.
    pub async fn start(&mut self, say: &mut (dyn FnMut(&str) + Send)) -> eyre::Result<()> {
        for index in 0..self.layout.places.len() {
            self.process_mut(&format!("validator-{index}"))?.start()?;
        }
        if let Some(chains) = self.chains.take() {
            // Taken out while processes are started, and put back whatever came of it.
            let started = self.start_chains(&chains, say).await;
            self.chains = Some(chains);
            return started;
        }
        self.until_validators_serve(say).await
    }

    async fn start_chains(
        &mut self,
        chains: &Chains,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let Chains { peers, l1, rollups, funded } = chains;
        let signers: Vec<_> = rollups.iter().map(|one| (one.id(), one.signer.address())).collect();
        l1.genesis(peers, &self.logs, &signers, funded).run_once().await?;
        self.process_mut("anvil")?.start()?;
        let start = self.until_ready("anvil", say, async || l1.start().await).await?;
        l1.check(&start)?;
        say("the chains' genesis");
        let logs = &self.logs;
        try_join_all(rollups.iter().map(async |rollup| {
            rollup.genesis(peers, logs, (l1, start.hash), funded).run_once().await?;
            let sides = rollup.sides();
            let inits =
                sides.map(async |side| rollup.engine_init(peers, logs, side).run_once().await);
            try_join_all(inits).await
        }))
        .await?;
        let sides = || rollups.iter().flat_map(Rollup::sides);
        for side in sides() {
            self.process_mut(&side.process("op-geth"))?.start()?;
        }
        self.until_validators_serve(say).await?;
        for side in sides() {
            // Whoever asks an engine too early, ends.
            self.until_engine_answers(side, say).await?;
            if side.has_sidecar {
                self.process_mut(&side.process("sidecar"))?.start()?;
            }
        }
        for side in sides() {
            if side.has_sidecar {
                self.until_listening(&side.process("sidecar"), side.ports.sidecar, say).await?;
            }
            self.process_mut(&side.process("op-node"))?.start()?;
            if side.conductor.is_some() {
                // The standby's finds it at once, or looks again after half a minute: without a peer it is not healthy.
                self.until_node_answers(side, say).await?;
            }
        }
        for side in sides() {
            self.until_node_answers(side, say).await?;
        }
        for rollup in rollups {
            self.start_conductors(rollup, say).await?;
            self.process_mut(&format!("op-batcher-{}", rollup.id()))?.start()?;
        }
        Ok(())
    }

    async fn until_validators_serve(
        &mut self,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let ports: Vec<u16> = self.layout.places.iter().map(|place| place.ports.http).collect();
        for (index, port) in ports.into_iter().enumerate() {
            let serving = async || {
                let health = health::ask(port).await?;
                (health.state == "serving").then_some(())
            };
            self.until_ready(&format!("validator-{index}"), say, serving).await?;
        }
        Ok(())
    }

    async fn until_engine_answers(
        &mut self,
        side: &Side,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let answers = async || {
            side.engine().quantity("eth_chainId", serde_json::json!([])).await.map(drop).ok()
        };
        self.until_ready(&side.process("op-geth"), say, answers).await
    }

    async fn until_node_answers(
        &mut self,
        side: &Side,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let answers = async || side.heads().await.map(drop).ok();
        self.until_ready(&side.process("op-node"), say, answers).await
    }

    /// Returns when the chain's sequencer makes blocks, and its standby may.
    async fn start_conductors(
        &mut self,
        rollup: &Rollup,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let conducted = rollup.sides().filter_map(|side| Some((side, side.conductor.as_ref()?)));
        let conducted: Vec<_> = conducted.collect();
        for (side, conductor) in &conducted {
            let name = side.process("op-conductor");
            self.process_mut(&name)?.start()?;
            let answers = async || conductor.look(side).await.map(drop).ok();
            self.until_ready(&name, say, answers).await?;
        }
        if let [(first, leader), (_, other)] = conducted.as_slice() {
            let gathered = async || leader.gather(first, other).await.ok().filter(|done| *done);
            self.until_ready(&first.process("op-conductor"), say, gathered).await?;
        }
        Ok(())
    }

    async fn until_listening(
        &mut self,
        name: &str,
        port: u16,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> eyre::Result<()> {
        let listening = async || TcpStream::connect(("127.0.0.1", port)).await.map(drop).ok();
        self.until_ready(name, say, listening).await
    }

    /// Waits until `look` finds something; fails as soon as the process has ended.
    async fn until_ready<T>(
        &mut self,
        name: &str,
        say: &mut (dyn FnMut(&str) + Send),
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> eyre::Result<T> {
        let deadline = Instant::now().checked_add(START_PATIENCE);
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            let process = self.process_mut(name)?;
            let is_late = deadline.is_none_or(|deadline| Instant::now() >= deadline);
            if is_late || !process.is_running() {
                let program = process.program();
                let (log, words) = (program.log.display(), program.last_words());
                let seconds = START_PATIENCE.as_secs();
                match is_late {
                    true => {
                        bail!("{name} is not ready after {seconds} s; the end of {log}:\n{words}")
                    }
                    false => bail!("{name} ended at its start; the end of {log}:\n{words}"),
                }
            }
            say(name);
            sleep(START_INTERVAL).await;
        }
    }

    /// All processes, the validators first.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// All processes, to be asked whether they run.
    pub fn processes_mut(&mut self) -> &mut [Process] {
        &mut self.processes
    }

    /// A process by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn process_mut(&mut self, name: &str) -> eyre::Result<&mut Process> {
        let found = self.processes.iter_mut().find(|process| process.name() == name);
        found.ok_or_else(|| eyre!("this world has no process {name}"))
    }

    /// Starts a process again; whether it is ready is the caller's to find out.
    ///
    /// # Errors
    /// If it runs, or cannot be started.
    pub fn start_process(&mut self, name: &str) -> eyre::Result<()> {
        self.process_mut(name)?.start()
    }

    /// Asks a process to end, and makes it if it does not.
    ///
    /// # Errors
    /// If it runs even then.
    pub async fn stop_process(&mut self, name: &str) -> eyre::Result<()> {
        self.process_mut(name)?.stop().await
    }

    /// `kill -9`; returns when the process is gone.
    ///
    /// # Errors
    /// If it runs even then.
    pub async fn kill_process(&mut self, name: &str) -> eyre::Result<()> {
        self.process_mut(name)?.kill().await
    }

    /// The L1, if there is one.
    #[must_use]
    pub fn l1(&self) -> Option<&L1> {
        self.chains.as_ref().map(|chains| &chains.l1)
    }

    /// The chains that are built; none if the log is alone.
    #[must_use]
    pub fn rollups(&self) -> &[Rollup] {
        self.chains.as_ref().map(|chains| chains.rollups.as_slice()).unwrap_or_default()
    }

    /// A chain by its id.
    ///
    /// # Errors
    /// If this world does not build it.
    pub fn rollup(&self, id: u64) -> eyre::Result<&Rollup> {
        let found = self.rollups().iter().find(|rollup| rollup.id() == id);
        found.ok_or_else(|| eyre!("this world does not build chain {id}"))
    }

    /// gRPC URLs of the validators.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.layout.places.iter().map(Place::endpoint).collect()
    }

    /// Stops every process.
    ///
    /// # Errors
    /// Names one that cannot be stopped.
    pub async fn stop(&mut self) -> eyre::Result<()> {
        // A batcher would wait for its transactions on an L1 that goes away at the same time.
        for process in &mut self.processes {
            if process.name().starts_with("op-batcher-") {
                process.kill().await?;
            }
        }
        process::stop(&mut self.processes).await
    }
}

/// Lets a validator ask the chains' engines what became of entries.
fn name_engines(place: &Place, rollups: &[Rollup]) -> eyre::Result<()> {
    let mut text = fs::read_to_string(&place.config).wrap_err("reading a validator's options")?;
    for rollup in rollups {
        let (chain, url) = (rollup.id(), rollup.sequencer.engine().url());
        text.push_str(&format!("\n[[chain_rpc]]\nchain = {chain}\nurl = \"{url}\"\n"));
    }
    fs::write(&place.config, text).wrap_err("writing a validator's options")
}

/// Waits until `look` finds something.
///
/// # Errors
/// Says what did not happen within `patience`.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> eyre::Result<T> {
    let deadline = Instant::now().checked_add(patience);
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        let is_late = deadline.is_none_or(|deadline| Instant::now() >= deadline);
        ensure!(!is_late, "not within {patience:?}: {what}");
        sleep(START_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
