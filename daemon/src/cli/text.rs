//! Times and numbers for people.

use breakerd_proto::clock;

const UNITS_MS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)];

/// A while in its largest unit, cut: `12 s`, `3 h`. Below a second in milliseconds.
pub(super) fn about(ms: u64) -> String {
    match UNITS_MS.iter().find(|(_, unit_ms)| ms >= *unit_ms) {
        Some((unit, unit_ms)) => format!("{} {unit}", ms / unit_ms),
        None => format!("{ms} ms"),
    }
}

/// A while in its two largest units, cut: `3 h 2 min`, `1 min 12 s`.
pub(super) fn exact(ms: u64) -> String {
    let Some(at) = UNITS_MS.iter().position(|(_, unit_ms)| ms >= *unit_ms) else { return about(ms) };
    let largest = about(ms);
    let unit_ms = UNITS_MS.get(at).map_or(1, |(_, unit_ms)| *unit_ms);
    match UNITS_MS.get(at + 1) {
        Some((unit, next_ms)) if ms % unit_ms >= *next_ms => format!("{largest} {} {unit}", ms % unit_ms / next_ms),
        _ => largest,
    }
}

/// How long to wait, rounded up to whole seconds so that nobody comes back too early.
pub(super) fn wait(ms: u64) -> String {
    match ms {
        0 => "now".to_owned(),
        ms => exact(ms.div_ceil(1000).saturating_mul(1000)),
    }
}

/// The time of day so many milliseconds ago, in UTC: the library that we build on knows no other zone.
pub(super) fn clock_time(ago_ms: u64) -> String {
    let seconds = clock::wall_ms().saturating_sub(ago_ms) / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A number and what it counts: `1 worker`, `4 workers`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Nanoseconds as milliseconds with two places: `0.21 ms`.
pub(super) fn fine(ns: u64) -> String {
    format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000)
}

/// A number with its thousands apart: `4,000`.
pub(super) fn grouped(n: u64) -> String {
    match (n / 1000, n % 1000) {
        (0, rest) => rest.to_string(),
        (more, rest) => format!("{},{rest:03}", grouped(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        for (ms, short, long, left) in [
            (0, "0 ms", "0 ms", "now"),
            (1, "1 ms", "1 ms", "1 s"),
            (999, "999 ms", "999 ms", "1 s"),
            (12_400, "12 s", "12 s", "13 s"),
            (59_999, "59 s", "59 s", "1 min"),
            (72_000, "1 min", "1 min 12 s", "1 min 12 s"),
            (10_920_000, "3 h", "3 h 2 min", "3 h 2 min"),
            (10_800_001, "3 h", "3 h", "3 h"),
            (90_000_000, "1 d", "1 d 1 h", "1 d 1 h"),
        ] {
            assert_eq!((about(ms), exact(ms), wait(ms)), (short.into(), long.into(), left.into()), "{ms}");
        }
        assert_eq!(count(1, "worker", "workers"), "1 worker");
        assert_eq!((fine(213_456), fine(12_000_000)), ("0.21 ms".to_owned(), "12.00 ms".to_owned()));
        assert_eq!((grouped(12), grouped(4000), grouped(1_000_007)), ("12".into(), "4,000".into(), "1,000,007".into()));
        assert_eq!(count(0, "worker", "workers"), "0 workers");
    }
}
