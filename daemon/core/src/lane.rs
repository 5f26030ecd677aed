//! One worker's evidence on one breaker.

use breakerd_proto::message::LastFailure;
use breakerd_proto::{Failure, Mono};

use crate::ConnectionId;

/// What one worker has seen of one breaker.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// For people: while closed, the run that the worker is in; from a trip until the breaker closes again, that run and
    /// every later failure of its calls in flight; 0 after a recovery or reset (I13).
    pub(crate) failures: u64,
    /// Evidence: the run of failures in one generation.
    run: u32,
    run_generation: u64,
    /// The connection that told the run's last failure: the order of what it tells is exact.
    run_by: Option<ConnectionId>,
    run_began: Mono,
    pub(crate) successes_total: u64,
    pub(crate) failures_total: u64,
    last_failure: Option<(Failure, Mono)>,
    /// Connections of the worker that have registered the breaker.
    pub(crate) registrations: u32,
}

impl Lane {
    /// A failure that is evidence: extends the run and tells its length and its beginning.
    pub(crate) fn fail(&mut self, generation: u64, by: ConnectionId, at: Mono) -> (u32, Mono) {
        if self.run_generation != generation || self.run == 0 {
            self.run_generation = generation;
            self.run = 0;
            self.run_began = at;
        }
        self.run = self.run.saturating_add(1);
        self.run_by = Some(by);
        (self.run, self.run_began)
    }

    /// Ends the run, as evidence and for people.
    pub(crate) fn end_run(&mut self) {
        self.run = 0;
        self.failures = 0;
    }

    /// A reading has found successes of this connection. The run that it tells itself goes on until its messages say that
    /// it has ended, since failures from before the success may still be on their way.
    pub(crate) fn found_success(&mut self, of: ConnectionId) {
        self.failures = 0;
        if self.run_by != Some(of) {
            self.run = 0;
        }
    }

    /// The length of the run in this generation.
    pub(crate) fn run_in(&self, generation: u64) -> u32 {
        if self.run_generation == generation { self.run } else { 0 }
    }

    /// Whether a run is under way.
    pub(crate) fn in_run(&self) -> bool {
        self.run > 0
    }

    /// Keeps a failure for people, evidence or not.
    pub(crate) fn note(&mut self, failure: &Failure, at: Mono) {
        self.failures_total = self.failures_total.saturating_add(1);
        self.last_failure = Some((failure.clone(), at));
    }

    /// The same for failures that nobody knows the kind of: one whose kind is known stays in sight.
    pub(crate) fn note_unreported(&mut self, failure: &Failure, at: Mono, failures: u64) {
        self.failures_total = self.failures_total.saturating_add(failures);
        self.last_failure.get_or_insert_with(|| (failure.clone(), at));
    }

    pub(crate) fn last_failure(&self, now: Mono) -> Option<LastFailure> {
        self.last_failure.as_ref().map(|(failure, at)| LastFailure {
            kind: failure.kind.clone(),
            detail: failure.detail.clone(),
            ago_ms: breakerd_proto::clock::ms_up(now.since(*at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_of_one_generation_and_ends_with_a_success() {
        let at = |ms| Mono::default().after_ms(ms);
        let mut lane = Lane::default();
        assert!(!lane.in_run());
        assert_eq!(
            [lane.fail(1, ConnectionId(1), at(5)), lane.fail(1, ConnectionId(1), at(6))],
            [(1, at(5)), (2, at(5))]
        );
        assert!(lane.in_run());
        assert_eq!(lane.fail(2, ConnectionId(1), at(7)), (1, at(7)), "the breaker has changed since");
        lane.failures = 3;
        lane.end_run();
        assert!(!lane.in_run() && lane.failures == 0);
        assert_eq!(lane.fail(2, ConnectionId(1), at(8)), (1, at(8)));
    }

    #[test]
    fn a_failure_of_no_known_kind_hides_none_that_is_known() {
        let at = |ms| Mono::default().after_ms(ms);
        let (known, unknown) = (Failure::new("http-500"), Failure::new("unreported"));
        let seen = |lane: &Lane| lane.last_failure(at(10)).map(|last| (last.kind, last.ago_ms));
        let mut lane = Lane::default();
        assert_eq!(seen(&lane), None);
        lane.note_unreported(&unknown, at(1), 4);
        assert_eq!(seen(&lane), Some(("unreported".to_owned(), 9)));
        lane.note(&known, at(3));
        lane.note_unreported(&unknown, at(5), 2);
        assert_eq!((seen(&lane), lane.failures_total), (Some(("http-500".to_owned(), 7)), 7));
    }
}
