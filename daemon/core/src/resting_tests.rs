//! Who may come to rest, and that what rests comes back as it was.

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::message::{CallsRule, PolicyPatch, Rules, TimeRule};
use breakerd_proto::{Mono, Name, Override};

use super::Resting;
use crate::breaker::{Asker, Breaker, Forced};
use crate::change::Because;
use crate::policies::Ruled;
use crate::policy::Policy;
use crate::probe::Permit;
use crate::{ConnectionId, WorkerId};

const QUIET: Duration = Duration::from_secs(60);

fn now() -> Mono {
    Mono::default().after_ms(1_000_000)
}

/// By a policy that looks at no rate.
fn breaker() -> Breaker {
    with_rule(Rules::default())
}

fn with_rule(failure_rate: Rules) -> Breaker {
    let mut policy = Policy::default();
    policy.trip.failure_rate = failure_rate;
    Breaker::new(Name::parse("openai").unwrap(), Arc::new(policy), now())
}

/// One worker has registered it and has had so many successes.
fn called(mut breaker: Breaker, successes: u64) -> Breaker {
    let lane = breaker.lanes.entry(WorkerId(1)).or_default();
    (lane.registrations, lane.successes_total) = (1, successes);
    breaker
}

#[test]
fn what_rests_comes_back_as_it_was() {
    let mut breaker = called(breaker(), 9);
    breaker.declared = Some(Arc::new(PolicyPatch::default()));
    (breaker.generation, breaker.failures_total) = (7, 3);
    let again = breaker.rest(QUIET).unwrap().breaker(now().after(QUIET), 5);
    assert_eq!((again.generation, again.failures_total, again.joint.version), (7, 3, 5));
    assert_eq!((again.host.since, again.asked), (now(), now().after(QUIET)));
    assert_eq!((again.lanes[&WorkerId(1)].registrations, again.lanes[&WorkerId(1)].successes_total), (1, 9));
    assert_eq!(again.declared, breaker.declared);
}

#[test]
fn nothing_to_remember_is_nothing_of_these() {
    type Remember<'a> = &'a dyn Fn(&mut Breaker);
    let because = || Because::new("root@h", "drill");
    let (asker, end) = (Asker { connection: ConnectionId(7), request: 1 }, now().after_ms(1));
    let memories: [(&str, Remember<'_>); 8] = [
        ("open", &|b| b.host.open(now(), end, 0, because())),
        ("whoever closed it", &|b| b.host.close(now(), because())),
        ("open in the fleet", &|b| b.joint.cell.open(now(), end, 0, because())),
        ("forced", &|b| {
            b.forced = Some(Forced { to: Override::ForcedClosed, end: None, since: now(), because: because() });
        }),
        ("a probe that is out", &|b| b.permits.push(Permit { id: 1, asker, expires: end, charge: None })),
        ("a run", &|b| {
            b.window.fail(&b.policy.trip, now());
        }),
        ("a failure to show", &|b| b.lanes.entry(WorkerId(1)).or_default().failures_total = 1),
        ("a recovery just now", &|b| b.backoff.recover(0, now())),
    ];
    assert!(breaker().rest(Duration::ZERO).is_some());
    for (what, remember) in memories {
        let mut breaker = breaker();
        remember(&mut breaker);
        assert!(breaker.rest(Duration::ZERO).is_none(), "{what}");
    }
}

#[test]
fn a_recovery_is_remembered_for_as_long_as_the_backoff_is() {
    let mut breaker = breaker();
    breaker.backoff.recover(0, now());
    let forget = breaker.policy.cooldown.forget;
    assert!(breaker.rest(forget - Duration::from_millis(1)).is_none());
    assert!(breaker.rest(forget).is_some());
}

#[test]
fn calls_are_remembered_for_as_long_as_a_rule_looks_back() {
    let calls = Some(CallsRule { at_least: 0.5, of_calls: 10, min_calls: 2 });
    let time = Some(TimeRule { at_least: 0.5, min_calls: 2, within_ms: 30_000 });
    let (just, whole) = (Duration::from_millis(29_999), Duration::from_secs(30));
    for (rules, successes, quiet, rests) in [
        (Rules { calls: None, time }, 1, just, false),
        (Rules { calls: None, time }, 1, whole, true),
        (Rules { calls: None, time }, 0, just, true), // nothing was called
        (Rules { calls, time: None }, 1, Duration::MAX, false),
        (Rules { calls, time }, 1, Duration::MAX, false),
        (Rules { calls, time }, 0, Duration::ZERO, true),
        (Rules::default(), 1, Duration::ZERO, true),
    ] {
        let breaker = called(with_rule(rules), successes);
        assert_eq!(breaker.rest(quiet).is_some(), rests, "{rules:?}, {successes} called, {quiet:?}");
    }
}

#[test]
fn workers_come_and_go_while_it_rests() {
    let mut resting = Resting::new(Name::parse("openai").unwrap(), Ruled::default(), 1, now());
    let registrations = |resting: &Resting| {
        let lanes = resting.breaker(now(), 0).lanes;
        lanes.iter().map(|(worker, lane)| (worker.0, lane.registrations)).collect::<Vec<_>>()
    };
    [1, 2, 1, 3].into_iter().for_each(|worker| resting.enroll(WorkerId(worker)));
    assert_eq!(registrations(&resting), [(1, 2), (2, 1), (3, 1)]);
    resting.leave(WorkerId(2));
    resting.leave(WorkerId(9));
    assert_eq!(registrations(&resting), [(1, 2), (3, 1)]);
    resting.leave(WorkerId(1));
    assert_eq!(registrations(&resting), [(1, 1), (3, 1)]);
    resting.leave(WorkerId(1));
    assert_eq!(registrations(&resting), [(3, 1)]);
}
