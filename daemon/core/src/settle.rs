//! What reports do to a breaker: each is evidence, a straggler, or the end of a probe.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Failure, Mode, Mono, Outcome, State, limits};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Turn};
use crate::change::What;
use crate::fleet::OpKind;

impl Breaker {
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
        let counts = self.mode() != Mode::Off;
        if counts {
            self.note(from.worker, at, outcome);
            if matches!(outcome, Outcome::Success { .. }) {
                self.succeeded = self.succeeded.max(at);
            }
        }
        if permit != 0 {
            return self.settle_probe(turn, from, permit, outcome);
        }
        if !counts {
            return;
        }
        if !self.is_evidence(generation) {
            return self.settle_stale(turn, from, (generation, at), outcome);
        }
        match outcome {
            Outcome::Success { slow } => self.succeeded(turn, from, at, *slow),
            Outcome::Failure(failure) => self.failed(turn, from, at, failure),
            Outcome::Ignored | Outcome::Abandoned => {}
        }
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

    /// A straggler. A success may end a run. A failure shows in its lane while the breaker is not closed, and the provider's
    /// wish that came with it may move a deadline.
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
        let failure = match outcome {
            Outcome::Failure(failure) => failure,
            Outcome::Success { .. } => return self.straggled(from.worker, at),
            Outcome::Ignored | Outcome::Abandoned => return,
        };
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
}

/// Until when the provider wishes to be left alone, capped.
pub(crate) fn wish(failure: &Failure, at: Mono) -> Option<Mono> {
    let most = ms_up(limits::RETRY_AFTER_MAX);
    failure.retry_after_ms.map(|ms| at.after_ms(ms.min(most)))
}
