//! The guard's file: an append-only chain of records, what its end may look like after a crash, and its compaction.
//!
//! It writes through [`Files`], so that a test can stop it at every single operation and byte.
//!
//! After a crash the file may end in a *torn* record: a part of one, or zeros in place of its end or of all of it.
//! Its signature was never given out, since `sync` had not returned; it is set aside. Anything else that is not a
//! whole chain of records is damage, and the guard refuses to open: what it signed is not known for certain.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use alloy_primitives::{Address, B256};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{Height, NetworkId};

use super::record::{RECORD_BYTES, Record, SignedMessage, VERSION};
use super::{GuardOpenError, Mark, MessageId, Origin, SignError, TornTail};

/// Name of the file.
pub(super) const FILE: &str = "guard.log";
/// Name of the file while it is written anew. One that is found at start was not finished, and is removed.
pub(super) const NEW_FILE: &str = "guard.log.new";
/// Bytes from which on the file is compacted: 4,096 records.
const COMPACT_BYTES: u64 = 1 << 20;
/// Bytes of the file that are read at most: a height of many rounds doubles the limit each time it is compacted.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;

/// What the guard needs of a directory. Names are within it.
pub trait Files: Send + std::fmt::Debug {
    /// The whole file; `None` if it is not there.
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Writes behind the end of a file, which is made if it is not there. Not durable before [`Files::sync`].
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content and length durable.
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Shortens a file. Not durable before [`Files::sync`].
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Puts a file in place of another. Not durable before [`Files::sync_directory`].
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; nothing happens if it is not there. Not durable before [`Files::sync_directory`].
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes the directory's names durable.
    ///
    /// # Errors
    /// The disk's; the guard stops.
    fn sync_directory(&mut self) -> io::Result<()>;
}

impl Files for Box<dyn Files> {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).read(name)
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).append(name, bytes)
    }
    fn sync(&mut self, name: &str) -> io::Result<()> {
        (**self).sync(name)
    }
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        (**self).truncate(name, length)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        (**self).sync_directory()
    }
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Found {
    /// The mark in force.
    pub(super) mark: Option<Mark>,
    /// What was cut off its end.
    pub(super) torn: Option<TornTail>,
    /// Nothing new is signed up to this height.
    pub(super) floor: Height,
    /// The signed messages that are still known.
    pub(super) messages: BTreeMap<MessageId, SignedMessage>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal<F> {
    files: F,
    network: NetworkId,
    address: Address,
    /// Chain of the last record.
    chain: B256,
    /// Bytes of the file.
    length: u64,
    /// Length from which on the file is compacted.
    compact_at: u64,
    /// Set by the first operation that fails; nothing is written after it.
    is_stopped: bool,
}

/// The records of a file up to the first that is not whole.
struct Chain {
    records: Vec<Record>,
    chain: B256,
    /// Where the records end.
    length: usize,
}

impl<F: Files> Journal<F> {
    /// Makes the file of a validator. A crash leaves the whole file or none.
    pub(super) fn create(
        files: F,
        directory: &Path,
        (network, address): (NetworkId, Address),
        mark: Option<Mark>,
    ) -> Result<(), GuardOpenError> {
        let io = |error| GuardOpenError::Io { directory: directory.to_owned(), error };
        let mut journal = Self::of(files, network, address);
        if journal.files.read(FILE).map_err(io)?.is_some() {
            return Err(GuardOpenError::Exists { file: directory.join(FILE) });
        }
        journal.replace((Height::GENESIS, mark), &mut std::iter::empty()).map_err(io)
    }

    /// Reads the file, and sets a torn end aside.
    pub(super) fn open(
        mut files: F,
        directory: &Path,
        network: NetworkId,
        address: Address,
    ) -> Result<(Self, Found), GuardOpenError> {
        let io = |error| GuardOpenError::Io { directory: directory.to_owned(), error };
        files.remove(NEW_FILE).map_err(io)?;
        match files.read(FILE).map_err(io)? {
            None => Err(GuardOpenError::Missing { directory: directory.to_owned() }),
            Some(bytes) => Self::of(files, network, address).resume(&bytes, directory),
        }
    }

    const fn of(files: F, network: NetworkId, address: Address) -> Self {
        Self {
            files,
            network,
            address,
            chain: B256::ZERO,
            length: 0,
            compact_at: COMPACT_BYTES,
            is_stopped: false,
        }
    }

    fn resume(mut self, bytes: &[u8], directory: &Path) -> Result<(Self, Found), GuardOpenError> {
        let read = read_chain(bytes);
        let file = directory.join(FILE);
        let offset = u64::try_from(read.length).unwrap_or(u64::MAX);
        let tail = bytes.get(read.length..).unwrap_or_default();
        let Some((head, records)) = read.records.split_first().filter(|_| is_torn(tail)) else {
            return Err(GuardOpenError::Damaged { file, offset });
        };
        let (mut floor, mut mark) = self.check_head(head, &file)?;
        let mut messages = BTreeMap::new();
        for record in records {
            match record {
                Record::Floor(raised) => {
                    floor = floor.max(*raised);
                    mark = None;
                }
                Record::Signed(message) => {
                    messages.insert(message.id, *message);
                    // A lost guard signs nothing before its floor is raised.
                    mark = mark.filter(|mark| mark.origin == Origin::Lost);
                }
                Record::Head { .. } => return Err(GuardOpenError::Damaged { file, offset }),
            }
        }
        (self.chain, self.length) = (read.chain, offset);
        self.compact_at = COMPACT_BYTES.max(offset.saturating_mul(2));
        let torn = if tail.is_empty() {
            None
        } else {
            let io = |error| GuardOpenError::Io { directory: directory.to_owned(), error };
            Some(self.set_aside(tail, directory).map_err(io)?)
        };
        Ok((self, Found { mark, torn, floor, messages }))
    }

    /// The floor and the mark of a head of ours.
    fn check_head(
        &self,
        head: &Record,
        file: &Path,
    ) -> Result<(Height, Option<Mark>), GuardOpenError> {
        let Record::Head { version, network, address, floor, mark } = head else {
            return Err(GuardOpenError::Damaged { file: file.to_owned(), offset: 0 });
        };
        let checks = [
            ("version", VERSION.to_string(), version.to_string()),
            ("network", self.network.to_string(), network.to_string()),
            ("validator", self.address.to_string(), address.to_string()),
        ];
        match checks.into_iter().find(|(_, expected, got)| expected != got) {
            None => Ok((*floor, *mark)),
            Some((what, expected, got)) => {
                Err(GuardOpenError::Foreign { file: file.to_owned(), what, expected, got })
            }
        }
    }

    /// Copies a torn end to a file of its own, durably, before it is cut off.
    fn set_aside(&mut self, tail: &[u8], directory: &Path) -> io::Result<TornTail> {
        let name = format!("{FILE}.torn-at-{}", self.length);
        self.files.remove(&name)?;
        self.files.append(&name, tail)?;
        self.files.sync(&name)?;
        self.files.sync_directory()?;
        self.files.truncate(FILE, self.length)?;
        self.files.sync(FILE)?;
        let bytes = u64::try_from(tail.len()).unwrap_or(u64::MAX);
        Ok(TornTail { offset: self.length, bytes, copy: directory.join(name) })
    }

    /// Appends a record. When this returns it is durable.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), SignError> {
        let (bytes, chain) = record.to_bytes(self.chain);
        self.guarded(|journal| {
            journal.files.append(FILE, &bytes)?;
            if planted(Bug::GuardUnsynced) {
                return Ok(());
            }
            journal.files.sync(FILE)
        })?;
        self.chain = chain;
        self.length = self.length.saturating_add(RECORD_BYTES as u64);
        Ok(())
    }

    /// Puts a new file with this floor, this mark and these messages in the place of the old one.
    pub(super) fn rewrite<'a>(
        &mut self,
        head: (Height, Option<Mark>),
        messages: impl Iterator<Item = &'a SignedMessage>,
    ) -> Result<(), SignError> {
        let mut messages = messages;
        self.guarded(|journal| journal.replace(head, &mut messages))
    }

    /// Writes the whole file anew, makes it durable, and only then gives it its name.
    fn replace(
        &mut self,
        (floor, mark): (Height, Option<Mark>),
        messages: &mut dyn Iterator<Item = &SignedMessage>,
    ) -> io::Result<()> {
        let (network, address) = (self.network, self.address);
        let head = Record::Head { version: VERSION, network, address, floor, mark };
        let (bytes, mut chain) = head.to_bytes(B256::ZERO);
        let mut content = bytes.to_vec();
        for message in messages {
            let (bytes, next) = Record::Signed(*message).to_bytes(chain);
            content.extend_from_slice(&bytes);
            chain = next;
        }
        self.files.remove(NEW_FILE)?;
        self.files.append(NEW_FILE, &content)?;
        self.files.sync(NEW_FILE)?;
        self.files.rename(NEW_FILE, FILE)?;
        self.files.sync_directory()?;
        self.chain = chain;
        self.length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.compact_at = COMPACT_BYTES.max(self.length.saturating_mul(2));
        Ok(())
    }

    /// Does something that may fail once; after that, nothing any more.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), SignError> {
        if self.is_stopped {
            return Err(SignError::Stopped);
        }
        self.is_stopped = true;
        work(self)?;
        self.is_stopped = false;
        Ok(())
    }

    /// Whether the file is long enough to be compacted.
    pub(super) const fn is_due(&self) -> bool {
        self.length >= self.compact_at
    }

    /// Whether an operation failed.
    pub(super) const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Compacts earlier than usual.
    #[cfg(test)]
    pub(super) const fn set_compact_at(&mut self, length: u64) {
        self.compact_at = length;
    }
}

fn read_chain(bytes: &[u8]) -> Chain {
    let (whole, _) = bytes.as_chunks::<RECORD_BYTES>();
    let mut read = Chain { records: Vec::new(), chain: B256::ZERO, length: 0 };
    for bytes in whole {
        let Some((record, chain)) = Record::from_bytes(bytes, read.chain) else { break };
        read.records.push(record);
        read.chain = chain;
        read.length = read.length.saturating_add(RECORD_BYTES);
    }
    read
}

/// Whether what is behind the last whole record can be a record that was being written: less than one, apart from
/// zeros. A whole record's last byte is not zero, so a damaged one is never taken for a torn one.
fn is_torn(tail: &[u8]) -> bool {
    let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    written < RECORD_BYTES
}
