//! Makes a validator's guard, the only record of what its key signs. A validator without one does not start.
//!
//! It makes no keys and no data. What it cannot know, the operator says: whether the key has run before. So a fresh guard is
//! refused where files show that a node ran here.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use eyre::{WrapErr as _, bail, ensure};
use lockstep_consensus::guard::{Guard, Mark, Origin};
use lockstep_consensus::validator::WAL_FILE;
use serde::Serialize;

use crate::clock;
use crate::config::{NodeConfig, Role, ValidatorConfig};
use crate::genesis::GenesisFile;
use crate::home::Home;
use crate::keys;

/// Files of a guard's directory that show no earlier life: an attempt to make the guard leaves them.
const GUARD_LEFTOVERS: [&str; 2] = ["lock", "guard.log.new"];

/// What was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// Directory of the guard.
    guard: String,
    /// The validator.
    address: String,
    /// `fresh` or `lost`.
    origin: String,
    /// This machine's time, milliseconds since 1970.
    made_at_ms: u64,
    /// A lost guard, and a fresh one in a network that runs, signs above the first block with a later time.
    signs_after_ms: u64,
    /// How far this machine's clock may be behind the other validators'.
    drift_ms: u64,
}

/// Makes the guard of the validator with this configuration.
///
/// # Errors
/// If the key or the genesis cannot be read, a guard exists, a node runs here, or, for a fresh guard, one ran.
pub fn make(config: &NodeConfig, origin: Origin) -> eyre::Result<Made> {
    let Role::Validator(validator) = &config.role else {
        bail!("a node that follows signs nothing and has no guard: it needs no `lockstep init`")
    };
    let genesis = GenesisFile::load(&config.genesis)?;
    let address = keys::read_validator_key(&validator.validator_key)?.address();
    let _home = Home::lock(&config.home).wrap_err("taking the node's home")?;
    let mark = Mark { origin, made_at: clock::now() };
    match origin {
        Origin::Fresh => check_never_ran(config, validator)?,
        Origin::Lost => ensure!(
            mark.made_at > genesis.timestamp,
            "this machine's clock is at {} ms since 1970 and the network's genesis at {} ms: set the clock",
            mark.made_at.0,
            genesis.timestamp.0
        ),
    }
    Guard::create(&validator.guard_dir, genesis.network_id(), address, mark)?;
    let drift_ms = genesis.params.drift_ms;
    Ok(Made {
        guard: validator.guard_dir.display().to_string(),
        address: address.to_string(),
        origin: origin.to_string(),
        made_at_ms: mark.made_at.0,
        signs_after_ms: mark.lost_until(drift_ms).0,
        drift_ms,
    })
}

/// Refuses a fresh guard where any file of a node is.
fn check_never_ran(config: &NodeConfig, validator: &ValidatorConfig) -> eyre::Result<()> {
    let guard_file = |name: &str| !GUARD_LEFTOVERS.contains(&name);
    let mut found = first_file(&config.data_dir(), |_| true)?;
    if let (None, Some(wal_dir)) = (&found, &validator.wal_dir) {
        found = first_file(wal_dir, |name| name.starts_with(WAL_FILE))?;
    }
    if found.is_none() {
        found = first_file(&validator.guard_dir, guard_file)?;
    }
    let Some(file) = found else { return Ok(()) };
    bail!(
        "{} is there, so a node has run here: a fresh guard could sign again what is signed already. If this key's guard \
         is there, keep it; if it is lost, use `lockstep init --lost`",
        file.display()
    )
}

/// The first file of a directory, by name, that is wanted; `None` if there is none, or no directory.
fn first_file(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> eyre::Result<Option<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let files = match fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).wrap_err_with(reading),
    };
    let mut names = Vec::new();
    for file in files {
        names.push(file.wrap_err_with(reading)?.file_name());
    }
    names.sort_unstable();
    let first = names.into_iter().find(|name| is_wanted(&name.to_string_lossy()));
    Ok(first.map(|name| directory.join(name)))
}

impl Display for Made {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { guard, address, origin, made_at_ms, signs_after_ms, drift_ms } = self;
        writeln!(f, "guard      {guard}")?;
        writeln!(f, "validator  {address}")?;
        writeln!(
            f,
            "mark       {origin}, made at {made_at_ms} ms since 1970 by this machine's clock"
        )?;
        writeln!(
            f,
            "signs      above the first decided block with a time after {signs_after_ms} ms;"
        )?;
        if origin == "fresh" {
            writeln!(f, "           at once in a network that has decided nothing yet")?;
        }
        write!(
            f,
            "clock      must not be more than {drift_ms} ms behind the other validators'; check it now"
        )
    }
}
