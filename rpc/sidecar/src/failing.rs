//! Since when op-node's jobs have come to no block. Pure: who asks says what time it is.

use std::time::{Duration, Instant};

use crate::session::error::JobError;

/// How long op-node may ask for no further block before an earlier failure says nothing any more: it may sequence no longer.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Jobs that came to no block, since the last one that did. Made anew when op-node has another head: it asks for another block then.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    run: Option<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    first: Instant,
    last: Instant,
    reason: JobError,
}

impl Failing {
    /// op-node asked for a block, and got it, or was told this reason.
    pub fn note(&mut self, now: Instant, failure: Option<&JobError>) {
        let first = self.since(now).and_then(|(since, _)| now.checked_sub(since)).unwrap_or(now);
        self.run = failure.map(|reason| Run { first, last: now, reason: reason.clone() });
    }

    /// How long ago the first of the failures was, and the reason of the last; `None` if all is well.
    #[must_use]
    pub fn since(&self, now: Instant) -> Option<(Duration, &JobError)> {
        let run = self.run.as_ref()?;
        let is_over = now.saturating_duration_since(run.last) > FORGOTTEN;
        (!is_over).then(|| (now.saturating_duration_since(run.first), &run.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_from_the_first_until_a_block_or_a_long_pause() {
        let begun = Instant::now();
        let at = |seconds: u64| begun.checked_add(Duration::from_secs(seconds)).expect("a time");
        let mut failing = Failing::default();
        let since = |failing: &Failing, seconds| {
            let since = failing.since(at(seconds));
            since.map(|(since, reason)| (since.as_secs(), reason.to_string()))
        };
        assert_eq!(since(&failing, 0), None);
        failing.note(at(1), Some(&JobError::Forked));
        failing.note(at(20), Some(&JobError::Lost));
        assert_eq!(since(&failing, 25), Some((24, JobError::Lost.to_string())));
        assert_eq!(since(&failing, 51), None, "op-node has not asked for long");
        failing.note(at(60), Some(&JobError::Ended));
        assert_eq!(since(&failing, 61), Some((1, JobError::Ended.to_string())));
        failing.note(at(62), None);
        assert_eq!(since(&failing, 63), None);
    }
}
