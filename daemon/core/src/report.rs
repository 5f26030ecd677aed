//! What workers report, and what they could not report: outcomes, and counts that make good what was left out.

use breakerd_proto::message::Report;
use breakerd_proto::{Counts, Failure, Mode, Mono, Outcome, State, Untold, limits, outcome};

use crate::breaker::{Breaker, Reporter, Turn};
use crate::core::{Core, printable};
use crate::refusal::Refusal;
use crate::worker::{ConnectionId, WorkerId};

/// The kind of a failure that only the counts tell of.
const UNREPORTED: &str = "unreported";
/// Failures of one message's counts that are evidence; more would let one frame hold the loop.
const UNREPORTED_EVIDENCE_MAX: u64 = 1000;

impl Core {
    /// A call has ended.
    ///
    /// # Errors
    /// An unknown lane.
    pub fn handle_report(&mut self, now: Mono, connection: ConnectionId, report: &Report) -> Result<(), Refusal> {
        let id = self.lane(now, connection, report.lane)?;
        self.table.used(now, id);
        let worker = self.make_good(now, connection, report.lane, report.counts, Some(report));
        let Some(worker) = worker else { return Ok(()) };
        let known = self.connections.get(&connection).and_then(|known| known.lane(report.lane));
        let overtaken = known.is_some_and(|lane| lane.told().ahead > 0);
        let label = self.workers.get(&worker).map(|worker| worker.label.clone()).unwrap_or_default();
        self.touch(now, id, |breaker, turn| {
            let from = Reporter { connection, worker, label: &label, overtaken };
            breaker.settle(turn, &from, (report.generation, report.permit), report.at, &bounded(&report.outcome));
        });
        Ok(())
    }

    /// Books what the counts show and no report told, before the outcome that they came with.
    pub(crate) fn make_good(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        lane: u32,
        counts: Counts,
        report: Option<&Report>,
    ) -> Option<WorkerId> {
        let known = self.connections.get_mut(&connection)?;
        let worker = known.worker;
        let registration = known.lane_mut(lane)?;
        let (id, told) = (registration.breaker, registration.told());
        if report.is_some() || counts != Counts::default() {
            registration.told_mut().take(now, counts);
        }
        if let Some(report) = report {
            registration.told_mut().at = report.at.min(now);
        }
        let (success, slow, failure) = match report.map(|report| &report.outcome) {
            Some(Outcome::Success { slow }) => (1, u64::from(*slow), 0),
            Some(Outcome::Failure(_)) => (0, 0, 1),
            _ => (0, 0, 0),
        };
        let successes = counts.successes.saturating_sub(told.successes).saturating_sub(success);
        let slow = counts.slow.saturating_sub(told.slow).saturating_sub(slow);
        let failures = counts.failures.saturating_sub(told.failures).saturating_sub(failure);
        if successes > 0 {
            let breaker = self.table.get_mut(id)?;
            let generation = report.map_or(breaker.generation, |report| report.generation);
            let fresh = successes.saturating_sub(told.ahead);
            breaker.missed((told.known_at, now), worker, (fresh, slow.min(fresh)), generation);
        }
        if failures > 0 {
            let label = self.workers.get(&worker).map(|worker| worker.label.clone()).unwrap_or_default();
            self.touch(now, id, |breaker, turn| {
                let from = Reporter { connection, worker, label: &label, overtaken: false };
                // Whatever was left out happened after the last report, so no success since then can be older than it.
                breaker.unreported(turn, &from, told.at, (failures, counts.untold));
            });
        }
        Some(worker)
    }
}

impl Breaker {
    /// So many failures that no report told, some of them in a row since the last success.
    fn unreported(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, at: Mono, (failures, untold): (u64, Untold)) {
        if self.mode() == Mode::Off {
            return;
        }
        let failure = Failure::new(UNREPORTED);
        self.failures_total = self.failures_total.saturating_add(failures);
        let Some(lane) = self.lanes.get_mut(&from.worker) else { return };
        lane.note_unreported(&failure, at, failures);
        let run = u64::from(untold.run).min(failures);
        let mut later = failures;
        if self.is_evidence(untold.generation) {
            later = run;
            for _ in 0..run.min(UNREPORTED_EVIDENCE_MAX) {
                self.failed(turn, from, at, &failure);
                later -= 1;
                if self.generation != untold.generation {
                    break;
                }
            }
        }
        let shown = self.state() != State::Closed || self.forced.is_some();
        if let Some(lane) = self.lanes.get_mut(&from.worker).filter(|_| shown) {
            lane.failures = lane.failures.saturating_add(later);
        }
    }
}

/// A failure's texts within their bounds and printable, whatever the worker sent.
pub(crate) fn bounded(outcome: &Outcome) -> Outcome {
    let Outcome::Failure(failure) = outcome else { return outcome.clone() };
    let mut bounded = failure.clone();
    bounded.kind = printable(outcome::cut(&failure.kind, limits::FAILURE_KIND_BYTES_MAX));
    bounded.detail = printable(outcome::cut(&failure.detail, limits::FAILURE_DETAIL_BYTES_MAX));
    Outcome::Failure(bounded)
}
