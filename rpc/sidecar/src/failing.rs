//! Since when op-node's jobs have come to no block. Pure: who asks says what time it is.

use std::time::{Duration, Instant};

/// How long op-node may ask for no further block before an earlier failure says nothing any more: it may sequence no longer.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Jobs that came to no block, since the last one that did.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    run: Option<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    first: Instant,
    last: Instant,
    reason: String,
}

impl Failing {
    /// op-node asked for a block, and got it, or was told this reason.
    pub fn note(&mut self, now: Instant, failure: Option<&String>) {
        let first = self.since(now).and_then(|(since, _)| now.checked_sub(since)).unwrap_or(now);
        self.run = failure.map(|reason| Run { first, last: now, reason: reason.clone() });
    }

    /// How long ago the first of the failures was, and the reason of the last; `None` if all is well.
    #[must_use]
    pub fn since(&self, now: Instant) -> Option<(Duration, String)> {
        let run = self.run.as_ref()?;
        let is_over = now.saturating_duration_since(run.last) > FORGOTTEN;
        (!is_over).then(|| (now.saturating_duration_since(run.first), run.reason.clone()))
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
        let reason = |text: &str| text.to_owned();
        assert_eq!(failing.since(at(0)), None);
        failing.note(at(1), Some(&reason("one")));
        failing.note(at(20), Some(&reason("two")));
        assert_eq!(failing.since(at(25)), Some((Duration::from_secs(24), reason("two"))));
        assert_eq!(failing.since(at(51)), None, "op-node has not asked for long");
        failing.note(at(60), Some(&reason("three")));
        assert_eq!(failing.since(at(61)), Some((Duration::from_secs(1), reason("three"))));
        failing.note(at(62), None);
        assert_eq!(failing.since(at(63)), None);
    }
}
