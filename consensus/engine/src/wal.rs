//! Looks at a write-ahead log before malachite opens it, and sets a damaged one aside.
//!
//! Malachite 0.8.2 is not careful enough with a damaged log: a flipped bit in a length silently drops the entries
//! behind it, a flipped bit in a payload halts the node and leaves a shorter log for the next start, and a zero-filled
//! tail, as a power cut leaves it, halts every start for ever. So the log is read here first, by the rules below; what
//! is behind the first entry that breaks one is copied to `<name>.damaged-<unix ms>` and cut off, and the report says
//! so. The caller compares the own messages that are left with its guard and abstains if too many are missing.
//!
//! ```text
//! file   version u32 BE (1) | height u64 BE | entries
//! entry  flag u8 (0) | length u64 BE | crc32 of payload u32 BE | payload
//! payload  1 | length u64 BE | WalMessage          a vote or proposal, own or received
//!          2 | step u8 | round i64 BE              a timeout
//!          4 | length u64 BE | WalProposedBlock    a judged block
//!          8 | length u64 BE | PolkaCertificate
//! ```
//!
//! Source: `arc-malachitebft-wal` 0.8.2 `log.rs`, `arc-malachitebft-engine` 0.8.2 `wal/entry.rs`.

pub(crate) mod file;
pub(crate) mod order;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use bytes::{Buf, Bytes};
use lockstep_core::certificate::{Proposal, Vote};
use lockstep_core::types::Height;
use malachitebft_app_channel::app::consensus::SignedConsensusMsg;

pub(crate) use self::writer::Log;
use crate::wire::log;

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
/// Flag, length and checksum.
const ENTRY_HEADER_BYTES: usize = 13;
/// Bytes of one entry's payload; ours have less than a frame of votes. More is damage, not data.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a log that is read; a height's log is far smaller.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// What a write-ahead log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalReport {
    /// The height it is for; `None` if there is no log, or none that can be read.
    pub height: Option<Height>,
    /// What the validator itself signed at that height, as far as the log can be read, in the order of signing.
    pub own_messages: Vec<OwnMessage>,
    /// Entries that can be read, of all kinds.
    pub entries: usize,
    /// Where the damaged log was copied to; `None` if nothing was damaged.
    pub set_aside: Option<PathBuf>,
}

/// A message that the validator signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnMessage {
    /// A vote.
    Vote(Vote),
    /// A proposal.
    Proposal(Proposal),
}

/// Why a log could not be looked at. The engine must not be started.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// An engine holds its lock.
    #[error("write-ahead log {path} is in use")]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// The log is too long to be one.
    #[error("write-ahead log {path} has {bytes} bytes, at most {LOG_BYTES_MAX} are read")]
    TooLong {
        /// The log.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It can't be read, copied or cut.
    #[error("write-ahead log {path}: {error}")]
    Io {
        /// The log.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads the log at `path` as far as it is sound, and cuts off, after copying the whole file aside, what is not.
/// `validator` is whose messages are reported. A file that is not there is an empty report.
///
/// Blocks on the disk. Nothing may use the log meanwhile.
///
/// # Errors
/// [`WalError`]; the log is as it was then, or cut with its copy made.
pub fn inspect_wal(path: &Path, validator: Address) -> Result<WalReport, WalError> {
    let failed = |error| WalError::Io { path: path.to_owned(), error };
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WalReport::empty()),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(WalError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > LOG_BYTES_MAX {
        return Err(WalError::TooLong { path: path.to_owned(), bytes });
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(failed)?;
    let content = Bytes::from(content);
    let (mut report, sound_bytes) = read(&content, validator);
    if sound_bytes < content.len() {
        report.set_aside = Some(set_aside(path, &content).map_err(failed)?);
        truncate(&mut file, sound_bytes).map_err(failed)?;
    }
    Ok(report)
}

impl WalReport {
    const fn empty() -> Self {
        Self { height: None, own_messages: Vec::new(), entries: 0, set_aside: None }
    }
}

/// What can be read, and how many bytes of the file it takes.
fn read(content: &Bytes, validator: Address) -> (WalReport, usize) {
    let mut report = WalReport::empty();
    let mut rest = content.clone();
    if rest.len() < HEADER_BYTES || rest.get_u32() != VERSION {
        return (report, 0);
    }
    let height = Height(rest.get_u64());
    report.height = Some(height);
    loop {
        let sound_bytes = content.len().saturating_sub(rest.len());
        match entry(&mut rest) {
            // Malachite logs only messages of the log's height: the height itself is damaged, so whatever the log says
            // it says of an unknown one.
            Some(Some((at, _, _))) if at != height => return (WalReport::empty(), 0),
            Some(own) => {
                report.entries = report.entries.saturating_add(1);
                report
                    .own_messages
                    .extend(own.filter(|(_, signer, _)| *signer == validator).map(|(_, _, m)| m));
            }
            None => return (report, sound_bytes),
        }
    }
}

/// Height, signer and message.
type Message = (Height, Address, OwnMessage);

/// Takes one entry off `rest`: `None` at the end and at the first damage, `Some(None)` for what is no message.
fn entry(rest: &mut Bytes) -> Option<Option<Message>> {
    if rest.len() < ENTRY_HEADER_BYTES {
        return None;
    }
    let flag = rest.get_u8();
    let length = usize::try_from(rest.get_u64()).ok()?;
    let crc = rest.get_u32();
    if flag != 0 || length > PAYLOAD_BYTES_MAX || length > rest.len() {
        return None;
    }
    let payload = rest.split_to(length);
    if crc32fast::hash(&payload) != crc {
        return None;
    }
    payload_message(payload)
}

/// The message in a payload that malachite will be able to decode; `None` if it will not.
fn payload_message(mut payload: Bytes) -> Option<Option<Message>> {
    match payload.try_get_u8().ok()? {
        1 => match log::decode_message(framed(payload)?).ok()? {
            SignedConsensusMsg::Vote(m) => {
                let vote = m.message.to_core()?;
                Some(Some((vote.height, m.message.validator.0, OwnMessage::Vote(vote))))
            }
            SignedConsensusMsg::Proposal(m) => {
                let proposal = m.message.to_core()?;
                let signer = m.message.validator.0;
                Some(Some((proposal.height, signer, OwnMessage::Proposal(proposal))))
            }
        },
        2 => {
            let step = payload.try_get_u8().ok()?;
            let round = payload.try_get_i64().ok()?;
            let is_round = (0..i64::from(u32::MAX)).contains(&round);
            (payload.is_empty() && is_round && matches!(step, 1..=3 | 7)).then_some(None)
        }
        4 => log::decode_block(framed(payload)?).ok().map(|_| None),
        8 => log::decode_polka(framed(payload)?).ok().map(|_| None),
        _ => None,
    }
}

/// The bytes behind a length that they fill exactly.
fn framed(mut payload: Bytes) -> Option<Bytes> {
    let length = usize::try_from(payload.try_get_u64().ok()?).ok()?;
    (payload.len() == length).then_some(payload)
}

/// Copies the log to a name that is not taken, durably.
fn set_aside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{ms}"));
    let aside = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(aside)
}

fn truncate(file: &mut File, bytes: usize) -> io::Result<()> {
    file.set_len(bytes as u64)?;
    file.seek(SeekFrom::Start(0))?;
    file.sync_all()
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
