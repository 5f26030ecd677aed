//! The client library against a real daemon: what its callers see, whatever becomes of the daemon.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakerd_client::{
    Action, Breaker, CallError, Client, ConnectError, Failure, Health, Name, Observation, Operator, OperatorError,
    Options, Outcome, Permit, RejectReason, ResetError, Source, State, WatchEvent,
};
use breakerd_proto::{Code, Mono, Override, Verdict};
use breakerd_tests::{Daemon, Setup, until};

fn client(daemon: &Daemon) -> Client {
    Options::from_env().unwrap().socket(daemon.socket()).service("chat-api").open()
}

fn trip(breaker: &Breaker) {
    (0..3).for_each(|_| breaker.admit().unwrap().fail(Failure::new("http-401")));
}

/// What the daemon says, however busy the machine is.
fn told(breaker: &Breaker) -> Observation {
    until("the daemon answers", || Some(breaker.observe()).filter(|seen| seen.source == Source::Daemon))
}

fn name() -> Name {
    Name::parse("openai").unwrap()
}

#[test]
fn five_in_flight_together_are_five_here_and_nothing_elsewhere() {
    let daemon = Daemon::start();
    let breaker = client(&daemon).breaker("openai").unwrap();
    let mut other = daemon.worker();
    let lane = other.lane("openai");
    let permits: Vec<_> = (0..5).map(|_| breaker.admit().unwrap()).collect();
    permits.into_iter().for_each(|permit| permit.fail(Failure::new("http-401")));
    let seen = told(&breaker);
    assert_eq!((seen.state, seen.failures, seen.source), (State::Open, 5, Source::Daemon));
    assert_eq!(seen.last_failure.unwrap().kind, "http-401");
    let theirs = other.observe(lane);
    assert_eq!((theirs.view.state, theirs.failures), (State::Open, 0));
    let no = breaker.admit().unwrap_err();
    let by = format!("chat-api[{}]@web-1", std::process::id());
    assert_eq!(no.why, format!("3 consecutive failures, last http-401 ({by})"));
    assert!(no.retry_after().unwrap() > Duration::from_secs(50));
    // A worker that starts after the trip is rejected on its first call.
    assert_eq!(client(&daemon).breaker("openai").unwrap().admit().unwrap_err().reason, RejectReason::Open);
}

#[test]
fn another_workers_trip_is_seen_by_the_next_call() {
    let daemon = Daemon::start();
    let breaker = client(&daemon).breaker("openai").unwrap();
    breaker.admit().unwrap().succeed();
    let mut other = daemon.worker();
    let lane = other.lane("openai");
    other.fail_together(lane, 3);
    other.observe(lane);
    // A call that misses its 5 ms on a busy machine goes by what was last seen.
    let no = until("the daemon answers", || match breaker.call(|| Ok::<_, ()>(())) {
        Err(CallError::Rejected(no)) => Some(no),
        _ => None,
    });
    assert_eq!((no.state, no.reason), (State::Open, RejectReason::Open));
}

#[test]
fn one_probe_recovers_and_a_straggler_decides_nothing() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let breaker = client(&daemon).breaker("openai").unwrap();
    let straggler = breaker.admit().unwrap();
    trip(&breaker);
    let probe = until("the cooldown is over", || breaker.admit().ok().filter(Permit::is_probe));
    let no = until("the daemon answers", || breaker.admit().err().filter(|no| no.reason == RejectReason::Probing));
    assert_eq!(no.state, State::HalfOpen);
    assert!(no.retry_after().unwrap() >= Duration::from_secs(1));
    straggler.succeed();
    assert_eq!(told(&breaker).state, State::HalfOpen);
    probe.settle(Outcome::SUCCESS);
    assert_eq!((told(&breaker).state, told(&breaker).failures), (State::Closed, 0));
}

#[test]
fn a_killed_daemons_open_breaker_lets_no_call_through_until_its_deadline() {
    let mut daemon = Daemon::with(&Setup { cooldown: Duration::from_secs(2), ..Setup::default() });
    let client = client(&daemon);
    let breaker = client.breaker("openai").unwrap();
    trip(&breaker);
    let deadline = Mono::now().after(told(&breaker).retry_after.unwrap());
    daemon.kill9();
    let mut reached = 0;
    let probe = loop {
        match breaker.admit() {
            Ok(permit) => break permit,
            Err(no) => assert_eq!(no.reason, RejectReason::Open),
        }
        reached += 1;
    };
    assert!(Mono::now() >= deadline && reached > 100, "admitted after {reached} rejections");
    assert!(probe.is_probe());
    assert_eq!(breaker.admit().unwrap_err().reason, RejectReason::Probing);
    assert!(matches!(client.health(), Health::Alone { .. }));
    drop(probe);
    daemon.run();
    until("the daemon judges again", || (breaker.observe().source == Source::Daemon).then_some(()));
    assert!(matches!(client.health(), Health::Attached { .. }));
}

#[test]
fn a_frozen_daemon_delays_nobody_for_long_and_lets_nobody_probe() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let client = client(&daemon);
    let (openai, other) = (client.breaker("openai").unwrap(), client.breaker("other").unwrap());
    other.admit().unwrap().succeed();
    trip(&openai);
    until("the cooldown is over", || (openai.observe().retry_after == Some(Duration::ZERO)).then_some(()));
    daemon.freeze();
    let began = Mono::now();
    for _ in 0..1000 {
        assert_eq!(openai.admit().unwrap_err().reason, RejectReason::NoAnswer);
        other.admit().unwrap().succeed();
    }
    let took = Mono::now().since(began);
    breakerd_tests::wait::bounded("2,000 calls beside a frozen daemon", took, Duration::from_millis(200));
    daemon.thaw();
    let probe = until("the daemon grants a probe", || openai.admit().ok().filter(Permit::is_probe));
    probe.succeed();
    assert_eq!(told(&openai).state, State::Closed);
    let mut control = Operator::connect(&daemon.control()).unwrap();
    let lanes = control.describe(&Name::parse("other").unwrap()).unwrap().lanes;
    assert_eq!(lanes[0].successes_total, 1001, "what the socket did not take is made good");
}

#[test]
fn a_worker_may_reset_where_its_account_may() {
    let daemon = Daemon::start();
    let breaker = client(&daemon).breaker("openai").unwrap();
    trip(&breaker);
    let Err(ResetError::Denied { sentence }) = breaker.reset("tested") else { panic!("not denied") };
    assert!(sentence.contains("[rights]"), "{sentence}");
    assert_eq!(told(&breaker).state, State::Open);
    let uid = rustix::process::getuid().as_raw().to_string();
    let daemon = Daemon::with(&Setup { may_reset: vec![uid], ..Setup::default() });
    let breaker = client(&daemon).breaker("openai").unwrap();
    trip(&breaker);
    breaker.reset("tested").unwrap();
    assert_eq!((told(&breaker).state, told(&breaker).why), (State::Closed, "tested".to_owned()));
}

#[test]
fn an_operator_sees_all_and_hears_each_change() {
    let daemon = Daemon::start();
    let client = client(&daemon);
    for number in 0..100 {
        told(&client.breaker(&format!("b{number:03}")).unwrap());
    }
    let breaker = client.breaker("openai").unwrap();
    told(&breaker);
    let mut operator = Operator::connect(&daemon.control()).unwrap();
    let names: Vec<String> = operator.list().unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names.len(), 101);
    assert!(names.is_sorted());
    let about = operator.about().unwrap();
    assert_eq!((about.pid, about.breakers), (daemon.pid(), 101));
    let me = format!("chat-api[{}]", std::process::id());
    let workers = operator.workers().unwrap();
    assert!(workers.iter().any(|row| row.label == me && row.breakers == 101), "{workers:?}");
    let mut changes = Operator::connect(&daemon.control()).unwrap().watch().unwrap();
    trip(&breaker);
    let Some(Ok(WatchEvent::Changed(trip))) = changes.next() else { panic!("no change") };
    assert_eq!((trip.name.as_str(), trip.what.as_str(), trip.view.state), ("openai", "trip", State::Open));
    assert!(matches!(operator.ask(&name()).unwrap().verdict, Verdict::Reject { .. }));
    let described = operator.describe(&name()).unwrap();
    assert_eq!((described.lanes.len(), described.lanes[0].failures), (1, 3));
    operator.command(&name(), Action::Reset, "tested").unwrap();
    let Some(Ok(WatchEvent::Changed(reset))) = changes.next() else { panic!("no change") };
    assert_eq!((reset.what.as_str(), reset.view.why.as_str()), ("reset", "tested"));
    let unknown = operator.describe(&Name::parse("nobody-uses-me").unwrap()).unwrap_err();
    assert!(matches!(unknown, OperatorError::Refused { code: Code::UnknownBreaker, .. }), "{unknown:?}");
    drop(daemon);
    assert!(matches!(changes.next(), Some(Err(OperatorError::Lost(ConnectError::Ended { .. })))));
    assert!(changes.next().is_none());
}

#[test]
fn a_name_over_the_quota_goes_unguarded_and_is_warned_of_once() {
    let daemon = Daemon::start();
    let warned = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&warned);
    let options = Options::from_env().unwrap().socket(daemon.socket());
    let client = options.on_warning(move |said| keep.lock().unwrap().push(said.to_owned())).open();
    let kept = client.breaker("openai").unwrap();
    told(&kept);
    let full = |health: Health| match health {
        Health::Attached { full, .. } => full,
        _ => None,
    };
    // A call that misses its 5 ms on a busy machine registers its name by the next look.
    let names = (0..1_000_000).map(|number| client.breaker(&format!("n/{number}")).unwrap());
    let over = names.into_iter().find(|breaker| {
        breaker.admit().unwrap().succeed();
        breaker.name().as_str().ends_with("00") && full(client.health()).is_some()
    });
    let over = over.expect("no quota on names");
    trip(&over);
    over.admit().expect("nobody judges it").succeed();
    trip(&kept);
    assert_eq!(told(&kept).state, State::Open, "what had room is guarded as ever");
    let full = full(client.health()).unwrap();
    assert!(full.calls >= 4, "{full:?}");
    let warned = warned.lock().unwrap();
    assert_eq!(*warned, [full.to_string()], "once, and in the words of health");
    assert!(client.health().to_string().ends_with(&full.to_string()), "{}", client.health());
}

#[test]
fn a_listener_that_falls_behind_is_told_so_and_one_that_lost_its_daemon_listens_anew() {
    let mut daemon = Daemon::start();
    let client = client(&daemon);
    let breaker = client.breaker("openai").unwrap();
    told(&breaker);
    let mut changes = client.changes().unwrap();
    let mut operator = Operator::connect(&daemon.control()).unwrap();
    let force = Action::Force { to: Override::ForcedClosed, for_ms: None };
    let storm = 3000;
    for _ in 0..storm {
        operator.command(&name(), force, "tested").unwrap();
    }
    let (mut heard, mut dropped) = (0, 0);
    while heard + dropped < storm {
        match changes.next() {
            Some(Ok(WatchEvent::Changed(_))) => heard += 1,
            Some(Ok(WatchEvent::Lagged(more))) => dropped += more,
            end => panic!("{end:?} after {heard} and {dropped}"),
        }
    }
    assert_eq!(heard + dropped, storm);
    assert!(dropped > 0, "the queue has a bound");
    daemon.kill9();
    assert!(matches!(changes.next(), Some(Err(OperatorError::Lost(ConnectError::Ended { .. })))));
    assert!(changes.next().is_none());
    assert!(matches!(client.changes(), Err(OperatorError::Lost(ConnectError::Absent { stale: true, .. }))));
    daemon.run();
    told(&breaker);
    let mut changes = client.changes().unwrap();
    let force = Action::Force { to: Override::ForcedOpen, for_ms: None };
    Operator::connect(&daemon.control()).unwrap().command(&name(), force, "tested").unwrap();
    let Some(Ok(WatchEvent::Changed(change))) = changes.next() else { panic!("no change") };
    assert_eq!((change.what.as_str(), change.view.state), ("force", State::Open));
}
