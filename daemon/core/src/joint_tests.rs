//! A host that decided something alone, and the fleet's word when it is back (fleet.md 36, I4).

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::{Mono, Name, State};

use crate::breaker::{Breaker, Effects, Stand, Turn};
use crate::change::Because;
use crate::fleet::{OpKind, Seen, Value};
use crate::joined::Life;
use crate::policy::Policy;

/// The version at which the host lost its fleet.
const BASE: u64 = 7;

struct Host {
    now: Mono,
    breaker: Breaker,
    out: Effects,
    rng: fastrand::Rng,
}

impl Host {
    /// Detached at [`BASE`], and tripped by its own evidence.
    fn tripped_alone() -> Self {
        let now = Mono::default().after_ms(1_000_000);
        let mut breaker = Breaker::new(Name::parse("openai").unwrap(), Arc::new(Policy::default()), now);
        breaker.joint.version = BASE;
        breaker.host.open(now, now.after(Duration::from_secs(120)), 0, Because::new("w[1]@h", "test"));
        let mut host = Self { now, breaker, out: Effects::default(), rng: fastrand::Rng::with_seed(1) };
        host.turn(Stand::Detached, Breaker::propose_trip);
        assert_eq!(host.wishes(), [], "nobody is there to hear it");
        host
    }

    fn turn(&mut self, stand: Stand, act: impl FnOnce(&mut Breaker, &mut Turn<'_>)) {
        let forget_after = Duration::from_secs(3600);
        let (now, rng, out) = (self.now, &mut self.rng, &mut self.out);
        act(&mut self.breaker, &mut Turn { now, rng, host: "h", forget_after, stand, out });
    }

    fn pass(mut self, seconds: u64) -> Self {
        self.now = self.now.after(Duration::from_secs(seconds));
        self
    }

    /// The fleet's log tells that it has closed since, by this version.
    fn closed_since(mut self, version: u64) -> Self {
        let name = self.breaker.name.clone();
        let value = Value { version, state: State::Closed, duration_ms: 15_000, ..Value::default() };
        let none = Mono::default();
        let seen = Seen { name, value, until: none, lease_until: none, forced_until: None };
        self.turn(Stand::Detached, |breaker, turn| breaker.take_in(turn, &seen, "h.1", Life::Same));
        self
    }

    /// A full read at this version does not name it.
    fn absent(mut self, version: u64) -> Self {
        self.turn(Stand::Detached, |breaker, turn| breaker.absent(turn, version, Life::Same));
        self
    }

    fn reconcile(mut self) -> (State, Vec<u64>) {
        self.turn(Stand::Joined, |breaker, turn| breaker.reconcile(turn, "h.1.1", "h.1"));
        (self.breaker.state(), self.wishes())
    }

    /// The versions that the trips which it tells name.
    fn wishes(&mut self) -> Vec<u64> {
        let trip = |(kind, _): (OpKind, Because)| match kind {
            OpKind::Trip { expected, .. } => expected,
            other => panic!("{other:?}"),
        };
        self.out.wishes.drain(..).map(trip).collect()
    }
}

#[test]
fn a_trip_made_alone_is_told_by_the_version_that_it_was_made_at() {
    assert_eq!(Host::tripped_alone().pass(60).reconcile(), (State::Open, vec![BASE]));
}

#[test]
fn fresh_evidence_stands_against_what_the_fleet_decided_meanwhile() {
    assert_eq!(Host::tripped_alone().pass(5).closed_since(9).reconcile(), (State::Open, vec![9]));
    assert_eq!(Host::tripped_alone().pass(5).absent(9).reconcile(), (State::Open, vec![9]));
}

#[test]
fn old_evidence_does_not() {
    assert_eq!(Host::tripped_alone().pass(11).closed_since(9).reconcile(), (State::Closed, vec![]));
}

#[test]
fn old_evidence_of_which_nobody_can_tell_keeps_its_own_host_open() {
    assert_eq!(Host::tripped_alone().pass(11).absent(9).reconcile(), (State::Open, vec![]));
}

#[test]
fn a_trip_whose_cooldown_is_over_is_not_told() {
    assert_eq!(Host::tripped_alone().pass(121).reconcile(), (State::Open, vec![]));
}
