//! From evidence to trip: which outcomes count, what they amount to, and whom the trip concerns.

use breakerd_proto::{Counts, Failure, Mode, Mono, Outcome, State};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Turn};
use crate::change::{Because, What};
use crate::settle::wish;
use crate::window::Fault;

impl Breaker {
    /// Whether an ordinary call's outcome from this generation counts (I5).
    pub(crate) fn is_evidence(&self, generation: u64) -> bool {
        generation == self.generation && self.gathers()
    }

    /// Whether outcomes count at all: closed, by nobody's word but its own.
    pub(crate) fn gathers(&self) -> bool {
        self.forced.is_none() && self.ruling().state == State::Closed && self.policy.mode != Mode::Off
    }

    /// Calls that the counts show and no report told. They have no stamps, and which permits they had is not known, so they
    /// trip nothing by themselves (I5): successes end runs and stand in the windows, as of now and the slow ones first,
    /// for the next report to be judged with; failures are only counted.
    pub(crate) fn missed(&mut self, now: Mono, worker: WorkerId, missed: Counts, generation: u64) {
        if self.policy.mode == Mode::Off {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&worker) else { return };
        lane.successes_total = lane.successes_total.saturating_add(missed.successes);
        lane.failures_total = lane.failures_total.saturating_add(missed.failures);
        self.failures_total = self.failures_total.saturating_add(missed.failures);
        if missed.successes == 0 {
            return;
        }
        if !self.is_evidence(generation) {
            return self.straggled(worker, now);
        }
        if let Some(lane) = self.lanes.get_mut(&worker) {
            lane.end_run();
        }
        let slow = missed.slow.min(missed.successes);
        self.window.succeed(&self.policy.trip, (worker, now), (missed.successes, slow));
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
            self.trip(turn, from, &format!("{held} were slow"), Mono::default());
            self.tell_fleet(turn);
            self.change(turn, State::Closed, What::Trip);
        }
    }

    /// A failure that is evidence: the runs grow, and with whatever rule holds it trips.
    ///
    /// A worker's own run concerns its host alone where another worker has had a success since it began, unless a pooled
    /// rule holds too: the run of all workers, or a rule over the last calls or the last while (I9).
    pub(crate) fn failed(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, at: Mono, failure: &Failure) {
        let Some(lane) = self.lanes.get_mut(&from.worker) else { return };
        lane.failures = lane.failures.saturating_add(1);
        let (own, began) = lane.fail(self.generation, at);
        let pooled = self.window.fail(&self.policy.trip, at);
        let long = |run: u32| (1..=run).contains(&self.policy.trip.consecutive_failures);
        let held = self.window.held(&self.policy.trip, Fault::Failed, turn.now);
        let (kind, agreed) = (&failure.kind, long(pooled) || held.is_some());
        let why = match held {
            _ if long(own) => format!("{own} consecutive failures, last {kind}"),
            _ if long(pooled) => format!("{pooled} consecutive failures over all workers, last {kind}"),
            Some(held) => format!("{held} failed, last {kind}"),
            None => return,
        };
        let contradicted = !agreed && self.window.contradicts(from.worker, began);
        self.trip(turn, from, &why, wish(failure, at).unwrap_or_default());
        if !contradicted {
            self.tell_fleet(turn);
        }
        self.change(turn, State::Closed, What::Trip);
    }

    /// Opens the host cell, until the provider's own deadline if that is later.
    fn trip(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, why: &str, until: Mono) {
        let because = Because::new(&format!("{}@{}", from.label, turn.host), why);
        let lasts = self.policy.cooldown.lasts(0, turn.rng);
        self.host.trip(turn.now, lasts, because);
        self.host.until = self.host.until.max(until);
    }

    /// The trip is not the host's alone. In shadow it stays in the host's own books.
    fn tell_fleet(&mut self, turn: &mut Turn<'_>) {
        if self.policy.mode == Mode::On {
            self.propose_trip(turn);
        }
    }
}

/// What a worker's totals show beyond what they showed before and the one outcome that is told with them. A total that went
/// back shows nothing.
pub(crate) fn untold(before: Counts, after: Counts, told: Option<&Outcome>) -> Counts {
    let added = |after: u64, before: u64, told: bool| after.saturating_sub(before).saturating_sub(told.into());
    let (success, slow, failure) = match told {
        Some(Outcome::Success { slow }) => (true, *slow, false),
        Some(Outcome::Failure(_)) => (false, false, true),
        Some(Outcome::Ignored | Outcome::Abandoned) | None => (false, false, false),
    };
    Counts {
        successes: added(after.successes, before.successes, success),
        slow: added(after.slow, before.slow, slow),
        failures: added(after.failures, before.failures, failure),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "judge_tests.rs"]
mod tests;
