//! From evidence to trip: which outcomes count, what they amount to, and whom the trip concerns.

use breakerd_proto::{Failure, Mode, Mono, State};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Turn};
use crate::settle::wish;
use crate::window::Fault;

impl Breaker {
    /// Whether an ordinary call's outcome from this generation counts (I5).
    pub(crate) fn is_evidence(&self, generation: u64) -> bool {
        generation == self.generation && self.gathers()
    }

    /// Whether outcomes count at all: closed, by nobody's word but its own.
    pub(crate) fn gathers(&self) -> bool {
        self.forced.is_none() && self.ruling().state == State::Closed && self.mode() != Mode::Off
    }

    /// Successes that the counts show and no report told, so many of them not known by a reading. They have no stamps, so
    /// they trip nothing by themselves: they end runs and stand in the windows, spread over the time in which they were and
    /// the slow ones first, for the next report to be judged with.
    pub(crate) fn missed(
        &mut self,
        (from, now): (Mono, Mono),
        worker: WorkerId,
        (fresh, slow): (u64, u64),
        generation: u64,
    ) {
        if self.mode() == Mode::Off {
            return;
        }
        self.succeeded = self.succeeded.max(now);
        let (gathers, is_evidence) = (self.gathers(), self.is_evidence(generation));
        let Some(lane) = self.lanes.get_mut(&worker) else { return };
        lane.successes_total = lane.successes_total.saturating_add(fresh);
        if !gathers {
            return;
        }
        lane.end_run();
        if fresh == 0 {
            return;
        }
        self.window.end_run(&self.policy.trip, worker, now);
        if is_evidence {
            self.window.spread(&self.policy.trip, (from, now), (fresh, slow));
        }
    }

    /// A success from before the last change: all that it may do is end a run (I5).
    pub(crate) fn straggled(&mut self, worker: WorkerId, at: Mono) {
        if !self.gathers() {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&worker) {
            lane.end_run();
        }
        self.window.end_run(&self.policy.trip, worker, at);
    }

    /// A success that is evidence: runs end, and one that was slow may trip. One that was not never does, though with it
    /// there may be the calls that a rate asks for: the next failure is then judged with it.
    pub(crate) fn succeeded(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, at: Mono, slow: bool) {
        if let Some(lane) = self.lanes.get_mut(&from.worker) {
            lane.end_run();
        }
        self.window.succeed(&self.policy.trip, (from.worker, at), (1, slow.into()));
        if !slow {
            return;
        }
        if let Some(held) = self.window.held(&self.policy.trip, Fault::Slow, turn.now) {
            let because = turn.because(from.label, &format!("{held} were slow"));
            self.trip(turn, None, false, because);
        }
    }

    /// A failure that is evidence: the runs grow, and with whatever rule holds it trips.
    ///
    /// A worker's own run concerns its host alone where another worker has had a success since it began, unless a pooled
    /// rule holds too: the run of all workers, or a rule over the last calls or the last while (I9).
    pub(crate) fn failed(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, at: Mono, failure: &Failure) {
        let Some(lane) = self.lanes.get_mut(&from.worker) else { return };
        if !from.overtaken {
            lane.failures = lane.failures.saturating_add(1);
        }
        let (own, began) = lane.fail(self.generation, from.connection, at);
        let pooled = self.window.fail(&self.policy.trip, at);
        let (own_trips, pooled_trips) = (self.policy.trip.by_own_run(own), self.policy.trip.by_pooled_run(pooled));
        let held = self.window.held(&self.policy.trip, Fault::Failed, turn.now);
        let (kind, agreed) = (&failure.kind, pooled_trips || held.is_some());
        let why = match held {
            _ if own_trips => format!("{own} consecutive failures, last {kind}"),
            _ if pooled_trips => format!("{pooled} consecutive failures over all workers, last {kind}"),
            Some(held) => format!("{held} failed, last {kind}"),
            None => return,
        };
        let contradicted = !agreed && (from.overtaken || self.window.contradicts(from.worker, began));
        let because = turn.because(from.label, &why);
        self.trip(turn, wish(failure, at), contradicted, because);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "judge_tests.rs"]
mod tests;
