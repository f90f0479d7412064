//! The command line: what there is, and how a command's end becomes the program's.
//!
//! Exit codes: 0 is done, 1 is failed or refused (for `verify`: not proven), 2 is a command line that means nothing.
//! `audit` ends with 1 if it found something, and with 3 if it could not audit.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use eyre::WrapErr as _;
use lockstep_devnet::{bench, devnet};
use lockstep_node::output::Output;

use crate::commands::{
    audit, completions, genesis, init, keys, node, sidecar, slice, status, submit, verify, watch,
};
use crate::failure;

/// Longest that the program waits for its blocking work when it ends.
const EXIT_PATIENCE: Duration = Duration::from_secs(3);

/// A shared sequencer: a committee orders the transactions of several chains, and anyone can check it.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and show a validator's keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Make and show a network's genesis
    #[command(subcommand)]
    Genesis(genesis::Command),
    /// Make a validator's guard: once, before its first start, or after its guard was lost
    Init(init::Args),
    /// Run a node: a validator, or one that follows
    Node(node::Args),
    /// Run the proxy between a chain's op-node and its execution engine
    Sidecar(sidecar::Args),
    /// Submit a transaction or a bundle
    #[command(subcommand)]
    Submit(submit::Command),
    /// Show the state of an entry
    Status(status::Args),
    /// Show the states of an entry as they come, until the final one
    Watch(watch::Args),
    /// Read a chain's slices; what is printed was not verified (see `verify`)
    Slice(slice::Args),
    /// Verify what an endpoint says of chains' slices, trusting nobody
    Verify(verify::Args),
    /// Compare a chain's blocks with its slices, trusting no node of the committee
    Audit(audit::Args),
    /// Run a network on this machine: L1, validators, OP chains with their sidecars, bundles; or the log alone
    Devnet(devnet::Args),
    /// Measure what four validators on this machine do
    Bench(bench::Args),
    /// Print the completions for a shell
    Completions(completions::Args),
}

/// Runs the program: reads the command line, does it, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Clap prints help and version to standard output, and faults to standard error. If that is gone, nobody
            // is left to tell.
            error.print().unwrap_or_default();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let is_json = cli.json;
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .wrap_err("starting the runtime")
        .and_then(|runtime| {
            let ended = runtime.block_on(Box::pin(cli.command.run(Output::stdout(is_json))));
            // A write to the store under way must end before the process does: the store's library is torn down with it.
            runtime.shutdown_timeout(EXIT_PATIENCE);
            ended
        });
    match ended {
        Ok(code) => code,
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::show_error(&error, is_json);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    async fn run(self, mut output: Output) -> eyre::Result<ExitCode> {
        let output = &mut output;
        match self {
            Self::Keys(command) => keys::run(command, output)?,
            Self::Genesis(command) => genesis::run(command, output)?,
            Self::Init(args) => init::run(&args, output)?,
            Self::Node(args) => node::run(args).await?,
            Self::Sidecar(args) => sidecar::run(args).await?,
            Self::Submit(command) => submit::run(command, output).await?,
            Self::Status(args) => status::run(args, output).await?,
            Self::Watch(args) => watch::run(args, output).await?,
            Self::Slice(args) => slice::run(args, output).await?,
            Self::Verify(args) => return verify::run(args, output).await,
            Self::Audit(args) => return audit::run(args, output).await,
            Self::Devnet(args) => devnet::run(args, output).await?,
            Self::Bench(args) => bench::run(args, output).await?,
            Self::Completions(args) => completions::run(&args, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests;
