//! Why an engine no longer works.

use std::sync::Arc;

use tokio::sync::watch;

use crate::signing::SignError;

/// Why an engine no longer works. It decides nothing any more; [`crate::EngineHandle::stop`] it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The signer gave no signature. If it refused: start a follower until the height is decided.
    #[error("{0}")]
    Signer(SignError),
    /// A part of the engine ended. A restart is safe: nothing was signed that the log lacks.
    #[error("engine stopped: {reason}")]
    Stopped {
        /// What is known of it.
        reason: String,
    },
    /// The engine halted itself because going on could sign a contradiction: its log can't be written or read. Report
    /// unhealthy, page, and never restart without an operator.
    #[error("engine halted for safety: {reason}")]
    Unsafe {
        /// What is known of it.
        reason: String,
    },
    /// The transport closed its channels.
    #[error("transport is gone")]
    Transport,
}

/// Where the first failure is put on record.
#[derive(Clone, Debug)]
pub(crate) struct Failures(Arc<watch::Sender<Option<Failure>>>);

impl Failures {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Keeps the first failure: later ones follow from it.
    pub(crate) fn report(&self, failure: Failure) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(%failure, "engine failed");
                *first = Some(failure);
            }
            is_first
        });
    }

    pub(crate) fn first(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    /// Waits for the first failure, for ever if there is none.
    pub(crate) async fn wait(&self) -> Failure {
        let mut failures = self.0.subscribe();
        let first = failures.wait_for(Option::is_some).await.ok().and_then(|first| first.clone());
        match first {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }
}
