//! A breaker with nothing to remember, in a tenth of the room.
//!
//! Most names of a large table are closed, have never failed and are not asked about for minutes. Such a breaker is kept
//! as what cannot be made anew, and is whole again as soon as something is done to it.

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::message::Rules;
use breakerd_proto::{Mono, Name};

use crate::WorkerId;
use crate::breaker::Breaker;
use crate::cell::Cell;
use crate::cooldown::Backoff;
use crate::lane::Lane;
use crate::policies::Ruled;

/// How long a breaker must have been left alone to be called idle.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(60);

/// What is kept of a breaker that is closed and has nothing to remember.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) name: Name,
    pub(crate) ruled: Ruled,
    pub(crate) generation: u64,
    since: Mono,
    failures_total: u64,
    lanes: Box<[RestingLane]>,
}

/// One worker that has registered it and has had no failure.
#[derive(Debug)]
struct RestingLane {
    worker: WorkerId,
    registrations: u32,
    successes_total: u64,
}

impl RestingLane {
    fn of(worker: WorkerId, lane: &Lane) -> Self {
        Self { worker, registrations: lane.registrations, successes_total: lane.successes_total }
    }
}

// A name's share of the table must stay small, since there may be a hundred thousand of them.
const _: () = assert!(size_of::<Resting>() <= 72);
const _: () = assert!(size_of::<RestingLane>() <= 24);

impl Resting {
    /// A breaker that nobody has used yet.
    pub(crate) fn new(name: Name, ruled: Ruled, generation: u64, now: Mono) -> Self {
        Self { name, ruled, generation, since: now, failures_total: 0, lanes: Box::default() }
    }

    /// The whole breaker. `version` is the fleet's newest, as for a name that the fleet has not spoken of.
    pub(crate) fn breaker(&self, used: Mono, version: u64) -> Breaker {
        let mut breaker = Breaker::new(self.name.clone(), Arc::clone(&self.ruled.policy), self.since);
        breaker.declared.clone_from(&self.ruled.declared);
        breaker.generation = self.generation;
        breaker.asked = used;
        breaker.failures_total = self.failures_total;
        breaker.joint.version = version;
        for resting in &self.lanes {
            let lane = breaker.lanes.entry(resting.worker).or_default();
            (lane.registrations, lane.successes_total) = (resting.registrations, resting.successes_total);
        }
        breaker
    }

    /// One more connection of this worker has registered it.
    pub(crate) fn enroll(&mut self, worker: WorkerId) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.worker == worker) {
            lane.registrations = lane.registrations.saturating_add(1);
            return;
        }
        let mut lanes = std::mem::take(&mut self.lanes).into_vec();
        lanes.push(RestingLane { worker, registrations: 1, successes_total: 0 });
        self.lanes = lanes.into_boxed_slice();
    }

    /// One connection of this worker has ended.
    pub(crate) fn leave(&mut self, worker: WorkerId) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.worker == worker) else { return };
        lane.registrations = lane.registrations.saturating_sub(1);
        if lane.registrations == 0 {
            let rest = std::mem::take(&mut self.lanes).into_vec().into_iter();
            self.lanes = rest.filter(|lane| lane.worker != worker).collect();
        }
    }
}

impl Breaker {
    /// The breaker as it rests, if it has nothing to remember. `quiet`: how long it was left alone.
    pub(crate) fn rest(&self, quiet: Duration) -> Option<Resting> {
        // Every field is named, so that one that is added is thought about here.
        let Self {
            name,
            policy,
            declared,
            generation,
            host,
            joint,
            forced,
            ordered,
            window,
            backoff,
            succeeded: _, // of a breaker that was open
            lanes,
            permits,
            active_from: _, // has passed by the time that a closed breaker is left alone
            asked: _,
            failures_total,
        } = self;
        let remembers = *backoff != Backoff::default() && quiet < policy.cooldown.forget;
        let fresh = *host == Cell { since: host.since, ..Cell::default() } && joint.is_fresh();
        let held = forced.is_some() || ordered.is_some() || !permits.is_empty() || window.run() > 0;
        if !fresh
            || held
            || remembers
            || !self.forgets_calls(quiet)
            || lanes.values().any(|lane| lane.failures_total > 0)
        {
            return None;
        }
        Some(Resting {
            name: name.clone(),
            ruled: Ruled { policy: Arc::clone(policy), declared: declared.clone() },
            generation: *generation,
            since: host.since,
            failures_total: *failures_total,
            lanes: lanes.iter().map(|(worker, lane)| RestingLane::of(*worker, lane)).collect(),
        })
    }

    /// Whether no rule looks at a call that is as old as this.
    fn forgets_calls(&self, quiet: Duration) -> bool {
        let trip = &self.policy.trip;
        let forgets = |rules: &Rules| {
            let counts = rules.calls.is_some();
            let looks_back = rules.time.map_or(Duration::ZERO, |time| Duration::from_millis(time.within_ms));
            !counts && looks_back <= quiet
        };
        let called = self.lanes.values().any(|lane| lane.successes_total > 0);
        !called || [trip.failure_rate, trip.failure_count, trip.slow_rate, trip.slow_count].iter().all(forgets)
    }

    /// Whether the table may forget it to make room: closed by every word, no operator's word on it,
    /// nothing out, nothing to tell the fleet.
    /// Workers that have registered it do not hold it: their next query makes it anew.
    pub(crate) fn is_evictable(&self) -> bool {
        let closed = self.state() == breakerd_proto::State::Closed && self.forced.is_none();
        closed && self.ordered.is_none() && self.permits.is_empty() && self.joint.owes_nothing()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "resting_tests.rs"]
mod tests;
