//! The TOML files that operators write: of bounded size, and refused with the file, the field and the reason.
//!
//! What the fields mean is for whoever reads one.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use eyre::{WrapErr as _, ensure};
use serde::de::DeserializeOwned;

/// Why a file was refused. The operator must mend it; the field is named.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{} has {bytes} bytes, at most {bytes_max} are read", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// How many it may have.
        bytes_max: u64,
    },
    /// Not TOML, or fields that are missing, unknown or of the wrong type.
    #[error("{}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser says: line, column, field.
        reason: String,
    },
    /// A field's value is wrong, by itself or beside others.
    #[error("{}: {field}: {reason}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field as a dotted path.
        field: String,
        /// Why, and what is expected.
        reason: String,
    },
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`FileError::Read`], [`FileError::TooLarge`], [`FileError::Syntax`].
pub fn read<T: DeserializeOwned>(file: &Path, bytes_max: u64) -> Result<T, FileError> {
    let io = |source| FileError::Read { file: file.to_owned(), source };
    let bytes = fs::metadata(file).map_err(io)?.len();
    if bytes > bytes_max {
        return Err(FileError::TooLarge { file: file.to_owned(), bytes, bytes_max });
    }
    let text = fs::read_to_string(file).map_err(io)?;
    toml::from_str(&text)
        .map_err(|error| FileError::Syntax { file: file.to_owned(), reason: error.to_string() })
}

/// Writes a file that must not be there yet.
///
/// # Errors
/// If it is there, or cannot be written.
pub fn write_new(path: &Path, text: &str) -> eyre::Result<()> {
    ensure!(!path.exists(), "{} exists: choose another --out, or remove it", path.display());
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .wrap_err_with(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_exists_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("genesis.toml");
        write_new(&path, "a").expect("writes");
        let error = write_new(&path, "b").unwrap_err().to_string();
        assert!(error.contains("genesis.toml exists"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "a");
    }
}
