//! `lockstep completions`: the completions for a shell, to standard output.

use clap::CommandFactory as _;
use clap_complete::Shell;
use lockstep_node::output::Output;

use crate::cli::Cli;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// If they cannot be written.
pub fn run(args: &Args, output: &mut Output) -> eyre::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockstep", &mut script);
    output.raw(&String::from_utf8_lossy(&script))?;
    Ok(())
}
