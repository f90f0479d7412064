//! Why the guard refuses: to sign, and to open. It decides nothing; the rules are in [`guard`](super).

use std::path::PathBuf;

use lockstep_core::types::{BlockHash, Height};

use super::{MessageId, Origin};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Another message of this (height, round, step) is signed. The node is not harmed; it stays silent here.
    #[error("{id}: {signed} is signed, refused to sign {asked}")]
    Conflict {
        /// Which.
        id: MessageId,
        /// The block of the signed one; zero for nil.
        signed: BlockHash,
        /// The block of the refused one; zero for nil. It may be the same, with another valid round.
        asked: BlockHash,
    },
    /// A later message is signed, and none of this (height, round, step).
    #[error("{id}: refused, a later message is signed already: {newest}")]
    Lower {
        /// Which.
        id: MessageId,
        /// The newest signed one.
        newest: MessageId,
    },
    /// At or below the floor: whatever was signed there is no longer known.
    #[error("{id}: refused, nothing new is signed up to height {floor}")]
    Floor {
        /// Which.
        id: MessageId,
        /// The floor.
        floor: Height,
    },
    /// The node abstains until that height is decided.
    #[error("{id}: abstaining until height {until} is decided")]
    Abstaining {
        /// Which.
        id: MessageId,
        /// The height.
        until: Height,
    },
    /// The guard is new, and what its key has signed is not known to be past.
    #[error(
        "{id}: refused, the guard is {origin} and no height is decided for certain since it was made"
    )]
    Marked {
        /// Which.
        id: MessageId,
        /// How the guard was made.
        origin: Origin,
    },
    /// An earlier input or output error: the process must be started again.
    #[error("guard is stopped because an earlier write failed")]
    Stopped,
    /// The record could not be made durable. Whether it is there is not known; nothing more is signed.
    #[error("guard failed to write: {0}")]
    Io(#[from] std::io::Error),
}

/// Why a guard was not opened or made. Each message says what to do; nobody may just delete the file.
#[derive(Debug, thiserror::Error)]
pub enum GuardOpenError {
    /// The directory holds no guard: nobody made it, or it is lost.
    #[error(
        "no guard in {}: set `guard_dir` if it lies elsewhere; if it is lost, make one with `lockstep init --lost`, and if \
         this validator's key has never run, with `lockstep init`; see deploy/runbooks/lost-data.md",
        directory.display()
    )]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds a guard already. It stays as it is.
    #[error(
        "guard file {} exists and is not replaced: it is the only record of what this key signed",
        file.display()
    )]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Another process holds the directory: a second node with this key.
    #[error(
        "guard directory {} is locked by process {holder}: another node runs with this key; stop it first",
        directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// What the lock file says; "unknown" if nothing.
        holder: String,
    },
    /// The file is another key's or another network's.
    #[error(
        "guard file {} is of {what} {got}, expected {expected}; use the guard directory that belongs to this key \
         and network",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// `network`, `validator` or `version`.
        what: &'static str,
        /// Ours.
        expected: String,
        /// The file's.
        got: String,
    },
    /// The file is damaged before its end: what was signed is not known for certain.
    #[error(
        "guard file {} is damaged at byte {offset}; do not delete it: the node might sign twice. \
         See deploy/runbooks/guard.md",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the first record that is not whole begins.
        offset: u64,
    },
    /// The disk.
    #[error("guard directory {}: {error}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
}
