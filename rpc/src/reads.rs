//! Reads of the log off the async runtime: a bounded number at a time, on the runtime's blocking pool.

use std::fmt;
use std::sync::Arc;

use lockstep_core::types::Height;
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::{Semaphore, watch};
use tracing::error;

use crate::limits::READS_MAX;
use crate::node::{Log, ReadError};

/// The log, to read from async code; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads {
    log: Arc<dyn Log>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("permits", &self.permits).finish_non_exhaustive()
    }
}

impl Reads {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log, permits: Arc::new(Semaphore::new(READS_MAX)) }
    }

    pub(crate) fn heads(&self) -> watch::Receiver<Height> {
        self.log.heads()
    }

    /// Runs `read` where it may block, once there is room.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let log = Arc::clone(&self.log);
        self.run(move || read(log.as_ref())).await
    }

    /// The same for something that reads, but not the log.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let answer = read();
            drop(permit);
            answer
        });
        task.await.unwrap_or_else(|error| Err(internal("a read panicked", &error)))
    }
}

/// What a client hears of a store that cannot be read; the operator reads the cause in the log.
pub(crate) fn unreadable(error: ReadError) -> Refusal {
    internal("the store cannot be read", &error)
}

pub(crate) fn internal(what: &str, cause: &dyn fmt::Display) -> Refusal {
    error!(error = %cause, "{what}");
    Refusal::new(ErrorCode::Internal, what)
}
