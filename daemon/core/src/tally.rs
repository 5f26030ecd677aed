//! What the probes of one half-open come to.

use breakerd_proto::{Mono, Outcome};

use crate::policy::Probe;
use crate::settle::wish;

/// The probes that have counted in one half-open. Ignored and abandoned ones are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) successes: u32,
    pub(crate) failures: u32,
    /// The latest time until which a failed probe's provider wished to be left alone.
    pub(crate) wish: Mono,
}

/// What half-open comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// More probes must tell.
    Undecided,
    /// Closed.
    Recover,
    /// Open again.
    Reopen,
}

impl Tally {
    /// Counts a probe's outcome; tells whether it was one that counts.
    pub(crate) fn count(&mut self, outcome: &Outcome, now: Mono) -> bool {
        match outcome {
            Outcome::Success { .. } => self.successes = self.successes.saturating_add(1),
            Outcome::Failure(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.wish = self.wish.max(wish(failure, now).unwrap_or_default());
            }
            Outcome::Ignored | Outcome::Abandoned => return false,
        }
        true
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            wish: self.wish.max(other.wish),
        }
    }

    /// How many probes have counted.
    pub(crate) fn made(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }

    /// What they come to: one failure or enough successes decide, or, with `probe.rate`, all of them together.
    pub(crate) fn judge(self, probe: &Probe) -> Judgement {
        let Some(rate) = probe.rate else {
            return match self {
                Self { failures: 1.., .. } => Judgement::Reopen,
                _ if self.successes >= probe.successes => Judgement::Recover,
                _ => Judgement::Undecided,
            };
        };
        let (made, enough) = (self.made(), f64::from(self.successes) / f64::from(self.made()) >= rate.at_least);
        match made < rate.of_probes {
            true => Judgement::Undecided,
            false if enough => Judgement::Recover,
            false => Judgement::Reopen,
        }
    }

    /// Whether another probe may go out beside these, so many being out already.
    pub(crate) fn has_room(self, probe: &Probe, out: u32) -> bool {
        let of = probe.rate.map_or(u32::MAX, |rate| rate.of_probes);
        out < probe.permits && self.made().saturating_add(out) < of
    }

    /// `7 of 10 probes succeeded`.
    pub(crate) fn recovery(self, probe: &Probe) -> String {
        let of = probe.rate.map_or(probe.successes, |_| self.made());
        format!("{} of {of} probes succeeded", self.successes)
    }

    /// `the probe failed: http-503`, or `7 of 10 probes failed, last http-503`.
    pub(crate) fn reopening(self, probe: &Probe, last: &Outcome) -> String {
        let kind = match last {
            Outcome::Failure(failure) => failure.kind.as_str(),
            _ => "",
        };
        match (probe.rate, kind) {
            (None, kind) => format!("the probe failed: {kind}"),
            (Some(_), "") => format!("{} of {} probes failed", self.failures, self.made()),
            (Some(_), kind) => format!("{} of {} probes failed, last {kind}", self.failures, self.made()),
        }
    }
}
