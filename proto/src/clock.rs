//! The one place that reads a clock.
//!
//! Every deadline, lease and stamp is on `CLOCK_BOOTTIME`: it goes on during a suspend and no operator can step it
//! (`clock_gettime(2)`). Wall time is for people to read and for the snapshot, never for a duration.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An instant of `CLOCK_BOOTTIME`, in nanoseconds since boot. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Reads the clock.
    #[must_use]
    #[allow(clippy::cast_sign_loss, reason = "boot time starts at zero and never runs backward")]
    #[allow(clippy::disallowed_methods, reason = "the one place that reads this clock")]
    pub fn now() -> Self {
        let at = clock_gettime(ClockId::Boottime);
        Self((at.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(at.tv_nsec as u64))
    }

    /// The time from `earlier` to this instant, zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time from `now` to this instant, zero if it is past.
    #[must_use]
    pub fn left(self, now: Self) -> Duration {
        self.since(now)
    }

    /// This instant and a while.
    #[must_use]
    pub fn after(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This instant and some milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// A while before this instant.
    #[must_use]
    pub fn before(self, while_: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

/// Microseconds of `CLOCK_MONOTONIC`, which is the one that sd_notify(3) wants. For nothing else.
#[must_use]
#[allow(clippy::cast_sign_loss, reason = "it starts at zero and never runs backward")]
#[allow(clippy::disallowed_methods, reason = "the one place that reads clocks")]
pub fn monotonic_us() -> u64 {
    let at = clock_gettime(ClockId::Monotonic);
    (at.tv_sec as u64).saturating_mul(1_000_000).saturating_add(at.tv_nsec as u64 / 1000)
}

/// Milliseconds of a while, rounded up so that nobody comes back too early.
#[must_use]
pub fn ms_up(while_: Duration) -> u64 {
    u64::try_from(while_.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Wall time in milliseconds since 1970, zero before it. For people and for the snapshot.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place that reads wall time")]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
