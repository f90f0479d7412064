//! The way into the log as the gRPC services see it: a validator's lane, or a full node's refusal.

use async_trait::async_trait;
use lockstep_consensus::ingress::{Ingress as Lane, Refused};
use lockstep_consensus::tracker;
use lockstep_core::admission::LeaveOut;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::Entry;
use lockstep_core::types::{EntryId, Height};
use lockstep_proto::convert::bundle::refuse_entry;
use lockstep_rpc::node::{
    Decided, DropReason, Dropped, EntryState, ErrorCode, Ingress, Log as _, ReadError, Refusal,
    Submission,
};
use tokio::sync::watch;

use super::log::LogView;
use super::outcomes::{Leg, Outcomes};

/// When to come back to a node whose lane is full, in milliseconds: two block intervals.
const BUSY_RETRY_MS: u64 = 500;

/// What is told of decided entries: where the log has them, and what became of them on their chains.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) log: LogView,
    pub(crate) outcomes: Outcomes,
}

impl Told {
    /// A decided entry and its legs, whose states may go on.
    fn decided(
        &self,
        height: Height,
        index: u32,
    ) -> Result<Option<(Decided, Vec<Leg>)>, ReadError> {
        let Some(entry) = self.log.entry(height, index)? else { return Ok(None) };
        let Some(decided) = self.log.decided(height, index)? else { return Ok(None) };
        let legs = Leg::all_of(&entry);
        Ok(Some((self.now(decided, &legs), legs)))
    }

    fn now(&self, decided: Decided, legs: &[Leg]) -> Decided {
        let legs = self.outcomes.legs((decided.height, decided.index), legs);
        Decided { legs, ..decided }
    }

    /// Shows a decided entry's states until none follows, or nobody looks.
    async fn follow(
        &self,
        mut decided: Decided,
        legs: &[Leg],
        states: &watch::Sender<Option<EntryState>>,
    ) {
        let mut changes = self.outcomes.changes();
        loop {
            changes.mark_unchanged();
            decided = self.now(decided, legs);
            let state = EntryState::Decided(decided.clone());
            let is_over = state.is_final();
            show(states, state);
            if is_over {
                return;
            }
            let has_ended = tokio::select! {
                changed = changes.changed() => changed.is_err(),
                () = states.closed() => true,
            };
            if has_ended {
                return;
            }
        }
    }
}

/// Shows a state that was not shown before.
fn show(states: &watch::Sender<Option<EntryState>>, state: EntryState) {
    states.send_if_modified(|shown| {
        let is_new = shown.as_ref() != Some(&state);
        *shown = Some(state);
        is_new
    });
}

/// A validator's ingress.
#[derive(Clone, Debug)]
pub(crate) struct LaneIngress {
    pub(crate) lane: Lane,
    pub(crate) told: Told,
}

fn refusal(refused: &Refused) -> Refusal {
    let code = match refused {
        Refused::Invalid(error) => return refuse_entry(error),
        Refused::NotAdmitted(reason) => {
            DropReason::of(reason).map_or(ErrorCode::Overloaded, DropReason::code)
        }
        Refused::Busy(_) | Refused::TooManyTracked => {
            let refusal = Refusal::new(ErrorCode::Overloaded, refused.to_string());
            return refusal.retry_after(BUSY_RETRY_MS);
        }
        Refused::Stopping => ErrorCode::NotReady,
    };
    Refusal::new(code, refused.to_string())
}

impl LaneIngress {
    fn state(&self, state: tracker::EntryState) -> Result<EntryState, ReadError> {
        Ok(match state {
            tracker::EntryState::Received => EntryState::Received,
            tracker::EntryState::Decided { decision, .. } => {
                EntryState::Decided(self.decided(decision)?.0)
            }
            tracker::EntryState::Dropped(reason) => EntryState::Dropped(dropped(&reason)),
        })
    }

    fn decided(
        &self,
        Decision { height, index }: Decision,
    ) -> Result<(Decided, Vec<Leg>), ReadError> {
        let missing = || ReadError(format!("entry {index} of height {height} is not stored"));
        self.told.decided(height, index)?.ok_or_else(missing)
    }

    /// Shows an entry's states until none follows, or nobody looks.
    async fn follow(
        &self,
        mut lane: watch::Receiver<tracker::EntryState>,
        states: &watch::Sender<Option<EntryState>>,
    ) {
        loop {
            let state = *lane.borrow_and_update();
            if let tracker::EntryState::Decided { decision, .. } = state {
                // Reading what was just written takes microseconds.
                if let Ok((decided, legs)) = self.decided(decision) {
                    self.told.follow(decided, &legs, states).await;
                }
                return;
            }
            if let Ok(state) = self.state(state) {
                show(states, state);
            }
            let has_ended = tokio::select! {
                changed = lane.changed() => changed.is_err(),
                () = states.closed() => true,
            };
            if has_ended {
                return;
            }
        }
    }
}

fn dropped(reason: &LeaveOut) -> Dropped {
    let unknown = || Dropped { reason: DropReason::Unknown, detail: reason.to_string() };
    Dropped::of(reason).unwrap_or_else(unknown)
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
        let at = match &now {
            Some(EntryState::Decided(decided)) => Some((decided.height, decided.index)),
            Some(EntryState::Received | EntryState::Dropped(_)) | None => None,
        };
        let is_over = now.as_ref().is_some_and(EntryState::is_final);
        let (states, watch) = watch::channel(now);
        if is_over {
            return Ok(watch);
        }
        let this = self.clone();
        match (self.lane.watch(id), at) {
            (Some(lane), _) => drop(tokio::spawn(async move { this.follow(lane, &states).await })),
            // It came by another node's lane, or is not remembered as submitted here.
            (None, Some((height, index))) => {
                let decided = this.decided(Decision { height, index });
                let (decided, legs) = decided.map_err(|error| internal(&error))?;
                tokio::spawn(async move { this.told.follow(decided, &legs, &states).await });
            }
            (None, None) => {}
        }
        Ok(watch)
    }
}

/// A full node takes no entries; it tells what it knows of decided ones.
#[derive(Clone, Debug)]
pub(crate) struct NoIngress(pub(crate) Told);

impl NoIngress {
    fn decided(&self, id: EntryId) -> Result<Option<(Decided, Vec<Leg>)>, ReadError> {
        let store = self.0.log.0.store();
        let found = store.find_entry(id).map_err(|error| ReadError(error.to_string()))?;
        let Some(at) = found else { return Ok(None) };
        self.0.decided(at.height, at.index)
    }
}

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
        Ok(self.decided(id)?.map(|(decided, _)| EntryState::Decided(decided)))
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        let now = self.decided(id).map_err(|error| internal(&error))?;
        let state = now.as_ref().map(|(decided, _)| EntryState::Decided(decided.clone()));
        let (states, watch) = watch::channel(state);
        let (this, mut heads) = (self.clone(), self.0.log.heads());
        tokio::spawn(async move {
            let mut now = now;
            // Until it is decided, every new block is asked.
            let (decided, legs) = loop {
                if let Some(now) = now {
                    break now;
                }
                let has_ended = tokio::select! {
                    changed = heads.changed() => changed.is_err(),
                    () = states.closed() => true,
                };
                if has_ended {
                    return;
                }
                now = this.decided(id).ok().flatten();
            };
            this.0.follow(decided, &legs, &states).await;
        });
        Ok(watch)
    }
}
