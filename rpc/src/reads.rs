//! Reads of the log off the async runtime: a bounded number at a time, on the runtime's blocking pool, and for each client
//! its share of the time.

use std::fmt;
use std::sync::Arc;

use lockstep_core::types::Height;
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::watch;
use tracing::error;

use crate::limits::{
    READS_MAX, READS_PER_CLIENT_MAX, READS_RESERVED, SEARCHES_MAX, SEARCHES_PER_CLIENT_MAX,
    SEARCHES_RESERVED,
};
use crate::node::{Log, ReadError};
use crate::places::Bounds;
use crate::quota::Client;
use crate::turns::{Queue, Room, Turn};

/// The log, to read from async code; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads {
    log: Arc<dyn Log>,
    reading: Queue,
    searching: Queue,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("reading", &self.reading).finish_non_exhaustive()
    }
}

impl Reads {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        let reading = Bounds {
            total_max: READS_MAX,
            per_client_max: READS_PER_CLIENT_MAX,
            reserved: READS_RESERVED,
        };
        let searching = Bounds {
            total_max: SEARCHES_MAX,
            per_client_max: SEARCHES_PER_CLIENT_MAX,
            reserved: SEARCHES_RESERVED,
        };
        let queue = |running| Queue::new(Room::of(running));
        Self { log, reading: queue(reading), searching: queue(searching) }
    }

    pub(crate) fn heads(&self) -> watch::Receiver<Height> {
        self.log.heads()
    }

    /// Runs a client's `read` where it may block, when it is its turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        client: Client,
        read: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run(self.reading.turn(client, 1).await?, read).await
    }

    /// The same for what looks for an id that may be nowhere.
    pub(crate) async fn search<T: Send + 'static>(
        &self,
        client: Client,
        search: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run(self.searching.turn(client, 1).await?, search).await
    }

    async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        read: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let log = Arc::clone(&self.log);
        off_runtime(move || {
            let answer = read(log.as_ref());
            drop(turn);
            answer
        })
        .await
    }
}

/// Runs what may block where it may.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let task = tokio::task::spawn_blocking(work);
    task.await.unwrap_or_else(|error| Err(internal("a read panicked", &error)))
}

/// What a client hears of a store that cannot be read; the operator reads the cause in the log.
pub(crate) fn unreadable(error: ReadError) -> Refusal {
    internal("the store cannot be read", &error)
}

pub(crate) fn internal(what: &str, cause: &dyn fmt::Display) -> Refusal {
    error!(error = %cause, "{what}");
    Refusal::new(ErrorCode::Internal, what)
}
