//! What reports do to a breaker: evidence, stragglers, probes.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Failure, Mode, Mono, Outcome, State, limits};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Turn};
use crate::change::What;
use crate::fleet::OpKind;

impl Breaker {
    /// Successes that the counts show and no report told: they end runs.
    pub(crate) fn missed(&mut self, now: Mono, worker: WorkerId, successes: u64, generation: u64) {
        let evidence = self.is_evidence(generation);
        if successes > 0 {
            self.succeeded = self.succeeded.max(now);
        }
        let Some(lane) = self.lanes.get_mut(&worker) else { return };
        lane.successes_total = lane.successes_total.saturating_add(successes);
        if evidence && successes > 0 {
            lane.end_run();
            self.window.succeed(worker, now);
        }
    }

    /// A call has ended. `at` is the worker's stamp.
    pub(crate) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        from: &Reporter<'_>,
        (generation, permit): (u64, u64),
        at: Mono,
        outcome: &Outcome,
    ) {
        let at = at.min(turn.now);
        self.note(from.worker, at, outcome);
        if matches!(outcome, Outcome::Success { .. }) {
            self.succeeded = self.succeeded.max(at);
        }
        if permit != 0 {
            return self.settle_probe(turn, from, permit, outcome);
        }
        if !self.is_evidence(generation) {
            return self.settle_stale(turn, from, (generation, at), outcome);
        }
        match outcome {
            Outcome::Success { .. } => {
                if let Some(lane) = self.lanes.get_mut(&from.worker) {
                    lane.end_run();
                }
                self.window.succeed(from.worker, at);
            }
            Outcome::Failure(failure) => self.judge(turn, from, at, failure),
            Outcome::Ignored | Outcome::Abandoned => {}
        }
    }

    /// Whether an ordinary call's outcome from this generation counts (I5).
    pub(crate) fn is_evidence(&self, generation: u64) -> bool {
        generation == self.generation
            && self.forced.is_none()
            && self.ruling().state == State::Closed
            && self.policy.mode != Mode::Off
    }

    /// Totals and last failure, which people look at whatever the rule makes of them.
    fn note(&mut self, worker: WorkerId, at: Mono, outcome: &Outcome) {
        let Some(lane) = self.lanes.get_mut(&worker) else { return };
        match outcome {
            Outcome::Success { .. } => lane.successes_total = lane.successes_total.saturating_add(1),
            Outcome::Failure(failure) => {
                lane.note(failure, at);
                self.failures_total = self.failures_total.saturating_add(1);
            }
            Outcome::Ignored | Outcome::Abandoned => {}
        }
    }

    /// A straggler: its lane shows it while the breaker is not closed, and a provider's wish may move a deadline.
    fn settle_stale(
        &mut self,
        turn: &mut Turn<'_>,
        from: &Reporter<'_>,
        (generation, at): (u64, Mono),
        outcome: &Outcome,
    ) {
        if generation != self.generation {
            turn.out.stale_reports = turn.out.stale_reports.saturating_add(1);
        }
        let Outcome::Failure(failure) = outcome else { return };
        if self.state() == State::Closed && self.forced.is_none() {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&from.worker) {
            lane.failures = lane.failures.saturating_add(1);
        }
        if self.ruling().state == State::Open && self.forced.is_none() {
            self.extend(turn, wish(failure, at));
        }
    }

    /// Moves the deadline of an open breaker later, never sooner.
    fn extend(&mut self, turn: &mut Turn<'_>, until: Option<Mono>) {
        let Some(until) = until.filter(|until| *until > self.ruling().until) else { return };
        let from = self.state();
        self.ruling_mut().until = until;
        if self.fleet_rules() {
            let (expected, duration_ms) = (self.joint.version, ms_up(until.left(turn.now)));
            let because = self.joint.cell.because.clone();
            turn.out.wishes.push((OpKind::Extend { expected, duration_ms }, because));
        }
        self.change(turn, from, What::Extend);
    }

    /// A failure that is evidence: the runs grow, and one that is long enough trips.
    pub(crate) fn judge(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, at: Mono, failure: &Failure) {
        let Some(lane) = self.lanes.get_mut(&from.worker) else { return };
        lane.failures = lane.failures.saturating_add(1);
        let (run, began) = lane.fail(self.generation, at);
        let pooled = self.window.fail(at);
        let enough = self.policy.trip.consecutive_failures;
        let why = match (run >= enough, pooled >= enough) {
            (true, _) => format!("{run} consecutive failures, last {}", failure.kind),
            (false, true) => format!("{pooled} consecutive failures over all workers, last {}", failure.kind),
            (false, false) => return,
        };
        let because = turn.because(from.label, &why);
        let contradicted = pooled < enough && self.window.contradicts(from.worker, began);
        self.trip(turn, wish(failure, at), contradicted, because);
    }
}

/// Until when the provider wishes to be left alone, capped.
pub(crate) fn wish(failure: &Failure, at: Mono) -> Option<Mono> {
    let most = ms_up(limits::RETRY_AFTER_MAX);
    failure.retry_after_ms.map(|ms| at.after_ms(ms.min(most)))
}
