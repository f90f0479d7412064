//! A devnet's directory: what is where, made fresh or found again.
//!
//! ```text
//! devnet/            lock        the process that has it
//!   devnet.toml      what the devnet is; a directory without it is not ours to remove
//!   genesis.toml
//!   validator-0/     node.toml, keys/, home/{data, guard}/, node.log
//! ```
//!
//! What else is in it when the chains have blocks says [`world`](crate::world).

use std::fs;
use std::path::{Path, PathBuf};

use eyre::{WrapErr as _, bail, ensure};
use lockstep_consensus::guard::Origin;
use lockstep_core::params::Genesis;
use lockstep_node::clock;
use lockstep_node::config::{
    GrpcOptions, HttpOptions, LogOptions, NodeConfig, NodeOptions, QuotaOptions, ValidatorOptions,
};
use lockstep_node::genesis::{ChainEntry, GenesisFile, Kind, ParamsEntry, ValidatorEntry, entry};
use lockstep_node::home::{self, Home};
use lockstep_node::init;
use lockstep_node::keys;
use lockstep_node::toml_file::write_new;
use serde::{Deserialize, Serialize};

use crate::ports::{self, Ports};
use crate::process;

/// Id of the first chain; the others follow.
pub const FIRST_CHAIN: u64 = 901;
/// What else may run on a devnet's files than its validators.
const PROGRAMS: [&str; 6] =
    ["anvil", "op-geth", "op-node", "op-batcher", "op-conductor", "sidecar"];
/// Name of the file that says what a devnet is.
const DEVNET: &str = "devnet.toml";
/// Name of the genesis' file.
const GENESIS: &str = "genesis.toml";
/// Submissions per second that one client may make: the load comes from one address.
const SUBMISSIONS_PER_SECOND: u64 = 200_000;
/// Bytes per second that one client may submit.
const BYTES_PER_SECOND: u64 = 256 << 20;

/// What a devnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    /// How many validators.
    validators: u16,
    /// How many chains.
    chains: u16,
    /// First port.
    base_port: u16,
    /// Whether its data is kept.
    keep: bool,
}

/// What is to be made, or found again.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Directory of keys, options, data and logs.
    pub directory: PathBuf,
    /// How many validators.
    pub validators: u16,
    /// The chains.
    pub chains: Vec<ChainEntry>,
    /// Whether the data is kept at the end.
    pub keep: bool,
    /// First port; `None`: the first of a few bases with free ports.
    pub base_port: Option<u16>,
    /// Blocks of ports that other parts need behind the validators'.
    pub port_blocks: u16,
}

impl Plan {
    /// Chains with ids from [`FIRST_CHAIN`] on, open to everybody, that are built by nobody.
    #[must_use]
    pub fn open_chains(count: u16) -> Vec<ChainEntry> {
        (FIRST_CHAIN..).take(count.into()).map(|id| ChainEntry::new(id, Kind::Evm)).collect()
    }

    fn chain_count(&self) -> u16 {
        u16::try_from(self.chains.len()).unwrap_or(u16::MAX)
    }
}

/// Where one validator's things are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number, from 0.
    pub index: u16,
    /// Its ports on 127.0.0.1.
    pub ports: Ports,
    /// Its options.
    pub config: PathBuf,
    /// What it writes; locked while it runs.
    pub home: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

impl Place {
    fn of(directory: &Path, index: u16, ports: Ports) -> Self {
        let own = directory.join(format!("validator-{index}"));
        Self {
            index,
            ports,
            config: own.join("node.toml"),
            home: own.join("home"),
            log: own.join("node.log"),
        }
    }

    /// Its gRPC endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.grpc)
    }
}

/// A devnet's directory, taken by this process.
#[derive(Debug)]
pub struct Layout {
    /// The directory, as the user named it.
    pub directory: PathBuf,
    /// The genesis' file.
    pub genesis_file: PathBuf,
    /// The genesis.
    pub genesis: Genesis,
    /// The validators' places.
    pub places: Vec<Place>,
    /// Whether the data was there before.
    pub is_resumed: bool,
    /// First port.
    pub base_port: u16,
    keep: bool,
    _home: Home,
}

impl Layout {
    /// Takes the directory, and makes what is not there: keys, genesis, options. Nothing is started.
    ///
    /// # Errors
    /// Says what is in the way (a directory in use, a stale process, a port, other data), and what to do about it.
    pub fn prepare(plan: &Plan) -> eyre::Result<Self> {
        let directory = &plan.directory;
        if directory.exists() {
            // Before anything is written into a directory that is not ours.
            Marker::find(directory)?;
        }
        let home = Home::lock(directory).wrap_err("another devnet has the directory")?;
        let found = Marker::find(directory)?;
        let marker = match found {
            Some(marker) => {
                refuse_stale(directory, marker)?;
                marker.resume(plan)?
            }
            None => None,
        };
        let is_resumed = marker.is_some();
        let marker = match marker {
            Some(marker) => {
                ports::choose(Some(marker.base_port), marker.validators, 0)
                    .wrap_err("a kept devnet has its ports in its genesis")?;
                marker
            }
            None => {
                if found.is_some() {
                    clean(directory)?;
                }
                Marker::new(plan)?
            }
        };
        let places: Vec<Place> = (0u16..)
            .zip(ports::all(marker.base_port, marker.validators)?)
            .map(|(index, ports)| Place::of(directory, index, ports))
            .collect();
        if !is_resumed {
            marker.write(directory)?;
            make(directory, &places, &plan.chains)?;
        }
        let genesis_file = directory.join(GENESIS);
        let genesis = GenesisFile::load(&genesis_file)?;
        let (directory, base_port, keep) = (directory.clone(), marker.base_port, plan.keep);
        Ok(Self {
            directory,
            genesis_file,
            genesis,
            places,
            is_resumed,
            base_port,
            keep,
            _home: home,
        })
    }

    /// Ends the devnet's use of the directory: removes it, unless it is kept.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn finish(self) -> eyre::Result<()> {
        if self.keep {
            return Ok(());
        }
        home::remove(&self.directory)
            .wrap_err_with(|| format!("removing {}", self.directory.display()))
    }
}

impl Marker {
    /// What a fresh devnet is; its ports are free now.
    fn new(plan: &Plan) -> eyre::Result<Self> {
        let (validators, chains) = (plan.validators, plan.chain_count());
        let base_port = ports::choose(plan.base_port, validators, plan.port_blocks)?;
        Ok(Self { validators, chains, base_port, keep: plan.keep })
    }

    /// What the directory says it is.
    fn find(directory: &Path) -> eyre::Result<Option<Self>> {
        let path = directory.join(DEVNET);
        if path.exists() {
            let text = fs::read_to_string(&path)
                .wrap_err_with(|| format!("reading {}", path.display()))?;
            let marker =
                toml::from_str(&text).wrap_err_with(|| format!("reading {}", path.display()))?;
            return Ok(Some(marker));
        }
        let mut files =
            fs::read_dir(directory).wrap_err_with(|| format!("reading {}", directory.display()))?;
        let has_others = files.any(|file| file.map_or(true, |file| file.file_name() != "lock"));
        ensure!(
            !has_others,
            "{} has files in it and is not a devnet's: choose another --dir",
            directory.display()
        );
        Ok(None)
    }

    /// The devnet to go on with: `None` if what is there may be removed.
    fn resume(self, plan: &Plan) -> eyre::Result<Option<Self>> {
        let shown = plan.directory.display();
        if !self.keep {
            // What an earlier run without --keep left behind when it was killed.
            return Ok(None);
        }
        ensure!(
            plan.keep,
            "{shown} has data that --keep kept: use it with --keep, remove it, or choose another --dir"
        );
        if (self.validators, self.chains) != (plan.validators, plan.chain_count()) {
            bail!(
                "the devnet in {shown} has {} validators and {} chains: use --validators {} --chains {}, \
                 or choose another --dir",
                self.validators,
                self.chains,
                self.validators,
                self.chains
            );
        }
        if let Some(base) = plan.base_port {
            let has = self.base_port;
            ensure!(base == has, "the devnet in {shown} has --base-port {has}, in its genesis");
        }
        Ok(Some(self))
    }

    fn write(&self, directory: &Path) -> eyre::Result<()> {
        write_new(&directory.join(DEVNET), &toml::to_string(self)?)
    }
}

/// Refuses to go on while a validator of an earlier devnet still runs.
fn refuse_stale(directory: &Path, marker: Marker) -> eyre::Result<()> {
    for (index, ports) in (0u16..).zip(ports::all(marker.base_port, marker.validators)?) {
        let place = Place::of(directory, index, ports);
        let Some(pid) = Home::owner(&place.home) else { continue };
        let Some(pid) = pid else {
            bail!("validator {index} of an earlier devnet is just starting")
        };
        bail!("validator {index} of an earlier devnet still runs: stop it with `kill {pid}`");
    }
    let directory = std::path::absolute(directory).wrap_err("finding the directory")?;
    let parts = process::using(&directory, &PROGRAMS);
    if !parts.is_empty() {
        let names: Vec<&str> = parts.iter().map(|(_, name)| name.as_str()).collect();
        let pids: Vec<String> = parts.iter().map(|(pid, _)| pid.to_string()).collect();
        let (names, pids) = (names.join(", "), pids.join(" "));
        bail!("of an earlier devnet there still run {names}: stop them with `kill {pids}`");
    }
    Ok(())
}

/// Removes what is in the directory, but not the lock.
fn clean(directory: &Path) -> eyre::Result<()> {
    for file in fs::read_dir(directory)? {
        let file = file?;
        if file.file_name() == "lock" {
            continue;
        }
        let path = file.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.wrap_err_with(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Makes keys, genesis, options and guards.
fn make(directory: &Path, places: &[Place], chains: &[ChainEntry]) -> eyre::Result<()> {
    let mut validators = Vec::new();
    for place in places {
        validators.push(make_keys(place)?);
        write_new(&place.config, &toml::to_string(&options(place))?)?;
    }
    let genesis = GenesisFile {
        name: "devnet".to_owned(),
        timestamp_ms: clock::now().0,
        params: ParamsEntry::default(),
        validators,
        chains: chains.to_vec(),
    };
    write_new(&directory.join(GENESIS), &toml::to_string(&genesis)?)?;
    for place in places {
        init::make(&NodeConfig::load(&place.config)?, Origin::Fresh).wrap_err("making a guard")?;
    }
    Ok(())
}

fn make_keys(place: &Place) -> eyre::Result<ValidatorEntry> {
    let keys = place.config.with_file_name("keys");
    keys::generate(&keys).wrap_err("making keys")?;
    entry(&keys, &format!("/ip4/127.0.0.1/tcp/{}", place.ports.mesh), 1)
}

fn options(place: &Place) -> NodeOptions {
    let loopback = |port| std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    NodeOptions {
        home: "home".into(),
        genesis: format!("../{GENESIS}").into(),
        // One machine runs all of them.
        check_threads: 1,
        validator: Some(ValidatorOptions {
            validator_key: format!("keys/{}", keys::VALIDATOR_KEY).into(),
            network_key: format!("keys/{}", keys::NETWORK_KEY).into(),
            listen: format!("/ip4/127.0.0.1/tcp/{}", place.ports.mesh),
            batch_delay_ms: 10,
            guard_dir: None,
            wal_dir: None,
            status_interval_ms: 1_000,
        }),
        follow: None,
        grpc: GrpcOptions {
            listen: loopback(place.ports.grpc),
            reflection: true,
            quota: QuotaOptions {
                submissions_per_second: SUBMISSIONS_PER_SECOND,
                bytes_per_second: BYTES_PER_SECOND,
            },
            ..GrpcOptions::default()
        },
        http: HttpOptions { listen: loopback(place.ports.http), insecure: false },
        log: LogOptions::default(),
        faults: lockstep_node::config::FaultOptions::default(),
        chain_rpc: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
