//! The way into the log as the gRPC services see it: a validator's lane, or a full node's refusal.

use std::net::{IpAddr, Ipv6Addr};

use alloy_primitives::B256;
use async_trait::async_trait;
use lockstep_consensus::ingress::{Ingress as Lane, Refused, Submitter};
use lockstep_consensus::tracker;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::Entry;
use lockstep_core::types::{EntryId, Height};
use lockstep_proto::convert::bundle::refuse_entry;
use lockstep_rpc::node::{
    Client, Decided, DropReason, Dropped, EntryState, ErrorCode, Ingress, ReadError, Refusal,
    Submission,
};
use tokio::sync::watch;

use super::awaited::Awaited;
use super::log::LogView;
use super::outcomes::{Leg, Outcomes};

/// When to come back to a node that tracks too many entries, in milliseconds: two block intervals.
const TRACKED_RETRY_MS: u64 = 500;

/// What is told of decided entries: where the log has them, and what became of them on their chains.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) log: LogView,
    pub(crate) outcomes: Outcomes,
    pub(crate) awaited: Awaited,
}

impl Told {
    /// Where the log has an entry, and what became of it; `None` if it has none such. May block.
    fn find(&self, id: EntryId) -> Result<Option<(Decided, Vec<Leg>)>, ReadError> {
        let store = self.log.0.store();
        let found = store.find_entry(id).map_err(|error| ReadError(error.to_string()))?;
        let Some(at) = found else { return Ok(None) };
        self.decided(at.height, at.index)
    }

    /// The same off the runtime. A store that cannot be read knows nothing, either.
    async fn found(&self, id: EntryId) -> Option<(Decided, Vec<Leg>)> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.find(id)).await.ok()?.ok().flatten()
    }

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

/// Waits until it is time to look for an entry; false if nobody waits for the states any more.
async fn is_awaited(
    news: &mut watch::Receiver<()>,
    states: &watch::Sender<Option<EntryState>>,
) -> bool {
    tokio::select! {
        changed = news.changed() => changed.is_ok(),
        () = states.closed() => false,
    }
}

/// A validator's ingress.
#[derive(Clone, Debug)]
pub(crate) struct LaneIngress {
    pub(crate) lane: Lane,
    pub(crate) told: Told,
}

fn overloaded(refused: &Refused, retry_after_ms: u64) -> Refusal {
    Refusal::new(ErrorCode::Overloaded, refused.to_string()).retry_after(retry_after_ms)
}

fn refusal(refused: &Refused) -> Refusal {
    let code = match refused {
        Refused::Invalid(error) => return refuse_entry(error),
        Refused::NotAdmitted(reason) => DropReason::of(reason).code(),
        Refused::Busy(busy) => return overloaded(refused, busy.retry_after_ms()),
        Refused::TooManyTracked => return overloaded(refused, TRACKED_RETRY_MS),
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
            tracker::EntryState::Dropped(reason) => EntryState::Dropped(Dropped::of(&reason)),
        })
    }

    fn decided(
        &self,
        Decision { height, index }: Decision,
    ) -> Result<(Decided, Vec<Leg>), ReadError> {
        let missing = || ReadError(format!("entry {index} of height {height} is not stored"));
        self.told.decided(height, index)?.ok_or_else(missing)
    }

    /// Shows an entry's states, also of one that comes later or by another validator's lane.
    async fn show_all(
        &self,
        id: EntryId,
        mut news: watch::Receiver<()>,
        states: &watch::Sender<Option<EntryState>>,
    ) {
        loop {
            if let Some(lane) = self.lane.watch(id) {
                return self.follow(lane, states).await;
            }
            if let Some((decided, legs)) = self.told.found(id).await {
                return self.told.follow(decided, &legs, states).await;
            }
            if !is_awaited(&mut news, states).await {
                return;
            }
        }
    }

    /// Shows the states of an entry of this validator's lane until none follows, or nobody looks.
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

/// Clients as the lane tells them apart; addresses as IPv6, in the low bytes, which no hash is.
fn submitter(client: Client) -> Submitter {
    match client {
        Client::Known(certificate) => Submitter(certificate),
        Client::Address(IpAddr::V4(address)) => by_address(address.to_ipv6_mapped()),
        Client::Address(IpAddr::V6(address)) => by_address(address),
        Client::Others => Submitter::UNKNOWN,
    }
}

fn by_address(address: Ipv6Addr) -> Submitter {
    Submitter(B256::left_padding_from(&address.octets()))
}

fn internal(error: &ReadError) -> Refusal {
    Refusal::new(ErrorCode::Internal, error.to_string())
}

#[async_trait]
impl Ingress for LaneIngress {
    async fn submit(
        &self,
        client: Client,
        entries: Vec<Entry>,
    ) -> Vec<Result<Submission, Refusal>> {
        let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
        let answers = self.lane.submit_many(submitter(client), entries).await;
        let submitted = |(id, answer): (EntryId, Result<_, Refused>)| {
            let (state, is_known) = answer.map_err(|refused| refusal(&refused))?;
            let state = self.state(state).map_err(|error| internal(&error))?;
            Ok(Submission { id, state, is_known })
        };
        let answers: Vec<_> = ids.into_iter().zip(answers).map(submitted).collect();
        self.told.awaited.tell(answers.iter().flatten().map(|submission| submission.id));
        answers
    }

    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError> {
        self.lane.state(id).map(|state| self.state(state)).transpose()
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        // Before the first look, so that nothing happens unseen between the two.
        let news = self.told.awaited.wait(id);
        let now = self.status(id).map_err(|error| internal(&error))?;
        let is_over = now.as_ref().is_some_and(EntryState::is_final);
        let (states, watch) = watch::channel(now);
        if !is_over {
            let this = self.clone();
            tokio::spawn(async move { this.show_all(id, news, &states).await });
        }
        Ok(watch)
    }
}

/// A full node takes no entries; it tells what it knows of decided ones.
#[derive(Clone, Debug)]
pub(crate) struct NoIngress(pub(crate) Told);

#[async_trait]
impl Ingress for NoIngress {
    async fn submit(&self, _: Client, entries: Vec<Entry>) -> Vec<Result<Submission, Refusal>> {
        let refuse = |_: Entry| {
            let reason = "this node follows the log and takes no entries; submit to a validator";
            Err(Refusal::new(ErrorCode::NotReady, reason))
        };
        entries.into_iter().map(refuse).collect()
    }

    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError> {
        Ok(self.0.find(id)?.map(|(decided, _)| EntryState::Decided(decided)))
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        // Before the first look, so that nothing happens unseen between the two.
        let mut news = self.0.awaited.wait(id);
        let mut found = self.0.find(id).map_err(|error| internal(&error))?;
        let now = found.as_ref().map(|(decided, _)| EntryState::Decided(decided.clone()));
        let (states, watch) = watch::channel(now);
        let told = self.0.clone();
        tokio::spawn(async move {
            loop {
                if let Some((decided, legs)) = found {
                    return told.follow(decided, &legs, &states).await;
                }
                if !is_awaited(&mut news, &states).await {
                    return;
                }
                found = told.found(id).await;
            }
        });
        Ok(watch)
    }
}
