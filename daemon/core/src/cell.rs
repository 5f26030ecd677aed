//! One cell: a state with its deadline. A breaker on a host has two, the fleet's and the host's own.

use std::time::Duration;

use breakerd_proto::{Mono, State};

use crate::change::Because;

/// A state, its deadline, and who made it so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) state: State,
    /// The end of the cooldown; stays where it was in half-open.
    pub(crate) until: Mono,
    /// Reopenings since the trip.
    pub(crate) step: u32,
    /// Probes that succeeded in this half-open.
    pub(crate) successes: u32,
    pub(crate) since: Mono,
    pub(crate) because: Because,
}

impl Cell {
    /// Closed to open.
    pub(crate) fn trip(&mut self, now: Mono, lasts: Duration, because: Because) {
        *self = Self { state: State::Open, until: now.after(lasts), step: 0, successes: 0, since: now, because };
    }

    /// Half-open to open, one step further.
    pub(crate) fn reopen(&mut self, now: Mono, lasts: Duration, because: Because) {
        let step = self.step.saturating_add(1);
        *self = Self { state: State::Open, until: now.after(lasts), step, successes: 0, since: now, because };
    }

    /// Open to half-open; who tripped it, and why, stays.
    pub(crate) fn probe(&mut self, now: Mono) {
        self.state = State::HalfOpen;
        self.successes = 0;
        self.since = now;
    }

    /// Anything to closed.
    pub(crate) fn close(&mut self, now: Mono, because: Because) {
        *self = Self { since: now, because, ..Self::default() };
    }
}
