//! `lockstep node`: runs one node until it is told to stop.

use std::path::PathBuf;

use eyre::WrapErr as _;
use lockstep_node::config::NodeConfig;
use lockstep_node::home::Home;
use lockstep_node::{node, telemetry};

/// Arguments of `node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's options (see deploy/config/node.toml)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs the node until Ctrl-C or SIGTERM.
///
/// # Errors
/// If it cannot start, or had to stop.
pub async fn run(args: Args) -> eyre::Result<()> {
    let config = NodeConfig::load(&args.config)?;
    telemetry::init(&config.log)?;
    let _home = Home::lock(&config.home).wrap_err("taking the node's home")?;
    node::run(config).await
}
