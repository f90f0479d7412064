//! How much of one class may be read from one peer in a second.
//!
//! Two token buckets, frames and bytes, that may owe: what is over the quota is read later. Pure: the time is an argument.

use std::time::{Duration, Instant};

use lockstep_core::token_bucket::TokenBucket;

use super::class::Limits;

/// What may be read at once after a pause: the quota of so many seconds.
const BURST_SECONDS: u64 = 1;

/// The state of one class and peer. It outlives connections, so that reconnecting gains nothing.
#[derive(Debug)]
pub(super) struct Quota {
    start: Instant,
    frames: TokenBucket,
    bytes: TokenBucket,
}

impl Quota {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let bucket = |per_second: u32| {
            let per_second = u64::from(per_second);
            TokenBucket::full(per_second, per_second.saturating_mul(BURST_SECONDS))
        };
        Self {
            start: now,
            frames: bucket(limits.frames_per_second),
            bytes: bucket(limits.bytes_per_second),
        }
    }

    /// Takes one frame of `bytes`, and returns how long to wait before it is read.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let now = now.saturating_duration_since(self.start);
        let mut wait = Duration::ZERO;
        for (bucket, tokens) in [(&mut self.frames, 1), (&mut self.bytes, bytes as u64)] {
            bucket.refill(now);
            bucket.take(tokens);
            wait = wait.max(bucket.wait(0));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::class::Class;

    fn quota(now: Instant) -> Quota {
        Quota::new(Class::Votes.limits(), now)
    }

    #[test]
    fn frames_within_the_quota_do_not_wait_and_the_next_does() {
        let now = Instant::now();
        let mut quota = quota(now);
        for _ in 0..Class::Votes.limits().frames_per_second {
            assert_eq!(quota.take(now, 10), Duration::ZERO);
        }
        let wait = quota.take(now, 10);
        assert_eq!(wait, Duration::from_secs(1) / Class::Votes.limits().frames_per_second);
        assert_eq!(quota.take(now + Duration::from_secs(1), 10), Duration::ZERO);
    }

    #[test]
    fn bytes_are_bounded_apart_from_frames() {
        let now = Instant::now();
        let mut quota = quota(now);
        let second = usize::try_from(Class::Votes.limits().bytes_per_second).unwrap();
        assert_eq!(quota.take(now, second), Duration::ZERO);
        assert_eq!(quota.take(now, second), Duration::from_secs(1));
    }

    #[test]
    fn pause_refills_no_more_than_a_burst() {
        let now = Instant::now();
        let mut quota = quota(now);
        let later = now + Duration::from_secs(60);
        let second = usize::try_from(Class::Votes.limits().bytes_per_second).unwrap();
        assert_eq!(quota.take(later, second), Duration::ZERO);
        assert!(quota.take(later, second) > Duration::ZERO);
    }
}
