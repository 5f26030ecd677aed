//! What reports do to a breaker: each is evidence, a straggler, or the end of a probe.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Failure, Mode, Mono, Outcome, State, limits};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Stand, Turn};
use crate::change::{Because, What};
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
        let counts = self.policy.mode != Mode::Off;
        if counts {
            self.note(from.worker, at, outcome);
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

    fn settle_probe(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, permit: u64, outcome: &Outcome) {
        let held = self.permits.iter().position(|p| p.id == permit && p.asker.connection == from.connection);
        let Some(held) = held else {
            turn.out.stale_reports = turn.out.stale_reports.saturating_add(1);
            return;
        };
        turn.out.released.push(self.permits.swap_remove(held).charge);
        if self.forced.is_some() {
            return;
        }
        if let (Outcome::Failure(_), Some(lane)) = (outcome, self.lanes.get_mut(&from.worker)) {
            lane.failures = lane.failures.saturating_add(1);
        }
        if self.fleet_rules() && turn.stand == Stand::Joined || self.joint.lease.is_some() {
            return self.settle_leased(turn, from, outcome);
        }
        let before = self.state();
        match outcome {
            Outcome::Ignored | Outcome::Abandoned => {}
            Outcome::Success { .. } => {
                let need = self.policy.probe.successes;
                let cell = self.ruling_mut();
                cell.successes = cell.successes.saturating_add(1);
                let done = cell.successes;
                if done >= need {
                    let why = format!("{done} of {need} probes succeeded");
                    let because = Because::new(&format!("{}@{}", from.label, turn.host), &why);
                    self.recover_alone(turn.now, because);
                    self.change(turn, before, What::Recover);
                }
            }
            Outcome::Failure(failure) => {
                let (until, because) = self.reopening(turn, from, failure);
                let cell = self.ruling_mut();
                cell.reopen(turn.now, until.left(turn.now), because);
                self.change(turn, before, What::Reopen);
            }
        }
    }

    /// Until when a failed probe keeps it open, and the words for it.
    pub(crate) fn reopening(&self, turn: &mut Turn<'_>, from: &Reporter<'_>, failure: &Failure) -> (Mono, Because) {
        let lasts = self.policy.cooldown.lasts(self.ruling().step.saturating_add(1), turn.rng);
        let until = turn.now.after(lasts).max(wish(failure, turn.now).unwrap_or_default());
        let why = format!("the probe failed: {}", failure.kind);
        (until, Because::new(&format!("{}@{}", from.label, turn.host), &why))
    }
}

/// Until when the provider wishes to be left alone, capped.
pub(crate) fn wish(failure: &Failure, at: Mono) -> Option<Mono> {
    let most = ms_up(limits::RETRY_AFTER_MAX);
    failure.retry_after_ms.map(|ms| at.after_ms(ms.min(most)))
}
