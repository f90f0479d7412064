//! Whether jobs wait for derivation: after an engine lost its tail, op-node would sequence on an old head, and blocks that
//! are on L1 already would be replaced. Pure: who asks says what time it is.

use std::time::Instant;

use alloy_primitives::B256;

use crate::limits::OLD_PARENT_PAUSE;

/// The safe heads that were seen.
#[derive(Clone, Debug, Default)]
pub struct SafeHeads {
    /// The highest, by hash and number.
    highest: Option<(B256, u64)>,
    /// Number of the newest.
    newest: u64,
    pause: Option<Pause>,
}

/// Jobs on parents below the highest safe head are put off.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// Number of the safe head when the pause was begun or extended.
    reached: u64,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may begin.
    Go,
    /// Derivation comes first. `is_new`: nothing was put off before.
    Wait {
        /// Whether this is the first one.
        is_new: bool,
    },
}

impl SafeHeads {
    /// Begins with the highest safe head that was seen before a restart.
    #[must_use]
    pub const fn new(highest: Option<(B256, u64)>) -> Self {
        Self { highest, newest: 0, pause: None }
    }

    /// The highest safe head, by hash and number.
    #[must_use]
    pub const fn highest(&self) -> Option<(B256, u64)> {
        self.highest
    }

    /// op-node named a safe head. Whether it is the highest.
    pub fn note(&mut self, hash: B256, number: u64) -> bool {
        self.newest = number;
        let is_highest = self.highest.is_none_or(|(_, highest)| number > highest);
        if is_highest {
            self.highest = Some((hash, number));
        }
        is_highest
    }

    /// What becomes of a job on a parent with this number. One below the highest safe head waits for some seconds, and again
    /// while the safe head comes nearer. If it does not, the safe head has really gone back: L1 was reorganised.
    pub fn judge(&mut self, now: Instant, parent: u64) -> Verdict {
        if self.highest.is_none_or(|(_, highest)| parent >= highest) {
            self.pause = None;
            return Verdict::Go;
        }
        let until = now.checked_add(OLD_PARENT_PAUSE).unwrap_or(now);
        let longer = Pause { until, reached: self.newest };
        match self.pause {
            None => {
                self.pause = Some(longer);
                Verdict::Wait { is_new: true }
            }
            Some(pause) if self.newest > pause.reached => {
                self.pause = Some(longer);
                Verdict::Wait { is_new: false }
            }
            Some(pause) if now < pause.until => Verdict::Wait { is_new: false },
            Some(_) => {
                *self = Self::default();
                Verdict::Go
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HASH: B256 = B256::repeat_byte(1);
    const WAITS: Verdict = Verdict::Wait { is_new: false };

    fn heads(highest: u64) -> (SafeHeads, impl Fn(u64) -> Instant) {
        let begun = Instant::now();
        let at = move |ms| begun.checked_add(Duration::from_millis(ms)).expect("a time");
        (SafeHeads::new(Some((HASH, highest))), at)
    }

    #[test]
    fn job_on_an_old_parent_waits_for_some_seconds_and_then_goes_on() {
        let (mut heads, at) = heads(100);
        assert_eq!(heads.judge(at(0), 100), Verdict::Go);
        assert_eq!(heads.judge(at(0), 99), Verdict::Wait { is_new: true });
        assert_eq!(heads.judge(at(4_999), 99), WAITS);
        assert_eq!(heads.judge(at(5_000), 99), Verdict::Go);
        assert_eq!(heads.highest(), None, "it has really gone back");
    }

    #[test]
    fn jobs_wait_while_the_safe_head_comes_nearer_however_long_that_takes() {
        let (mut heads, at) = heads(1_000);
        heads.judge(at(0), 500);
        for second in 1..60 {
            assert!(!heads.note(HASH, 500 + second));
            assert_eq!(heads.judge(at(second * 1_000), 500 + second), WAITS, "{second}");
        }
        // It stands still.
        assert_eq!(heads.judge(at(63_999), 559), WAITS);
        assert_eq!(heads.judge(at(64_000), 559), Verdict::Go);
    }

    #[test]
    fn derivation_that_reaches_the_safe_head_ends_the_wait() {
        let (mut heads, at) = heads(100);
        heads.judge(at(0), 90);
        assert!(!heads.note(HASH, 100));
        assert_eq!(heads.judge(at(1), 100), Verdict::Go);
        assert!(heads.note(HASH, 101));
        assert_eq!(heads.highest(), Some((HASH, 101)));
    }

    #[test]
    fn without_a_safe_head_nothing_waits() {
        let at = Instant::now();
        assert_eq!(SafeHeads::default().judge(at, 0), Verdict::Go);
    }
}
