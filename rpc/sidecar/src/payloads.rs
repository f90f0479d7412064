//! The newest payloads that op-node brought and the heads that it wants, on disk: after a machine crash neither the engine nor
//! op-node may know them, and they are on L1 only minutes later.
//!
//! A cache: what is torn or lost is derived again by op-node, as without a sidecar. One file per payload, the oldest go first.
//! Writing never holds up a call; what a slow disk cannot take is left out.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_execution::attributes::Forkchoice;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::limits::{BROUGHT_BYTES_KEPT_MAX, PAYLOADS_WAITING_MAX};
use crate::session::heads::Wanted;
use crate::session::restoring::Brought;

const HEADS: &str = "heads.json";

#[derive(Serialize, Deserialize)]
struct File {
    hash: B256,
    number: u64,
    parent: B256,
    method: String,
    params: Vec<Box<RawValue>>,
}

#[derive(Serialize, Deserialize)]
struct HeadsFile {
    method: String,
    forkchoice: Box<RawValue>,
}

/// What a start finds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The payloads, the oldest first.
    pub payloads: Vec<(B256, Brought)>,
    /// The heads that op-node wanted.
    pub heads: Option<Wanted>,
}

#[derive(Debug)]
enum Job {
    Payload(B256, Arc<Brought>),
    Heads(Wanted),
}

/// Where payloads go; cheap to clone.
#[derive(Clone, Debug)]
pub struct Payloads(mpsc::Sender<Job>);

impl Payloads {
    /// Keeps a payload.
    pub fn keep(&self, hash: B256, payload: Arc<Brought>) {
        self.send(Job::Payload(hash, payload));
    }

    /// Keeps the heads, behind the payloads that were kept before.
    pub fn keep_heads(&self, wanted: Wanted) {
        self.send(Job::Heads(wanted));
    }

    fn send(&self, job: Job) {
        if self.0.try_send(job).is_err() {
            warn!("the disk is too slow: a payload is not kept for an engine that loses it");
        }
    }
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// What is there, the oldest first, with bytes.
    files: VecDeque<(PathBuf, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Store {
    /// Opens a directory, which is made, and reads what is there. What cannot be read is taken away.
    ///
    /// # Errors
    /// If the directory cannot be made or listed.
    pub fn open(directory: &Path) -> io::Result<(Self, Found)> {
        fs::create_dir_all(directory)?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            paths.push(entry?.path());
        }
        // Names begin with the number.
        paths.sort();
        let mut store = Self {
            directory: directory.to_owned(),
            files: VecDeque::new(),
            bytes: 0,
            bytes_max: BROUGHT_BYTES_KEPT_MAX,
        };
        let mut found = Found::default();
        for path in paths {
            let bytes = fs::read(&path)?;
            if path.file_name().is_some_and(|name| name == HEADS) {
                found.heads = heads(&bytes);
            } else if let Ok(File { hash, number, parent, method, params }) =
                serde_json::from_slice(&bytes)
            {
                found.payloads.push((hash, Brought { number, parent, method, params }));
                store.note(path, bytes.len());
            } else {
                fs::remove_file(&path)?;
            }
        }
        Ok((store, found))
    }

    /// Where to send what is to be kept, and the work of doing it, for ever.
    pub fn run(self) -> (Payloads, impl Future<Output = ()>) {
        let (sender, jobs) = mpsc::channel(PAYLOADS_WAITING_MAX);
        (Payloads(sender), self.work(jobs))
    }

    async fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let written = tokio::task::spawn_blocking(move || {
                let written = self.write(job);
                (self, written)
            });
            match written.await {
                Ok((store, written)) => {
                    self = store;
                    if let Err(error) = written {
                        warn!(%error, directory = %self.directory.display(), "cannot keep a payload");
                    }
                }
                Err(error) => {
                    error!(%error, "keeping payloads ended");
                    return std::future::pending().await;
                }
            }
        }
    }

    fn write(&mut self, job: Job) -> io::Result<()> {
        match job {
            Job::Payload(hash, payload) => {
                let Brought { number, parent, method, params } = &*payload;
                let (method, params) = (method.clone(), params.clone());
                let file = File { hash, number: *number, parent: *parent, method, params };
                let path = self.directory.join(format!("{number:020}-{hash:x}.json"));
                let bytes = serde_json::to_vec(&file)?;
                if !path.exists() {
                    self.note(path.clone(), bytes.len());
                }
                put(&path, &bytes)?;
                self.make_room()
            }
            Job::Heads(Wanted { method, forkchoice }) => {
                let file = HeadsFile { method, forkchoice: forkchoice.raw };
                let (path, new) =
                    (self.directory.join(HEADS), self.directory.join("heads.json.new"));
                put(&new, &serde_json::to_vec(&file)?)?;
                fs::rename(&new, &path)?;
                fs::File::open(&self.directory)?.sync_all()
            }
        }
    }

    fn note(&mut self, path: PathBuf, bytes: usize) {
        self.files.push_back((path, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn make_room(&mut self) -> io::Result<()> {
        while self.bytes > self.bytes_max
            && let Some((path, bytes)) = self.files.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(bytes);
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn heads(bytes: &[u8]) -> Option<Wanted> {
    let HeadsFile { method, forkchoice } = serde_json::from_slice(bytes).ok()?;
    let forkchoice = Forkchoice::read(&forkchoice).ok()?;
    Some(Wanted { method, forkchoice })
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    fn payload(number: u64) -> (B256, Arc<Brought>) {
        let params = vec![to_raw_value(&"ab".repeat(100)).unwrap()];
        let parent = B256::with_last_byte(u8::try_from(number).unwrap());
        let method = "engine_newPayloadV4".to_owned();
        let hash = B256::with_last_byte(u8::try_from(number + 1).unwrap());
        (hash, Arc::new(Brought { number, parent, method, params }))
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.payloads.iter().map(|(_, payload)| payload.number).collect()
    }

    fn keep(store: &mut Store, number: u64) {
        let (hash, payload) = payload(number);
        store.write(Job::Payload(hash, payload)).unwrap();
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_and_the_oldest_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, found) = Store::open(directory.path()).unwrap();
        assert!(found.payloads.is_empty() && found.heads.is_none());
        for number in 18..=20 {
            keep(&mut store, number);
        }
        // A reorg brings another block, later, and a block comes twice.
        keep(&mut store, 19);
        let raw = to_raw_value(&serde_json::json!({
            "headBlockHash": payload(20).0, "safeBlockHash": B256::ZERO, "finalizedBlockHash": B256::ZERO,
        }));
        let forkchoice = Forkchoice::read(&raw.unwrap()).unwrap();
        let method = "engine_forkchoiceUpdatedV3".to_owned();
        store.write(Job::Heads(Wanted { method, forkchoice })).unwrap();
        let (mut store, found) = Store::open(directory.path()).unwrap();
        assert_eq!(numbers(&found), [18, 19, 20]);
        assert_eq!(found.heads.unwrap().forkchoice.head, payload(20).0);
        let (hash, brought) = &found.payloads[2];
        assert_eq!((*hash, brought.parent), (payload(20).0, payload(20).1.parent));
        assert_eq!(brought.params[0].get(), payload(20).1.params[0].get());
        store.bytes_max = store.bytes;
        keep(&mut store, 21);
        assert_eq!(numbers(&Store::open(directory.path()).unwrap().1), [19, 20, 21]);
    }

    #[test]
    fn what_is_torn_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(directory.path()).unwrap();
        keep(&mut store, 1);
        keep(&mut store, 2);
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("/00000000000000000002-") {
                fs::write(&path, &fs::read(&path).unwrap()[..50]).unwrap();
            }
        }
        fs::write(directory.path().join(HEADS), b"{").unwrap();
        let (_, found) = Store::open(directory.path()).unwrap();
        assert_eq!((numbers(&found), found.heads.is_none()), (vec![1], true));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the torn payload is gone");
    }
}
