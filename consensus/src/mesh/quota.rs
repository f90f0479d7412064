//! How much of one class may be read from one peer in a second.
//!
//! Two token buckets, frames and bytes, each as the time at which it is full again (the generic cell rate
//! algorithm): no timer, no rounding that adds up. Pure: the time is an argument.

use std::time::{Duration, Instant};

use super::class::Limits;

/// What may be read at once after a pause: the quota of so long.
const BURST: Duration = Duration::from_secs(1);

/// The state of one class and peer. It outlives connections, so that reconnecting gains nothing.
#[derive(Debug)]
pub(super) struct Quota {
    frames: Bucket,
    bytes: Bucket,
}

impl Quota {
    pub(super) const fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            frames: Bucket { per_second: limits.frames_per_second, full_at: now },
            bytes: Bucket { per_second: limits.bytes_per_second, full_at: now },
        }
    }

    /// Takes one frame of `bytes`, and returns how long to wait before it is read.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.frames.take(now, 1).max(self.bytes.take(now, bytes))
    }
}

#[derive(Debug)]
struct Bucket {
    per_second: u32,
    full_at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, units: u32) -> Duration {
        let refill = Duration::from_secs(1)
            .saturating_mul(units)
            .checked_div(self.per_second)
            .unwrap_or(BURST);
        let full_at = self.full_at.max(now);
        self.full_at = full_at.checked_add(refill).unwrap_or(full_at);
        self.full_at.saturating_duration_since(now).saturating_sub(BURST)
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
