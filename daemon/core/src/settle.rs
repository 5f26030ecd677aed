//! What reports do to a breaker: evidence, stragglers, probes.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Failure, Mode, Mono, Outcome, State, limits};

use crate::WorkerId;
use crate::breaker::{Breaker, Reporter, Stand, Turn};
use crate::change::{Because, What};
use crate::fleet::OpKind;

impl Breaker {
    /// Successes that the counts show and no report told: they end runs.
    pub(crate) fn missed(&mut self, now: Mono, worker: WorkerId, successes: u64, generation: u64) {
        let evidence = self.is_evidence(generation);
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
        let because = Because::new(&format!("{}@{}", from.label, turn.host), &why);
        let lasts = self.policy.cooldown.lasts(0, turn.rng);
        let before = self.state();
        self.host.trip(turn.now, lasts, because);
        self.host.until = self.host.until.max(wish(failure, at).unwrap_or_default());
        let contradicted = pooled < enough && self.window.contradicts(from.worker, began);
        if self.policy.mode == Mode::On && !contradicted {
            self.propose_trip(turn);
        }
        self.change(turn, before, What::Trip);
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
fn wish(failure: &Failure, at: Mono) -> Option<Mono> {
    let most = ms_up(limits::RETRY_AFTER_MAX);
    failure.retry_after_ms.map(|ms| at.after_ms(ms.min(most)))
}
