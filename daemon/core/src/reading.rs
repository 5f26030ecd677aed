//! Successes that workers count in memory: when the daemon must look, and what it makes of what it finds.
//!
//! A failure comes by a message, with the count of its connection's successes at that moment, so a worker's own order is
//! exact. What the neighbours count meanwhile is found by a reading, which cannot say when it was.

use std::time::Duration;

use breakerd_proto::message::{Report, ToDaemon};
use breakerd_proto::{Mono, Name, Outcome};

use crate::ConnectionId;
use crate::WorkerId;
use crate::breaker::Breaker;
use crate::core::Core;
use crate::table::BreakerId;
use crate::window::Fault;

/// A message that is served within this time is followed by nothing that its reading could find, or by so little that it
/// may pass for what came before. A daemon that was starved or stopped is later than that.
const PROMPT: Duration = Duration::from_millis(10);

/// What a reading of one lane has found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Whose lane.
    pub connection: ConnectionId,
    /// Its number.
    pub lane: u32,
    /// Successes since the last reading.
    pub successes: u64,
}

impl Core {
    /// The breaker whose lanes are to be read before this message is served: a failure that begins a run, so that what its
    /// neighbours count later is known to be later; whatever may trip; and what people ask for.
    #[must_use]
    pub fn wants_reading(&mut self, now: Mono, connection: ConnectionId, message: &ToDaemon) -> Option<BreakerId> {
        match message {
            ToDaemon::Report(report) => self.judged_beside(now, connection, report),
            ToDaemon::Query(query) => {
                let registration = self.connection(connection)?.lane(query.lane)?;
                (query.counts.failures > registration.told().failures).then_some(registration.breaker)
            }
            ToDaemon::Observe(observe) => self.breaker_at(connection, observe.lane),
            ToDaemon::Describe(describe) => self.breaker_of(&Name::parse(&describe.name).ok()?),
            _ => None,
        }
    }

    fn judged_beside(&mut self, now: Mono, connection: ConnectionId, report: &Report) -> Option<BreakerId> {
        let (failure, fault) = match &report.outcome {
            Outcome::Failure(_) => (1, Fault::Failed),
            Outcome::Success { slow: true } => (0, Fault::Slow),
            _ => return None,
        };
        let known = self.connection(connection)?;
        let (worker, registration) = (known.worker, known.lane(report.lane)?);
        let id = registration.breaker;
        let untold = report.counts.failures > registration.told().failures.saturating_add(failure);
        // One that rests has no run yet.
        let critical = match self.table.awake_mut(id) {
            Some(breaker) => untold || breaker.is_critical(now, worker, fault),
            None => true,
        };
        critical.then_some(id)
    }

    /// The breaker of this name.
    #[must_use]
    pub fn breaker_of(&self, name: &Name) -> Option<BreakerId> {
        self.table.find(name.as_str())
    }

    /// The breaker of a connection's lane.
    #[must_use]
    pub fn breaker_at(&self, connection: ConnectionId, lane: u32) -> Option<BreakerId> {
        Some(self.connection(connection)?.lane(lane)?.breaker)
    }

    /// The breakers that a connection has registered.
    #[must_use]
    pub fn breakers_of(&self, connection: ConnectionId) -> Vec<BreakerId> {
        let lanes = self.connection(connection).into_iter().flat_map(|known| &known.lanes);
        lanes.map(|registration| registration.breaker).collect()
    }

    /// Successes were found in memory before the message was served whose worker stamped it `stamp`; none where no message
    /// asked for the reading.
    pub fn handle_found(&mut self, now: Mono, found: Found, stamp: Option<Mono>) {
        let Found { connection, lane, successes } = found;
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let worker = known.worker;
        let Some(registration) = known.lane_mut(lane) else { return };
        let (id, told) = (registration.breaker, registration.told_mut());
        told.ahead = told.ahead.saturating_add(successes);
        let from = std::mem::replace(&mut told.known_at, now);
        self.table.used(now, id);
        self.touch(now, id, |breaker, _| breaker.found((from, now), (worker, connection), successes, stamp));
    }
}

impl Breaker {
    /// Whether this outcome is to be judged beside what the neighbours have counted by now.
    fn is_critical(&mut self, now: Mono, worker: WorkerId, fault: Fault) -> bool {
        if !self.gathers() {
            return false;
        }
        let own = self.lanes.get(&worker).map_or(0, |lane| lane.run_in(self.generation));
        let (pooled, trip) = (self.window.run(), &self.policy.trip);
        let begins = own == 0 || pooled == 0;
        let ends = trip.by_own_run(own.saturating_add(1)) || trip.by_pooled_run(pooled.saturating_add(1));
        fault == Fault::Failed && (begins || ends) || self.window.may_hold(trip, fault, now)
    }

    /// A reading has found successes of a worker that came after `from`, before a message was served that is stamped so.
    /// They contradict the runs of others that were under way.
    pub(crate) fn found(
        &mut self,
        (from, now): (Mono, Mono),
        (worker, connection): (WorkerId, ConnectionId),
        successes: u64,
        stamp: Option<Mono>,
    ) {
        let prompt = stamp.filter(|stamp| now.since(*stamp) <= PROMPT);
        let at = prompt.map_or(now, |stamp| stamp.before(Duration::from_nanos(1)));
        self.succeeded = self.succeeded.max(at);
        let gathers = self.gathers();
        let Some(lane) = self.lanes.get_mut(&worker) else { return };
        lane.successes_total = lane.successes_total.saturating_add(successes);
        if gathers {
            lane.found_success(connection);
            self.window.find(&self.policy.trip, worker, (at, now));
            self.window.spread(&self.policy.trip, (from, now), (successes, 0));
        }
    }
}
