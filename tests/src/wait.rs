//! Waiting for a condition, with a deadline and a name for what did not happen.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds something; fails the test after `patience`.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Fails the test as soon as `holds` is false, which is looked at for the whole of `time`.
pub async fn during(what: &str, time: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert!(holds().await, "not for {time:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
