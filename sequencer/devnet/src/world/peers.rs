//! The programs that a world runs beside ours, where `make peers` put them.

use std::path::{Path, PathBuf};

use eyre::{bail, ensure};

/// The variable of the environment that names their directory.
pub const PEERS: &str = "LOCKSTEP_PEERS";
/// The programs.
const NAMES: [&str; 6] = ["anvil", "genesis", "op-batcher", "op-conductor", "op-geth", "op-node"];

/// A directory with all of the programs.
#[derive(Clone, Debug)]
pub struct Peers {
    directory: PathBuf,
}

impl Peers {
    /// The directory that the environment names.
    ///
    /// # Errors
    /// If it names none, or if one of the programs is missing: says what to do.
    pub fn from_environment() -> eyre::Result<Self> {
        match std::env::var_os(PEERS) {
            Some(directory) => Self::new(Path::new(&directory)),
            None => bail!(
                "{PEERS} is not set: it names the directory of op-node, op-geth and the others. \
                 Use `make devnet`, or run `make peers` and `. deploy/setup/env.sh`; \
                 --log-only needs none of them"
            ),
        }
    }

    /// The programs in a directory.
    ///
    /// # Errors
    /// Names one that is missing.
    pub fn new(directory: &Path) -> eyre::Result<Self> {
        for name in NAMES {
            let shown = directory.display();
            ensure!(directory.join(name).is_file(), "{shown} lacks {name}: run `make peers`");
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// The file of a program.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in NAMES {
            let error = Peers::new(directory.path()).expect_err("one is missing").to_string();
            assert!(error.contains(&format!("lacks {name}: run `make peers`")), "{error}");
            std::fs::write(directory.path().join(name), "").expect("writes");
        }
        assert!(Peers::new(directory.path()).is_ok());
    }
}
