#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::fd::BorrowedFd;

use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Failure, RejectReason, State};
use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::blocking::Source;
use crate::fake::FakeDaemon;

fn policy(cooldown_ms: u64) -> PolicyPatch {
    PolicyPatch {
        consecutive_failures: Some(3),
        cooldown_first_ms: Some(cooldown_ms),
        cooldown_jitter: Some(0.0),
        ..PolicyPatch::default()
    }
}

/// Waits as a caller's loop would, without end: the tests' daemon answers or the test hangs.
#[allow(unsafe_code)]
fn answers(connection: &mut Connection) -> Vec<(u64, Answer)> {
    loop {
        let socket = connection.socket().unwrap();
        // SAFETY: the connection keeps it open until it is next called.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.fd) };
        let write = if socket.wants_write { PollFlags::OUT } else { PollFlags::empty() };
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN | write)], None).unwrap();
        let answers = connection.receive();
        if !answers.is_empty() {
            return answers;
        }
    }
}

fn number(asked: Asked) -> u64 {
    match asked {
        Asked::Waits(number, _) => number,
        Asked::Answered(answer) => panic!("answered at once: {answer:?}"),
    }
}

fn judged(connection: &mut Connection, breaker: &Breaker) -> Result<Permit, Rejected> {
    let asked = number(connection.query(breaker));
    match answers(connection).pop().unwrap() {
        (number, Answer::Judged(answer)) if number == asked => answer,
        other => panic!("{other:?}"),
    }
}

fn trip(connection: &mut Connection, breaker: &Breaker) {
    for _ in 0..3 {
        judged(connection, breaker).unwrap().fail(Failure::new("http-500"));
    }
}

#[test]
fn questions_are_pipelined_and_answered_by_number() {
    let daemon = FakeDaemon::start("pipeline");
    let client = daemon.client();
    let (a, b) = (client.breaker("a").unwrap(), client.breaker("b").unwrap());
    let mut connection = Connection::new(&client);
    let mut asked = vec![number(connection.query(&a)), number(connection.observe(&b)), number(connection.query(&a))];
    while !asked.is_empty() {
        for (number, answer) in answers(&mut connection) {
            asked.retain(|waits| *waits != number);
            match answer {
                Answer::Judged(judged) => judged.unwrap().succeed(),
                Answer::Observed(seen) => assert_eq!((seen.state, seen.source), (State::Closed, Source::Daemon)),
                Answer::Reset(_) => panic!("nobody asked for a reset"),
            }
        }
    }
}

#[test]
fn a_rejection_comes_with_its_reason_and_a_reset_is_seen() {
    let daemon = FakeDaemon::start("reason");
    let client = daemon.client();
    let breaker = client.breaker_with("openai", policy(60_000)).unwrap();
    let mut connection = Connection::new(&client);
    trip(&mut connection, &breaker);
    let no = judged(&mut connection, &breaker).unwrap_err();
    assert!(no.why.starts_with("3 consecutive failures, last http-500 ("), "{no}");
    number(connection.reset(&breaker, "tested"));
    assert!(matches!(answers(&mut connection).pop(), Some((_, Answer::Reset(Ok(()))))));
    judged(&mut connection, &breaker).unwrap().succeed();
    assert_eq!(breaker.state(), State::Closed, "the process's other connection sees it too");
}

#[test]
fn a_cancelled_asker_gives_the_probe_back_whether_it_came_or_not() {
    let daemon = FakeDaemon::start("cancel");
    let client = daemon.client();
    let breaker = client.breaker_with("openai", policy(1)).unwrap();
    let mut connection = Connection::new(&client);
    trip(&mut connection, &breaker);
    while breaker.observe().retry_after != Some(Duration::ZERO) {}
    for round in 0..20 {
        let asked = number(connection.query(&breaker));
        if round % 2 == 0 {
            // It has come and lies unread.
            let fd = connection.socket().unwrap().fd;
            #[allow(unsafe_code)]
            // SAFETY: the connection keeps it open until it is next called.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], None).unwrap();
        }
        connection.cancel(asked);
    }
    let probe = judged(&mut connection, &breaker).unwrap();
    assert!(probe.is_probe());
    let no = judged(&mut connection, &breaker).unwrap_err();
    assert_eq!(no.reason, RejectReason::Probing);
    drop(probe);
    assert!(judged(&mut connection, &breaker).unwrap().is_probe(), "an abandoned probe is free at once");
}

#[test]
fn an_answer_that_never_comes_is_what_was_last_seen() {
    let daemon = FakeDaemon::start("expire");
    let client = daemon.client();
    let (open, closed) = (client.breaker_with("open", policy(60_000)).unwrap(), client.breaker("closed").unwrap());
    let mut connection = Connection::new(&client);
    trip(&mut connection, &open);
    judged(&mut connection, &open).unwrap_err();
    judged(&mut connection, &closed).unwrap().succeed();
    daemon.mute(true);
    let asked = number(connection.query(&closed));
    assert!(matches!(connection.expire(asked), Some(Answer::Judged(Ok(_)))));
    assert!(connection.expire(asked).is_none());
    let Asked::Answered(Answer::Judged(Err(no))) = connection.query(&open) else { panic!("asked in the pause") };
    assert_eq!(no.reason, RejectReason::Open);
}

#[test]
fn a_question_whose_daemon_dies_is_asked_of_the_next_one() {
    let mut daemon = FakeDaemon::start("again");
    let client = daemon.client();
    let breaker = client.breaker("openai").unwrap();
    let mut connection = Connection::new(&client);
    judged(&mut connection, &breaker).unwrap().succeed();
    let first = connection.socket().unwrap().connection;
    daemon.mute(true);
    let asked = number(connection.query(&breaker));
    daemon.stop();
    daemon.restart();
    let (number, answer) = answers(&mut connection).pop().unwrap();
    assert_eq!(number, asked);
    assert!(matches!(answer, Answer::Judged(Ok(_))));
    assert_ne!(connection.socket().unwrap().connection, first);
    daemon.stop();
    assert!(connection.receive().is_empty());
    assert_eq!(connection.socket(), None);
    assert!(matches!(connection.query(&breaker), Asked::Answered(Answer::Judged(Ok(_)))), "the fallback admits");
}
