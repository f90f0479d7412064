//! `lockstep devnet`: a whole network on this machine, with a small load and a client that verifies it.
//!
//! Validators are processes of their own. What can be seen of them from outside is all that this knows: their health,
//! their gRPC services. A validator that is killed is shown as down, and picked up again when somebody starts it.

pub mod follow;
pub mod health;
pub mod layout;
pub mod ports;
pub mod process;
pub mod session;
pub mod traffic;
pub mod view;

use std::path::PathBuf;

use eyre::WrapErr as _;

use crate::output::Output;
use crate::stop::StopSignals;
use layout::Layout;
use process::Validator;

/// Arguments of `devnet`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many validators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub validators: u16,
    /// How many chains; their ids are 901, 902, …
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub chains: u16,
    /// Directory of keys, options, data and logs
    #[arg(long, value_name = "DIR", default_value = "devnet")]
    pub dir: PathBuf,
    /// Keep the data at the end, and go on with it the next time
    #[arg(long)]
    pub keep: bool,
    /// First port; each validator has three of the ten from its own first one [default: 26600, or the next that is free]
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
    /// Send no load
    #[arg(long)]
    pub no_load: bool,
    /// Transactions per second of the load, over all chains; there is one bundle for every 20
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub rate: u32,
}

/// Runs a devnet until Ctrl-C, then stops everything.
///
/// # Errors
/// If it cannot start, if it could not stop everything, or if an endpoint lied.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    let mut stop = StopSignals::new()?;
    let layout = Layout::prepare(&args)?;
    let mut validators: Vec<Validator> =
        layout.places.iter().cloned().map(Validator::new).collect();
    let ended = tokio::select! {
        ended = session::run(&args, &layout, &mut validators, output) => ended,
        () = stop.received() => Ok(()),
    };
    // Whoever reads our output may have gone: everything is stopped all the same.
    let said = output.say("stopping");
    let stopped = process::stop(&mut validators).await;
    let directory = layout.directory.display().to_string();
    // After a fault the logs are what is needed.
    ended.wrap_err_with(|| format!("the devnet ended; its logs are in {directory}"))?;
    stopped?;
    layout.finish()?;
    said?;
    match args.keep {
        true => output.say(format_args!("stopped; the data is kept in {directory}"))?,
        false => output.say("stopped; the data is removed (--keep keeps it)")?,
    }
    Ok(())
}
