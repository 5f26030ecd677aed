//! While Redis is not there, and when it comes back.

use std::time::Duration;

use breakerd_proto::{Link, Mono, State, Verdict};
use breakerd_tests::wait::bounded;
use breakerd_tests::{Daemon, Redis, Setup};

use crate::world::{FLEET, Host, two};

/// Within this both hosts must agree after Redis is back.
const AGREEMENT: Duration = Duration::from_secs(1);

#[test]
fn unreachable_at_the_start_is_one_warning_and_a_working_host() {
    let mut redis = Redis::start();
    redis.kill9();
    let mut host = Host::start(&redis.url(), "web-1", Duration::from_secs(60));
    assert_eq!(host.about().link, Link::Detached);
    host.trip();
    assert!(matches!(host.worker.query(host.lane), Verdict::Reject { .. }));
    redis.run();
    host.until_link(Link::Joined);
    assert_eq!(host.state(), State::Open);
    let log = host.daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("detached")).count();
    assert_eq!(warnings, 1, "{log}");
}

#[test]
fn killed_and_started_again_empty_both_hosts_agree_within_a_second() {
    let mut redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    redis.kill9();
    one.until_link(Link::Detached);
    one.trip();
    assert_eq!(two.state(), State::Closed, "nobody can tell it");
    redis.run();
    let back = Mono::now();
    two.until_state(State::Open);
    let took = Mono::now().since(back);
    assert_eq!(one.state(), State::Open);
    bounded("both hosts agree", took, AGREEMENT);
}

#[test]
fn frozen_no_worker_waits_for_it() {
    let redis = Redis::start();
    let (mut one, _two) = two(&redis);
    let beside_a_living = calls(&mut one);
    redis.freeze();
    let beside_a_frozen = calls(&mut one);
    one.trip();
    assert!(matches!(one.worker.query(one.lane), Verdict::Reject { .. }));
    redis.thaw();
    bounded("1,000 queries beside a frozen Redis, against a living one", beside_a_frozen, beside_a_living);
}

/// How long a thousand queries take.
fn calls(host: &mut Host) -> Duration {
    let since = Mono::now();
    for _ in 0..1000 {
        let verdict = host.worker.query(host.lane);
        assert!(matches!(verdict, Verdict::Admit { .. }));
    }
    Mono::now().since(since)
}

#[test]
fn frozen_through_a_trip_the_other_host_hears_of_it_afterwards() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    redis.freeze();
    one.trip();
    redis.thaw();
    let back = Mono::now();
    two.until_state(State::Open);
    let took = Mono::now().since(back);
    bounded("both hosts agree", took, AGREEMENT);
}

#[test]
fn away_for_a_second_it_heals_by_itself() {
    away_for(Duration::from_secs(1));
}

#[test]
fn away_for_six_seconds_it_heals_by_itself() {
    away_for(Duration::from_secs(6));
}

#[test]
fn away_for_twenty_seconds_it_heals_by_itself() {
    away_for(Duration::from_secs(20));
}

fn away_for(time: Duration) {
    let mut redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    redis.kill9();
    one.until_link(Link::Detached);
    let gone = Mono::now();
    breakerd_tests::wait::within(time, || {
        assert!(matches!(two.worker.query(two.lane), Verdict::Admit { .. }), "a host alone goes on");
        None::<()>
    });
    assert!(Mono::now().since(gone) >= time);
    redis.run();
    let back = Mono::now();
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    one.trip();
    two.until_state(State::Open);
    let took = Mono::now().since(back);
    bounded("from Redis's return through a trip to the other host", took, AGREEMENT);
}

#[test]
fn an_emptied_redis_is_told_again_what_is_open() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    one.trip();
    two.until_state(State::Open);
    redis.session().ask(&["FLUSHALL"]);
    breakerd_tests::until("the fleet's data are there again", || {
        let text = redis.session().ask(&["HGET", &format!("{{bk1:{FLEET}}}h"), "openai"]);
        matches!(text, breakerd_tests::redis::Reply::Text(_)).then_some(())
    });
    assert_eq!((one.state(), two.state()), (State::Open, State::Open));
}

#[test]
fn a_restarted_daemon_is_joined_again_and_knows() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    one.trip();
    two.until_state(State::Open);
    two.daemon.kill9();
    two.daemon.run();
    let mut worker = two.daemon.worker();
    let lane = worker.lane("openai");
    breakerd_tests::until("it is open here too", || (worker.observe(lane).view.state == State::Open).then_some(()));
}

#[test]
fn without_redis_in_the_configuration_nothing_is_ever_asked() {
    let redis = Redis::start();
    let mut daemon = Daemon::with(&Setup::default());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 5);
    worker.observe(lane);
    assert!(crate::world::connections(&mut redis.session()).is_empty());
    assert!(daemon.stop().success());
}
