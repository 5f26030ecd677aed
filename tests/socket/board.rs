//! The board and the lane memory: what workers know and count without a message.

use std::thread;

use breakerd_client::{Breaker, Client, Closed, Failure, Options, RejectReason, Source, State};
use breakerd_proto::message::{Description, ToClient};
use breakerd_tests::{Daemon, Setup, until};

fn client(daemon: &Daemon) -> Client {
    Options::from_env().unwrap().socket(daemon.socket()).service("chat-api").open()
}

/// A breaker whose places in shared memory are known.
fn openai(daemon: &Daemon) -> Breaker {
    let breaker = client(daemon).breaker("openai").unwrap();
    until("the daemon has taken the name", || (breaker.observe().source == Source::Daemon).then_some(()));
    breaker
}

fn trip_by_another(daemon: &Daemon) {
    let mut other = daemon.worker();
    let lane = other.lane("openai");
    other.fail_together(lane, 3);
    assert_eq!(other.observe(lane).view.state, State::Open);
}

fn described(daemon: &Daemon) -> Description {
    let mut operator = daemon.operator();
    let request = operator.request();
    operator.send(breakerd_proto::message::Describe { request, name: "openai".to_owned(), after: 0 });
    match operator.read() {
        ToClient::Description(described) => described,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trip_is_known_without_a_message_with_its_author_and_reason() {
    let daemon = Daemon::start();
    let breaker = openai(&daemon);
    trip_by_another(&daemon);
    // From here on no message can be answered.
    daemon.freeze();
    let no = breaker.admit().unwrap_err();
    let told = format!("3 consecutive failures, last http-401 (test[{}]@web-1)", std::process::id());
    assert_eq!((no.state, no.reason, no.why), (State::Open, RejectReason::Open, told));
    assert!(breaker.call(|| Ok::<_, ()>(())).is_err());
    daemon.thaw();
}

#[test]
fn beside_a_frozen_daemon_the_closed_path_runs_on_and_every_success_is_counted() {
    let daemon = Daemon::start();
    let breaker = openai(&daemon);
    daemon.freeze();
    for _ in 0..10_000 {
        breaker.call(|| Ok::<_, ()>(())).unwrap();
        breaker.admit().unwrap().succeed();
    }
    daemon.thaw();
    assert_eq!(described(&daemon).lanes[0].successes_total, 20_000);
}

#[test]
fn a_closed_call_as_a_plain_value_is_counted_as_any_other() {
    let daemon = Daemon::start();
    let stranger = client(&daemon).breaker("openai").unwrap();
    assert!(stranger.admit_closed().is_none(), "nobody has told yet where it stands on the board");
    let breaker = openai(&daemon);
    for _ in 0..6 {
        let calls: Vec<Closed> = std::iter::from_fn(|| breaker.admit_closed()).take(3).collect();
        let [one, two, three] = calls[..] else { panic!("{calls:?}") };
        one.into_permit(&breaker).fail(Failure::new("http-503"));
        two.timed().into_permit(&breaker).fail(Failure::new("http-503"));
        three.succeed();
        until("the board answers again", || {
            drop(breaker.observe());
            breaker.admit_closed().map(drop)
        });
    }
    assert_eq!(breaker.observe().state, State::Closed, "each success ended a run");
    assert_eq!(described(&daemon).lanes[0].successes_total, 6);
    trip_by_another(&daemon);
    until("the board shows the trip", || breaker.admit_closed().is_none().then_some(()));
}

#[test]
fn more_threads_than_stripes_lose_no_count() {
    let daemon = Daemon::start();
    let breaker = openai(&daemon);
    for _ in 0..2 {
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| breaker.call(|| Ok::<_, ()>(())).unwrap()));
            }
        });
    }
    assert_eq!(described(&daemon).lanes[0].successes_total, 80_000);
}

#[test]
fn successes_in_memory_end_runs() {
    let daemon = Daemon::start();
    let breaker = openai(&daemon);
    for _ in 0..6 {
        breaker.call(|| Err::<(), _>("boom")).unwrap_err();
        breaker.call(|| Err::<(), _>("boom")).unwrap_err();
        breaker.call(|| Ok::<_, ()>(())).unwrap();
    }
    assert_eq!(breaker.observe().state, State::Closed);
    (0..3).for_each(|_| drop(breaker.call(|| Err::<(), _>("boom"))));
    until("the trip is seen", || (breaker.observe().state == State::Open).then_some(()));
}

#[test]
fn whoever_looks_sees_that_a_success_in_memory_has_ended_the_run() {
    let daemon = Daemon::start();
    let breaker = openai(&daemon);
    (0..2).for_each(|_| drop(breaker.call(|| Err::<(), _>("boom"))));
    assert_eq!(breaker.observe().failures, 2);
    breaker.call(|| Ok::<_, ()>(())).unwrap();
    breaker.call(|| Ok::<_, ()>(())).unwrap();
    assert_eq!(breaker.observe().failures, 0);
}

#[test]
fn a_dead_daemons_last_word_stands_though_this_process_never_asked() {
    let mut daemon = Daemon::start();
    let breaker = openai(&daemon);
    trip_by_another(&daemon);
    until("the snapshot has the trip", || daemon.has_saved("openai").then_some(()));
    daemon.kill9();
    let no = breaker.admit().unwrap_err();
    assert_eq!((no.state, no.reason), (State::Open, RejectReason::Open));
    daemon.run();
    until("the next life is found", || (breaker.observe().source == Source::Daemon).then_some(()));
    assert_eq!(breaker.admit().unwrap_err().state, State::Open);
}

#[test]
fn after_a_restart_the_new_board_serves() {
    let mut daemon = Daemon::start();
    let breaker = openai(&daemon);
    assert!(daemon.stop().success());
    breaker.admit().unwrap().succeed();
    daemon.run();
    until("the next life is found", || (breaker.observe().source == Source::Daemon).then_some(()));
    trip_by_another(&daemon);
    daemon.freeze();
    assert_eq!(breaker.admit().unwrap_err().reason, RejectReason::Open);
    daemon.thaw();
}

#[test]
fn without_the_board_everything_works_by_messages() {
    let daemon = Daemon::start();
    let breaker = Options::from_env().unwrap().socket(daemon.socket()).board(false).open().breaker("openai").unwrap();
    for _ in 0..100 {
        breaker.call(|| Ok::<_, ()>(())).unwrap();
    }
    assert_eq!(described(&daemon).lanes[0].successes_total, 100);
    trip_by_another(&daemon);
    until("the trip is seen", || breaker.admit().err().map(drop));
}

#[test]
fn the_end_of_an_override_that_nobody_watches_is_seen() {
    let daemon = Daemon::with(&Setup::default());
    let breaker = openai(&daemon);
    let force = breakerd_client::Action::Force { to: breakerd_proto::Override::ForcedOpen, for_ms: Some(100) };
    assert!(matches!(daemon.operator().command("openai", force), ToClient::Done(_)));
    assert_eq!(breaker.admit().unwrap_err().reason, RejectReason::Forced);
    until("its end comes", || breaker.admit().ok().map(|permit| permit.succeed()));
}

#[test]
fn one_probe_by_the_board_and_the_others_are_told_to_wait() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let (one, two) = (openai(&daemon), openai(&daemon));
    (0..3).for_each(|_| one.admit().unwrap().fail(Failure::new("boom")));
    let probe = until("the cooldown is over", || one.admit().ok().filter(breakerd_client::Permit::is_probe));
    daemon.freeze();
    assert_eq!(two.admit().unwrap_err().reason, RejectReason::Probing);
    daemon.thaw();
    probe.succeed();
    until("it has recovered", || two.admit().ok().map(|permit| permit.succeed()));
}
