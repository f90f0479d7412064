//! An ingress in memory: it takes entries, and a test says what becomes of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::types::{ChainId, EntryId, Height};
use lockstep_proto::convert::bundle::refuse_entry;
use lockstep_rpc::node::{
    Client, Dropped, EntryState, ErrorCode, Ingress, LegState, LegStatus, Log as _, ReadError,
    Refusal, Stage, Submission,
};
use lockstep_test_log::MemoryLog;
use tokio::sync::watch;

/// The ingress, in memory: nothing is decided before a test says so.
pub(crate) struct MemoryIngress {
    log: Arc<MemoryLog>,
    watched: Mutex<BTreeMap<EntryId, watch::Sender<Option<EntryState>>>>,
    pending: Mutex<Vec<Entry>>,
    /// How many look for an entry, and how many did at most.
    searching: (AtomicUsize, AtomicUsize),
    /// How long the check of one entry takes; they are made one after the other.
    check: tokio::sync::Mutex<Duration>,
}

impl MemoryIngress {
    pub(crate) fn new(log: &Arc<MemoryLog>) -> Self {
        Self {
            log: Arc::clone(log),
            watched: Mutex::default(),
            pending: Mutex::default(),
            searching: (AtomicUsize::new(0), AtomicUsize::new(0)),
            check: tokio::sync::Mutex::default(),
        }
    }

    /// How many looked for an entry at a time, at most.
    pub(crate) fn searching_max(&self) -> usize {
        self.searching.1.load(Ordering::Relaxed)
    }

    /// Makes the check of each entry take so long.
    pub(crate) fn take_for_each_check(&self, time: Duration) {
        *self.check.try_lock().unwrap() = time;
    }

    fn sender<T>(
        &self,
        id: EntryId,
        use_it: impl FnOnce(&watch::Sender<Option<EntryState>>) -> T,
    ) -> T {
        let mut watched = self.watched.lock().unwrap();
        use_it(watched.entry(id).or_insert_with(|| watch::Sender::new(None)))
    }

    /// Decides everything that was submitted; its chains may have it later.
    pub(crate) fn decide_for_chains(&self) -> Height {
        let entries = self.pending.lock().unwrap().clone();
        let height = self.decide();
        for entry in entries {
            let legs = chains_of(&entry).into_iter().map(|chain| LegStatus {
                chain,
                state: LegState::Decided,
                last: Stage::Finalized,
            });
            self.tell(entry.id(), &legs.collect::<Vec<_>>());
        }
        height
    }

    /// Decides everything that was submitted.
    pub(crate) fn decide(&self) -> Height {
        let entries = std::mem::take(&mut *self.pending.lock().unwrap());
        let height = self.log.decide(&entries);
        for (entry, decided) in self.log.taken(height) {
            let state = EntryState::Decided(decided);
            self.sender(entry.id(), |sender| sender.send_replace(Some(state)));
        }
        height
    }

    /// Tells what became of a decided entry on its chains.
    pub(crate) fn tell(&self, id: EntryId, legs: &[LegStatus]) {
        self.sender(id, |sender| {
            sender.send_modify(|state| match state {
                Some(EntryState::Decided(decided)) => decided.legs = legs.to_vec(),
                other => panic!("{other:?} is not decided"),
            });
        });
    }

    /// Drops everything that was submitted.
    pub(crate) fn drop_all(&self, dropped: &Dropped) {
        for entry in std::mem::take(&mut *self.pending.lock().unwrap()) {
            let state = EntryState::Dropped(dropped.clone());
            self.sender(entry.id(), |sender| sender.send_replace(Some(state)));
        }
    }

    /// Ends all watches, as a node does that shuts down.
    pub(crate) fn forget(&self) {
        self.watched.lock().unwrap().clear();
    }

    pub(crate) fn pending(&self) -> Vec<EntryId> {
        self.pending.lock().unwrap().iter().map(Entry::id).collect()
    }

    fn take(&self, entry: Entry) -> Result<Submission, Refusal> {
        let checked = entry.check(self.log.network()).map_err(|error| refuse_entry(&error))?;
        let entry = checked.entry();
        let genesis = self.log.genesis();
        let is_registered = |chain: ChainId| genesis.chains.iter().any(|params| params.id == chain);
        if let Some(unknown) = checked.transactions().iter().find(|t| !is_registered(t.chain)) {
            let reason = format!("chain {} is not registered", unknown.chain);
            return Err(Refusal::new(ErrorCode::UnknownChain, reason));
        }
        let id = entry.id();
        let known = self.sender(id, |sender| sender.borrow().clone());
        if let Some(state) = known {
            return Ok(Submission { id, state, is_known: true });
        }
        self.sender(id, |sender| sender.send_replace(Some(EntryState::Received)));
        self.pending.lock().unwrap().push(entry.clone());
        Ok(Submission { id, state: EntryState::Received, is_known: false })
    }
}

fn chains_of(entry: &Entry) -> Vec<ChainId> {
    match entry.body() {
        Body::Transaction(transaction) => vec![transaction.chain],
        Body::Bundle(bundle) => bundle.legs().iter().map(|leg| leg.chain).collect(),
        Body::Record(_) => Vec::new(),
    }
}

#[async_trait]
impl Ingress for MemoryIngress {
    async fn submit(&self, _: Client, entries: Vec<Entry>) -> Vec<Result<Submission, Refusal>> {
        let check = self.check.lock().await;
        if !check.is_zero() {
            tokio::time::sleep(*check * u32::try_from(entries.len()).unwrap()).await;
        }
        drop(check);
        entries.into_iter().map(|entry| self.take(entry)).collect()
    }

    fn status(&self, id: EntryId) -> Result<Option<EntryState>, ReadError> {
        let (now, most) = &self.searching;
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
        now.fetch_sub(1, Ordering::Relaxed);
        Ok(self.sender(id, |sender| sender.borrow().clone()))
    }

    fn watch(&self, id: EntryId) -> Result<watch::Receiver<Option<EntryState>>, Refusal> {
        Ok(self.sender(id, watch::Sender::subscribe))
    }
}
