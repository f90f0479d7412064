//! Log lines that a client can cause: one in a while, with the number of those that were left out. Plain data.

use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Whether to say it now, and how often it was not said since the last time; `None` to leave it out.
    pub(crate) fn say(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_the_next_after_a_pause_with_their_number() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say(start), Some(0));
        assert_eq!(seldom.say(start), None);
        assert_eq!(seldom.say(start + PAUSE / 2), None);
        assert_eq!(seldom.say(start + PAUSE), Some(2));
        assert_eq!(seldom.say(start + PAUSE), None);
    }
}
