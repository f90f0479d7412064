//! The `lockstep` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep_cli::cli::main()
}
