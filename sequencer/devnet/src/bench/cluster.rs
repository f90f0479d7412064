//! Four validators as processes, with the options a row asks for.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eyre::{WrapErr as _, bail};
use lockstep_consensus::guard::Origin;
use lockstep_core::types::NetworkId;
use lockstep_node::config::{NodeConfig, NodeOptions, QuotaOptions, Role};
use lockstep_node::genesis::{ChainEntry, GenesisFile};
use lockstep_node::init;

use crate::health;
use crate::layout::{Layout, Plan};
use crate::process::{self, Process, Program};

/// Validators of every row.
pub const VALIDATORS: u16 = 4;
/// How long they have to serve.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Budget of each chain that is not to bound a row.
const GAS_PER_SECOND: u64 = 4_000_000_000;
/// The same, in bytes.
const BYTES_PER_SECOND: u64 = 64 << 20;
/// What one client may submit where that is not to bound a row.
const QUOTA: QuotaOptions =
    QuotaOptions { submissions_per_second: 1_000_000, bytes_per_second: 1 << 30 };

/// What a row asks of its validators.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where keys, data and logs go.
    pub dir: PathBuf,
    /// Block interval, milliseconds.
    pub interval_ms: u64,
    /// The chains, with their budgets.
    pub chains: Vec<ChainEntry>,
    /// What one client may submit.
    pub quota: QuotaOptions,
}

impl Options {
    /// Two open chains with budgets and quotas that no row comes near: it measures the network and not them.
    #[must_use]
    pub fn unbounded(dir: PathBuf, interval_ms: u64) -> Self {
        let mut chains = Plan::open_chains(2);
        for chain in &mut chains {
            (chain.gas_per_second, chain.bytes_per_second) = (GAS_PER_SECOND, BYTES_PER_SECOND);
        }
        Self { dir, interval_ms, chains, quota: QUOTA }
    }
}

/// Running validators. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    /// Directory, genesis, ports.
    pub layout: Layout,
    /// The processes.
    pub validators: Vec<Process>,
}

impl Cluster {
    /// Makes and starts the validators; returns when all serve.
    ///
    /// # Errors
    /// If one does not start in time; its last words are in the message.
    pub async fn start(options: &Options) -> eyre::Result<Self> {
        let plan = Plan {
            directory: options.dir.clone(),
            validators: VALIDATORS,
            chains: options.chains.clone(),
            keep: false,
            base_port: None,
            port_blocks: 0,
        };
        let layout = Layout::prepare(&plan)?;
        tune(&layout, options)?;
        let program = process::own_program()?;
        let process = |place| Process::new(Program::validator(&program, place));
        let mut validators: Vec<Process> = layout.places.iter().map(process).collect();
        for validator in &mut validators {
            validator.start()?;
        }
        let mut cluster = Self { layout, validators };
        cluster.wait_until_serving().await?;
        Ok(cluster)
    }

    async fn wait_until_serving(&mut self) -> eyre::Result<()> {
        let start = Instant::now();
        for (place, validator) in self.layout.places.iter().zip(&mut self.validators) {
            loop {
                let health = health::ask(place.ports.http).await;
                if health.is_some_and(|health| health.state == "serving") {
                    break;
                }
                if !validator.is_running() || start.elapsed() > START_PATIENCE {
                    let words = validator.program().last_words();
                    bail!("{} does not serve:\n{words}", validator.name());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// gRPC URLs.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.layout.places.iter().map(crate::layout::Place::endpoint).collect()
    }

    /// Process ids.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.validators.iter().filter_map(Process::pid).collect()
    }

    /// Data directories.
    #[must_use]
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        self.layout.places.iter().map(|place| place.home.clone()).collect()
    }

    /// The network id: that of the genesis after the row's options were written into it.
    ///
    /// # Errors
    /// If the genesis can't be read.
    pub fn network(&self) -> eyre::Result<NetworkId> {
        Ok(GenesisFile::load(&self.layout.genesis_file)?.network_id())
    }

    /// Stops the validators and removes what they wrote.
    ///
    /// # Errors
    /// If one runs even after it was killed.
    pub async fn stop(mut self) -> eyre::Result<()> {
        process::stop(&mut self.validators).await?;
        self.layout.finish()
    }
}

/// Writes the row's options into the files that were made. The genesis is another one then, and so are the guards.
fn tune(layout: &Layout, row: &Options) -> eyre::Result<()> {
    let text = fs::read_to_string(&layout.genesis_file).wrap_err("reading the genesis")?;
    let mut genesis: GenesisFile = toml::from_str(&text).wrap_err("reading the genesis")?;
    genesis.params.block_interval_ms = row.interval_ms;
    fs::write(&layout.genesis_file, toml::to_string(&genesis)?).wrap_err("writing the genesis")?;
    for place in &layout.places {
        let text = fs::read_to_string(&place.config).wrap_err("reading options")?;
        let mut options: NodeOptions = toml::from_str(&text).wrap_err("reading options")?;
        options.grpc.quota = row.quota;
        fs::write(&place.config, toml::to_string(&options)?).wrap_err("writing options")?;
        let config = NodeConfig::load(&place.config)?;
        if let Role::Validator(validator) = &config.role {
            fs::remove_dir_all(&validator.guard_dir).wrap_err("removing a guard")?;
        }
        init::make(&config, Origin::Fresh).wrap_err("making a guard")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_consensus::guard::Guard;

    use super::*;
    use lockstep_node::keys;

    #[test]
    fn guards_are_of_the_genesis_that_a_row_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::unbounded(folder.path().join("bench"), 50);
        let plan = Plan {
            directory: options.dir.clone(),
            validators: VALIDATORS,
            chains: options.chains.clone(),
            keep: false,
            base_port: None,
            port_blocks: 0,
        };
        let layout = Layout::prepare(&plan).unwrap();
        tune(&layout, &options).unwrap();
        let genesis = GenesisFile::load(&layout.genesis_file).unwrap();
        assert_eq!(genesis.params.block_interval_ms, 50);
        for place in &layout.places {
            let Role::Validator(validator) = NodeConfig::load(&place.config).unwrap().role else {
                panic!("a validator")
            };
            let key = keys::read_validator_key(&validator.validator_key).unwrap();
            Guard::open(&validator.guard_dir, genesis.network_id(), key).unwrap();
        }
    }
}
