//! What the endpoints of a scripted log are given: everything is taken and written down; a test decides it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lockstep_core::entry::Entry;
use lockstep_core::types::EntryId;
use lockstep_rpc::node::{Client, EntryState, Ingress, ReadError, Refusal, Submission};
use tokio::sync::watch;

#[derive(Debug, Default)]
struct Taken {
    all: Vec<Entry>,
    /// How many of them were given out.
    given: usize,
    /// How often something was submitted.
    submissions: usize,
}

/// The submissions of all endpoints, each entry once.
#[derive(Debug, Default)]
pub struct ScriptedIngress(Mutex<Taken>);

impl ScriptedIngress {
    /// All entries so far.
    #[must_use]
    pub fn all(&self) -> Vec<Entry> {
        self.taken().all.clone()
    }

    /// How often something was submitted, the same entry again included.
    #[must_use]
    pub fn submissions(&self) -> usize {
        self.taken().submissions
    }

    /// The entries since the last time.
    pub fn take(&self) -> Vec<Entry> {
        let mut taken = self.taken();
        let new = taken.all.get(taken.given..).unwrap_or_default().to_vec();
        taken.given = taken.all.len();
        new
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Ingress for ScriptedIngress {
    async fn submit(&self, _: Client, entries: Vec<Entry>) -> Vec<Result<Submission, Refusal>> {
        let mut taken = self.taken();
        let take = |entry: Entry| {
            let id = entry.id();
            let is_known = taken.all.iter().any(|known| known.id() == id);
            if !is_known {
                taken.all.push(entry);
            }
            taken.submissions = taken.submissions.saturating_add(1);
            Ok(Submission { id, state: EntryState::Received, is_known })
        };
        entries.into_iter().map(take).collect()
    }

    fn status(&self, _: EntryId) -> Result<Option<EntryState>, ReadError> {
        Ok(None)
    }

    fn watch(&self, _: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        Ok(watch::channel(None).1)
    }
}
