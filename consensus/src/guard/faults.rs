//! A directory in memory that stops at any operation and then loses what a disk may lose.
//!
//! What survives a crash: everything that was synced; of bytes appended since, any prefix, perhaps with zeros behind
//! it; of a truncation, a rename or a removal since the last sync, it or what was before.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::journal::Files;

/// Where the process stops, and what the disk makes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crash {
    /// So many operations succeed; the next one is the last.
    pub(super) at: usize,
    /// How many of the bytes that were not synced survive.
    pub(super) kept: usize,
    /// How many zeros are behind them; no more than bytes were lost.
    pub(super) zeros: usize,
    /// Whether the last operation had its effect, apart from what is lost, before the process stopped.
    pub(super) has_effect: bool,
    /// Whether names and truncations that were not synced survive.
    pub(super) keeps_names: bool,
}

/// What an operation touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Bytes are appended.
    Append,
    /// Bytes are made durable.
    Sync,
    /// Reading, and whatever concerns names.
    Other,
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    visible: Vec<u8>,
}

#[derive(Debug, Default)]
struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: Vec<Operation>,
    crash: Option<Crash>,
    is_dead: bool,
}

/// The directory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultFiles(Arc<Mutex<Disk>>);

impl FaultFiles {
    pub(super) fn with_file(name: &str, bytes: Vec<u8>) -> Self {
        let files = Self::default();
        files.with(|disk| {
            disk.contents.push(Content { durable: bytes.clone(), visible: bytes });
            disk.names.insert(name.to_owned(), 0);
            disk.durable_names = disk.names.clone();
        });
        files
    }

    /// Operations since the start or the last [`FaultFiles::restart`].
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.with(|disk| disk.operations.clone())
    }

    pub(super) fn crash(&self, crash: Crash) {
        self.with(|disk| disk.crash = Some(crash));
    }

    pub(super) fn is_dead(&self) -> bool {
        self.with(|disk| disk.is_dead)
    }

    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.with(|disk| disk.names.get(name).map(|place| disk.contents[*place].visible.clone()))
    }

    /// Loses what the crash loses, and is ready for the next process.
    pub(super) fn restart(&self) {
        self.with(|disk| {
            let crash = disk.crash.take().unwrap_or_default();
            if crash.keeps_names {
                disk.durable_names = disk.names.clone();
            }
            disk.names = disk.durable_names.clone();
            for content in &mut disk.contents {
                content.lose(crash);
            }
            disk.operations.clear();
            disk.is_dead = false;
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn operate(&self, operation: Operation, effect: impl FnOnce(&mut Disk)) -> io::Result<()> {
        self.with(|disk| {
            let dead = || Err(io::Error::other("the process is dead"));
            if disk.is_dead {
                return dead();
            }
            let crash = disk.crash.filter(|crash| crash.at == disk.operations.len());
            disk.operations.push(operation);
            if crash.is_none_or(|crash| crash.has_effect) {
                effect(disk);
            }
            disk.is_dead = crash.is_some();
            if disk.is_dead { dead() } else { Ok(()) }
        })
    }
}

impl Content {
    fn lose(&mut self, crash: Crash) {
        let survived = match self.visible.strip_prefix(self.durable.as_slice()) {
            Some(appended) => {
                let kept = crash.kept.min(appended.len());
                let zeros = crash.zeros.min(appended.len() - kept);
                [&self.durable, &appended[..kept], vec![0; zeros].as_slice()].concat()
            }
            None if crash.keeps_names => self.visible.clone(),
            None => self.durable.clone(),
        };
        *self = Self { durable: survived.clone(), visible: survived };
    }
}

impl Disk {
    fn content(&mut self, name: &str) -> &mut Content {
        let place = *self.names.entry(name.to_owned()).or_insert(self.contents.len());
        if place == self.contents.len() {
            self.contents.push(Content::default());
        }
        &mut self.contents[place]
    }
}

impl Files for FaultFiles {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.operate(Operation::Other, |_| {})?;
        Ok(self.content(name))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.operate(Operation::Append, |disk| disk.content(name).visible.extend_from_slice(bytes))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.operate(Operation::Sync, |disk| {
            let content = disk.content(name);
            content.durable = content.visible.clone();
        })
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.operate(Operation::Other, |disk| disk.content(name).visible.truncate(length as usize))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Operation::Other, |disk| {
            let place = disk.names.remove(from).unwrap();
            disk.names.insert(to.to_owned(), place);
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.operate(Operation::Other, |disk| {
            disk.names.remove(name);
        })
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.operate(Operation::Other, |disk| disk.durable_names = disk.names.clone())
    }
}
