//! Malachite's write-ahead log in the order that [`super::order`] demands: an actor before malachite's own, and the signer's
//! way past it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use malachitebft_app_channel::app::consensus::SignedConsensusMsg;
use malachitebft_app_channel::app::engine::wal::{Msg, WalRef};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::order::{Order, entry_of};
use crate::context::{Context, Height};
use crate::signing::SignError;

/// The log of one engine. Its clones are the same log.
///
/// Malachite's consensus actor waits for each signature, entry and sync before it goes on, so nothing comes in between.
#[derive(Clone)]
pub(crate) struct Log {
    /// Malachite's own actor.
    wal: WalRef<Context>,
    /// Its file, and which one it was when it was opened; `None` if it could not be looked at.
    path: PathBuf,
    file: Option<(u64, u64)>,
    order: Arc<Mutex<Order>>,
}

impl Log {
    pub(crate) fn new(wal: WalRef<Context>, path: PathBuf) -> Self {
        let file = std::fs::metadata(&path).ok().map(|file| (file.dev(), file.ino()));
        Self { wal, path, file, order: Arc::new(Mutex::new(Order::opened())) }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable that led to what is going to be signed. A file that somebody removed would take it all, and
    /// the next start find nothing.
    pub(crate) async fn sync_to_sign(&self) -> Result<(), SignError> {
        // Not on a thread of its own: a name that is looked up at every signature is in memory.
        let found = std::fs::metadata(&self.path).ok().map(|file| (file.dev(), file.ino()));
        if found.is_none() || found != self.file {
            return Err(failed(format!("{} is gone, or another file", self.path.display())));
        }
        if self.order().must_sync_to_sign() {
            answer(ractor::call!(self.wal, Msg::Flush))?;
            self.order().synced();
        }
        Ok(())
    }

    /// Writes what was signed.
    pub(crate) async fn append(
        &self,
        height: Height,
        message: SignedConsensusMsg<Context>,
    ) -> Result<(), SignError> {
        answer(ractor::call!(self.wal, Msg::Append, height, entry_of(message.clone())))?;
        self.order().signed(message);
        Ok(())
    }
}

fn failed(reason: String) -> SignError {
    SignError::Failed(format!("write-ahead log: {reason}"))
}

fn answer<E: std::fmt::Display, T: std::fmt::Display>(
    answer: Result<Result<(), E>, T>,
) -> Result<(), SignError> {
    answer.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(format!("{error:#}")))
}

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
            Msg::Append(_, entry, reply) if !self.order().must_append(&entry) => {
                reply.send(Ok(()))?;
            }
            Msg::Flush(reply) if !self.order().must_sync_on_request() => reply.send(Ok(()))?,
            Msg::Flush(reply) => {
                // An answer that is an error halts malachite, and nothing is signed any more.
                self.order().synced();
                self.wal.cast(Msg::Flush(reply))?;
            }
            Msg::Append(..) | Msg::StartedHeight(..) | Msg::Reset(..) | Msg::Dump => {
                self.wal.cast(message)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
