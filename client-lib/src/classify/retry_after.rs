//! When a provider wants its callers back, in the forms that providers say it.
//!
//! | header | value | source |
//! |---|---|---|
//! | `retry-after` | seconds, also with a fraction | RFC 9110, 10.2.3 |
//! | `retry-after` | a date, in any of HTTP's three forms | RFC 9110, 5.6.7 and 10.2.3 |
//! | `retry-after-ms` | milliseconds | OpenAI's and Azure's APIs and SDKs |
//! | `grpc-retry-pushback-ms` | milliseconds; below zero ("do not retry") is no time | gRPC proposal A6 |
//! | several of them | the latest | |
//! | more than an hour | an hour, which is the longest that a daemon obeys | |
//! | zero, past, or none of these forms | nothing | |

use std::time::{Duration, UNIX_EPOCH};

use breakerd_proto::clock::wall_ms;
use breakerd_proto::limits::RETRY_AFTER_MAX;

/// How long from now a provider asks to be left alone, by the latest of its headers.
#[must_use]
pub fn of<'h>(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Option<Duration> {
    at(wall_ms(), headers)
}

fn at<'h>(wall_ms: u64, headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Option<Duration> {
    headers.into_iter().filter_map(|(name, value)| one(wall_ms, name, value)).max()
}

fn one(wall_ms: u64, name: &str, value: &[u8]) -> Option<Duration> {
    let text = || std::str::from_utf8(value).ok().map(str::trim);
    let wait = if name.eq_ignore_ascii_case("retry-after") {
        let text = text()?;
        decimal(text).map(Duration::from_secs_f64).or_else(|| until(wall_ms, text))?
    } else if name.eq_ignore_ascii_case("retry-after-ms") || name.eq_ignore_ascii_case("grpc-retry-pushback-ms") {
        Duration::from_secs_f64(decimal(text()?)? / 1000.0)
    } else {
        return None;
    };
    (!wait.is_zero()).then_some(wait.min(RETRY_AFTER_MAX))
}

/// Digits, and a point among them; never more than any bound that is met later.
fn decimal(text: &str) -> Option<f64> {
    let most = 1e9;
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse::<f64>().ok().map(|number| number.min(most)) } else { None }
}

fn until(wall_ms: u64, date: &str) -> Option<Duration> {
    let date = httpdate::parse_http_date(date).ok()?;
    date.duration_since(UNIX_EPOCH).ok()?.checked_sub(Duration::from_millis(wall_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6 November 1994, 08:49:07 GMT: thirty seconds before RFC 9110's example of a date.
    const NOW_MS: u64 = 784_111_747_000;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expect_ms: Option<u64>) {
        let headers_read = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        assert_eq!(at(NOW_MS, headers_read), expect_ms.map(Duration::from_millis), "{headers:?}");
    }

    #[test]
    fn each_form_and_what_it_comes_to() {
        check(&[], None);
        check(&[("content-length", "30")], None);
        // seconds
        check(&[("retry-after", "30")], Some(30_000));
        check(&[("Retry-After", " 1.5 ")], Some(1500));
        // a date: IMF-fixdate, RFC 850, asctime
        check(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(30_000));
        check(&[("retry-after", "Sunday, 06-Nov-94 08:49:37 GMT")], Some(30_000));
        check(&[("retry-after", "Sun Nov  6 08:49:37 1994")], Some(30_000));
        // milliseconds
        check(&[("retry-after-ms", "250")], Some(250));
        check(&[("grpc-retry-pushback-ms", "250")], Some(250));
        check(&[("grpc-retry-pushback-ms", "-1")], None);
        // several: the latest
        check(&[("retry-after-ms", "250"), ("retry-after", "2")], Some(2000));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("grpc-retry-pushback-ms", "40000")], Some(40_000));
        // an hour at most
        check(&[("retry-after", "86400")], Some(3_600_000));
        check(&[("retry-after", "99999999999999999999999999")], Some(3_600_000));
        check(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], Some(3_600_000));
        // zero, past, unreadable
        for bad in ["0", "0.0", "", ".", "-5", "1e3", "inf", "NaN", "soon", "1.2.3", "Sun, 06 Nov 1994 08:49:00 GMT"] {
            check(&[("retry-after", bad)], None);
        }
        assert_eq!(at(NOW_MS, [("retry-after", &[0xff, 0xfe][..])]), None);
    }
}
