//! Threads for short work, which payers take in turn by cost. Whoever asks awaits its result, which bounds what waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Payer;
use crate::fair::FairOrder;

type Work = Box<dyn FnOnce() + Send>;

/// The threads, and what waits for them; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    threads: Arc<rayon::ThreadPool>,
    // A lock, because the threads share it; held to put work in or to take some out.
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    order: FairOrder<Payer>,
    work: BTreeMap<Payer, VecDeque<(u64, Work)>>,
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

impl Pool {
    /// `count` threads of this name; 0: one per core.
    pub(super) fn new(
        name: &'static str,
        count: usize,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(count);
        let threads = builder.thread_name(move |index| format!("{name}-{index}")).build()?;
        Ok(Self { threads: Arc::new(threads), waiting: Arc::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.waiting().put(payer, cost, Box::new(work));
        let this = self.clone();
        self.threads.spawn(move || {
            // Not what was put in: what is next.
            let work = this.waiting().take();
            work.expect("for each piece of work one thread comes")();
        });
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
