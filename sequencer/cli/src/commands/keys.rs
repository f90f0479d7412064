//! `lockstep keys`: makes a validator's keys, and shows what others may know of them. Secrets are never printed.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use alloy_primitives::hex;
use clap::Subcommand;
use eyre::WrapErr as _;
use lockstep_node::keys::{self, PublicKeys};
use lockstep_node::output::Output;
use serde::Serialize;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make `validator.key` and `network.key` (mode 0600) in a directory (mode 0700); never overwrites
    Generate {
        /// The directory; it is created if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print address, public key and peer id
    Show {
        /// The directory of the keys
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
    },
}

/// What is printed of keys.
#[derive(Debug, Serialize)]
struct Shown {
    /// Where the keys are.
    directory: String,
    address: String,
    public_key: String,
    peer_id: String,
}

/// Makes or shows keys.
///
/// # Errors
/// If the keys cannot be made or read, or the answer not written.
pub fn run(command: Command, output: &mut Output) -> eyre::Result<()> {
    let (directory, keys) = match command {
        Command::Generate { out } => {
            let made = keys::generate(&out).wrap_err("making keys")?;
            (out, made)
        }
        Command::Show { keys } => {
            let read = keys::show(&keys).wrap_err("reading keys")?;
            (keys, read)
        }
    };
    output.show(&Shown::new(&directory, &keys))?;
    Ok(())
}

impl Shown {
    fn new(directory: &Path, keys: &PublicKeys) -> Self {
        Self {
            directory: directory.display().to_string(),
            address: keys.address.to_string(),
            public_key: hex::encode_prefixed(keys.public_key),
            peer_id: keys.peer_id.to_string(),
        }
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "keys        {}", self.directory)?;
        writeln!(f, "address     {}", self.address)?;
        writeln!(f, "public key  {}", self.public_key)?;
        write!(f, "peer id     {}", self.peer_id)
    }
}
