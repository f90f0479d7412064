//! A node's disks: the store, the consensus log, the guard's directory; and what a crash leaves of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep_consensus::guard::Files;
use lockstep_consensus::store::MemoryStore;
use lockstep_core::types::Height;

use crate::plan::DiskFault;
use crate::rng::Rng;

/// The consensus log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// The height it is for.
    pub(crate) height: Height,
    /// Its entries.
    pub(crate) entries: Vec<Bytes>,
    /// How many of them are synced.
    pub(crate) synced: usize,
}

/// What survives a crash.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The store.
    pub(crate) store: Arc<MemoryStore>,
    /// The consensus log.
    pub(crate) log: Log,
    /// The guard's directory.
    pub(crate) guard: GuardFiles,
    /// Everything as it was, for a node that is rolled back.
    before: Option<(MemoryStore, Log, GuardFiles)>,
}

impl Disk {
    /// Empty disks.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            log: Log::default(),
            guard: GuardFiles::default(),
            before: None,
        }
    }

    /// Keeps what there is for a later rollback.
    pub(crate) fn remember(&mut self) {
        let guard = GuardFiles(Arc::new(Mutex::new(self.guard.files().clone())));
        self.before = Some((self.store.crash(0), self.log.clone(), guard));
    }

    /// What a crash leaves.
    pub(crate) fn crash(&mut self, fault: DiskFault, rng: &mut Rng) {
        let kept = rng.place(3);
        match (fault, self.before.take()) {
            (DiskFault::Wiped, _) => {
                (self.store, self.log) = (Arc::new(MemoryStore::new()), Log::default());
            }
            (DiskFault::AllWiped, _) => *self = Self::new(),
            (DiskFault::GuardLost, _) => self.guard = GuardFiles::default(),
            (DiskFault::RolledBack, Some((store, log, _))) => {
                (self.store, self.log) = (Arc::new(store), log);
            }
            (DiskFault::Torn, Some((store, ..))) => self.store = Arc::new(store),
            (DiskFault::Restored, Some((store, log, guard))) => {
                (self.store, self.log, self.guard) = (Arc::new(store), log, guard);
            }
            (
                DiskFault::RolledBack | DiskFault::Torn | DiskFault::Restored | DiskFault::Kept,
                _,
            ) => {
                self.store = Arc::new(self.store.crash(kept));
            }
        }
        let rest = self.log.entries.len() - self.log.synced;
        self.log.entries.truncate(self.log.synced + rng.place(rest + 1));
        self.log.synced = self.log.entries.len();
        self.guard.crash(rng);
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: usize,
}

/// The guard's directory, in memory. Names are durable at once; bytes when they are synced.
#[derive(Clone, Debug, Default)]
pub(crate) struct GuardFiles(Arc<Mutex<BTreeMap<String, File>>>);

impl GuardFiles {
    // One thread runs a seed; the lock is what the guard's trait asks for.
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody made a guard.
    pub(crate) fn is_there(&self) -> bool {
        !self.files().is_empty()
    }

    /// Whether a file holds these bytes durably.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        // From the end, where the newest is.
        let holds = |file: &File| {
            file.bytes[..file.synced].windows(bytes.len()).rev().any(|part| part == bytes)
        };
        self.files().values().any(holds)
    }

    /// Whether all that was appended is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.files().values().all(|file| file.bytes.len() == file.synced)
    }

    /// Of what was not synced any prefix stays, perhaps with a zero behind it.
    fn crash(&self, rng: &mut Rng) {
        for file in self.files().values_mut() {
            let rest = file.bytes.len().saturating_sub(file.synced);
            file.bytes.truncate(file.synced + rng.place(rest + 1));
            file.synced = file.bytes.len();
        }
    }
}

impl Files for GuardFiles {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files().get(name).map(|file| file.bytes.clone()))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files().entry(name.to_owned()).or_default().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if let Some(file) = self.files().get_mut(name) {
            file.synced = file.bytes.len();
        }
        Ok(())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        if let Some(file) = self.files().get_mut(name) {
            file.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            file.synced = file.synced.min(file.bytes.len());
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        if let Some(file) = files.remove(from) {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
}
