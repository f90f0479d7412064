//! `lockstep init`: makes a validator's guard and prints what it waits for. What it refuses, [`init`](lockstep_node::init) says.

use std::path::PathBuf;

use lockstep_consensus::guard::Origin;
use lockstep_node::config::NodeConfig;
use lockstep_node::init::make;
use lockstep_node::output::Output;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The validator's options (see deploy/config/node.toml)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The key has run before and its guard is lost: sign nothing before a height is decided that it cannot have voted for
    #[arg(long)]
    pub lost: bool,
}

/// Makes the guard and prints what it waits for.
///
/// # Errors
/// If the options, the key or the genesis cannot be read, a guard exists, a node runs here, or, without `--lost`, one ran.
pub fn run(args: &Args, output: &mut Output) -> eyre::Result<()> {
    let config = NodeConfig::load(&args.config)?;
    let origin = if args.lost { Origin::Lost } else { Origin::Fresh };
    output.show(&make(&config, origin)?)?;
    Ok(())
}
