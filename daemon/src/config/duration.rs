//! Durations as people write them: `500ms`, `15s`, `2m`, `1h30m`.

use std::fmt;
use std::time::Duration;

/// The units, in milliseconds, from the longest.
const UNITS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadDuration {
    /// Nothing at all.
    Empty,
    /// A number without a unit.
    NoUnit,
    /// A unit that is none of ours, or no number before it.
    Shape,
    /// More milliseconds than 64 bits hold.
    TooLong,
}

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NoUnit => "has no unit",
            Self::Shape => "is no duration",
            Self::TooLong => "is longer than can be counted",
        })?;
        f.write_str("; write whole numbers with ms, s, m, h or d, as in \"500ms\", \"15s\", \"2m\", \"1h30m\"")
    }
}

impl std::error::Error for BadDuration {}

/// Reads a duration: one or more whole numbers, each with its unit.
///
/// # Errors
/// [`BadDuration`] says which part of the rule the text breaks.
pub(crate) fn parse(text: &str) -> Result<Duration, BadDuration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(BadDuration::Empty);
    }
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(BadDuration::NoUnit)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if number.is_empty() {
            return Err(BadDuration::Shape);
        }
        let unit_ms = UNITS_MS.iter().find(|(word, _)| *word == unit).ok_or(BadDuration::Shape)?.1;
        let number: u64 = number.parse().map_err(|_| BadDuration::TooLong)?;
        let part_ms = number.checked_mul(unit_ms).ok_or(BadDuration::TooLong)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(BadDuration::TooLong)?;
        rest = next;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes whole milliseconds so that [`parse`] reads the same again, with the fewest parts: `2m`, `1m30s`, `1500ms`.
pub(crate) fn written(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    // Mixed with milliseconds the longer units are no easier to read.
    if !ms.is_multiple_of(1000) {
        return format!("{ms}ms");
    }
    let mut left = ms;
    let mut text = String::new();
    for (unit, unit_ms) in UNITS_MS {
        if left >= unit_ms {
            text.push_str(&format!("{}{unit}", left / unit_ms));
            left %= unit_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("15s", 15_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("0s", 0),
            (" 3s ", 3000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, bad) in [
            ("", BadDuration::Empty),
            ("15", BadDuration::NoUnit),
            ("1m30", BadDuration::NoUnit),
            ("s", BadDuration::Shape),
            ("15 s", BadDuration::Shape),
            ("1.5s", BadDuration::Shape),
            ("-1s", BadDuration::Shape),
            ("15sec", BadDuration::Shape),
            ("99999999999999999999s", BadDuration::TooLong),
            ("18446744073709551615d", BadDuration::TooLong),
        ] {
            assert_eq!(parse(text), Err(bad), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for (ms, text) in
            [(0, "0s"), (500, "500ms"), (1500, "1500ms"), (15_000, "15s"), (90_000, "1m30s"), (3_600_000, "1h")]
        {
            assert_eq!(written(ms), text);
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)));
        }
    }
}
