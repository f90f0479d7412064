//! The way into the log as the gRPC services see it: a validator's lane, or a full node's refusal.

use async_trait::async_trait;
use lockstep_consensus::ingress::{Ingress as Lane, Refused};
use lockstep_consensus::tracker;
use lockstep_core::entry::Entry;
use lockstep_core::types::EntryId;
use lockstep_proto::convert::bundle::refuse_entry;
use lockstep_rpc::node::{
    DropReason, Dropped, EntryState, ErrorCode, Ingress, Log as _, ReadError, Refusal, Submission,
};
use tokio::sync::watch;

use super::log::LogView;

/// When to come back to a node whose lane is full, in milliseconds: two block intervals.
const BUSY_RETRY_MS: u64 = 500;

/// A validator's ingress.
#[derive(Clone, Debug)]
pub(crate) struct LaneIngress {
    pub(crate) lane: Lane,
    pub(crate) log: LogView,
}

fn refusal(refused: &Refused) -> Refusal {
    let code = match refused {
        Refused::Invalid(error) => return refuse_entry(error),
        Refused::Expired { .. } => ErrorCode::Expired,
        Refused::ExpiresTooLate { .. } => ErrorCode::ExpiresTooLate,
        Refused::UnknownChain { .. } | Refused::Kind { .. } => ErrorCode::UnknownChain,
        Refused::Guarantee | Refused::NotSequencer { .. } => ErrorCode::NotAllowed,
        Refused::Busy(_) | Refused::TooManyTracked => {
            let refusal = Refusal::new(ErrorCode::Overloaded, refused.to_string());
            return refusal.retry_after(BUSY_RETRY_MS);
        }
    };
    Refusal::new(code, refused.to_string())
}

impl LaneIngress {
    fn state(&self, state: tracker::EntryState) -> Result<EntryState, ReadError> {
        Ok(match state {
            tracker::EntryState::Received => EntryState::Received,
            tracker::EntryState::Decided { decision, .. } => {
                let decided = self.log.decided(decision.height, decision.index)?;
                let missing = || ReadError(format!("height {} is not stored", decision.height));
                EntryState::Decided(decided.ok_or_else(missing)?)
            }
            tracker::EntryState::Dropped(reason) => EntryState::Dropped(dropped(&reason)),
        })
    }
}

fn dropped(reason: &tracker::DropReason) -> Dropped {
    let detail = reason.to_string();
    match reason {
        tracker::DropReason::Expired => Dropped { reason: DropReason::Expired, detail },
        tracker::DropReason::LeftOut(left_out) => {
            Dropped::of(left_out).unwrap_or(Dropped { reason: DropReason::Unknown, detail })
        }
    }
}

fn internal(error: &ReadError) -> Refusal {
    Refusal::new(ErrorCode::Internal, error.to_string())
}

#[async_trait]
impl Ingress for LaneIngress {
    async fn submit(&self, entries: Vec<Entry>) -> Vec<Result<Submission, Refusal>> {
        let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
        let answers = self.lane.submit_many(entries).await;
        ids.into_iter()
            .zip(answers)
            .map(|(id, answer)| {
                let (state, is_known) = answer.map_err(|refused| refusal(&refused))?;
                let state = self.state(state).map_err(|error| internal(&error))?;
                Ok(Submission { id, state, is_known })
            })
            .collect()
    }

    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError> {
        self.lane.state(id).map(|state| self.state(state)).transpose()
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        let now = self.status(id).map_err(|error| internal(&error))?;
        let (states, watch) = watch::channel(now);
        let Some(mut lane) = self.lane.watch(id) else { return Ok(watch) };
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let state = *lane.borrow_and_update();
                // Reading the block's certificate takes microseconds: it was just written.
                if let Ok(state) = this.state(state) {
                    states.send_replace(Some(state));
                }
                let is_over = state.is_final() || states.is_closed();
                if is_over || lane.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(watch)
    }
}

/// A full node takes no entries; it tells what it knows of decided ones.
#[derive(Clone, Debug)]
pub(crate) struct NoIngress(pub(crate) LogView);

#[async_trait]
impl Ingress for NoIngress {
    async fn submit(&self, entries: Vec<Entry>) -> Vec<Result<Submission, Refusal>> {
        let refuse = |_: Entry| {
            let reason = "this node follows the log and takes no entries; submit to a validator";
            Err(Refusal::new(ErrorCode::NotReady, reason))
        };
        entries.into_iter().map(refuse).collect()
    }

    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError> {
        let store = self.0.0.store();
        let found = store.find_entry(id).map_err(|error| ReadError(error.to_string()))?;
        let Some(at) = found else { return Ok(None) };
        Ok(self.0.decided(at.height, at.index)?.map(EntryState::Decided))
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        let now = self.status(id).map_err(|error| internal(&error))?;
        let (states, watch) = watch::channel(now);
        let (this, mut heads) = (self.clone(), self.0.heads());
        tokio::spawn(async move {
            // A decided entry is final; until then every new block is asked.
            while states.borrow().is_none() && !states.is_closed() && heads.changed().await.is_ok()
            {
                if let Ok(Some(state)) = this.status(id) {
                    states.send_replace(Some(state));
                }
            }
        });
        Ok(watch)
    }
}
