//! A write-ahead log in malachite's format and in the order that [`super::order`] demands: an actor in the place of
//! malachite's, and the signer's way to the same log.
//!
//! Malachite's own actor has a thread of its own, to which each entry goes and from which an answer comes: a third of what
//! an idle validator woke its threads for. Here an entry goes to memory, and threads are changed for syncs alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use malachitebft_app_channel::app::consensus::{Input, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::wal::{Msg, decode_entry, encode_entry};
use malachitebft_app_channel::app::wal::log;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::file::{Buffered, Disk};
use super::order::{Order, entry_of};
use crate::codec::EngineCodec;
use crate::context::{Context, Height};
use crate::signing::SignError;

/// Entries of a height, to be replayed.
type Entries = Vec<io::Result<Input<Context>>>;

/// The log of one engine. Its clones are the same log.
///
/// Malachite's consensus actor waits for each signature, entry and sync before it goes on, so nothing comes in between.
#[derive(Clone)]
pub(crate) struct Log {
    path: PathBuf,
    /// Which file it was when it was opened; `None` if it could not be looked at.
    file: Option<(u64, u64)>,
    // A lock, because malachite and the signer use the log in turn; held for one of their calls, off the runtime if that
    // waits for the disk.
    written: Arc<Mutex<Written>>,
}

struct Written {
    /// `None` when the engine has ended.
    log: Option<log::Log<Buffered>>,
    /// The height that malachite is at; zero before the first.
    height: Height,
    order: Order,
}

impl Log {
    /// Opens the log at `path`, or makes an empty one. Waits for the disk.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(path)?;
        file.try_lock()?;
        Self::over(path, Box::new(file))
    }

    pub(crate) fn over(path: &Path, disk: Box<dyn Disk>) -> io::Result<Self> {
        let log = Some(log::Log::open_with(path, disk)?);
        let written = Written { log, height: Height(0), order: Order::opened() };
        Ok(Self {
            path: path.to_owned(),
            file: identity(path),
            written: Arc::new(Mutex::new(written)),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable that led to what is going to be signed. A file that somebody removed would take it all, and
    /// the next start find nothing. Waits for the disk.
    pub(crate) fn sync_to_sign(&self) -> Result<(), SignError> {
        let found = identity(&self.path);
        if found.is_none() || found != self.file {
            return Err(failed(format!("{} is gone, or another file", self.path.display())));
        }
        let mut written = self.written();
        if written.order.must_sync_to_sign() {
            written.sync().map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Appends what was signed.
    pub(crate) fn append(
        &self,
        height: Height,
        message: SignedConsensusMsg<Context>,
    ) -> Result<(), SignError> {
        let mut written = self.written();
        written
            .append(height, entry_of(message.clone()))
            .map_err(|error| failed(error.to_string()))?;
        written.order.signed(message);
        Ok(())
    }

    /// What waits for the disk.
    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Written) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut this.written()));
        done.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn failed(reason: String) -> SignError {
    SignError::Failed(format!("write-ahead log: {reason}"))
}

impl Written {
    fn log(&mut self) -> io::Result<&mut log::Log<Buffered>> {
        self.log.as_mut().ok_or_else(|| io::Error::other("the engine has ended"))
    }

    /// What the log has of the height that begins, which is nothing unless it was at it when it was opened.
    fn start(&mut self, height: Height) -> io::Result<Entries> {
        if std::mem::replace(&mut self.height, height) == height {
            return Ok(Entries::new());
        }
        let log = self.log()?;
        if log.sequence() != height.0 {
            log.reset(height.0)?;
            return Ok(Entries::new());
        }
        let decode = |bytes: Vec<u8>| decode_entry(&EngineCodec, bytes.as_slice());
        Ok(log.iter()?.map(|entry| entry.and_then(decode)).collect())
    }

    fn reset(&mut self, height: Height) -> io::Result<()> {
        self.height = height;
        self.log()?.reset(height.0)
    }

    fn append(&mut self, height: Height, entry: Input<Context>) -> io::Result<()> {
        if height != self.height {
            tracing::debug!(%height, at = %self.height, "an entry of another height is not logged");
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode_entry(entry, &EngineCodec, &mut bytes)?;
        self.log()?.append(&bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.log()?.flush()?;
        self.order.synced();
        Ok(())
    }
}

/// An answer that is an error halts malachite, and nothing is signed any more.
#[async_trait]
impl Actor for Log {
    type Msg = Msg<Context>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Append(height, entry, reply) => {
                let appended = {
                    let mut written = self.written();
                    let must_append = written.order.must_append(&entry);
                    if must_append { written.append(height, entry) } else { Ok(()) }
                };
                reply.send(appended.map_err(Into::into))?;
            }
            Msg::Flush(reply) => {
                let must_sync = self.written().order.must_sync_on_request();
                let synced = if must_sync { self.off_runtime(Written::sync).await } else { Ok(()) };
                reply.send(synced.map_err(Into::into))?;
            }
            Msg::StartedHeight(height, reply) => {
                let entries = self.off_runtime(move |written| written.start(height)).await;
                reply.send(entries.map_err(Into::into))?;
            }
            Msg::Reset(height, reply) => {
                let reset = self.off_runtime(move |written| written.reset(height)).await;
                reply.send(reset.map_err(Into::into))?;
            }
            Msg::Dump => {}
        }
        Ok(())
    }

    /// Closes the file, also for the signer: another engine may open it.
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(self
            .off_runtime(|written| written.log.take().map_or(Ok(()), |mut log| log.flush()))
            .await?)
    }
}

#[cfg(test)]
mod tests;
