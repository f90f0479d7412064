//! How many frames of a class one peer may send: a token bucket per class. Behind it the queues of the engine's actors
//! have no bound, so the bound is here. What is over it is dropped and counted, not punished: votes come again, and a
//! peer that was frozen may burst.

use std::time::{Duration, Instant};

use crate::network::Class;

/// A bucket's size, in frames, and what it gains per second. The rates are several times what an honest peer sends at
/// 250 heights a second: per height one or two proposals, two votes, a status and some liveness messages; three parts
/// and more for its own proposals; some sync requests, and responses to ours.
const fn rates(class: Class) -> (u64, u64) {
    match class {
        Class::Votes => (10_000, 5_000),
        Class::Parts => (2_000, 1_000),
        Class::Sync => (400, 200),
    }
}

/// One peer's quotas.
#[derive(Clone, Debug)]
pub(crate) struct Quotas {
    votes: Bucket,
    parts: Bucket,
    sync: Bucket,
}

impl Quotas {
    /// Full buckets.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            votes: Bucket::new(Class::Votes, now),
            parts: Bucket::new(Class::Parts, now),
            sync: Bucket::new(Class::Sync, now),
        }
    }

    /// Takes one frame's token, if there is one.
    pub(crate) fn take(&mut self, class: Class, now: Instant) -> bool {
        match class {
            Class::Votes => self.votes.take(now),
            Class::Parts => self.parts.take(now),
            Class::Sync => self.sync.take(now),
        }
    }
}

/// Counts in micro-tokens, so that short times count.
#[derive(Clone, Debug)]
struct Bucket {
    micro_max: u64,
    micro_per_us: u64,
    micro: u64,
    filled_at: Instant,
}

/// One token.
const TOKEN: u64 = 1_000_000;

impl Bucket {
    const fn new(class: Class, now: Instant) -> Self {
        let (burst, per_second) = rates(class);
        let micro_max = burst.saturating_mul(TOKEN);
        // A token per second is one micro-token per microsecond.
        Self { micro_max, micro_per_us: per_second, micro: micro_max, filled_at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let us = now.saturating_duration_since(self.filled_at).min(Duration::from_secs(3_600));
        let us = u64::try_from(us.as_micros()).unwrap_or(u64::MAX);
        let gain = us.saturating_mul(self.micro_per_us);
        self.micro = self.micro.saturating_add(gain).min(self.micro_max);
        self.filled_at = self.filled_at.max(now);
        match self.micro.checked_sub(TOKEN) {
            Some(rest) => {
                self.micro = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_admitted_and_no_more() {
        let now = Instant::now();
        let mut quotas = Quotas::new(now);
        let admitted = (0..20_000).filter(|_| quotas.take(Class::Votes, now)).count();
        assert_eq!(admitted, 10_000);
        assert!(quotas.take(Class::Parts, now), "classes do not share");
    }

    #[test]
    fn bucket_refills_with_time_up_to_its_size() {
        let now = Instant::now();
        let mut quotas = Quotas::new(now);
        while quotas.take(Class::Sync, now) {}
        let later = now + Duration::from_millis(50);
        assert_eq!((0..100).filter(|_| quotas.take(Class::Sync, later)).count(), 10);
        let much_later = now + Duration::from_secs(3_600);
        assert_eq!((0..1_000).filter(|_| quotas.take(Class::Sync, much_later)).count(), 400);
    }
}
