//! A token bucket: how much of something may be used at once, and how much per second.
//!
//! Pure: the time is an argument, counted from any moment that its owner keeps. It is counted in microseconds and
//! millionths of a token, so a refill is a whole number and nothing is lost in rounding. No rule of the log depends on one.

use std::time::Duration;

/// One token. A token per second is one of these units per microsecond.
const UNIT: u64 = 1_000_000;

/// A bucket of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    per_second: u64,
    capacity: u64,
    /// Units that are missing until it is full; more than the capacity where tokens were owed.
    lacking: u64,
    refilled_us: u64,
}

impl TokenBucket {
    /// A full bucket of so many tokens, which gains `per_second` (at least 1).
    #[must_use]
    pub const fn full(per_second: u64, tokens: u64) -> Self {
        Self { per_second, capacity: tokens.saturating_mul(UNIT), lacking: 0, refilled_us: 0 }
    }

    /// Tokens that it gains in a second.
    #[must_use]
    pub const fn per_second(&self) -> u64 {
        self.per_second
    }

    /// Gains what the time since the last call has brought. An earlier time changes nothing.
    pub fn refill(&mut self, now: Duration) {
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let elapsed_us = now_us.saturating_sub(self.refilled_us);
        self.lacking = self.lacking.saturating_sub(self.per_second.saturating_mul(elapsed_us));
        self.refilled_us = self.refilled_us.max(now_us);
    }

    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.lacking == 0
    }

    /// How long until so many tokens can be taken without owing any; zero if they can.
    #[must_use]
    pub fn wait(&self, tokens: u64) -> Duration {
        let wanted = self.lacking.saturating_add(tokens.saturating_mul(UNIT));
        let missing = u128::from(wanted.saturating_sub(self.capacity));
        let nanos = missing.saturating_mul(1_000).div_ceil(u128::from(self.per_second.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes tokens, whether they are there or not: the next wait for them, too.
    pub const fn take(&mut self, tokens: u64) {
        self.lacking = self.lacking.saturating_add(tokens.saturating_mul(UNIT));
    }

    /// Takes tokens if they are there.
    pub fn try_take(&mut self, tokens: u64) -> bool {
        let is_there = self.wait(tokens).is_zero();
        if is_there {
            self.take(tokens);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn a_full_bucket_is_taken_once_and_refills_with_time_up_to_its_size() {
        let mut bucket = TokenBucket::full(10, 20);
        assert_eq!((0..30).filter(|_| bucket.try_take(1)).count(), 20);
        assert_eq!(bucket.wait(1), Duration::from_millis(100));
        bucket.refill(at(99_999));
        assert!(!bucket.try_take(1));
        bucket.refill(at(100_000));
        assert!(bucket.try_take(1) && !bucket.try_take(1));
        bucket.refill(at(60_000_000));
        assert!(bucket.is_full());
        assert_eq!((0..30).filter(|_| bucket.try_take(1)).count(), 20);
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let mut bucket = TokenBucket::full(3, 3);
        bucket.take(4);
        assert_eq!(bucket.wait(0), Duration::from_nanos(333_333_334));
        bucket.refill(at(333_333));
        assert!(!bucket.wait(0).is_zero());
        bucket.refill(at(333_334));
        assert!(bucket.wait(0).is_zero() && !bucket.is_full());
    }

    #[test]
    fn short_times_add_up_and_an_earlier_time_is_none() {
        let mut bucket = TokenBucket::full(7, 7);
        bucket.take(7);
        for us in 0..=1_000_000 {
            bucket.refill(at(us));
        }
        assert!(bucket.is_full());
        bucket.take(1);
        bucket.refill(at(5));
        assert!(!bucket.is_full());
    }

    #[test]
    fn more_than_it_holds_never_passes_and_nothing_overflows() {
        let mut bucket = TokenBucket::full(1, 1);
        assert!(!bucket.try_take(2));
        assert_eq!(bucket.wait(u64::MAX), Duration::from_nanos(u64::MAX));
        bucket.take(u64::MAX);
        bucket.refill(Duration::MAX);
        assert!(bucket.is_full());
        assert!(TokenBucket::full(0, 0).wait(1) > Duration::ZERO);
    }
}
