//! Successes that are found in memory: when the daemon looks, and what they do to runs and rates.

use breakerd_core::{Found, Settings};
use breakerd_proto::message::{PolicyPatch, Report, Rules, TimeRule, ToDaemon};
use breakerd_proto::{Counts, Outcome, State};

use crate::host::{Host, Lane};
use crate::script::policy;

/// Two workers with a breaker of this policy.
fn pair(default: PolicyPatch) -> (Host, Lane, Lane) {
    let mut host = Host::new(Settings { default, ..Settings::default() });
    let (one, two) = (host.worker(1), host.worker(1));
    let (one, two) = (host.lane(one, "openai"), host.lane(two, "openai"));
    (host, one, two)
}

fn find(host: &mut Host, lane: Lane, successes: u64) {
    let found = Found { connection: lane.connection, lane: lane.number, successes };
    host.core.handle_found(host.now(), found, None);
}

/// A failure with its connection's count of successes at that moment.
fn fail_at(host: &mut Host, lane: Lane, successes: u64) {
    let counts = Counts { successes, ..Counts::default() };
    host.report_with(lane, 1, Outcome::failure("http-500"), counts);
}

fn state(host: &Host) -> State {
    host.view("openai").state
}

fn wants(host: &mut Host, lane: Lane, outcome: Outcome) -> bool {
    let (at, connection) = (host.now(), lane.connection);
    let report = Report { lane: lane.number, generation: 1, permit: 0, at, outcome, counts: Counts::default() };
    host.core.wants_reading(at, connection, &ToDaemon::Report(report)).is_some()
}

#[test]
fn a_workers_own_order_is_exact_though_a_reading_overtakes_its_messages() {
    // Three failures wait in the socket; the success that came behind them is found first.
    let (mut host, one, _) = pair(policy());
    find(&mut host, one, 1);
    (0..3).for_each(|_| fail_at(&mut host, one, 0));
    assert_eq!(state(&host), State::Open);
    // Here the success lay between.
    let (mut host, one, _) = pair(policy());
    fail_at(&mut host, one, 0);
    let before = host.now();
    host.pass(1);
    find(&mut host, one, 1);
    let (connection, outcome) = (one.connection, Outcome::failure("http-500"));
    let late = Report { lane: one.number, generation: 1, permit: 0, at: before, outcome, counts: Counts::default() };
    host.core.handle_report(host.now(), connection, &late).unwrap();
    (0..2).for_each(|_| fail_at(&mut host, one, 1));
    assert_eq!(state(&host), State::Closed);
    fail_at(&mut host, one, 1);
    assert_eq!(state(&host), State::Open);
}

#[test]
fn what_was_found_is_not_counted_again_when_messages_tell_it() {
    let (mut host, one, _) = pair(policy());
    find(&mut host, one, 5);
    fail_at(&mut host, one, 7);
    find(&mut host, one, 1);
    let rows = host.core.describe(host.now(), 0, "openai", 0).unwrap().lanes;
    assert_eq!(rows[0].successes_total, 8);
}

#[test]
fn people_see_no_run_that_a_later_success_has_ended() {
    let (mut host, one, _) = pair(policy());
    let failures = |host: &Host| host.core.describe(host.now(), 0, "openai", 0).unwrap().lanes[0].failures;
    fail_at(&mut host, one, 0);
    assert_eq!(failures(&host), 1);
    find(&mut host, one, 1);
    assert_eq!(failures(&host), 0);
    fail_at(&mut host, one, 0);
    assert_eq!(failures(&host), 0, "it was before the success");
    fail_at(&mut host, one, 1);
    assert_eq!(failures(&host), 1);
}

#[test]
fn successes_of_an_hour_do_not_stand_in_the_last_half_minute() {
    let time = TimeRule { at_least: 0.5, min_calls: 10, within_ms: 30_000 };
    let rate = Some(Rules { calls: None, time: Some(time) });
    let (mut host, one, two) = pair(PolicyPatch { consecutive_failures: Some(0), failure_rate: rate, ..policy() });
    host.pass(3_600_000);
    // A thousand an hour are eight in thirty seconds.
    find(&mut host, two, 1000);
    (0..7).for_each(|_| fail_at(&mut host, one, 0));
    assert_eq!(state(&host), State::Closed);
    (0..2).for_each(|_| fail_at(&mut host, one, 0));
    assert_eq!(state(&host), State::Open, "{}", host.view("openai").why);
}

#[test]
fn the_daemon_looks_where_a_run_begins_and_where_one_may_trip() {
    let (mut host, one, two) = pair(PolicyPatch { consecutive_failures: Some(5), ..policy() });
    let failure = || Outcome::failure("http-500");
    assert!(wants(&mut host, one, failure()), "it begins a run");
    fail_at(&mut host, one, 0);
    assert!(!wants(&mut host, one, failure()), "the second of five");
    assert!(!wants(&mut host, one, Outcome::SUCCESS));
    assert!(wants(&mut host, two, failure()), "it begins the other's run");
    (0..3).for_each(|_| fail_at(&mut host, one, 0));
    assert!(wants(&mut host, one, failure()), "it would be the fifth");
    fail_at(&mut host, one, 0);
    assert_eq!(state(&host), State::Open);
    assert!(!wants(&mut host, one, failure()), "nothing is judged while it is open");
}

#[test]
fn the_daemon_looks_where_a_rate_may_trip() {
    let time = TimeRule { at_least: 3.0, min_calls: 1, within_ms: 30_000 };
    let count = Some(Rules { calls: None, time: Some(time) });
    let (mut host, one, two) = pair(PolicyPatch {
        consecutive_failures: Some(0),
        failure_count: count,
        slow_count: count,
        slow_after_ms: Some(10),
        ..policy()
    });
    let slow = || Outcome::Success { slow: true };
    [one, two].into_iter().for_each(|lane| fail_at(&mut host, lane, 0));
    assert!(wants(&mut host, one, Outcome::failure("http-500")), "it would be the third");
    assert!(!wants(&mut host, one, slow()));
    (0..2).for_each(|_| host.report_with(one, 1, slow(), Counts::default()));
    assert!(wants(&mut host, one, slow()));
}

#[test]
fn a_reading_of_a_lane_that_nobody_has_tells_nothing() {
    let (mut host, one, _) = pair(policy());
    find(&mut host, Lane { number: 7, ..one }, 1);
    host.gone(one.connection);
    find(&mut host, one, u64::MAX);
    assert_eq!(state(&host), State::Closed);
}
