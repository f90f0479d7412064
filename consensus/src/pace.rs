//! When the height after the next one begins: all validators at about the same time, one block interval apart. Pure.
//!
//! Consensus is told a height's length when it begins. Counted from their own beginnings alone, validators that began
//! apart would stay apart, and each decision would wait for the latest of a quorum. The newest block's timestamp is
//! what they share: half of the distance to it is made up for at each height. A clock that is wrong, or a proposer
//! whose timestamps are, moves a height by at most half of the interval.

use std::time::Duration;

use lockstep_core::types::UnixMillis;

/// How long the height that begins `now` lasts if it is decided earlier, where `parent` is the timestamp of the block
/// before it: `interval`, longer or shorter by at most half of it.
pub(crate) fn target_time(interval: Duration, parent: UnixMillis, now: UnixMillis) -> Duration {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let expected = parent.plus(interval_ms);
    let half = interval.checked_div(2).unwrap_or_default();
    let correction = |ms: u64| Duration::from_millis(ms / 2).min(half);
    if expected >= now {
        interval.saturating_add(correction(expected.0.saturating_sub(now.0)))
    } else {
        interval.saturating_sub(correction(now.0.saturating_sub(expected.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(250);

    fn target(parent: u64, now: u64) -> u128 {
        target_time(INTERVAL, UnixMillis(parent), UnixMillis(now)).as_millis()
    }

    #[test]
    fn half_of_the_distance_is_made_up_for_within_bounds() {
        assert_eq!(target(1_000, 1_250), 250);
        assert_eq!(target(1_000, 1_230), 260);
        assert_eq!(target(1_000, 1_270), 240);
        assert_eq!(target(9_000, 1_000), 375, "the clock or the block is far off");
        assert_eq!(target(1_000, 9_000), 125);
    }

    /// Four validators that begin up to 90 ms apart; each height's block has its proposer's beginning for timestamp.
    #[test]
    fn validators_that_begin_apart_come_together_and_keep_the_interval() {
        let mut begins = [10_000u64, 10_040, 10_090, 10_010];
        let mut first = 0;
        let mut parent = begins[3].saturating_sub(250);
        for height in 0..40 {
            let timestamp = begins[height % 4];
            let next = begins.map(|at| at + u64::try_from(target(parent, at)).unwrap());
            (begins, parent) = (next, timestamp);
            if height == 19 {
                first = begins[0];
            }
        }
        let apart = begins.iter().max().unwrap() - begins.iter().min().unwrap();
        assert!(apart <= 2, "{begins:?}");
        let mean = (begins[0] - first) as f64 / 20.0;
        assert!((mean - 250.0).abs() < 2.0, "{mean}");
    }
}
