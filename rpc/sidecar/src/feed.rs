//! The chain's slices as several committee nodes tell them, none of them trusted.
//!
//! Every endpoint is followed at once, each with a light client of its own; the first to bring a height wins, so the
//! loss of one is no gap. What an endpoint says twice differently from another, or does not prove, is a lie: the
//! endpoint is dropped and named. Two *certified* blocks of one height are no lie of an endpoint but the end of the
//! committee's safety: the feed stops.
//!
//! It keeps the newest heights in memory and fetches older ones again. What the items mean for blocks is core's to say.

mod follower;
mod history;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::header::Header;
use lockstep_core::light_client::LightClient;
use lockstep_core::params::ChainKind;
use lockstep_core::records::RecordBook;
use lockstep_core::slice::Slice;
use lockstep_core::types::{BlockHash, ChainId, Height, UnixMillis};
use lockstep_core::window::LogSlice;
use lockstep_rpc::client::verified::VerifyError;
use lockstep_rpc::client::{ClientError, Endpoint};
use tokio::sync::watch;
use tracing::error;

use crate::limits::{LOG_BYTES_KEPT_MAX, OLDER_BYTES_KEPT_MAX};
pub use history::Recorded;
use shelf::Shelf;

/// A log block, as far as one chain is concerned. Verified.
#[derive(Clone, Debug)]
pub struct LogBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// The chain's slice of it.
    pub slice: LogSlice,
}

impl LogBlock {
    fn new(header: &Header, kind: ChainKind, slice: Option<Slice>) -> Self {
        let items = slice.map(|slice| slice.items).unwrap_or_default();
        let slice = LogSlice::new(header.height, header.timestamp_ms, kind, items);
        Self { hash: header.hash(), slice }
    }
}

/// The newest height up to which every log block is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// The height; the one before the first that was asked for while nothing is known.
    pub height: Height,
    /// Its timestamp; 0 while nothing is known.
    pub timestamp: UnixMillis,
    /// Whether the committee's safety has failed: nothing comes after it.
    pub is_forked: bool,
}

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It is being connected to.
    Connecting,
    /// It serves.
    Serving,
    /// It cannot be reached, or is silent; it is tried again.
    Away(String),
    /// It lied. It is not asked again until a restart.
    Lied(String),
}

/// Why the feed cannot tell.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FeedError {
    /// No endpoint could be asked, or every one lied.
    #[error("no endpoint answers: {0}")]
    NoEndpoint(String),
}

#[derive(Debug)]
struct Known {
    /// The newest ones, without a gap.
    blocks: Shelf,
    /// Those that were asked for again.
    older: Shelf,
    book: RecordBook,
    trust: LightClient,
    endpoints: Vec<EndpointState>,
}

/// The feed of one chain; cheap to clone. It ends when its last clone and its followers are gone.
#[derive(Clone, Debug)]
pub struct Feed {
    chain: ChainId,
    kind: ChainKind,
    endpoints: Arc<[Endpoint]>,
    // Held while older blocks or limits are asked for: many may miss the same ones, and one question is enough.
    asking: Arc<tokio::sync::Mutex<()>>,
    // Held for a few map operations and never across an await: readers are many, and each wants the newest.
    known: Arc<Mutex<Known>>,
    newest: watch::Sender<Newest>,
    arrived: Arc<Mutex<Instant>>,
}

impl Feed {
    /// A feed of `chain` that believes what `trust` does. [`Feed::follow`] starts it.
    #[must_use]
    pub fn new(
        (chain, kind): (ChainId, ChainKind),
        endpoints: Vec<Endpoint>,
        trust: LightClient,
    ) -> Self {
        let states = endpoints.iter().map(|_| EndpointState::Connecting).collect();
        let known = Known {
            blocks: Shelf::new(LOG_BYTES_KEPT_MAX),
            older: Shelf::new(OLDER_BYTES_KEPT_MAX),
            book: RecordBook::default(),
            trust,
            endpoints: states,
        };
        let newest = Newest { height: Height::GENESIS, timestamp: UnixMillis(0), is_forked: false };
        Self {
            chain,
            kind,
            endpoints: endpoints.into(),
            asking: Arc::default(),
            known: Arc::new(Mutex::new(known)),
            newest: watch::Sender::new(newest),
            arrived: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Follows every endpoint from `from` on, until the returned tasks are dropped.
    #[must_use]
    pub fn follow(&self, from: Height) -> tokio::task::JoinSet<()> {
        let before = from.previous().unwrap_or(Height::GENESIS);
        self.newest.send_modify(|newest| newest.height = before);
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..self.endpoints.len() {
            tasks.spawn(follower::run(self.clone(), index));
        }
        tasks
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The newest height, and a way to wait for the next.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.newest.subscribe()
    }

    /// The log blocks after a height that are in memory.
    #[must_use]
    pub fn after(&self, height: Height) -> Vec<Arc<LogBlock>> {
        self.known().blocks.from(height.next()).map(Arc::clone).collect()
    }

    /// How long ago the newest log block came.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// What is believed of the committee now, to be kept for the next start.
    #[must_use]
    pub fn trust(&self) -> LightClient {
        self.known().trust.clone()
    }

    /// The endpoints and how they do, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, EndpointState)> {
        let states = self.known().endpoints.clone();
        self.endpoints.iter().map(|endpoint| endpoint.url.clone()).zip(states).collect()
    }

    /// Reads what the log's records say of this chain, the newest height, and how long ago it came, as they are at one time.
    pub fn with_log<T>(&self, read: impl FnOnce(&RecordBook, Newest, Duration) -> T) -> T {
        let known = self.known();
        let newest = *self.newest.borrow();
        read(&known.book, newest, self.silence())
    }

    /// Adds `Sealed` records that were found elsewhere, in log order.
    pub fn note_records(&self, records: &[Recorded]) {
        self.known().book.note_found(records);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves the maps whole: each change is one insertion.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, index: usize, state: EndpointState) {
        if let Some(place) = self.known().endpoints.get_mut(index)
            && !matches!(place, EndpointState::Lied(_))
        {
            *place = state;
        }
    }

    fn state(&self, index: usize) -> Option<EndpointState> {
        self.known().endpoints.get(index).cloned()
    }

    /// Takes a verified block. Heights come in order; one that is known already must be the same.
    fn insert(&self, header: &Header, slice: Option<Slice>, trust: &LightClient) {
        let height = self.newest.borrow().height;
        if header.height <= height {
            return self.compare(&self.known(), header);
        }
        self.put(header, LogBlock::new(header, self.kind, slice), trust);
    }

    /// The same once the block is read. Another endpoint may have brought its height in the meantime, so it is only certain
    /// here what is new: `newest` changes under this lock.
    fn put(&self, header: &Header, block: LogBlock, trust: &LightClient) {
        let block = Arc::new(block);
        let mut known = self.known();
        let height = self.newest.borrow().height;
        if header.height <= height {
            return self.compare(&known, header);
        }
        if header.height != height.next() {
            return;
        }
        known.book.note(&block.slice);
        known.trust = trust.clone();
        known.blocks.insert(block);
        *self.arrived.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.newest.send_modify(|newest| {
            newest.height = header.height;
            newest.timestamp = header.timestamp_ms;
        });
    }

    /// Two certified headers of one height must be one.
    fn compare(&self, known: &Known, header: &Header) {
        let hash = known.blocks.get(header.height).map(|block| block.hash);
        if hash.is_some_and(|hash| hash != header.hash()) {
            self.fork(header.height);
        }
    }

    fn fork(&self, height: Height) {
        error!(%height, "the committee certified two blocks of one height: nothing of it is believed any more");
        self.newest.send_modify(|newest| newest.is_forked = true);
    }
}

/// Whether an endpoint is at fault for an error, beyond being away.
fn is_lie(error: &VerifyError) -> bool {
    match error {
        VerifyError::Client(ClientError::Answer(_)) => true,
        VerifyError::Client(_) => false,
        VerifyError::NotVerified(error) => !matches!(
            **error,
            lockstep_core::light_client::NotVerified::Stale { .. }
                | lockstep_core::light_client::NotVerified::Fork(_)
                // An honest answer about heights that another validator set decided.
                | lockstep_core::light_client::NotVerified::TooOld { .. }
        ),
        VerifyError::Height { .. }
        | VerifyError::Chain { .. }
        | VerifyError::Continuation { .. }
        | VerifyError::TooManyHandovers
        | VerifyError::NotFirstAfter { .. }
        | VerifyError::NoRecord { .. } => true,
    }
}

#[cfg(test)]
mod tests;
