//! When to dial a peer again, and how long to keep out one that sent garbage. Pure: the time is an argument.

use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;

/// The first pause between two attempts to reach a peer, and the pace of attempts.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(200);
/// The longest.
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// How long the first garbage keeps a peer out.
const PENALTY_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PENALTY_MAX: Duration = Duration::from_secs(60);
/// After so long without garbage, the next is the first again.
const PENALTY_FORGOTTEN: Duration = Duration::from_secs(600);

/// How long a peer is kept out.
#[derive(Debug)]
pub(super) struct Penalty {
    until: Option<Instant>,
    next: Duration,
}

impl Penalty {
    pub(super) const fn new() -> Self {
        Self { until: None, next: PENALTY_MIN }
    }

    /// Keeps the peer out from `now` on, twice as long as the last time. Returns how long; `None`: it is kept out
    /// already, which stays as it is.
    pub(super) fn strike(&mut self, now: Instant) -> Option<Duration> {
        if self.is_active(now) {
            return None;
        }
        let clean = self.until.map(|until| now.saturating_duration_since(until));
        if clean.is_some_and(|clean| clean >= PENALTY_FORGOTTEN) {
            self.next = PENALTY_MIN;
        }
        let length = self.next;
        self.until = Some(now.checked_add(length).unwrap_or(now));
        self.next = length.saturating_mul(2).min(PENALTY_MAX);
        Some(length)
    }

    /// Whether the peer is kept out at `now`.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// When the connection that is ours to dial is dialled.
#[derive(Debug)]
pub(super) struct Redial {
    attempt: Option<ConnectionId>,
    not_before: Instant,
    pause: Duration,
}

impl Redial {
    pub(super) const fn new(now: Instant) -> Self {
        Self { attempt: None, not_before: now, pause: REDIAL_MIN }
    }

    /// Whether it is time for an attempt.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.attempt.is_none() && now >= self.not_before
    }

    /// An attempt is under way.
    pub(super) const fn started(&mut self, attempt: ConnectionId) {
        self.attempt = Some(attempt);
    }

    /// There is a connection; whether it is of use is seen later. Until then the pause stays as long.
    pub(super) const fn connected(&mut self) {
        self.attempt = None;
    }

    /// `attempt` failed. `None`: the connection ended.
    pub(super) fn failed(&mut self, attempt: Option<ConnectionId>, now: Instant) {
        if attempt.is_some() && attempt != self.attempt {
            return;
        }
        if attempt.is_some() {
            self.attempt = None;
        }
        self.not_before = now.checked_add(self.pause).unwrap_or(now);
        self.pause = self.pause.saturating_mul(2).min(REDIAL_MAX);
    }

    /// The peer shows that it is there: the next attempt need not wait.
    pub(super) const fn encouraged(&mut self, now: Instant) {
        self.not_before = now;
        self.pause = REDIAL_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalty_doubles_up_to_a_minute_and_is_forgotten() {
        let mut now = Instant::now();
        let mut penalty = Penalty::new();
        assert!(!penalty.is_active(now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let length = Duration::from_secs(seconds);
            assert_eq!(penalty.strike(now), Some(length));
            let late = now + length - Duration::from_millis(1);
            assert!(penalty.is_active(late));
            assert_eq!(penalty.strike(late), None, "it is kept out already");
            now += length;
            assert!(!penalty.is_active(now));
        }
        assert_eq!(penalty.strike(now + PENALTY_FORGOTTEN), Some(PENALTY_MIN));
    }

    #[test]
    fn redial_waits_longer_each_time_until_the_peer_shows_itself() {
        let mut now = Instant::now();
        let mut redial = Redial::new(now);
        for millis in [200, 400, 800, 1_600, 2_000, 2_000] {
            assert!(redial.is_due(now));
            let attempt = ConnectionId::new_unchecked(1);
            redial.started(attempt);
            assert!(!redial.is_due(now + REDIAL_MAX), "one attempt at a time");
            redial.failed(Some(attempt), now);
            assert!(!redial.is_due(now + Duration::from_millis(millis - 1)));
            now += Duration::from_millis(millis);
        }
        redial.failed(None, now);
        assert!(!redial.is_due(now));
        redial.encouraged(now);
        assert!(redial.is_due(now));
    }
}
