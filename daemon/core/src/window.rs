//! The evidence of a host's workers together: the pooled run, and who contradicts whom.

use breakerd_proto::Mono;

use crate::WorkerId;

/// The failures of all workers of the host with no success between, in one generation.
///
/// Pooling alone loses trips beside one busy healthy worker, counting by worker alone loses outages spread thin; so
/// both runs count, this one and each lane's.
#[derive(Debug, Default)]
pub(crate) struct Window {
    run: u32,
    /// The newest success, and the newest of any other worker than that one's.
    successes: [Option<(WorkerId, Mono)>; 2],
}

impl Window {
    /// Forgets everything: the breaker has changed.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A success of this worker, read at this time, ends the pooled run.
    pub(crate) fn succeed(&mut self, worker: WorkerId, at: Mono) {
        self.run = 0;
        let [newest, other] = self.successes;
        self.successes = match newest {
            Some((same, before)) if same == worker => [Some((worker, at.max(before))), other],
            _ => [Some((worker, at)), newest],
        };
    }

    /// A failure stamped `at`: tells the length of the pooled run. A failure from before the newest success extends
    /// nothing, since a reading that finds successes cannot say when they were.
    pub(crate) fn fail(&mut self, at: Mono) -> u32 {
        let newest = self.successes.iter().flatten().map(|(_, at)| *at).max();
        if newest.is_none_or(|success| at >= success) {
            self.run = self.run.saturating_add(1);
        }
        self.run
    }

    /// Whether a worker other than this one has had a success since its run began.
    pub(crate) fn contradicts(&self, worker: WorkerId, run_began: Mono) -> bool {
        self.successes.iter().flatten().any(|(other, at)| *other != worker && *at >= run_began)
    }

    /// The pooled run.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }
}
