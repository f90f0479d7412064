//! What is due by when: an open-loop schedule. It only calculates; its user waits and sends.

use std::time::Duration;

/// Nanoseconds of a second.
const SECOND_NS: u128 = 1_000_000_000;

/// A schedule of so many sends per second, from a start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    per_second: u32,
}

impl Pace {
    /// `per_second` sends a second; 0 sends nothing.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second }
    }

    /// How many are due when `elapsed` has passed since the start. The first is due at the start.
    #[must_use]
    pub fn due(self, elapsed: Duration) -> u64 {
        if self.per_second == 0 {
            return 0;
        }
        let passed = elapsed.as_nanos().saturating_mul(u128::from(self.per_second));
        let due = passed.checked_div(SECOND_NS).unwrap_or_default().saturating_add(1);
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// How long after the start number `index` (from 0) is due.
    #[must_use]
    pub fn at(self, index: u64) -> Duration {
        let rate = u128::from(self.per_second.max(1));
        let ns = u128::from(index).saturating_mul(SECOND_NS).div_ceil(rate);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_given_by_the_time_alone() {
        let pace = Pace::new(4);
        let cases = [(0, 1), (249, 1), (250, 2), (999, 4), (1_000, 5), (10_000, 41)];
        for (ms, expected) in cases {
            assert_eq!(pace.due(Duration::from_millis(ms)), expected, "{ms} ms");
        }
        assert_eq!(Pace::new(0).due(Duration::from_secs(9)), 0);
        assert_eq!(Pace::new(u32::MAX).due(Duration::MAX), u64::MAX);
    }

    #[test]
    fn each_one_is_due_exactly_at_its_time() {
        for rate in [1, 3, 7, 1_000, 48_611] {
            let pace = Pace::new(rate);
            for index in [0, 1, 2, 99, 12_345] {
                let at = pace.at(index);
                assert_eq!(pace.due(at), index + 1, "rate {rate}, index {index}");
                if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                    assert_eq!(pace.due(before), index, "rate {rate}, index {index}");
                }
            }
        }
    }
}
