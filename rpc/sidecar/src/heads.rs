//! The forkchoice that op-node wants, for jobs that call the engine later than op-node called.
//!
//! A job's `forkchoiceUpdated` carries heads, too, so one that is late could move the engine's head back. Two things
//! prevent that: a job takes the newest heads before each of its calls, and only if its parent is still the head; and
//! op-node's own call waits until a job's that is on its way has been answered.

use alloy_primitives::B256;
use lockstep_execution::attributes::Forkchoice;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::timeout;

use crate::limits::HOLD_MAX;

/// The heads.
#[derive(Debug, Default)]
pub struct Heads {
    newest: watch::Sender<Option<Forkchoice>>,
    /// Held by a job while its call is on its way.
    turn: Mutex<()>,
}

/// A job's parent is no longer the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {0} is no longer the head")]
pub struct NotHead(pub B256);

impl Heads {
    /// What op-node wants from now on. Gives what it wanted before.
    pub fn note(&self, forkchoice: Forkchoice) -> Option<Forkchoice> {
        self.newest.send_replace(Some(forkchoice))
    }

    /// The newest forkchoice, if its head is `parent`.
    ///
    /// # Errors
    /// [`NotHead`] if it is not.
    pub fn on(&self, parent: B256) -> Result<Forkchoice, NotHead> {
        let newest = self.newest.borrow().clone();
        newest.filter(|forkchoice| forkchoice.head == parent).ok_or(NotHead(parent))
    }

    /// The same, and nobody else calls the engine with heads until the guard is dropped.
    ///
    /// # Errors
    /// [`NotHead`] if the head is another block by now.
    pub async fn take_turn(
        &self,
        parent: B256,
    ) -> Result<(Forkchoice, MutexGuard<'_, ()>), NotHead> {
        let turn = self.turn.lock().await;
        Ok((self.on(parent)?, turn))
    }

    /// Waits until no job's call is on its way, but not for one that the engine does not answer. Whether there was one.
    pub async fn wait_for_jobs(&self) -> bool {
        if self.turn.try_lock().is_ok() {
            return false;
        }
        if timeout(HOLD_MAX, self.turn.lock()).await.is_err() {
            tracing::warn!("the engine has not answered a job: op-node's call overtakes it");
        }
        true
    }
}
