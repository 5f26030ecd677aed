//! The evidence of a host's workers together: the pooled run, the last calls, the last while, and who contradicts whom.

mod calls;
mod time;

use std::fmt;
use std::time::Duration;

use breakerd_proto::message::{CallsRule, Rules, TimeRule};
use breakerd_proto::{Mono, limits};

use crate::WorkerId;
use crate::policy::Trip;

use self::calls::Calls;
pub(crate) use self::calls::Fault;
use self::time::{Ring, Tally};

/// What the host's workers have seen together in one generation. A closed breaker that nobody calls holds nothing.
///
/// A call reaches every rule at once. Over the last calls it counts in the order in which it became known, whatever its
/// stamp. Over a time it counts at its stamp, if that is not too old by then ([`Ring`]).
#[derive(Debug, Default)]
pub(crate) struct Window(Option<Box<Pooled>>);

/// How long the stamps of successes are kept for failures that are told late, at least.
const STAMPS_KEPT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Pooled {
    /// The failures of all workers of the host with no success between.
    ///
    /// Pooling alone loses trips beside one busy healthy worker, counting by worker alone loses outages spread thin; so
    /// both runs count, this one and each lane's.
    run: u32,
    /// Failures stamped before this do not extend it: a success was seen by then.
    ended: Option<Mono>,
    /// The newest success, and the newest of any other worker than that one's.
    successes: [Option<(Mono, WorkerId)>; 2],
    /// As many as the longest rule over calls looks at.
    calls: Calls,
    /// One for each time that rules look at.
    rings: Vec<Ring>,
    /// When to look for what has become too old.
    review: Option<Mono>,
}

/// A rule that holds: so many of so many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    bad: u64,
    calls: u64,
    within_ms: Option<u64>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bad, calls, within_ms } = self;
        match within_ms {
            None => write!(f, "{bad} of the last {calls} calls"),
            Some(ms) if ms % 1000 == 0 => write!(f, "{bad} of {calls} calls within {} s", ms / 1000),
            Some(ms) => write!(f, "{bad} of {calls} calls within {ms} ms"),
        }
    }
}

impl Window {
    /// Forgets everything: the breaker has changed.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// The pooled run.
    pub(crate) fn run(&self) -> u32 {
        self.0.as_ref().map_or(0, |pooled| pooled.run)
    }

    /// Successes of this worker, so many of them slow, at this time. They end the pooled run.
    pub(crate) fn succeed(&mut self, trip: &Trip, (worker, at): (WorkerId, Mono), (calls, slow): (u64, u64)) {
        self.end_run(trip, worker, at);
        self.spread(trip, (at, at), (calls, slow));
    }

    /// Successes, so many of them slow, somewhere between the two times: they count as spread evenly.
    pub(crate) fn spread(&mut self, trip: &Trip, (from, to): (Mono, Mono), (calls, slow): (u64, u64)) {
        let pooled = self.pooled(trip, to);
        pooled.calls.push_many(Some(Fault::Slow), slow);
        pooled.calls.push_many(None, calls.saturating_sub(slow));
        pooled.rings.iter_mut().for_each(|ring| ring.spread((from, to), Tally { calls, failed: 0, slow }));
    }

    /// A failure stamped `at`: tells the length of the pooled run. A failure from before the newest success extends
    /// nothing, since a reading that finds successes cannot say when they were.
    pub(crate) fn fail(&mut self, trip: &Trip, at: Mono) -> u32 {
        let pooled = self.pooled(trip, at);
        pooled.calls.push(Some(Fault::Failed));
        pooled.rings.iter_mut().for_each(|ring| ring.add(at, Tally { calls: 1, failed: 1, slow: 0 }));
        if pooled.ended.is_none_or(|ended| at >= ended) {
            pooled.run = pooled.run.saturating_add(1);
        }
        pooled.run
    }

    /// A success of this worker: it ends the pooled run and may contradict another worker's.
    pub(crate) fn end_run(&mut self, trip: &Trip, worker: WorkerId, at: Mono) {
        let pooled = self.pooled(trip, at);
        pooled.end_run(at);
        pooled.succeeded(worker, at);
    }

    /// Successes of this worker that a reading has found: they end the pooled run as of now, and contradict runs that
    /// began up to `at`.
    pub(crate) fn find(&mut self, trip: &Trip, worker: WorkerId, (at, now): (Mono, Mono)) {
        let pooled = self.pooled(trip, now);
        pooled.end_run(now);
        pooled.succeeded(worker, at);
    }

    /// Whether a worker other than this one has had a success since its run began.
    pub(crate) fn contradicts(&self, worker: WorkerId, run_began: Mono) -> bool {
        let successes = self.0.iter().flat_map(|pooled| pooled.successes.iter().flatten());
        successes.into_iter().any(|(at, other)| *other != worker && *at >= run_began)
    }

    /// The first rule about this fault that holds: the rate over calls, over time, then the count.
    pub(crate) fn held(&mut self, trip: &Trip, fault: Fault, now: Mono) -> Option<Held> {
        self.held_with(trip, fault, 0, now)
    }

    /// Whether one more call with this fault would make a rule about it hold.
    pub(crate) fn may_hold(&mut self, trip: &Trip, fault: Fault, now: Mono) -> bool {
        self.held_with(trip, fault, 1, now).is_some()
    }

    fn held_with(&mut self, trip: &Trip, fault: Fault, more: u32, now: Mono) -> Option<Held> {
        let pooled = self.0.as_mut()?;
        pooled.rings.iter_mut().for_each(|ring| ring.advance(now));
        let (rate, count) = rules_about(trip, fault);
        let rate = pooled.held((fault, more), rate, is_rate);
        rate.or_else(|| pooled.held((fault, more), count, is_count))
    }

    /// When [`Window::review`] has something to do.
    pub(crate) fn review_at(&self) -> Option<Mono> {
        self.0.as_ref().and_then(|pooled| pooled.review)
    }

    /// Lets go of what can count no more, so that an idle breaker is small. Not of runs, which do not age: `in_run` says
    /// whether any lane has one, since the successes that contradict it are here.
    pub(crate) fn review(&mut self, now: Mono, in_run: bool) {
        let Some(pooled) = self.0.as_mut().filter(|pooled| pooled.review.is_some_and(|at| at <= now)) else { return };
        pooled.rings.iter_mut().for_each(|ring| ring.advance(now));
        pooled.rings.retain(|ring| !ring.is_empty());
        let rings = pooled.rings.iter().map(|ring| now.after_ms(ring.within_ms()));
        let stamps = pooled.ended.map(|at| at.after(STAMPS_KEPT)).filter(|until| *until > now);
        pooled.review = rings.chain(stamps).max();
        if pooled.review.is_some() {
            return;
        }
        pooled.rings = Vec::new();
        if pooled.run == 0 && pooled.calls.is_empty() && !in_run {
            self.0 = None;
        }
    }

    /// The evidence, in the shape that these rules need. A ring over calls keeps the newest when its length changes; a ring
    /// over a time that no rule has looked at so far begins empty, since its calls' own stamps are gone.
    fn pooled(&mut self, trip: &Trip, at: Mono) -> &mut Pooled {
        let pooled = self.0.get_or_insert_default();
        pooled.fit(trip, at);
        pooled
    }
}

impl Pooled {
    fn fit(&mut self, trip: &Trip, at: Mono) {
        let all = [trip.failure_rate, trip.failure_count, trip.slow_rate, trip.slow_count];
        let longest = all.iter().filter_map(|rules| rules.calls).map(|rule| rule.of_calls).max();
        self.calls.fit(longest.unwrap_or(0).min(limits::WINDOW_CALLS_MAX));
        let times = || all.iter().filter_map(|rules| rules.time).map(|rule| rule.within_ms);
        if self.rings.iter().any(|ring| !times().any(|ms| ms == ring.within_ms())) {
            self.rings.retain(|ring| times().any(|ms| ms == ring.within_ms()));
        }
        for ms in times() {
            if !self.rings.iter().any(|ring| ring.within_ms() == ms) {
                self.rings.reserve_exact(1);
                self.rings.push(Ring::new(ms, at));
            }
        }
        if self.review.is_none() {
            let longest = times().map(Duration::from_millis).max().unwrap_or_default();
            self.review = Some(at.after(longest.max(STAMPS_KEPT)));
        }
    }

    fn end_run(&mut self, at: Mono) {
        self.run = 0;
        self.ended = self.ended.max(Some(at));
    }

    fn succeeded(&mut self, worker: WorkerId, at: Mono) {
        let before = self.successes.iter().flatten().find(|(_, other)| *other == worker);
        let own = before.map_or(at, |(before, _)| at.max(*before));
        let [first, second] = self.successes.map(|kept| kept.filter(|(_, other)| *other != worker));
        let mut all = [Some((own, worker)), first, second];
        all.sort_unstable_by(|a, b| b.cmp(a));
        let [newest, other, _] = all;
        self.successes = [newest, other];
    }

    fn held(&self, (fault, more): (Fault, u32), rules: Rules, enough: fn(u64, u64, f64) -> bool) -> Option<Held> {
        let calls = rules.calls.map(|rule| (self.of_calls(rule, fault, more), rule.min_calls, rule.at_least));
        let time = rules.time.map(|rule| (self.of_time(rule, fault, more), rule.min_calls, rule.at_least));
        let holds = |(held, min_calls, at_least): &(Held, u32, f64)| {
            held.bad > 0 && held.calls >= u64::from(*min_calls) && enough(held.bad, held.calls, *at_least)
        };
        [calls, time].into_iter().flatten().find(holds).map(|(held, ..)| held)
    }

    fn of_calls(&self, rule: CallsRule, fault: Fault, more: u32) -> Held {
        let calls = self.calls.len().min(rule.of_calls.saturating_sub(more));
        let bad = u64::from(self.calls.count(fault, calls)) + u64::from(more);
        Held { bad, calls: u64::from(calls) + u64::from(more), within_ms: None }
    }

    fn of_time(&self, rule: TimeRule, fault: Fault, more: u32) -> Held {
        let ring = self.rings.iter().find(|ring| ring.within_ms() == rule.within_ms);
        let sum = ring.map(Ring::sum).unwrap_or_default();
        let bad = match fault {
            Fault::Failed => sum.failed,
            Fault::Slow => sum.slow,
        };
        let more = u64::from(more);
        Held { bad: bad + more, calls: sum.calls + more, within_ms: Some(rule.within_ms) }
    }
}

fn rules_about(trip: &Trip, fault: Fault) -> (Rules, Rules) {
    match fault {
        Fault::Failed => (trip.failure_rate, trip.failure_count),
        Fault::Slow => (trip.slow_rate, trip.slow_count),
    }
}

/// Division rounds correctly (IEEE 754, 5.4.1), so 3 of 10 is the very number that a policy's `0.3` is; a product would
/// not be.
#[allow(clippy::cast_precision_loss, reason = "twenty buckets hold less than a double's 2^53")]
fn is_rate(bad: u64, calls: u64, at_least: f64) -> bool {
    bad as f64 / calls as f64 >= at_least
}

#[allow(clippy::cast_precision_loss, reason = "twenty buckets hold less than a double's 2^53")]
fn is_count(bad: u64, _calls: u64, at_least: f64) -> bool {
    bad as f64 >= at_least
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
