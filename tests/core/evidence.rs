//! Random histories against lists of stamps: when does it trip, and what does it say?
//!
//! The reference keeps every outcome with its stamp in the order in which they became known, and reads the lists from the
//! beginning each time. It shares nothing with the core: no ring, no running sum, no bucket.

use breakerd_core::{ConnectionId, Core, Found, Peer, Settings};
use breakerd_proto::message::{
    Action, CallsRule, Command, Hello, PolicyPatch, Query, Register, Report, Rules, TimeRule,
};
use breakerd_proto::{Counts, Mono, Outcome, State, Verdict};
use proptest::prelude::*;

use crate::script::policy;

const WORKERS: usize = 3;
const MS: u64 = 1_000_000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Fine,
    Slow,
    Failed,
}

#[derive(Clone, Debug)]
enum Step {
    /// The clock goes on by so many milliseconds.
    Pass(u64),
    /// A worker's call ends, and is told so many milliseconds later.
    Told { worker: usize, call: Call, late: u64 },
    /// So many successes of a worker, so many of them slow, come with the counts of a query.
    Missed { worker: usize, successes: u64, slow: u64 },
    /// So many successes are found in the worker's memory, ahead of its next message.
    Found { worker: usize, successes: u64 },
    /// A call's permit of an older generation is settled.
    Straggler { worker: usize, call: Call },
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![2 => Just(Call::Fine), 1 => Just(Call::Slow), 3 => Just(Call::Failed)]
}

fn step() -> impl Strategy<Value = Step> {
    let pass = prop_oneof![4 => 0_u64..60, 4 => 60_u64..2000, 1 => 2000_u64..40_000, 1 => Just(9_000_000_000)];
    let late = prop_oneof![6 => Just(0_u64), 1 => 0_u64..500, 1 => 500_u64..20_000];
    let successes = prop_oneof![4 => 0_u64..4, 1 => 4_u64..200, 1 => Just(u64::MAX / 4)];
    prop_oneof![
        4 => pass.prop_map(Step::Pass),
        9 => (0..WORKERS, call(), late).prop_map(|(worker, call, late)| Step::Told { worker, call, late }),
        2 => (0..WORKERS, successes, 0_u64..4)
            .prop_map(|(worker, successes, slow)| Step::Missed { worker, successes, slow: slow.min(successes) }),
        1 => (0..WORKERS, 1_u64..50).prop_map(|(worker, successes)| Step::Found { worker, successes }),
        1 => (0..WORKERS, call()).prop_map(|(worker, call)| Step::Straggler { worker, call }),
    ]
}

fn rules(rate: bool) -> impl Strategy<Value = Rules> {
    let at_least = move |of: u32| {
        let rates = prop_oneof![Just(0.1), Just(0.3), Just(0.5), Just(0.7), Just(1.0)].boxed();
        if rate { rates } else { (1..=of).prop_map(f64::from).boxed() }
    };
    let calls = (1_u32..70).prop_flat_map(move |of_calls| {
        (at_least(of_calls), 1..=of_calls).prop_map(move |(at_least, min_calls)| CallsRule {
            at_least,
            of_calls,
            min_calls,
        })
    });
    let within = prop_oneof![Just(100_u64), Just(1000), Just(5000), Just(60_000)];
    let time = (at_least(9), 1_u32..20, within).prop_map(|(at_least, min_calls, within_ms)| TimeRule {
        at_least,
        min_calls,
        within_ms,
    });
    (proptest::option::weighted(0.4, calls), proptest::option::weighted(0.4, time))
        .prop_map(|(calls, time)| Rules { calls, time })
}

fn policies() -> impl Strategy<Value = PolicyPatch> {
    let run = prop_oneof![Just(0_u32), Just(2), Just(3), Just(6)];
    (run, rules(true), rules(false), rules(true), rules(false)).prop_map(|(run, fr, fc, sr, sc)| PolicyPatch {
        consecutive_failures: Some(run),
        failure_rate: Some(fr),
        failure_count: Some(fc),
        slow_rate: Some(sr),
        slow_count: Some(sc),
        slow_after_ms: Some(1000),
        ..policy()
    })
}

/// Calls of one worker and one kind at one stamp; a straggler stands in no window.
#[derive(Clone, Copy, Debug)]
struct Entry {
    worker: usize,
    at: u64,
    call: Call,
    calls: u64,
    /// So many of these successes were slow; they count as the first of them.
    slow: u64,
    /// They were some time since then, and count as spread evenly.
    from: u64,
    straggler: bool,
    /// Ends its worker's run and nothing else.
    worker_only: bool,
    /// Ends every run but its worker's own, whose end its next message tells.
    found: bool,
}

impl Entry {
    fn bad(&self, call: Call) -> u64 {
        match call {
            Call::Slow => self.slow,
            _ if self.call == call => self.calls,
            _ => 0,
        }
    }
}

/// What a closed breaker has seen since it last changed, in the order in which it became known.
#[derive(Debug, Default)]
struct Reference {
    entries: Vec<Entry>,
}

impl Reference {
    /// Whether the newest entry trips at `now`, and in which words.
    fn trips(&self, policy: &PolicyPatch, now: u64) -> Option<String> {
        let newest = self.entries.last()?;
        match newest.call {
            Call::Fine => None,
            Call::Slow => {
                let held = self.held(policy.slow_rate?, Call::Slow, now, true);
                let held = held.or_else(|| self.held(policy.slow_count?, Call::Slow, now, false))?;
                Some(format!("{held} were slow"))
            }
            Call::Failed => {
                let enough = u64::from(policy.consecutive_failures?);
                let (own, pooled) = (self.own_run(newest.worker), self.pooled_run());
                if enough > 0 && own >= enough {
                    return Some(format!("{own} consecutive failures, last x"));
                }
                if enough > 0 && pooled > enough {
                    return Some(format!("{pooled} consecutive failures over all workers, last x"));
                }
                let held = self.held(policy.failure_rate?, Call::Failed, now, true);
                let held = held.or_else(|| self.held(policy.failure_count?, Call::Failed, now, false))?;
                Some(format!("{held} failed, last x"))
            }
        }
    }

    fn own_run(&self, worker: usize) -> u64 {
        let own = self.entries.iter().rev().filter(|entry| entry.worker == worker && !entry.found);
        own.take_while(|entry| entry.call == Call::Failed).map(|entry| entry.calls).sum()
    }

    /// A failure stamped before a success that was known by then extends nothing.
    fn pooled_run(&self) -> u64 {
        let (mut run, mut newest) = (0, 0);
        for entry in &self.entries {
            if entry.call != Call::Failed && entry.worker_only {
                continue;
            } else if entry.call != Call::Failed {
                (run, newest) = (0, newest.max(entry.at));
            } else if entry.at >= newest {
                run += entry.calls;
            }
        }
        run
    }

    fn held(&self, rules: Rules, call: Call, now: u64, rate: bool) -> Option<String> {
        let enough = |at_least: f64, min_calls: u32, (bad, calls): (u64, u64)| {
            let reached = if rate { bad as f64 / calls as f64 } else { bad as f64 } >= at_least;
            bad > 0 && calls >= u64::from(min_calls) && reached
        };
        if let Some(rule) = rules.calls {
            let (bad, calls) = self.last(rule.of_calls, call);
            if enough(rule.at_least, rule.min_calls, (bad, calls)) {
                return Some(format!("{bad} of the last {calls} calls"));
            }
        }
        let rule = rules.time?;
        let (bad, calls) = self.within(rule.within_ms, call, now);
        let time = match rule.within_ms {
            100 => "100 ms".to_owned(),
            ms => format!("{} s", ms / 1000),
        };
        enough(rule.at_least, rule.min_calls, (bad, calls)).then(|| format!("{bad} of {calls} calls within {time}"))
    }

    fn last(&self, of_calls: u32, call: Call) -> (u64, u64) {
        let (mut bad, mut left) = (0, u64::from(of_calls));
        for entry in self.entries.iter().rev().filter(|entry| !entry.straggler) {
            let taken = entry.calls.min(left);
            left -= taken;
            // The bad ones among successes are the oldest, so the last that fit in.
            let good = entry.calls - entry.bad(call);
            bad += taken.saturating_sub(good);
        }
        (bad, u64::from(of_calls) - left)
    }

    /// Time is cut into twentieths of `within_ms`: the window ends at the first cut that is not before `now`.
    fn within(&self, within_ms: u64, call: Call, now: u64) -> (u64, u64) {
        let cut = within_ms * MS / 20;
        let end = now + (cut - now % cut) % cut;
        let held =
            |entry: &&Entry| !entry.straggler && i128::from(entry.at) > i128::from(end) - i128::from(within_ms * MS);
        let held: Vec<&Entry> = self.entries.iter().filter(held).collect();
        let oldest = (end / cut + 1).saturating_sub(20);
        // A bucket of the core's counts to 2^32 - 1 and no further.
        let mut buckets = std::collections::BTreeMap::<u64, (u64, u64)>::new();
        for entry in held {
            let (first, last) = (entry.from.min(entry.at).div_ceil(cut), entry.at.div_ceil(cut));
            let many = u128::from(last - first + 1);
            for number in first.max(oldest)..=last {
                let nth = u128::from(number - first);
                let up_to = |sum: u64, nth: u128| u64::try_from(u128::from(sum) * nth / many).unwrap();
                let part = |sum: u64| up_to(sum, nth + 1) - up_to(sum, nth);
                let bucket = buckets.entry(number).or_default();
                bucket.1 = bucket.1.saturating_add(part(entry.calls));
                bucket.0 = bucket.0.saturating_add(part(entry.bad(call)));
            }
        }
        let most = u64::from(u32::MAX);
        buckets.values().fold((0, 0), |sum, (bad, calls)| (sum.0 + bad.min(&most), sum.1 + calls.min(&most)))
    }
}

struct Worker {
    connection: ConnectionId,
    counts: Counts,
    /// Up to when its successes are known.
    known: u64,
    /// Successes were found ahead of its messages, so the next one ends its run.
    ahead: bool,
}

struct World {
    core: Core,
    now: u64,
    workers: Vec<Worker>,
    reference: Reference,
    request: u32,
}

impl World {
    fn new(default: PolicyPatch) -> Self {
        let mut core = Core::new(Settings { default, ..Settings::default() }, 1);
        let service = "api".to_owned();
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            features: 0,
            pid: 1,
            nonce: 0,
            alone_ms: 0,
            alone_calls: 0,
            service,
        };
        let now = 3_600_000 * MS;
        let mut attach = |pid: u32| {
            let hello = Hello { pid, nonce: u64::from(pid), ..hello.clone() };
            let id = core.handle_connect(Mono(now), Peer { uid: 1, pid }, &hello).unwrap();
            core.handle_register(Mono(now), id, &Register { request: 0, name: "p".to_owned(), policy: None }).unwrap();
            Worker { connection: id, counts: Counts::default(), known: now, ahead: false }
        };
        let workers = (1..).take(WORKERS).map(&mut attach).collect();
        Self { core, now, workers, reference: Reference::default(), request: 0 }
    }

    fn generation(&self) -> u64 {
        self.core.view(Mono(self.now), "p").unwrap().generation
    }

    fn ask(&mut self, worker: usize) -> Verdict {
        self.request += 1;
        let Worker { connection, counts, .. } = self.workers[worker];
        let query = Query { request: self.request, lane: 0, deadline: Mono::NEVER, counts };
        self.core.handle_query(Mono(self.now), connection, &query).unwrap().unwrap()
    }

    fn report(&mut self, worker: usize, generation: u64, at: u64, call: Call) {
        self.hear(worker);
        let Worker { connection, counts, .. } = &mut self.workers[worker];
        let outcome = match call {
            Call::Fine => Outcome::SUCCESS,
            Call::Slow => Outcome::Success { slow: true },
            Call::Failed => Outcome::failure("x"),
        };
        let slow = u64::from(call == Call::Slow);
        match call {
            Call::Failed => counts.failures += 1,
            Call::Fine | Call::Slow => (counts.successes, counts.slow) = (counts.successes + 1, counts.slow + slow),
        }
        let report = Report { lane: 0, generation, permit: 0, at: Mono(at), outcome, counts: *counts };
        self.core.handle_report(Mono(self.now), *connection, &report).unwrap();
    }

    /// A message of the worker comes. Gives up to when its successes were known before.
    fn hear(&mut self, worker: usize) -> u64 {
        let entry = self.entry(worker, self.now, Call::Fine, 0);
        let worker = &mut self.workers[worker];
        if std::mem::take(&mut worker.ahead) {
            self.reference.entries.push(Entry { worker_only: true, ..entry });
        }
        std::mem::replace(&mut worker.known, self.now)
    }

    fn entry(&self, worker: usize, at: u64, call: Call, calls: u64) -> Entry {
        let slow = if call == Call::Slow { calls } else { 0 };
        Entry { worker, at, call, calls, slow, from: at, straggler: false, worker_only: false, found: false }
    }

    /// Plays a step, and tells whether it may trip.
    fn play(&mut self, step: &Step) -> bool {
        match *step {
            Step::Pass(ms) => {
                self.now += ms * MS;
                self.core.handle_timeout(Mono(self.now));
                false
            }
            Step::Told { worker, call, late } => {
                let at = self.now - late * MS;
                self.report(worker, self.generation(), at, call);
                let entry = self.entry(worker, at, call, 1);
                self.reference.entries.push(entry);
                true
            }
            Step::Missed { worker, successes, slow } => {
                let counts = &mut self.workers[worker].counts;
                let most = (u64::MAX / 2).saturating_sub(counts.successes);
                let successes = successes.min(most);
                let slow = slow.min(successes);
                (counts.successes, counts.slow) = (counts.successes + successes, counts.slow + slow);
                if *counts == Counts::default() {
                    self.ask(worker); // nothing is known of it that was not before
                    return false;
                }
                let from = self.hear(worker);
                self.ask(worker);
                let entry = Entry { slow, from, ..self.entry(worker, self.now, Call::Fine, successes) };
                self.reference.entries.extend((successes > 0).then_some(entry));
                false
            }
            Step::Found { worker, successes } => {
                let place = &mut self.workers[worker];
                if place.counts.successes > u64::MAX / 2 {
                    return false;
                }
                (place.counts.successes, place.ahead) = (place.counts.successes + successes, true);
                let from = std::mem::replace(&mut place.known, self.now);
                let found = Found { connection: place.connection, lane: 0, successes };
                self.core.handle_found(Mono(self.now), found, None);
                let entry = Entry { from, found: true, ..self.entry(worker, self.now, Call::Fine, successes) };
                self.reference.entries.push(entry);
                false
            }
            Step::Straggler { worker, call } => {
                self.report(worker, self.generation() - 1, self.now, call);
                if call != Call::Failed {
                    let entry = self.entry(worker, self.now, call, 1);
                    self.reference.entries.push(Entry { straggler: true, ..entry });
                }
                false
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_trips_when_the_lists_say_so(patch in policies(), steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new(patch.clone());
        for step in &steps {
            let judged = world.play(step);
            let expected = if judged { world.reference.trips(&patch, world.now) } else { None };
            let view = world.core.view(Mono(world.now), "p").unwrap();
            let tripped = (view.state == State::Open).then_some(view.why);
            prop_assert_eq!(&tripped, &expected, "after {:?}", step);
            if tripped.is_some() {
                let reset = Command { request: 0, name: "p".to_owned(), action: Action::Reset, because: String::new() };
                world.core.command(Mono(world.now), "test", &reset).unwrap();
                world.reference.entries.clear();
            }
        }
    }
}
