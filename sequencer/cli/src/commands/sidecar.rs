//! `lockstep sidecar`: runs the proxy between a chain's op-node and its execution engine.

use std::path::{Path, PathBuf};

use eyre::{WrapErr as _, eyre};
use lockstep_node::home::Home;
use lockstep_node::sidecar::SidecarOptions;
use lockstep_node::stop::StopSignals;
use lockstep_node::telemetry;
use lockstep_sidecar::sidecar;

/// Arguments of `sidecar`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sidecar's options (see deploy/config/sidecar.toml)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs the sidecar until Ctrl-C or SIGTERM.
///
/// # Errors
/// If it cannot start; the field at fault is named.
pub async fn run(args: Args) -> eyre::Result<()> {
    let options = SidecarOptions::read(&args.config)?;
    telemetry::init(&options.log)?;
    let directory = args.config.parent().unwrap_or_else(|| Path::new("."));
    let config = options.check(directory)?;
    let _home = Home::lock(&config.data).wrap_err("taking the data directory")?;
    let mut stop = StopSignals::new()?;
    let mut sidecar = sidecar::start(config).await?;
    tokio::select! {
        () = stop.received() => {}
        () = sidecar.run() => return Err(eyre!("a part of the sidecar ended; see the log")),
    }
    Ok(())
}
