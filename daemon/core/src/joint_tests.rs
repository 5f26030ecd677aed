//! A host that decided something alone, and the fleet's word when it is back (fleet.md 36, I4).

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::{Mono, Name, Override, State};

use super::Joint;
use crate::ConnectionId;
use crate::breaker::{Asker, Breaker, Effects, Forced, Stand, Turn};
use crate::change::Because;
use crate::fleet::{OpKind, OpResult, Seen, Value};
use crate::joined::Life;
use crate::lease::Waiting;
use crate::policy::Policy;
use crate::probe::Permit;
use crate::tally::Tally;

/// The version at which the host lost its fleet.
const BASE: u64 = 7;

struct Host {
    now: Mono,
    breaker: Breaker,
    out: Effects,
    rng: fastrand::Rng,
}

impl Host {
    /// Closed, with the fleet at [`BASE`].
    fn closed() -> Self {
        let now = Mono::default().after_ms(1_000_000);
        let mut breaker = Breaker::new(Name::parse("openai").unwrap(), Arc::new(Policy::default()), now);
        breaker.joint.version = BASE;
        Self { now, breaker, out: Effects::default(), rng: fastrand::Rng::with_seed(1) }
    }

    /// Open for two minutes by its own evidence, which concerns nobody else.
    fn open_by_itself() -> Self {
        let mut host = Self::closed();
        let until = host.now.after(Duration::from_secs(120));
        host.breaker.host.open(host.now, until, 0, Because::new("w[1]@h", "test"));
        host
    }

    /// Open by the fleet's word, at [`BASE`].
    fn open_by_the_fleet(step: u32) -> Self {
        let mut host = Self::closed();
        let until = host.now.after(Duration::from_secs(120));
        host.breaker.joint.cell.open(host.now, until, step, Because::new("w[9]@other", "test"));
        host
    }

    /// Detached at [`BASE`], and tripped by its own evidence.
    fn tripped_alone() -> Self {
        let mut host = Self::open_by_itself();
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
    fn closed_since(self, version: u64) -> Self {
        self.hears(Stand::Detached, Value { version, state: State::Closed, duration_ms: 15_000, ..Value::default() })
    }

    /// The fleet's value comes in.
    fn hears(mut self, stand: Stand, value: Value) -> Self {
        let (name, none) = (self.breaker.name.clone(), Mono::default());
        let lease_until = if value.lease_id.is_empty() { none } else { self.now.after_ms(10_000) };
        let until = if value.duration_ms == 0 { none } else { self.now.after_ms(value.duration_ms) };
        let seen = Seen { name, value, until, lease_until, forced_until: None };
        self.turn(stand, |breaker, turn| breaker.take_in(turn, &seen, "h.1", Life::Same));
        self
    }

    /// A full read at this version does not name it.
    fn absent(self, version: u64) -> Self {
        self.absent_in(version, Life::Same)
    }

    fn absent_in(mut self, version: u64, life: Life) -> Self {
        self.turn(Stand::Detached, |breaker, turn| breaker.absent(turn, version, life));
        self
    }

    fn forced(mut self, to: Override) -> Self {
        let (end, since) = (Some(self.now.after_ms(60_000)), self.now);
        self.breaker.forced = Some(Forced { to, end, since, because: Because::new("root@h", "drill") });
        self
    }

    /// The override that an operator has asked for here, which the fleet has not heard of yet.
    fn commanded(mut self, to: Override) -> Self {
        self.turn(Stand::Detached, |breaker, turn| breaker.force(turn, to, None, Because::new("root@h", "drill")));
        self
    }

    fn probes_out(mut self, permits: u64) -> Self {
        let (asker, expires) = (Asker { connection: ConnectionId(7), request: 1 }, self.now.after_ms(120_000));
        self.breaker.permits.extend((1..=permits).map(|id| Permit { id, asker, expires, charge: None }));
        self
    }

    /// How often it has changed.
    fn changes(&self) -> Vec<&'static str> {
        self.out.changes.iter().map(|change| change.what.word()).collect()
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

#[test]
fn an_older_value_and_the_same_one_again_are_no_news() {
    for version in [BASE - 1, BASE] {
        let host = Host::open_by_the_fleet(0).closed_since(version);
        assert_eq!((host.breaker.state(), host.breaker.generation), (State::Open, 1), "version {version}");
    }
    let host = Host::open_by_the_fleet(0).closed_since(BASE + 1);
    assert_eq!((host.breaker.state(), host.changes()), (State::Closed, vec!["fleet"]));
}

#[test]
fn a_closed_value_without_an_author_ends_what_was_open_as_a_recovery() {
    let unsigned = || Value { version: 9, ..Value::default() };
    let minute = Duration::from_secs(60);
    let host = Host::open_by_the_fleet(2).hears(Stand::Joined, unsigned());
    assert_eq!(host.breaker.backoff.step(host.now, minute), 3, "it goes on with the backoff");
    let mut host = Host::closed();
    host.breaker.backoff.recover(5, host.now);
    let host = host.hears(Stand::Joined, unsigned());
    assert_eq!(host.breaker.backoff.step(host.now, minute), 6, "what was closed has not ended by it");
}

fn half_open(holder: &str) -> Value {
    let (lease_id, holder) = (format!("{holder}.1"), holder.to_owned());
    Value { version: 9, state: State::HalfOpen, lease_id, holder, successes: 2, ..Value::default() }
}

#[test]
fn a_lease_of_another_host_s_holds_until_its_end() {
    let host = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open("h.2"));
    let (joint, end) = (&host.breaker.joint, host.now.after_ms(10_000));
    assert_eq!((joint.foreign_until(), joint.lease.as_deref()), (end, None));
    assert!(joint.foreign_lease(host.now.after_ms(9999)) && !joint.foreign_lease(end));
    assert_eq!((host.breaker.tally().successes, host.changes()), (2, vec!["probe"]));
    assert_eq!(host.breaker.retry_after_ms(host.now.after_ms(1000)), Some(9000));
    assert_eq!(host.breaker.retry_after_ms(host.now.after_ms(9500)), Some(1000), "at the least");

    let host = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open("h.1"));
    assert_eq!(
        (host.breaker.joint.foreign_until(), host.breaker.joint.lease.as_deref()),
        (Mono::default(), Some("h.1.1"))
    );
    let nobody = Value { holder: String::new(), lease_id: String::new(), ..half_open("") };
    let host = Host::open_by_the_fleet(0).hears(Stand::Joined, nobody);
    assert_eq!(host.breaker.joint.foreign_until(), Mono::default());
    let mut open = Host::open_by_the_fleet(0);
    (open.breaker.joint.holder, open.breaker.joint.lease_until) = ("h.2".to_owned(), open.now.after_ms(10_000));
    assert_eq!(open.breaker.joint.foreign_until(), Mono::default(), "an open breaker has no lease");
}

#[test]
fn a_result_goes_with_the_lease_that_it_was_made_under() {
    for (holder, kept) in [("h.1", true), ("h.2", false)] {
        let mut host = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open("h.1"));
        host.breaker.joint.result = Some((OpKind::Free { lease_id: "h.1.1".to_owned() }, Because::default()));
        let host = host.hears(Stand::Joined, Value { version: 10, ..half_open(holder) });
        assert_eq!(host.breaker.joint.result.is_some(), kept, "held by {holder}");
    }
}

#[test]
fn when_the_fleet_s_cell_takes_over_the_host_s_own_ends_with_its_probes() {
    let mut host = Host::open_by_itself();
    host.breaker.host.probe(host.now);
    let mut host = host.probes_out(1);
    host.now = host.now.after_ms(5);
    let host = host.hears(Stand::Joined, half_open("h.2"));
    assert_eq!((host.breaker.state(), host.breaker.permits.len()), (State::HalfOpen, 0), "one in the fleet, not two");
    assert_eq!((host.breaker.host.state, host.breaker.host.since), (State::Closed, host.now));
    let kept = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open("h.1")).probes_out(1);
    let kept = kept.hears(Stand::Joined, Value { version: 10, ..half_open("h.1") });
    assert_eq!(kept.breaker.permits.len(), 1, "a renewed lease");
}

#[test]
fn the_fleet_s_cell_knows_when_it_opened() {
    let open = |version| Value { version, state: State::Open, duration_ms: 1000, ..Value::default() };
    let host = Host::closed();
    let opened = host.now;
    let host = host.hears(Stand::Joined, open(9)).pass(1).hears(Stand::Joined, open(10));
    assert_eq!(host.breaker.joint.cell.opened, opened, "open as before");
    let host = host.hears(Stand::Joined, Value { version: 11, ..half_open("h.2") });
    assert_eq!(host.breaker.joint.cell.opened, opened, "half-open by the same trip");
    let host = host.pass(1).hears(Stand::Joined, open(12));
    assert_eq!(host.breaker.joint.cell.opened, host.now);
}

#[test]
fn a_half_open_that_is_late_is_the_next_holder_s_to_try_for_a_period_more() {
    let period = Policy::default().probe.period;
    for (before, passed, holder, more) in [
        ("h.2", period, "h.1", true),
        ("h.2", period - Duration::from_secs(1), "h.1", false), // in time
        ("h.1", period, "h.1", false),                          // its own lease, renewed
        ("h.2", period, "h.3", false),                          // another's to try
    ] {
        let host = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open(before));
        let began = host.now;
        let host = host.pass(passed.as_secs()).hears(Stand::Joined, Value { version: 10, ..half_open(holder) });
        let due = if more { host.now.after(period) } else { began.after(period) };
        assert_eq!(host.breaker.joint.due, due, "{before}, {passed:?}, {holder}");
    }
}

#[test]
fn a_reset_closes_a_trip_unless_it_waits_to_be_told() {
    let reset = || Value { version: 9, by: "root@other".to_owned(), why: "drill".to_owned(), ..Value::default() };
    let joined = Host::tripped_alone().hears(Stand::Joined, reset());
    assert_eq!((joined.breaker.state(), joined.breaker.joint.trip), (State::Closed, None));
    let away = Host::tripped_alone().hears(Stand::Detached, reset());
    assert_eq!((away.breaker.state(), away.breaker.joint.trip), (State::Open, Some(BASE)), "judged when it is told");
    let own = Host::open_by_itself().hears(Stand::Detached, reset());
    assert_eq!(own.breaker.state(), State::Closed);
}

#[test]
fn a_full_read_of_a_version_from_before_closes_nothing() {
    for (version, state) in [(BASE - 1, State::Open), (BASE, State::Closed), (BASE + 1, State::Closed)] {
        let host = Host::open_by_the_fleet(0).absent(version);
        assert_eq!(host.breaker.state(), state, "version {version}");
        assert_eq!(host.changes(), if state == State::Open { vec![] } else { vec!["fleet"] });
    }
}

#[test]
fn what_a_full_read_does_not_name_closes_and_a_trip_of_the_host_s_own_stays() {
    let host = Host::closed().absent(9);
    assert_eq!((host.breaker.joint.version, host.breaker.generation), (9, 1), "nothing that is shown has changed");
    let (state, told) = Host::open_by_itself().pass(5).absent(9).reconcile();
    assert_eq!((state, told), (State::Open, vec![]), "it concerned this host alone, and does so still");
    assert_eq!(
        Host::tripped_alone().pass(11).absent(BASE).reconcile(),
        (State::Open, vec![BASE]),
        "nothing overtook it"
    );
    let mut both = Host::open_by_the_fleet(0);
    both.breaker.host = both.breaker.joint.cell.clone();
    assert_eq!(both.absent(9).breaker.state(), State::Closed);
}

#[test]
fn an_override_that_a_full_read_does_not_name_ends_unless_it_waits_to_be_told() {
    let to = Override::ForcedOpen;
    let ended = Host::closed().forced(to).absent(9);
    assert_eq!((ended.breaker.forced.is_some(), ended.changes()), (false, vec!["fleet"]));
    let mut waits = Host::closed().commanded(to).absent(9);
    assert_eq!((waits.breaker.forced.is_some(), waits.changes()), (true, vec!["force"]));
    waits.turn(Stand::Joined, |breaker, turn| breaker.reconcile(turn, "h.1.1", "h.1"));
    assert_eq!(waits.out.wishes.len(), 1, "and is told");
    let first = Host::open_by_the_fleet(0).forced(to).absent_in(0, Life::First);
    assert_eq!((first.breaker.forced.is_some(), first.breaker.state()), (false, State::Closed), "a snapshot's memory");
}

#[test]
fn a_new_life_of_the_data_forgets_nothing_that_this_host_saw() {
    let open = Host::open_by_the_fleet(2).absent_in(1, Life::New);
    assert_eq!((open.breaker.host.step, open.breaker.joint.cell.state), (2, State::Closed));
    assert_eq!(open.reconcile(), (State::Open, vec![1]), "proposed against the new life's version");

    let mut forced = Host::closed().forced(Override::ForcedOpen).absent_in(1, Life::New);
    assert_eq!((forced.breaker.state(), forced.changes()), (State::Open, vec![]));
    forced.turn(Stand::Joined, |breaker, turn| breaker.reconcile(turn, "h.1.1", "h.1"));
    let told: Vec<_> = forced.out.wishes.drain(..).collect();
    let force = OpKind::Force { to: Override::ForcedOpen, duration_ms: Some(60_000) };
    assert_eq!(told, [(force, Because::new("root@h", "drill"))]);

    let mut closed = Host::closed().absent_in(1, Life::New);
    closed.turn(Stand::Joined, |breaker, turn| breaker.reconcile(turn, "h.1.1", "h.1"));
    assert!(closed.out.wishes.is_empty() && closed.breaker.joint.is_fresh(), "it has nothing to say");
}

#[test]
fn a_refused_trip_closes_its_host_unless_the_fleet_is_open() {
    let trip = OpKind::Trip { expected: BASE, duration_ms: 15_000, step: 0 };
    let answered = |mut host: Host, result| {
        host.turn(Stand::Joined, |breaker, turn| breaker.answered(turn, &trip, result));
        (host.breaker.state(), host.changes())
    };
    assert_eq!(answered(Host::tripped_alone(), OpResult::Stale), (State::Closed, vec!["fleet"]));
    assert_eq!(answered(Host::tripped_alone(), OpResult::Ok), (State::Open, vec![]));
    assert_eq!(answered(Host::open_by_itself(), OpResult::Stale), (State::Open, vec![]), "it was told of no trip");
    let mut meanwhile = Host::tripped_alone();
    meanwhile.breaker.joint.cell = meanwhile.breaker.host.clone();
    assert_eq!(answered(meanwhile, OpResult::Stale), (State::Open, vec![]), "another host was faster");
    let mut closed = Host::tripped_alone();
    closed.breaker.host.close(closed.now, Because::default());
    assert_eq!(answered(closed, OpResult::Stale), (State::Closed, vec![]), "nothing is left to close");
}

#[test]
fn an_answer_to_a_result_ends_the_telling_and_a_refusal_the_lease() {
    let pok = OpKind::Pok { lease_id: "h.1.1".to_owned(), successes: 1, needed: 1 };
    for (result, lease) in [(OpResult::Ok, true), (OpResult::Stale, false)] {
        let mut host = Host::open_by_the_fleet(0).hears(Stand::Joined, half_open("h.1"));
        host.breaker.joint.result = Some((pok.clone(), Because::default()));
        host.turn(Stand::Joined, |breaker, turn| breaker.answered(turn, &pok, result));
        assert_eq!((host.breaker.joint.result.is_some(), host.breaker.joint.lease.is_some()), (false, lease));
    }
}

/// Each alone is a debt, so that a breaker which owes anything is never evicted.
#[test]
fn what_waits_for_the_fleet_or_is_to_be_told_is_owed() {
    let wish = || Some((OpKind::Reset { expected: None }, Because::default()));
    let asker = Asker { connection: ConnectionId(7), request: 1 };
    let debts: [fn(&mut Joint); 4] = [
        |joint| joint.lease = Some("h.1.1".to_owned()),
        |joint| joint.trip = Some(BASE),
        |joint| joint.recovered = Some(BASE),
        |joint| joint.counted = Tally { successes: 1, ..Tally::default() },
    ];
    let mut owing: Vec<Joint> = (0..debts.len()).map(|_| Joint::default()).collect();
    owing.iter_mut().zip(debts).for_each(|(joint, debt)| debt(joint));
    owing.push(Joint { waiting: Some(Waiting { asker, deadline: Mono::default(), charge: None }), ..Joint::default() });
    owing.push(Joint { confirming: Some(("h.1.1".to_owned(), Because::default())), ..Joint::default() });
    owing.push(Joint { command: wish(), ..Joint::default() });
    owing.push(Joint { result: wish(), ..Joint::default() });
    for joint in owing {
        assert!(!joint.owes_nothing() && !joint.is_fresh(), "{joint:?}");
    }
    let seen = Joint { cell: Host::open_by_the_fleet(0).breaker.joint.cell, ..Joint::default() };
    assert!(seen.owes_nothing() && !seen.is_fresh());
    assert!(Joint::default().is_fresh());
}

#[test]
fn a_reset_here_leaves_nothing_to_tell_but_itself() {
    let wish = || Some((OpKind::Reset { expected: None }, Because::default()));
    let mut joint = Joint {
        lease: Some("h.1.1".to_owned()),
        trip: Some(BASE),
        recovered: Some(BASE),
        result: wish(),
        cell: Host::open_by_the_fleet(0).breaker.joint.cell,
        ..Joint::default()
    };
    joint.close(Mono::default().after_ms(5), Because::new("root@h", "drill"));
    assert!(joint.owes_nothing());
    assert_eq!((joint.cell.state, joint.cell.since), (State::Closed, Mono::default().after_ms(5)));
}

#[test]
fn what_a_host_holds_open_by_itself_is_shown_as_such() {
    let host_only = |host: Host| host.breaker.view(host.now).host_only;
    assert!(host_only(Host::open_by_itself()));
    assert!(!host_only(Host::open_by_the_fleet(0)) && !host_only(Host::closed()));
    let mut both = Host::open_by_the_fleet(0);
    both.breaker.host = both.breaker.joint.cell.clone();
    assert!(!host_only(both));
}
