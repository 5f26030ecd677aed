//! One cell: a state with its deadline. A breaker on a host has two, the fleet's and the host's own.

use std::time::Duration;

use breakerd_proto::{Mono, State};

use crate::change::Because;
use crate::tally::Tally;

/// A state, its deadline, and who made it so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) state: State,
    /// The end of the cooldown; stays where it was in half-open.
    pub(crate) until: Mono,
    /// The backoff's step: how often it has reopened, or tripped again too soon, since it was last well.
    pub(crate) step: u32,
    /// What the probes of this half-open have come to.
    pub(crate) tally: Tally,
    /// Since when the state is as it is.
    pub(crate) since: Mono,
    /// When it last changed to open; stays where it was in half-open.
    pub(crate) opened: Mono,
    pub(crate) because: Because,
}

impl Cell {
    /// Closed or half-open to open.
    pub(crate) fn open(&mut self, now: Mono, until: Mono, step: u32, because: Because) {
        let tally = Tally::default();
        *self = Self { state: State::Open, until, step, tally, since: now, opened: now, because };
    }

    /// How long the cooldown is that began when it opened, later deadlines included; nothing when closed.
    pub(crate) fn cooldown(&self) -> Duration {
        if self.state == State::Closed { Duration::ZERO } else { self.until.since(self.opened) }
    }

    /// Open to half-open; who tripped it, and why, stays.
    pub(crate) fn probe(&mut self, now: Mono) {
        self.state = State::HalfOpen;
        self.tally = Tally::default();
        self.since = now;
    }

    /// Anything to closed.
    pub(crate) fn close(&mut self, now: Mono, because: Because) {
        *self = Self { since: now, because, ..Self::default() };
    }
}
