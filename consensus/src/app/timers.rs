//! The application's timers: at most one of each kind runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::application::effect::Timer;

/// When each timer fires.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Lets a timer fire after so long, instead of when it was due.
    pub(super) fn set(&mut self, timer: Timer, after: Duration) {
        self.due.insert(timer, Instant::now().checked_add(after).unwrap_or_else(Instant::now));
    }

    /// Waits for the next one that fires; for ever if none runs. Cancel-safe.
    pub(super) async fn next(&mut self) -> Timer {
        let Some((timer, at)) = self.due.iter().min_by_key(|(_, at)| **at) else {
            return std::future::pending().await;
        };
        let (timer, at) = (*timer, *at);
        sleep_until(at).await;
        self.due.remove(&timer);
        timer
    }
}
