//! How many frames of a class one peer may send: a token bucket per class. Behind it the queues of the engine's actors
//! have no bound, so the bound is here. What is over it is dropped and counted, not punished: votes come again, and a
//! peer that was frozen may burst.

use std::time::Instant;

use lockstep_core::token_bucket::TokenBucket;

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

    const fn bucket(self, class: Class) -> TokenBucket {
        let per_second = self.rate(class);
        TokenBucket::full(per_second, per_second.saturating_mul(burst_seconds(class)))
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
    start: Instant,
    votes: TokenBucket,
    parts: TokenBucket,
    sync: TokenBucket,
}

impl Quotas {
    /// Full buckets.
    pub(crate) const fn new(pace: Pace, now: Instant) -> Self {
        Self {
            start: now,
            votes: pace.bucket(Class::Votes),
            parts: pace.bucket(Class::Parts),
            sync: pace.bucket(Class::Sync),
        }
    }

    /// Takes so many tokens, if they are there: one for a frame, and one for each signature beyond its first.
    pub(crate) fn take(&mut self, class: Class, count: usize, now: Instant) -> bool {
        let bucket = match class {
            Class::Votes => &mut self.votes,
            Class::Parts => &mut self.parts,
            Class::Sync => &mut self.sync,
        };
        bucket.refill(now.saturating_duration_since(self.start));
        bucket.try_take(count as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
