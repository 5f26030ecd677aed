//! What a restart must not lose: every cell that is not closed, and every operator's word.
//!
//! All times are remaining times, since the clock of deadlines starts again with the machine; the driver subtracts what
//! has passed by the wall clock where the machine has booted anew.

use std::time::Duration;

use breakerd_proto::{Mode, Mono, Name, Override, State};

use crate::breaker::{Breaker, Forced, Ordered};
use crate::cell::Cell;
use crate::change::Because;
use crate::core::{Core, NOBODY};
use crate::tally::Tally;

/// The part of the table that a restart keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Breakers that are not simply closed, in the order of their names.
    pub breakers: Vec<SavedBreaker>,
}

/// One breaker that is not simply closed.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedBreaker {
    /// Its name.
    pub name: Name,
    /// The generation that it had shown.
    pub generation: u64,
    /// Its state; half-open is kept as open with its deadline past.
    pub state: State,
    /// What is left of its cooldown.
    pub left: Duration,
    /// Reopenings since its trip.
    pub step: u32,
    /// How long it had been so.
    pub age: Duration,
    /// Who made it so and why.
    pub because: Because,
    /// Whether it was the fleet's word: then it holds only until the fleet is heard again.
    pub fleet: bool,
    /// The override over it.
    pub forced: Option<SavedForce>,
    /// An operator's word on the host's mode.
    pub mode: Option<SavedMode>,
}

/// An override.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedForce {
    /// Which.
    pub to: Override,
    /// What is left of it; none until released.
    pub left: Option<Duration>,
    /// How long it had been in force.
    pub age: Duration,
    /// Who and why.
    pub because: Because,
}

/// A mode by an operator's word.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedMode {
    /// Which.
    pub mode: Mode,
    /// Who and why.
    pub because: Because,
}

impl Core {
    /// What a restart must keep, as of now.
    #[must_use]
    pub fn save(&self, now: Mono) -> Snapshot {
        let simply_closed =
            |b: &&Breaker| b.ruling().state == State::Closed && b.forced.is_none() && b.ordered.is_none();
        let kept = self.table.each_awake().filter(|b| !simply_closed(b));
        let breakers = kept.map(|b| SavedBreaker {
            name: b.name.clone(),
            generation: b.generation,
            state: b.ruling().state,
            left: b.ruling().until.left(now),
            step: b.ruling().step,
            age: now.since(b.ruling().since),
            because: b.ruling().because.clone(),
            fleet: b.fleet_rules(),
            forced: b.forced.as_ref().map(|forced| SavedForce {
                to: forced.to,
                left: forced.end.map(|end| end.left(now)),
                age: now.since(forced.since),
                because: forced.because.clone(),
            }),
            mode: b
                .ordered
                .as_ref()
                .map(|Ordered { mode, because }| SavedMode { mode: *mode, because: because.clone() }),
        });
        Snapshot { breakers: breakers.collect() }
    }

    /// Takes over what an earlier life of the daemon left. Before the first connection.
    ///
    /// Nothing that was open is closed by it (I14); no deadline becomes longer than a policy allows.
    pub fn handle_snapshot(&mut self, now: Mono, snapshot: &Snapshot) {
        for saved in &snapshot.breakers {
            let Ok(id) = self.ensure(now, NOBODY, &saved.name, None) else { continue };
            let fleet = saved.fleet && self.fleet.is_some();
            self.touch(now, id, |breaker, _| {
                let most = breakerd_proto::limits::RETRY_AFTER_MAX.max(breaker.policy.cooldown.max.mul_f64(1.5));
                let open = saved.state != State::Closed;
                breaker.generation = saved.generation.saturating_add(1);
                let cell = Cell {
                    state: if open { State::Open } else { State::Closed },
                    until: if open { now.after(saved.left.min(most)) } else { Mono::default() },
                    step: saved.step,
                    tally: Tally::default(),
                    since: now.before(saved.age),
                    opened: now.before(saved.age),
                    because: saved.because.clone(),
                };
                if fleet {
                    breaker.joint.cell = cell;
                } else {
                    breaker.host = cell;
                }
                breaker.ordered =
                    saved.mode.as_ref().map(|saved| Ordered { mode: saved.mode, because: saved.because.clone() });
                breaker.forced = saved.forced.as_ref().map(|forced| Forced {
                    to: forced.to,
                    end: forced.left.map(|left| now.after(left)),
                    since: now.before(forced.age),
                    because: forced.because.clone(),
                });
            });
        }
    }
}
