//! `lockstep genesis`: makes a genesis from validators and chains, shows it, and prints what a validator's operator
//! tells the others.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use eyre::WrapErr as _;
use lockstep_core::params::Genesis;
use lockstep_node::clock;
use lockstep_node::genesis::{
    ChainEntry, ChainList, GenesisFile, Kind, ParamsEntry, ValidatorEntry, ValidatorList, entry,
    read,
};
use lockstep_node::output::Output;
use lockstep_node::toml_file::write_new;
use serde::Serialize;

/// What to do with a genesis.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a genesis file from validators' entries and chains; never overwrites
    New(NewArgs),
    /// Check a genesis file and print what is in it, and its hash: the network id
    Show {
        /// The genesis file
        #[arg(long, value_name = "FILE", default_value = "genesis.toml")]
        genesis: PathBuf,
    },
    /// Print a validator's public data as TOML, for the genesis
    ValidatorEntry {
        /// The directory of the validator's keys
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Where others dial it, without the peer id: /ip4/…/tcp/… or /dns4/…/tcp/…
        #[arg(long, value_name = "MULTIADDR")]
        address: String,
        /// Voting power
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        power: u64,
    },
}

/// Arguments of `genesis new`.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// Name of the network, for people
    #[arg(long)]
    pub name: String,
    /// File with one or more `[[validators]]`, as `validator-entry` prints them; may be given several times
    #[arg(long = "validators", value_name = "FILE", required = true)]
    pub validators: Vec<PathBuf>,
    /// A chain with default budgets: its id, or id:opaque; may be given several times
    #[arg(long = "chain", value_name = "ID[:KIND]", value_parser = chain)]
    pub chains: Vec<ChainEntry>,
    /// File with `[[chains]]`, for all that is not default
    #[arg(long = "chains", value_name = "FILE")]
    pub chain_file: Option<PathBuf>,
    /// The genesis' time, milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS")]
    pub timestamp_ms: Option<u64>,
    /// A block is decided this often, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 250)]
    pub block_interval_ms: u64,
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "genesis.toml")]
    pub out: PathBuf,
}

/// Makes or shows a genesis, or a validator's entry.
///
/// # Errors
/// If a file cannot be read or written, or is not valid.
pub fn run(command: Command, output: &mut Output) -> eyre::Result<()> {
    match command {
        Command::New(args) => new(args, output),
        Command::Show { genesis } => {
            let checked = GenesisFile::load(&genesis)?;
            output.show(&Shown::new(&genesis, &checked))?;
            Ok(())
        }
        Command::ValidatorEntry { keys, address, power } => {
            let list = ValidatorList { validators: vec![entry(&keys, &address, power)?] };
            output.raw(&toml::to_string(&list)?)?;
            Ok(())
        }
    }
}

fn new(args: NewArgs, output: &mut Output) -> eyre::Result<()> {
    let mut validators = Vec::new();
    for file in &args.validators {
        validators.extend(read::<ValidatorList>(file)?.validators);
    }
    let mut chains = args.chains;
    if let Some(file) = &args.chain_file {
        chains.extend(read::<ChainList>(file)?.chains);
    }
    let params = ParamsEntry { block_interval_ms: args.block_interval_ms, ..Default::default() };
    let timestamp_ms = args.timestamp_ms.unwrap_or_else(|| clock::now().0);
    let mut file = GenesisFile { name: args.name, timestamp_ms, params, validators, chains };
    let genesis = file.to_genesis(&args.out).wrap_err("the genesis would not be valid")?;
    file = GenesisFile::from_genesis(&genesis);
    write_new(&args.out, &toml::to_string(&file)?)?;
    output.show(&Shown::new(&args.out, &genesis))?;
    Ok(())
}

fn chain(text: &str) -> Result<ChainEntry, String> {
    let (id, kind) = text.split_once(':').unwrap_or((text, "evm"));
    let kind = match kind {
        "evm" => Kind::Evm,
        "opaque" => Kind::Opaque,
        other => return Err(format!("kind {other:?} is neither evm nor opaque")),
    };
    let id = id.parse().map_err(|_| format!("chain id {id:?} is not a number"))?;
    Ok(ChainEntry::new(id, kind))
}

/// What is printed of a genesis.
#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    network_id: String,
    #[serde(flatten)]
    genesis: GenesisFile,
}

impl Shown {
    fn new(file: &Path, genesis: &Genesis) -> Self {
        Self {
            file: file.display().to_string(),
            network_id: genesis.network_id().to_string(),
            genesis: GenesisFile::from_genesis(genesis),
        }
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let GenesisFile { name, timestamp_ms, params, validators, chains } = &self.genesis;
        writeln!(f, "genesis     {}", self.file)?;
        writeln!(f, "network id  {}", self.network_id)?;
        writeln!(f, "name        {name}")?;
        writeln!(f, "time        {timestamp_ms} ms since 1970")?;
        writeln!(f, "interval    {} ms", params.block_interval_ms)?;
        write!(f, "validators  {}", validators.len())?;
        for validator in validators {
            let ValidatorEntry { address, power, network_address, .. } = validator;
            write!(f, "\n  {address}  power {power}  {network_address}")?;
        }
        write!(f, "\nchains      {}", chains.len())?;
        for chain in chains {
            let ChainEntry { id, kind, gas_per_second, bytes_per_second, .. } = chain;
            let kind = if *kind == Kind::Evm { "evm" } else { "opaque" };
            write!(f, "\n  {id}  {kind}  {gas_per_second} gas/s  {bytes_per_second} bytes/s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_is_an_id_and_perhaps_a_kind() {
        assert_eq!(chain("901"), Ok(ChainEntry::new(901, Kind::Evm)));
        assert_eq!(chain("902:opaque"), Ok(ChainEntry::new(902, Kind::Opaque)));
        assert_eq!(chain("902:evm"), Ok(ChainEntry::new(902, Kind::Evm)));
        for wrong in ["", "x", "901:", "901:EVM", ":evm", "-1"] {
            assert!(chain(wrong).is_err(), "{wrong}");
        }
    }
}
