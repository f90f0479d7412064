//! What the application keeps of a running engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockstep_core::types::{BlockHash, Height};
use malachitebft_app_channel::app::engine::network::{NetworkEvent, Status};
use malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use malachitebft_app_channel::app::types::PeerId as MalachitePeerId;
use malachitebft_sync::{Request, ValueRequest};
use ractor::{ActorCell, ActorStatus};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::context::Part;
use crate::failure::{Failure, Failures};
use crate::hub::{Hub, malachite_id};
use crate::inbox::ProposalTicket;
use crate::network::{PeerId, Transport};
use crate::outbox::{Counters, Outbox};
use crate::request::PartMessage;
use crate::wire;
use crate::wire::votes::VotesMessage;

/// How long [`EngineHandle::stop`] waits for actors to end and for the log's lock.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const STOP_TICK: Duration = Duration::from_millis(5);

/// Why a part was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It breaks a limit of parts; no peer would take it.
    #[error("part can't be sent: {reason}")]
    Refused {
        /// Which limit.
        reason: String,
    },
    /// The engine has ended.
    #[error("engine has ended")]
    Ended,
}

/// Why an engine could not be stopped in good order.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It was stopped before.
    #[error("engine is stopped already")]
    Already,
    /// Actors still run, or the log is still locked, after ten seconds. End the process.
    #[error("engine did not end: {running} actors run, write-ahead log locked: {is_locked}")]
    Timeout {
        /// Actors that have not ended.
        running: usize,
        /// Whether the log's lock is held.
        is_locked: bool,
    },
    /// The reader ended by itself, and the transport with it.
    #[error("reader has ended: {0}")]
    Reader(tokio::task::JoinError),
}

/// A running engine; clones are the same engine. Dropping all of them does not stop it.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbox: Outbox,
    pub(crate) failures: Failures,
    /// Whom a re-delivered part comes from.
    pub(crate) nobody: MalachitePeerId,
    /// Taken by the first `stop`. A lock, because clones may race.
    pub(crate) running: Arc<Mutex<Option<Running>>>,
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

/// What must be ended.
pub(crate) struct Running {
    pub(crate) node: ActorCell,
    pub(crate) wal_path: PathBuf,
    pub(crate) stop_reader: oneshot::Sender<()>,
    pub(crate) reader: JoinHandle<Transport>,
    pub(crate) pump: JoinHandle<()>,
    pub(crate) supervisor: JoinHandle<()>,
}

impl EngineHandle {
    /// Sends a part of a proposal to all peers that are up. Waits while the engine's own queue of parts is full.
    ///
    /// # Errors
    /// [`PublishError`] if it can't be sent at all.
    pub async fn publish_part(&self, part: PartMessage) -> Result<(), PublishError> {
        let frame = wire::parts::encode(&part)
            .map_err(|error| PublishError::Refused { reason: error.to_string() })?;
        if self.outbox.broadcast_part(frame).await { Ok(()) } else { Err(PublishError::Ended) }
    }

    /// Hands over a block that became complete after its last part: the application is asked with
    /// [`crate::Request::Redelivered`], and its answer reaches consensus at once, in whatever round that is.
    pub fn redeliver(&self, height: Height, block: BlockHash) {
        let part = StreamContent::Data(Part::Redelivered { height, block });
        let message = StreamMessage::new(StreamId::new(bytes::Bytes::new()), 0, part);
        self.hub.tell(&NetworkEvent::ProposalPart(self.nobody, None, message));
    }

    /// Gives a peer's proposal to consensus, as if it came now, also if its sender went down meanwhile. Passing it twice
    /// is harmless; after the engine's end nothing happens.
    ///
    /// Pass it only when the block was judged, and can be handed over, under this very (height, round, valid round).
    pub fn pass_proposal(&self, ticket: ProposalTicket) {
        if let Some(id) = malachite_id(ticket.from) {
            self.hub.tell(&NetworkEvent::Proposal(id, ticket.proposal));
        }
    }

    /// Asks a peer for the decided value of one height, past malachite's own sync, which does not ask for what consensus
    /// has decided already: for a decided block that this node does not hold. The answer comes as
    /// [`crate::Request::Fetched`]; none comes if the peer goes down or does not answer, so ask another after a while.
    /// At most two fetches per peer and 16 in all are open: a further one makes the engine forget the oldest.
    ///
    /// `false` if the peer is not up or the transport has no room, and for height 0, which nobody decides.
    #[must_use]
    pub fn fetch(&self, height: Height, from: PeerId) -> bool {
        if height == Height(0) {
            return false;
        }
        let Some(number) = self.hub.fetch(from, height) else { return false };
        let range = height.into()..=height.into();
        let request = Request::ValueRequest(ValueRequest::new(range));
        let frame = wire::sync::encode_request(number, &request);
        let is_sent = frame.is_ok_and(|frame| self.outbox.send_sync(from, frame));
        if !is_sent {
            self.hub.forget_fetch(number);
        }
        is_sent
    }

    /// The peers that are up, and every change of them.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<BTreeSet<PeerId>> {
        self.hub.peers()
    }

    /// The height that each peer that is up claims to have decided, and every change. A peer that has not said yet is not
    /// in it. Claims are not proved: a lying peer claims what it likes.
    #[must_use]
    pub fn heights(&self) -> watch::Receiver<BTreeMap<PeerId, Height>> {
        self.hub.heights()
    }

    /// Claims to all peers that are up that this node has decided nothing yet. Malachite sends no status then, so the
    /// caller repeats this while it is so.
    pub fn claim_genesis(&self) {
        let status = Status::new(Height::GENESIS.into(), Height::GENESIS.into());
        if let Ok(frame) = wire::votes::encode(&VotesMessage::Status(status)) {
            self.outbox.broadcast_votes(frame);
        }
    }

    /// The first failure; `None` while the engine works, and after it was stopped in good order.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failures.first()
    }

    /// Waits for the first failure, for ever if there is none. May be dropped and called again.
    pub async fn wait_failed(&self) -> Failure {
        self.failures.wait().await
    }

    /// What was dropped or refused since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.outbox.counters.read()
    }

    /// Ends the engine: at its return no actor runs and the log's lock is free, so another engine may be started with
    /// what it returns. Frames that wait are lost. Works for a failed engine, too.
    ///
    /// A signature that is being made is waited for, because it holds the log.
    ///
    /// # Errors
    /// [`StopError`] if it was stopped before or does not end.
    pub async fn stop(&self) -> Result<Transport, StopError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.ok_or(StopError::Already)?.stop().await
    }
}

impl Running {
    async fn stop(self) -> Result<Transport, StopError> {
        self.supervisor.abort();
        let mut cells = self.node.get_children();
        cells.push(self.node);
        // Killed, not asked: a halted consensus actor never looks at its messages again. What the log had not synced is
        // lost, and no signature stands on it; its file is closed when the last who holds it is gone.
        cells.iter().for_each(ActorCell::kill);
        self.pump.abort();
        self.stop_reader.send(()).ok();
        let transport = self.reader.await.map_err(StopError::Reader)?;
        ended(&cells, &self.wal_path).await?;
        Ok(transport)
    }
}

async fn ended(cells: &[ActorCell], wal_path: &Path) -> Result<(), StopError> {
    let started = Instant::now();
    loop {
        let running = cells.iter().filter(|c| c.get_status() != ActorStatus::Stopped).count();
        let is_locked = is_locked(wal_path);
        if running == 0 && !is_locked {
            return Ok(());
        }
        if started.elapsed() >= STOP_MAX {
            return Err(StopError::Timeout { running, is_locked });
        }
        sleep(STOP_TICK).await;
    }
}

/// Whether somebody holds the log's lock. A file that can't be opened is not locked by us.
pub(crate) fn is_locked(wal_path: &Path) -> bool {
    std::fs::File::open(wal_path)
        .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}
