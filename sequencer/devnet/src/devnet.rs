//! `lockstep devnet`: a whole network on this machine: the committee, an L1, OP chains that are built from the log, a bundle
//! every few seconds, and a client that verifies it. With `--log-only`, the committee and a small load.
//!
//! Every part is a process of its own. What can be seen of it from outside is all that this knows: its health, its
//! services. A process that is killed is shown as down, and picked up again when somebody starts it.

use std::path::PathBuf;

use eyre::WrapErr as _;
use lockstep_node::output::Output;
use lockstep_node::stop::StopSignals;

use crate::layout::FIRST_CHAIN;
use crate::world::World;
use crate::world::options::{Options, Verifiers};
use crate::world::peers::Peers;
use crate::world::rollup::ChainOptions;
use crate::{bundles, process, session};

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
    /// Run the validators alone, without L1 and chains: the log, with a load that nobody executes
    #[arg(long)]
    pub log_only: bool,
    /// Seconds between two blocks of a chain
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=2),
          conflicts_with = "log_only")]
    pub block_time: u64,
    /// Run a replica of each chain: a stock op-node and op-geth, or the same behind a verifying sidecar
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "stock", conflicts_with = "log_only")]
    pub verifiers: Option<VerifierKind>,
    /// Keep the data at the end, and go on with it the next time
    #[arg(long, requires = "log_only")]
    pub keep: bool,
    /// First port; ten for each validator, then ten for the L1 and twenty for each chain [default: 26600, or the next
    /// that is free]
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
    /// Send no load
    #[arg(long)]
    pub no_load: bool,
    /// Transactions per second of the load with --log-only, over all chains; there is one bundle for every 20
    #[arg(long, value_name = "N", default_value_t = 20, requires = "log_only", value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub rate: u32,
}

/// How replicas are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum VerifierKind {
    /// A stock op-node before a stock op-geth.
    Stock,
    /// A verifying sidecar between the two.
    Checked,
}

impl Args {
    fn options(&self) -> eyre::Result<Options> {
        let peers = if self.log_only { None } else { Some(Peers::from_environment()?) };
        let block_time_seconds = self.block_time;
        let chain = |id| ChainOptions { id, block_time_seconds };
        Ok(Options {
            keep: self.keep,
            validators: self.validators,
            chains: (FIRST_CHAIN..).take(self.chains.into()).map(chain).collect(),
            verifiers: match self.verifiers {
                None => Verifiers::None,
                Some(VerifierKind::Stock) => Verifiers::Stock,
                Some(VerifierKind::Checked) => Verifiers::Checked,
            },
            base_port: self.base_port,
            funded: vec![bundles::sender().address()],
            ..Options::new(self.dir.clone(), process::own_program()?, peers)
        })
    }
}

/// Runs a devnet until Ctrl-C, then stops everything.
///
/// # Errors
/// If it cannot start, if it could not stop everything, or if an endpoint lied.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    let mut stop = StopSignals::new()?;
    let mut world = World::prepare(&args.options()?)?;
    let ended = tokio::select! {
        ended = session::run(&args, &mut world, output) => ended,
        () = stop.received() => Ok(()),
    };
    // Whoever reads our output may have gone: everything is stopped all the same.
    let said = output.say("stopping");
    let stopped = world.stop().await;
    let directory = world.layout.directory.display().to_string();
    // After a fault the logs are what is needed.
    ended.wrap_err_with(|| format!("the devnet ended; its logs are in {directory}"))?;
    stopped?;
    world.layout.finish()?;
    said?;
    match (args.keep, args.log_only) {
        (true, _) => output.say(format_args!("stopped; the data is kept in {directory}"))?,
        (false, true) => output.say("stopped; the data is removed (--keep keeps it)")?,
        (false, false) => output.say("stopped; the data is removed")?,
    }
    Ok(())
}
