//! The stream of one entry's states, until one that no other follows.

use std::time::Duration;

use lockstep_core::types::EntryId;
use lockstep_proto::convert::ingress::{EntryStatus, Milestone};
use lockstep_proto::error::{ErrorCode, Refusal};
use lockstep_proto::v1;

use super::IngressService;
use crate::limits::{WATCH_OUTCOME_TIMEOUT, WATCH_TIMEOUT};
use crate::node::EntryState;
use crate::quota::Client;
use crate::streams::Answers;

impl IngressService {
    pub(super) async fn open_watch(
        &self,
        client: Client,
        id: EntryId,
    ) -> Result<Answers<v1::EntryStatus>, Refusal> {
        // First, because a watch costs the node something, also of an entry that it does not know.
        let place = self.streams.place(client)?;
        let mut states = self.watch(client, id).await?;
        let service = self.clone();
        Ok(self.streams.open(place, move |sink| async move {
            let mut sent = None;
            loop {
                let state = states.borrow_and_update().clone();
                if let Some(state) = state.filter(|state| sent.as_ref() != Some(state)) {
                    let is_final = state.is_final();
                    sink.send((&EntryStatus { id, state: state.clone() }).into()).await?;
                    if is_final {
                        return Ok(());
                    }
                    sent = Some(state);
                }
                let patience = patience(sent.as_ref());
                match tokio::time::timeout(patience, states.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break,
                    Err(_) => return Err(silent(id, patience)),
                }
            }
            // The node ended the watch, and the last state it showed was not final.
            match service.status(client, id).await?.filter(EntryState::is_final) {
                Some(state) => sink.send((&EntryStatus { id, state }).into()).await,
                None => Err(Refusal::new(ErrorCode::NotReady, "the node ended the watch")),
            }
        }))
    }
}

/// How long an entry in this state may show nothing new.
fn patience(state: Option<&EntryState>) -> Duration {
    match state.is_some_and(|state| state.has_reached(Milestone::Included)) {
        true => WATCH_OUTCOME_TIMEOUT,
        false => WATCH_TIMEOUT,
    }
}

fn silent(id: EntryId, patience: Duration) -> Refusal {
    let reason = format!("nothing new of entry {id} for {} ms", patience.as_millis());
    Refusal::new(ErrorCode::Timeout, reason)
}
