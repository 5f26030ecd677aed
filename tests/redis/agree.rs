//! While Redis is there.

use std::time::Duration;

use breakerd_proto::message::Action;
use breakerd_proto::{Outcome, Override, RejectReason, State, ToClient, Verdict};
use breakerd_tests::redis::Reply;
use breakerd_tests::{Redis, until};

use crate::world::{FLEET, connections, two, two_with};

#[test]
fn a_trip_on_one_host_opens_the_other_and_says_who_and_why() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    one.trip();
    two.until_state(State::Open);
    let seen = two.worker.observe(two.lane);
    assert_eq!(seen.failures, 0, "failures are a lane's own");
    assert_eq!(seen.view.by, format!("test[{}]@web-1", std::process::id()));
    assert_eq!(seen.view.why, "3 consecutive failures, last http-401");
    assert!(matches!(two.worker.query(two.lane), Verdict::Reject { reason: RejectReason::Open, .. }));
}

#[test]
fn a_trip_is_one_event_that_a_person_can_read() {
    let redis = Redis::start();
    let (mut one, _two) = two(&redis);
    let mut subscriber = redis.session();
    subscriber.ask(&["SUBSCRIBE", &format!("{{bk1:{FLEET}}}ev")]);
    one.trip();
    let Reply::Many(message) = subscriber.read() else { panic!("no message") };
    let line = message.last().cloned().unwrap().text();
    for part in ["openai", "open", "@web-1", "3 consecutive failures, last http-401"] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    // A second event would come before the one that this test publishes itself.
    redis.session().ask(&["PUBLISH", &format!("{{bk1:{FLEET}}}ev"), "the test's own"]);
    let Reply::Many(message) = subscriber.read() else { panic!("no message") };
    assert_eq!(message.last().cloned().unwrap().text(), "the test's own", "a trip is one event");
}

#[test]
fn each_daemon_has_one_connection_and_workers_have_none() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let mut session = redis.session();
    until("only the two daemons are connected", || (connections(&mut session).len() == 2).then_some(()));
    one.trip();
    two.until_state(State::Open);
    let list = connections(&mut session);
    assert_eq!(list.len(), 2, "{list:#?}");
}

#[test]
fn a_reset_on_one_host_closes_both() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    one.trip();
    two.until_state(State::Open);
    assert!(matches!(two.daemon.operator().command("openai", Action::Reset), ToClient::Done(_)));
    one.until_state(State::Closed);
    two.until_state(State::Closed);
    assert_eq!(one.worker.observe(one.lane).failures, 0);
}

#[test]
fn a_force_on_one_host_is_in_force_on_both_until_released() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let force = Action::Force { to: Override::ForcedOpen, for_ms: None };
    assert!(matches!(one.daemon.operator().command("openai", force), ToClient::Done(_)));
    two.until_state(State::Open);
    assert_eq!(two.worker.observe(two.lane).view.forced, Some(Override::ForcedOpen));
    assert!(matches!(two.daemon.operator().command("openai", Action::Release), ToClient::Done(_)));
    one.until_state(State::Closed);
    two.until_state(State::Closed);
}

#[test]
fn one_probe_in_the_fleet_and_its_success_closes_both() {
    let redis = Redis::start();
    let (mut one, mut two) = two_with(&redis, Duration::from_millis(300));
    for round in 0..10 {
        one.trip();
        two.until_state(State::Open);
        let mut probe = None;
        until("somebody has the probe", || {
            let first = one.worker.ask_without_waiting(one.lane);
            let second = two.worker.ask_without_waiting(two.lane);
            let verdicts = [one.worker.answer(first), two.worker.answer(second)];
            let is_probe = |verdict: &Verdict| matches!(verdict, Verdict::Probe { .. });
            let probes = verdicts.iter().filter(|verdict| is_probe(verdict)).count();
            assert!(probes <= 1, "round {round}: {verdicts:?}");
            let [first, second] = verdicts;
            probe = [(0, first), (1, second)].into_iter().find(|(_, verdict)| is_probe(verdict));
            probe.as_ref().map(drop)
        });
        let (host, verdict) = probe.unwrap();
        let holder = if host == 0 { &mut one } else { &mut two };
        holder.worker.report(holder.lane, &verdict, Outcome::SUCCESS);
        one.until_state(State::Closed);
        two.until_state(State::Closed);
    }
}

#[test]
fn a_daemon_that_starts_after_the_trip_knows_of_it() {
    let redis = Redis::start();
    let (mut one, _two) = two(&redis);
    one.trip();
    let mut third = crate::world::Host::start(&redis.url(), "web-3", Duration::from_secs(60));
    third.until_link(breakerd_proto::Link::Joined);
    third.until_state(State::Open);
    let mut late = third.daemon.worker();
    let lane = late.lane("openai");
    assert!(matches!(late.query(lane), Verdict::Reject { .. }), "on its first call");
}

#[test]
fn fleets_of_other_names_do_not_hear_of_it() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let fleet = Some((redis.url(), "staging".to_owned()));
    let staging = breakerd_tests::Daemon::with(&breakerd_tests::Setup { fleet, ..Default::default() });
    let mut worker = staging.worker();
    let lane = worker.lane("openai");
    one.trip();
    two.until_state(State::Open);
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }));
}
