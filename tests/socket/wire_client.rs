//! The client for a caller's own loop against a real daemon: nothing in it blocks, and the loop is this file's `poll`.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use breakerd_client::wire::{Answer, Asked, Connection};
use breakerd_client::{Action, Operator, State};
use breakerd_client::{
    Breaker, Client, Failure, Observation, Options, Permit, RejectReason, Rejected, ResetError, Source,
};
use breakerd_proto::{Mono, Override};
use breakerd_tests::wait::PATIENCE;
use breakerd_tests::{Daemon, Setup, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn client(daemon: &Daemon) -> Client {
    Options::from_env().unwrap().socket(daemon.socket()).service("chat-api").open()
}

/// Waits at the socket until something is complete, as a caller's loop does.
#[allow(unsafe_code)]
fn answers(connection: &mut Connection) -> Vec<(u64, Answer)> {
    let deadline = Mono::now().after(PATIENCE);
    while Mono::now() < deadline {
        let socket = connection.socket().expect("there is no daemon");
        // SAFETY: the connection keeps it open until it is next called.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.fd) };
        let write = if socket.wants_write { PollFlags::OUT } else { PollFlags::empty() };
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN | write)], Some(&second)).unwrap();
        let answers = connection.receive();
        if !answers.is_empty() {
            return answers;
        }
    }
    panic!("no answer within {PATIENCE:?}")
}

/// The answer to what was asked, now or later.
fn answer(connection: &mut Connection, asked: Asked) -> Answer {
    match asked {
        Asked::Answered(answer) => answer,
        Asked::Waits(number, _) => {
            let (of, answer) = answers(connection).pop().unwrap();
            assert_eq!(of, number);
            answer
        }
    }
}

fn query(connection: &mut Connection, breaker: &Breaker) -> Result<Permit, Rejected> {
    let asked = connection.query(breaker);
    let Answer::Judged(judged) = answer(connection, asked) else { panic!("another question's answer") };
    judged
}

fn observe(connection: &mut Connection, breaker: &Breaker) -> Observation {
    let asked = connection.observe(breaker);
    let Answer::Observed(seen) = answer(connection, asked) else { panic!("another question's answer") };
    *seen
}

fn trip(connection: &mut Connection, breaker: &Breaker) {
    (0..3).for_each(|_| query(connection, breaker).unwrap().fail(Failure::new("http-401")));
    assert_eq!(observe(connection, breaker).state, State::Open);
}

#[test]
fn a_loop_asks_many_at_once_and_gets_each_its_answer() {
    let daemon = Daemon::start();
    let client = client(&daemon);
    let mut connection = Connection::new(&client);
    let breakers: Vec<Breaker> = (0..100).map(|i| client.breaker(&format!("b{i}")).unwrap()).collect();
    let asked: Vec<u64> = breakers
        .iter()
        .map(|breaker| match connection.query(breaker) {
            Asked::Waits(number, _) => number,
            Asked::Answered(answer) => panic!("answered at once: {answer:?}"),
        })
        .collect();
    let mut came = Vec::new();
    while came.len() < asked.len() {
        for (number, answer) in answers(&mut connection) {
            let Answer::Judged(Ok(permit)) = answer else { panic!("{answer:?}") };
            let at = asked.iter().position(|asked| *asked == number).unwrap();
            assert_eq!(permit.breaker(), breakers[at].name());
            permit.succeed();
            came.push(number);
        }
    }
    assert_eq!(observe(&mut connection, &breakers[0]).source, Source::Daemon);
}

#[test]
fn a_trip_a_probe_and_a_recovery() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let client = client(&daemon);
    let breaker = client.breaker("openai").unwrap();
    let mut connection = Connection::new(&client);
    trip(&mut connection, &breaker);
    let probe = until("the cooldown is over", || query(&mut connection, &breaker).ok());
    assert!(probe.is_probe());
    assert_eq!(query(&mut connection, &breaker).unwrap_err().reason, RejectReason::Probing);
    // An asker that goes away gives back what it is granted.
    drop(probe);
    let Asked::Waits(number, wait) = connection.query(&breaker) else { panic!("answered at once") };
    assert_eq!(wait, Duration::from_millis(250));
    connection.cancel(number);
    let probe = query(&mut connection, &breaker).unwrap();
    assert!(probe.is_probe());
    probe.succeed();
    assert_eq!(observe(&mut connection, &breaker).state, State::Closed);
}

#[test]
fn a_force_is_obeyed_and_a_reset_needs_the_right() {
    let daemon = Daemon::start();
    let client = client(&daemon);
    let breaker = client.breaker("openai").unwrap();
    let mut connection = Connection::new(&client);
    trip(&mut connection, &breaker);
    let asked = connection.reset(&breaker, "tested");
    let Answer::Reset(Err(ResetError::Denied { sentence })) = answer(&mut connection, asked) else {
        panic!("not denied")
    };
    assert!(sentence.contains("[rights]"), "{sentence}");
    let force = Action::Force { to: Override::ForcedClosed, for_ms: None };
    Operator::connect(&daemon.control()).unwrap().command(breaker.name(), force, "tested").unwrap();
    query(&mut connection, &breaker).unwrap().succeed();
    assert_eq!(observe(&mut connection, &breaker).forced, Some(Override::ForcedClosed));
}

#[test]
fn what_waits_when_the_daemon_goes_is_answered_by_the_fallback() {
    let mut daemon = Daemon::start();
    // On the board it would find the answer.
    let client = Options::from_env().unwrap().socket(daemon.socket()).board(false).open();
    let breaker = client.breaker("openai").unwrap();
    let mut connection = Connection::new(&client);
    trip(&mut connection, &breaker);
    daemon.freeze();
    let Asked::Waits(number, _) = connection.query(&breaker) else { panic!("answered at once") };
    daemon.kill9();
    let (of, answer) = answers(&mut connection).pop().unwrap();
    assert_eq!(of, number);
    let Answer::Judged(Err(no)) = answer else { panic!("{answer:?}") };
    assert_eq!(no.reason, RejectReason::Open, "what was open stays so");
    assert!(connection.socket().is_none(), "and there is nothing to watch");
    daemon.run();
    until("the daemon judges again", || (observe(&mut connection, &breaker).source == Source::Daemon).then_some(()));
}
