//! How many frames of a class one peer may send: a token bucket per class. Behind it the queues of the engine's actors
//! have no bound, so the bound is here. What is over it is dropped and counted, not punished: votes come again, and a
//! peer that was frozen may burst.

use std::time::{Duration, Instant};

use crate::network::Class;

/// What the quotas follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) heights_per_second: u64,
    /// Peers, this node not among them.
    pub(crate) peers: u64,
}

impl Pace {
    /// What a bucket gains per second. Several times what an honest peer sends: per height one or two proposals, two votes,
    /// a status and some liveness messages; three parts and more for its own proposals; some sync requests, and responses to
    /// ours. A certificate, of which there are few, counts as many votes as it has signatures.
    const fn rate(self, class: Class) -> u64 {
        match class {
            Class::Votes => self.heights_per_second.saturating_mul(24).saturating_add(self.peers),
            Class::Parts => 1_000,
            Class::Sync => 200,
        }
    }
}

/// Seconds after which an empty bucket is full, of votes and of the other classes: so long a peer may be frozen.
const fn burst_seconds(class: Class) -> u64 {
    match class {
        Class::Votes => 10,
        Class::Parts | Class::Sync => 2,
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
    pub(crate) const fn new(pace: Pace, now: Instant) -> Self {
        Self {
            votes: Bucket::new(pace, Class::Votes, now),
            parts: Bucket::new(pace, Class::Parts, now),
            sync: Bucket::new(pace, Class::Sync, now),
        }
    }

    /// Takes so many tokens, if they are there: one for a frame, and one for each signature beyond its first.
    pub(crate) fn take(&mut self, class: Class, count: usize, now: Instant) -> bool {
        match class {
            Class::Votes => self.votes.take(count, now),
            Class::Parts => self.parts.take(count, now),
            Class::Sync => self.sync.take(count, now),
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
    const fn new(pace: Pace, class: Class, now: Instant) -> Self {
        let per_second = pace.rate(class);
        let micro_max = per_second.saturating_mul(burst_seconds(class)).saturating_mul(TOKEN);
        // A token per second is one micro-token per microsecond.
        Self { micro_max, micro_per_us: per_second, micro: micro_max, filled_at: now }
    }

    fn take(&mut self, count: usize, now: Instant) -> bool {
        let us = now.saturating_duration_since(self.filled_at).min(Duration::from_secs(3_600));
        let us = u64::try_from(us.as_micros()).unwrap_or(u64::MAX);
        let gain = us.saturating_mul(self.micro_per_us);
        self.micro = self.micro.saturating_add(gain).min(self.micro_max);
        self.filled_at = self.filled_at.max(now);
        let wanted = TOKEN.saturating_mul(count as u64);
        match self.micro.checked_sub(wanted) {
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

    const PACE: Pace = Pace { heights_per_second: 4, peers: 3 };

    #[test]
    fn burst_is_admitted_and_no_more() {
        let now = Instant::now();
        let mut quotas = Quotas::new(PACE, now);
        let admitted = (0..20_000).filter(|_| quotas.take(Class::Votes, 1, now)).count();
        assert_eq!(admitted, 10 * (4 * 24 + 3));
        assert!(quotas.take(Class::Parts, 1, now), "classes do not share");
    }

    #[test]
    fn votes_follow_heights_and_peers_and_certificates_count_by_signature() {
        let now = Instant::now();
        let count = |pace, each| {
            let mut quotas = Quotas::new(pace, now);
            (0..20_000).filter(|_| quotas.take(Class::Votes, each, now)).count()
        };
        assert_eq!(count(Pace { heights_per_second: 20, peers: 3 }, 1), 4_830);
        assert_eq!(count(Pace { heights_per_second: 4, peers: 99 }, 1), 1_950);
        assert_eq!(count(Pace { heights_per_second: 4, peers: 99 }, 67), 29);
    }

    #[test]
    fn bucket_refills_with_time_up_to_its_size() {
        let now = Instant::now();
        let mut quotas = Quotas::new(PACE, now);
        while quotas.take(Class::Sync, 1, now) {}
        let later = now + Duration::from_millis(50);
        assert_eq!((0..100).filter(|_| quotas.take(Class::Sync, 1, later)).count(), 10);
        let much_later = now + Duration::from_secs(3_600);
        assert_eq!((0..1_000).filter(|_| quotas.take(Class::Sync, 1, much_later)).count(), 400);
    }
}
