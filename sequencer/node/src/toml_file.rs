//! The TOML files that operators write: of bounded size, and refused with the file, the field and the reason.
//!
//! What the fields mean is for whoever reads one.

use std::fs;
use std::path::{Path, PathBuf};

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
