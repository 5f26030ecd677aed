//! Redis's clock as this host knows it. Wall time is never read.

use std::time::Duration;

use breakerd_proto::Mono;

use super::value::Value;

/// How long one probe lease holds unless renewed, in ms; no lease that is told is believed for longer.
pub const LEASE_MS: u64 = 10_000;

/// A sample later than the best by more than this is no late receipt, since a connection that slow is closed: Redis's
/// clock was set back.
const LATE_MAX_NS: i128 = 5_000_000_000;
/// The best sample is forgotten after one to two of these, so that clocks which drift apart are followed.
const WINDOW: Duration = Duration::from_secs(60);
const MS: i128 = 1_000_000;

/// An estimate from every reply and event that tells Redis's time. Two questions, two answers:
///
/// - what Redis's clock shows now: the last time told, and our own clock since;
/// - when an instant of Redis's clock comes here: by the smallest (receipt - told) of the last minute or two, so that a
///   late receipt holds nothing open for longer.
#[derive(Clone, Debug, Default)]
pub struct RedisTime {
    last: Option<(Mono, u64)>,
    best: Option<i128>,
    /// The smallest of the window under way, and when that began.
    window: Option<(Mono, i128)>,
}

impl RedisTime {
    /// Redis told its time, in ms, and we have it now.
    pub fn sample(&mut self, now: Mono, redis_ms: u64) {
        let offset = i128::from(now.0) - i128::from(redis_ms) * MS;
        self.last = Some((now, redis_ms));
        let set_back = self.best.is_some_and(|best| offset - best > LATE_MAX_NS);
        if set_back || self.window.is_none() {
            self.best = Some(offset);
            self.window = Some((now, offset));
            return;
        }
        self.best = self.best.map(|best| best.min(offset));
        match &mut self.window {
            Some((since, smallest)) if now.since(*since) < WINDOW => *smallest = (*smallest).min(offset),
            Some((since, smallest)) => {
                self.best = Some((*smallest).min(offset));
                (*since, *smallest) = (now, offset);
            }
            None => {}
        }
    }

    /// What Redis's clock shows now, in ms; none before the first sample.
    #[must_use]
    pub fn redis_now(&self, now: Mono) -> Option<u64> {
        let (at, redis_ms) = self.last?;
        Some(redis_ms.saturating_add(u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until an instant of Redis's clock, zero if it is past; none before the first sample.
    fn left(&self, now: Mono, redis_ms: u64) -> Option<Duration> {
        let at = i128::from(redis_ms) * MS + self.best?;
        let left = at - i128::from(now.0);
        Some(Duration::from_nanos(u64::try_from(left.max(0)).unwrap_or(u64::MAX)))
    }

    /// The end of an open value's cooldown on this host's clock: never later than its whole duration from now.
    #[must_use]
    pub fn until(&self, now: Mono, value: &Value) -> Mono {
        let whole = Duration::from_millis(value.duration_ms);
        now.after(self.left(now, value.until_ms).map_or(whole, |left| left.min(whole)))
    }

    /// The end of a value's lease on this host's clock: never later than a whole lease from now.
    #[must_use]
    pub fn lease_until(&self, now: Mono, value: &Value) -> Mono {
        let whole = Duration::from_millis(LEASE_MS);
        now.after(self.left(now, value.lease_until_ms).map_or(whole, |left| left.min(whole)))
    }

    /// The end of a value's override on this host's clock; none for until released.
    #[must_use]
    pub fn forced_until(&self, now: Mono, value: &Value) -> Option<Mono> {
        if value.forced.is_none() || value.forced_until_ms == 0 {
            return None;
        }
        self.left(now, value.forced_until_ms).map(|left| now.after(left))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::default().after_ms(ms)
    }

    fn open(until_ms: u64, duration_ms: u64) -> Value {
        Value { until_ms, duration_ms, ..Value::default() }
    }

    #[test]
    fn a_late_receipt_holds_nothing_open_for_longer() {
        let mut time = RedisTime::default();
        time.sample(at(1_000), 900_000);
        time.sample(at(1_700), 900_200);
        assert_eq!(time.until(at(1_700), &open(900_200 + 15_000, 15_000)), at(1_200 + 15_000));
        assert_eq!(time.redis_now(at(1_800)), Some(900_300));
    }

    #[test]
    fn open_never_lasts_longer_than_its_duration() {
        let mut time = RedisTime::default();
        time.sample(at(1_000), 900_000);
        assert_eq!(time.until(at(1_000), &open(900_000 + 3_600_000, 15_000)), at(16_000));
        assert_eq!(time.until(at(1_000), &open(800_000, 15_000)), at(1_000));
        let value = Value { lease_until_ms: 900_000 + 3_600_000, ..Value::default() };
        assert_eq!(time.lease_until(at(1_000), &value), at(1_000 + LEASE_MS));
    }

    #[test]
    fn a_clock_set_back_or_forward_is_followed() {
        let mut time = RedisTime::default();
        time.sample(at(1_000), 9_000_000);
        time.sample(at(2_000), 9_001_000 - 3_600_000);
        let now_ms = 9_001_000 - 3_600_000;
        assert_eq!(time.until(at(2_000), &open(now_ms + 15_000, 15_000)), at(17_000));
        time.sample(at(3_000), 9_002_000);
        assert_eq!(time.until(at(3_000), &open(9_002_000 + 15_000, 15_000)), at(18_000));
    }

    #[test]
    fn the_quickest_receipt_counts_for_one_to_two_minutes() {
        let mut time = RedisTime::default();
        time.sample(at(1_000), 0);
        let mut late = |second: u64| {
            let now = at(1_000 + second * 1_000 + 100);
            time.sample(now, second * 1_000);
            time.until(now, &open(3_600_000, 3_600_000))
        };
        for second in 1..=119 {
            assert_eq!(late(second), at(3_601_000), "second {second}");
        }
        assert_eq!(late(120), at(3_601_100), "all of the last minute came late");
    }

    #[test]
    fn five_seconds_late_is_late_and_more_is_a_clock_set_back() {
        for (late_ms, offset_ms) in [(5_000, 1_000), (5_001, 6_001)] {
            let mut time = RedisTime::default();
            time.sample(at(1_000), 0);
            time.sample(at(1_000 + late_ms), 0);
            assert_eq!(time.until(at(10_000), &open(60_000, 60_000)), at(60_000 + offset_ms));
        }
    }

    #[test]
    fn clocks_that_drift_apart_are_followed() {
        let mut time = RedisTime::default();
        for second in 0..600u64 {
            time.sample(at(second * 1_000 + second * 10), second * 1_000);
        }
        let now = at(599 * 1_010);
        let ends = time.until(now, &open(599_000 + 15_000, 15_000));
        assert!(now.after_ms(15_000).since(ends) <= Duration::from_millis(2 * 61 * 10), "{ends}");
    }

    #[test]
    fn an_override_ends_only_if_it_has_an_end() {
        use breakerd_proto::Override;
        let mut time = RedisTime::default();
        time.sample(at(1_000), 900_000);
        let forced = |end| Value { forced: Some(Override::ForcedOpen), forced_until_ms: end, ..Value::default() };
        assert_eq!(time.forced_until(at(1_000), &forced(0)), None);
        assert_eq!(time.forced_until(at(1_000), &forced(960_000)), Some(at(61_000)));
        assert_eq!(time.forced_until(at(1_000), &open(0, 0)), None);
    }
}
