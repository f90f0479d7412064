//! The ingress service: converts, charges the client's quota, hands over to the node, and waits where asked to.
//!
//! It checks no signature and knows no state: that is the node's. A call either decides or waits, in this order:
//! convert, charge, wait for a turn, submit, wait for a state.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockstep_core::types::{EntryId, UnixMillis};
use lockstep_proto::convert::ingress::{EntryStatus, StatusKey, Submit, Submitted, Wait, entry_id};
use lockstep_proto::error::{ErrorCode, InvalidMessage, Refusal};
use lockstep_proto::v1;
use lockstep_proto::v1::ingress_server::Ingress as IngressRpc;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::limits::{CHECKS_MAX, CHECKS_PER_CLIENT_MAX, CHECKS_RESERVED};
use crate::metrics::RpcMetrics;
use crate::node::{EntryState, Ingress, Submission};
use crate::places::Bounds;
use crate::quota::{Client, Quotas};
use crate::reads::{Reads, internal, unreadable};
use crate::server::{Backend, client_of};
use crate::streams::{Answers, Streams};
use crate::turns::{Queue, Room};

mod stream;
mod watching;

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct IngressService {
    ingress: Arc<dyn Ingress>,
    reads: Reads,
    streams: Streams,
    /// Turns at the node's checks of signatures.
    checks: Queue,
    // Behind a lock, because calls of one client come over many connections. Held for arithmetic alone.
    quotas: Arc<Mutex<Quotas>>,
    metrics: RpcMetrics,
}

impl fmt::Debug for IngressService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressService").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

impl IngressService {
    pub(crate) fn new(backend: &Backend, reads: Reads, streams: Streams, quotas: Quotas) -> Self {
        let running = Bounds {
            total_max: CHECKS_MAX,
            per_client_max: CHECKS_PER_CLIENT_MAX,
            reserved: CHECKS_RESERVED,
        };
        Self {
            ingress: Arc::clone(&backend.ingress),
            reads,
            streams,
            checks: Queue::new(Room::of(running)),
            quotas: Arc::new(Mutex::new(quotas)),
            metrics: backend.metrics.clone(),
        }
    }

    /// Charges submissions of so many bytes each; one answer per submission.
    fn charge(&self, client: Client, sizes: Vec<u64>) -> Vec<Result<(), Refusal>> {
        let now = Instant::now();
        let charged =
            self.quotas.lock().unwrap_or_else(PoisonError::into_inner).take(client, now, sizes);
        let refused = charged.iter().filter(|charged| charged.is_err()).count() as u64;
        self.metrics.submissions_over_quota.inc_by(refused);
        charged
    }

    fn count(&self, is_accepted: bool) {
        match is_accepted {
            true => self.metrics.submissions_accepted.inc(),
            false => self.metrics.submissions_refused.inc(),
        };
    }

    async fn submit(
        &self,
        client: Client,
        submit: Result<Submit, Refusal>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let answer = match submit {
            Ok(submit) => self.submit_one(client, submit).await,
            Err(refusal) => Err(refusal),
        };
        self.count(answer.is_ok());
        Ok(Response::new((&answer?).into()))
    }

    async fn submit_one(&self, client: Client, submit: Submit) -> Result<Submitted, Refusal> {
        let Submit { entry, form, wait } = submit;
        self.charge(client, vec![entry.raw().len() as u64]).pop().unwrap_or(Ok(()))?;
        let turn = self.checks.turn(client, 1).await?;
        let answer = self.ingress.submit(client, vec![entry]).await.pop();
        drop(turn);
        let submission = match answer {
            Some(answer) => answer.map_err(|refusal| form.place(refusal))?,
            None => return Err(internal("the node gave no answer", &"one was expected")),
        };
        let Submission { id, state, is_known } = submission;
        let (state, is_reached) = match wait {
            None => (state, true),
            Some(wait) => self.wait(client, (id, state), wait).await?,
        };
        Ok(Submitted { status: EntryStatus { id, state }, is_known, is_reached })
    }

    /// The state at which the wait ends, and whether it is what was waited for.
    async fn wait(
        &self,
        client: Client,
        (id, state): (EntryId, EntryState),
        wait: Wait,
    ) -> Result<(EntryState, bool), Refusal> {
        let is_over = |state: &EntryState| state.is_final() || state.has_reached(wait.milestone);
        if is_over(&state) {
            let is_reached = state.has_reached(wait.milestone);
            return Ok((state, is_reached));
        }
        let mut states = self.watch(client, id).await?;
        let timeout = Duration::from_millis(wait.timeout_ms);
        let reached = states.wait_for(|state| state.as_ref().is_some_and(is_over));
        let latest = match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(latest)) => latest.clone(),
            // The node ended the watch, or the time is over: what is the state now?
            Ok(Err(_)) | Err(_) => None,
        };
        let latest = match latest {
            Some(latest) => latest,
            None => self.status(client, id).await?.unwrap_or(state),
        };
        let is_reached = latest.has_reached(wait.milestone);
        Ok((latest, is_reached))
    }

    async fn watch(
        &self,
        client: Client,
        id: EntryId,
    ) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        let ingress = Arc::clone(&self.ingress);
        self.reads.search(client, move |_| ingress.watch(id)).await
    }

    async fn status(&self, client: Client, id: EntryId) -> Result<Option<EntryState>, Refusal> {
        let ingress = Arc::clone(&self.ingress);
        self.reads.search(client, move |_| ingress.status(id).map_err(unreadable)).await
    }

    async fn status_by_key(&self, client: Client, key: StatusKey) -> Result<EntryStatus, Refusal> {
        match key {
            StatusKey::Id(id) => {
                let state = self.status(client, id).await?;
                let state =
                    state.ok_or_else(|| not_found("id", format!("entry {id} is unknown")))?;
                Ok(EntryStatus { id, state })
            }
            StatusKey::Transaction(chain, hash) => {
                let read = self
                    .reads
                    .search(client, move |log| log.locate(chain, hash).map_err(unreadable));
                let located = read.await?.ok_or_else(|| {
                    let reason =
                        format!("no decided block has transaction {hash} of chain {chain}");
                    not_found("transaction", reason)
                })?;
                // The ingress knows what became of it on its chains, too.
                let state = self.status(client, located.id).await?;
                let state = state.filter(|state| matches!(state, EntryState::Decided(_)));
                let state = state.unwrap_or(EntryState::Decided(located.decided));
                Ok(EntryStatus { id: located.id, state })
            }
        }
    }
}

fn not_found(field: &str, reason: String) -> Refusal {
    Refusal::new(ErrorCode::NotFound, reason).of_field(field)
}

/// The time of an entry whose expiry is left to the node.
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn refused(error: InvalidMessage) -> Status {
    Refusal::from(error).into()
}

#[tonic::async_trait]
impl IngressRpc for IngressService {
    type SubmitStreamStream = Answers<v1::SubmitStreamResponse>;
    type WatchStatusStream = Answers<v1::EntryStatus>;

    async fn submit_transaction(
        &self,
        request: Request<v1::SubmitTransactionRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let client = client_of(&request);
        self.submit(client, Submit::transaction(request.into_inner(), now())).await
    }

    async fn submit_bundle(
        &self,
        request: Request<v1::SubmitBundleRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let client = client_of(&request);
        self.submit(client, Submit::bundle(request.into_inner(), now())).await
    }

    async fn submit_entry(
        &self,
        request: Request<v1::SubmitEntryRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let client = client_of(&request);
        self.submit(client, Submit::entry(&request.into_inner())).await
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let client = client_of(&request);
        Ok(Response::new(self.answer_stream(client, request.into_inner())?))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::EntryStatus>, Status> {
        let client = client_of(&request);
        let key = request.into_inner().try_into().map_err(refused)?;
        Ok(Response::new((&self.status_by_key(client, key).await?).into()))
    }

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let client = client_of(&request);
        let id = entry_id("WatchStatusRequest", &request.into_inner().id).map_err(refused)?;
        Ok(Response::new(self.open_watch(client, id).await?))
    }
}
