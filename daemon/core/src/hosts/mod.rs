//! A small fleet: several hosts' breakers of one name, a judge that does what the fleet's script does, a clock in hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod judge;
mod lease;
mod modes;
mod random;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::{Failure, Mono, Name, Outcome, State, Verdict};

use self::judge::Judge;
use crate::breaker::{Asker, Breaker, Effects, Finding, Reporter, Stand, Turn};
use crate::change::Because;
use crate::cooldown::Cooldown;
use crate::fleet::{OpKind, OpResult, Seen};
use crate::joined::Life;
use crate::lease::Waiting;
use crate::policy::{Policy, Probe};
use crate::{ConnectionId, WorkerId};

const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// The one connection that each host's workers share.
const WORKER: ConnectionId = ConnectionId(7);
/// What becomes due in one wait is done in fewer steps than this, or something turns in a circle.
const STEPS_MAX: usize = 10_000;

/// One host, with what its breaker has let out.
struct Host {
    name: String,
    breaker: Breaker,
    rng: fastrand::Rng,
    stand: Stand,
    detached: Mono,
    leases: u64,
    requests: u32,
    /// Probes that its workers hold, oldest first.
    held: Vec<u64>,
    /// Connects that its daemon has been asked for.
    connects: Vec<u64>,
    /// The words of its changes, with state, author and reason after them.
    changes: Vec<String>,
    /// The link takes nothing.
    deaf: bool,
}

/// The fleet.
struct Fleet {
    now: Mono,
    judge: Judge,
    hosts: Vec<Host>,
    /// The kinds of all ops that were judged, and who sent them.
    told: Vec<(usize, &'static str, OpResult)>,
}

/// A second's cooldown that doubles to eight, without chance; one probe, one success.
fn policy() -> Policy {
    let cooldown = Cooldown {
        first: Duration::from_secs(1),
        factor: 2.0,
        max: Duration::from_secs(8),
        jitter: 0.0,
        forget: Duration::from_secs(60),
    };
    let probe = Probe { max: Duration::from_secs(30), ..Policy::default().probe };
    Policy { cooldown, probe, ..Policy::default() }
}

impl Fleet {
    /// Joined hosts, `h0`, `h1` and so on, by one policy.
    fn of(hosts: usize, policy: &Policy) -> Self {
        let now = Mono::default().after_ms(1_000_000);
        let host = |number: usize| {
            let name = Name::parse("openai").unwrap();
            Host {
                name: format!("h{number}"),
                breaker: Breaker::new(name, Arc::new(policy.clone()), now),
                rng: fastrand::Rng::with_seed(1),
                stand: Stand::Joined,
                detached: now,
                leases: 0,
                requests: 0,
                held: Vec::new(),
                connects: Vec::new(),
                changes: Vec::new(),
                deaf: false,
            }
        };
        Self { now, judge: Judge::default(), hosts: (0..hosts).map(host).collect(), told: Vec::new() }
    }

    /// One touch of a host's breaker, and all that comes of it.
    fn touch<R>(&mut self, host: usize, act: impl FnOnce(&mut Breaker, &mut Turn<'_>) -> R) -> R {
        let (now, this) = (self.now, &mut self.hosts[host]);
        let mut out = Effects { next_permit: u64::from(this.requests) << 8, ..Effects::default() };
        let (rng, stand, name) = (&mut this.rng, this.stand, &this.name);
        let mut turn = Turn { now, rng, host: name, forget_after: FORGET_AFTER, stand, out: &mut out };
        let result = act(&mut this.breaker, &mut turn);
        this.requests += 1;
        this.connects.extend(out.active);
        for change in out.changes {
            let view = change.view;
            this.changes.push(format!("{} {} {}: {}", change.what.word(), view.state, view.by, view.why));
        }
        for (_, _, verdict) in out.answers {
            if let Verdict::Probe { permit, .. } = verdict {
                this.held.push(permit);
            }
        }
        for (kind, because) in out.wishes {
            self.propose(host, &kind, &because);
        }
        result
    }

    fn propose(&mut self, host: usize, kind: &OpKind, because: &Because) {
        if self.hosts[host].deaf {
            return self.touch(host, |breaker, turn| breaker.unanswered(turn, kind));
        }
        let result = self.judge.judge(self.now, kind, because);
        self.told.push((host, kind.word(), result));
        if result == OpResult::Ok {
            (0..self.hosts.len()).for_each(|each| self.show(each));
        }
        self.show(host);
        self.touch(host, |breaker, turn| breaker.answered(turn, kind, result));
    }

    /// The fleet's value comes to a host that hears it.
    fn show(&mut self, host: usize) {
        if self.hosts[host].stand == Stand::Joined {
            let seen = self.judge.seen(self.now);
            let own = self.hosts[host].name.clone();
            self.touch(host, |breaker, turn| breaker.take_in(turn, &seen, &own, Life::Same));
        }
    }

    /// Lets time pass, waking each breaker when it wants to be.
    fn pass(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        for _ in 0..STEPS_MAX {
            let wakes = self.hosts.iter().enumerate();
            let next = wakes.filter_map(|(host, this)| Some((this.breaker.wake(FORGET_AFTER)?, host))).min();
            let Some((at, host)) = next.filter(|(at, _)| *at <= end) else {
                self.now = end;
                return self.grow_apart();
            };
            self.now = self.now.max(at);
            self.grow_apart();
            self.wake(host);
        }
        panic!("something turns in a circle");
    }

    /// Time jumps: nobody was woken meanwhile.
    fn jump(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.pass(0);
    }

    fn wake(&mut self, host: usize) {
        self.touch(host, Breaker::handle_timeout);
        if self.hosts[host].breaker.active_wake().is_some_and(|at| at <= self.now) {
            let (lease, own) = self.next_lease(host);
            self.touch(host, |breaker, turn| breaker.try_active(turn, lease, own));
        }
    }

    fn grow_apart(&mut self) {
        let long = |host: &Host, now: Mono| now.since(host.detached) >= Duration::from_secs(2);
        for host in &mut self.hosts {
            if host.stand == Stand::JustDetached && long(host, self.now) {
                host.stand = Stand::Detached;
            }
        }
    }

    fn next_lease(&mut self, host: usize) -> (String, String) {
        let this = &mut self.hosts[host];
        this.leases += 1;
        (format!("{}.{}", this.name, this.leases), this.name.clone())
    }

    /// Evidence that nothing contradicts.
    fn trip(&mut self, host: usize) {
        self.trip_by(host, false);
    }

    fn trip_by(&mut self, host: usize, contradicted: bool) {
        let because = Because::new(&format!("w[1]@h{host}"), "5 consecutive failures, last x");
        self.touch(host, |breaker, turn| {
            if breaker.state() == State::Closed && breaker.forced.is_none() {
                breaker.trip(turn, None, contradicted, because);
            }
        });
    }

    /// A worker asks: `admit`, `probe` or `reject`. A probe stays with it.
    fn ask(&mut self, host: usize) -> &'static str {
        let held = self.hosts[host].held.len();
        let asker = Asker { connection: WORKER, request: self.hosts[host].requests };
        let now = self.now;
        let finding = self.touch(host, |breaker, turn| {
            breaker.asked = now;
            breaker.find(now, turn.stand)
        });
        match finding {
            Finding::Verdict(Verdict::Admit { .. }) => "admit",
            Finding::Verdict(_) => "reject",
            Finding::ProbeFree => {
                let verdict = self.touch(host, |breaker, turn| breaker.grant(turn, asker, None));
                if let Verdict::Probe { permit, .. } = verdict {
                    self.hosts[host].held.push(permit);
                }
                "probe"
            }
            Finding::LeaseNeeded => {
                let (lease, own) = self.next_lease(host);
                let waiting = Waiting { asker, deadline: now.after_ms(5), charge: None };
                self.touch(host, |breaker, turn| breaker.await_lease(turn, waiting, lease, own));
                if self.hosts[host].held.len() > held { "probe" } else { "reject" }
            }
        }
    }

    /// The host's oldest probe ends so.
    fn settle(&mut self, host: usize, outcome: &Outcome) {
        if self.hosts[host].held.is_empty() {
            return;
        }
        let permit = self.hosts[host].held.remove(0);
        let from = Reporter { connection: WORKER, worker: WorkerId(1), label: "w[1]", overtaken: false };
        self.touch(host, |breaker, turn| {
            let at = turn.now;
            breaker.settle(turn, &from, (breaker.generation, permit), at, outcome);
        });
    }

    fn succeed(&mut self, host: usize) {
        self.settle(host, &Outcome::SUCCESS);
    }

    fn fail(&mut self, host: usize) {
        self.settle(host, &Outcome::Failure(Failure::new("http-503")));
    }

    /// The daemon's oldest connect of this host has ended.
    fn connected(&mut self, host: usize, outcome: &Outcome) {
        let permit = self.hosts[host].connects.remove(0);
        let from = Reporter { connection: ConnectionId(0), worker: WorkerId(0), label: "breakerd", overtaken: false };
        self.touch(host, |breaker, turn| breaker.settle_probe(turn, &from, permit, outcome));
    }

    fn cut(&mut self, host: usize) {
        self.hosts[host].stand = Stand::JustDetached;
        self.hosts[host].detached = self.now;
    }

    /// The host hears the fleet again: what it missed, then what it decided alone is proposed.
    fn back(&mut self, host: usize) {
        self.hosts[host].stand = Stand::Joined;
        self.show(host);
        let (lease, own) = self.next_lease(host);
        self.touch(host, |breaker, turn| breaker.reconcile(turn, &lease, &own));
    }

    fn operator(&mut self, host: usize, act: impl FnOnce(&mut Breaker, &mut Turn<'_>, Because)) {
        let because = Because::new(&format!("root@h{host}"), "drill");
        self.touch(host, |breaker, turn| act(breaker, turn, because));
    }

    fn reset(&mut self, host: usize) {
        self.operator(host, Breaker::reset);
    }

    fn states(&self) -> Vec<State> {
        self.hosts.iter().map(|host| host.breaker.state()).collect()
    }

    /// Seconds until each host would let a probe out.
    fn waits(&self) -> Vec<u64> {
        let wait = |host: &Host| host.breaker.retry_after_ms(self.now).unwrap().div_ceil(1000);
        self.hosts.iter().map(wait).collect()
    }

    fn last_change(&self, host: usize) -> &str {
        self.hosts[host].changes.last().map_or("", String::as_str)
    }

    /// How often each op was accepted.
    fn accepted(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, word, _) in self.told.iter().filter(|(_, _, result)| *result == OpResult::Ok) {
            *counts.entry(*word).or_default() += 1;
        }
        counts
    }
}
