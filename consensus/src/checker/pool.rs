//! Threads for short work, which payers take in turn by cost. Whoever asks awaits its result, which bounds what waits.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

use super::Payer;
use crate::fair::FairOrder;

type Work = Box<dyn FnOnce() + Send>;

/// The threads, and what waits for them; cheap to clone. The threads end with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Queue>);

/// What whoever puts work in holds. The threads hold [`Shared`].
#[derive(Debug)]
struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    // A lock, because the threads share it; held to put work in or to take some out.
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    order: FairOrder<Payer>,
    work: BTreeMap<Payer, VecDeque<(u64, Work)>>,
    is_closed: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("order", &self.order).finish_non_exhaustive()
    }
}

impl Waiting {
    fn put(&mut self, payer: Payer, cost: u64, work: Work) {
        self.order.join(payer);
        self.work.entry(payer).or_default().push_back((cost, work));
    }

    fn take(&mut self) -> Option<Work> {
        let (_, payer) = self.order.behind(None)?;
        let queue = self.work.get_mut(&payer)?;
        let (cost, work) = queue.pop_front()?;
        self.order.serve(payer, cost);
        if queue.is_empty() {
            self.work.remove(&payer);
            self.order.leave(payer);
        }
        Some(work)
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next work; `None` when all is done and nobody can bring more.
    fn next(&self) -> Option<Work> {
        let is_waiting = |waiting: &mut Waiting| waiting.work.is_empty() && !waiting.is_closed;
        let waiting = self.more.wait_while(self.waiting(), is_waiting);
        waiting.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
        self.0.more.notify_all();
    }
}

impl Pool {
    /// `count` threads of this name; 0: one per core.
    pub(super) fn new(name: &'static str, count: usize) -> io::Result<Self> {
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let queue = Queue(Arc::default());
        for index in 0..if count == 0 { cores() } else { count } {
            let shared = queue.0.clone();
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                while let Some(work) = shared.next() {
                    work();
                }
            })?;
        }
        Ok(Self(Arc::new(queue)))
    }

    /// Does the work when it is the payer's turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        payer: Payer,
        cost: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (done, result) = oneshot::channel();
        // Whoever asked may be gone; then nobody needs the answer.
        let work = move || drop(done.send(work()));
        let Queue(shared) = &*self.0;
        shared.waiting().put(payer, cost, Box::new(work));
        shared.more.notify_one();
        result.await.expect("the pool runs all work that it takes, and none panics")
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn payers_take_turns_by_cost() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Waiting::default();
        let [first, second] = [1, 2].map(|n| Payer::Peer(PeerId::from_bytes(&[0, 1, n]).unwrap()));
        let mut put = |payer, cost, name: &'static str| {
            let done = done.clone();
            waiting.put(payer, cost, Box::new(move || done.lock().unwrap().push(name)));
        };
        ["a1", "a2", "a3"].into_iter().for_each(|name| put(first, 32, name));
        put(second, 1, "b1");
        put(second, 40, "b2");
        put(second, 1, "b3");
        put(Payer::Own, 1, "own");
        while let Some(work) = waiting.take() {
            work();
        }
        assert_eq!(*done.lock().unwrap(), ["own", "a1", "b1", "b2", "a2", "b3", "a3"]);
    }
}
