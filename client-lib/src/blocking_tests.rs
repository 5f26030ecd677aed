#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, unsafe_code)]

use std::sync::Mutex;

use breakerd_proto::clock::Mono;
use breakerd_proto::{Failure, RejectReason};

use super::*;
use crate::error::ConnectError;
use crate::fake::FakeDaemon;

fn three() -> PolicyPatch {
    PolicyPatch { consecutive_failures: Some(3), cooldown_jitter: Some(0.0), ..PolicyPatch::default() }
}

/// A client whose daemon nobody will ever start.
fn lonely() -> Client {
    let path = std::env::temp_dir().join(format!("breakerd-nobody-{}.sock", std::process::id()));
    Options::from_env().unwrap().socket(path).open()
}

/// Why the daemon rejects, however busy the machine is.
fn rejection(breaker: &Breaker) -> Rejected {
    let answers = std::iter::repeat_with(|| breaker.admit());
    answers.filter_map(Result::err).find(|no| no.reason != RejectReason::NoAnswer).unwrap()
}

/// What the daemon says, however busy the machine is.
fn told(breaker: &Breaker) -> Observation {
    std::iter::repeat_with(|| breaker.observe()).find(|seen| seen.source == Source::Daemon).unwrap()
}

fn trip(breaker: &Breaker) {
    (0..3).for_each(|_| breaker.admit().unwrap().fail(Failure::new("http-401")));
}

#[test]
fn the_whole_interface_with_no_daemon_ever() {
    let warned = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&warned);
    let path = lonely().shared.options.socket.clone();
    let client = Options::from_env()
        .unwrap()
        .socket(&path)
        .prefix("chat/")
        .on_warning(move |told| keep.lock().unwrap().push(told.to_owned()))
        .open();
    let breaker = client.breaker_with("openai", three()).unwrap();
    assert_eq!(breaker.name().as_str(), "chat/openai");
    assert_eq!(breaker.call(|| Ok::<_, ()>(7)), Ok(7));
    assert_eq!(breaker.call(|| Err::<(), _>("no")), Err(CallError::Failed("no")));
    assert_eq!(breaker.observe().failures, 1);
    let ignored = breaker.call_classified(|| Err::<(), _>(400), |_, _| Outcome::Ignored);
    assert_eq!(ignored, Err(CallError::Failed(400)));
    drop(breaker.admit().unwrap());
    assert_eq!(breaker.observe().failures, 1, "neither ignored nor abandoned calls are evidence");
    breaker.admit().unwrap().succeed();
    trip(&breaker);
    let seen = breaker.observe();
    assert_eq!((seen.state, seen.failures, seen.source), (State::Open, 3, Source::Local));
    assert_eq!(seen.last_failure.unwrap().kind, "http-401");
    let Err(CallError::Rejected(no)) = breaker.call(|| Ok::<_, ()>(())) else { panic!("admitted while open") };
    assert_eq!((no.state, no.reason), (State::Open, RejectReason::Open));
    assert!(no.retry_after().unwrap() > Duration::from_secs(10), "{no}");
    assert_eq!(no.why, "3 consecutive failures, last http-401 (this process alone)");
    let (name, value) = client.first_admitted(["openai", "anthropic"], |_| Ok::<_, ()>(1)).unwrap();
    assert_eq!((name.as_str(), value), ("chat/anthropic", 1));
    let none = client.first_admitted(["openai"], |_| Ok::<_, ()>(1)).unwrap_err();
    assert!(none.retry_after().is_some());
    breaker.reset("tested").unwrap();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(client.health().to_string(), format!("no daemon at {}, local", path.display()));
    assert!(matches!(client.changes(), Err(OperatorError::Lost(ConnectError::Absent { .. }))));
    assert_eq!(warned.lock().unwrap().len(), 1, "{warned:?}");
}

/// As litellm#40130 did not have it: there a late failure set a shorter cooldown over the running one.
#[test]
fn a_late_failure_neither_shortens_nor_restarts_the_cooldown() {
    let breaker = lonely().breaker_with("openai", three()).unwrap();
    let (late, later) = (breaker.admit().unwrap(), breaker.admit().unwrap());
    trip(&breaker);
    let left = || breaker.observe().retry_after.unwrap();
    let before = left();
    late.fail(Failure::new("http-429").with_retry_after_ms(1));
    later.fail(Failure::new("http-503"));
    let after = left();
    assert!(after <= before && after + Duration::from_secs(5) > before, "{before:?}, then {after:?}");
}

#[test]
fn only_the_callers_own_faults_are_errors() {
    let client = lonely();
    let error = client.breaker("my breaker").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"my breaker\" cannot name a breaker: the breaker name has ' ' at byte 2; a name is 1 to 128 bytes of \
         A-Z a-z 0-9 . _ : / @ + -"
    );
    let policy = PolicyPatch { cooldown_jitter: Some(0.6), ..PolicyPatch::default() };
    assert!(matches!(client.breaker_with("x", policy), Err(BadBreaker::Policy(..))));
}

#[test]
fn the_other_fallbacks_and_the_other_modes() {
    let options = || Options::from_env().unwrap().socket("/nowhere/s.sock");
    let rejecting = options().fallback(Fallback::Reject).open().breaker("x").unwrap();
    let no = rejecting.admit().unwrap_err();
    assert_eq!((no.reason, no.retry_after), (RejectReason::NoDaemon, Some(Duration::from_secs(1))));
    let admitting = options().fallback(Fallback::Admit).open().breaker_with("x", three()).unwrap();
    trip(&admitting);
    assert!(admitting.admit().is_ok());
    let off = options().mode(Mode::Off).fallback(Fallback::Reject).open();
    assert!(off.breaker("x").unwrap().admit().is_ok());
    assert_eq!(off.health(), Health::Off);
    let shadow = options().mode(Mode::Shadow).open().breaker_with("x", three()).unwrap();
    trip(&shadow);
    assert!(shadow.admit().is_ok(), "a shadow rejects nobody");
}

#[test]
fn a_daemon_is_the_judge_and_the_lane_is_the_workers() {
    let daemon = FakeDaemon::start("judge");
    let client = daemon.client();
    let breaker = client.breaker_with("openai", three()).unwrap();
    assert_eq!(told(&breaker).state, State::Closed);
    trip(&breaker);
    let seen = told(&breaker);
    assert_eq!((seen.state, seen.failures, seen.source), (State::Open, 3, Source::Daemon));
    let no = rejection(&breaker);
    assert!(no.why.starts_with("3 consecutive failures, last http-401 ("), "{no}");
    assert_eq!(client.health().to_string(), "daemon 0.0.0, standalone");
    breaker.reset("tested").unwrap();
    assert_eq!((told(&breaker).state, told(&breaker).failures), (State::Closed, 0));
}

#[test]
fn threads_share_one_connection() {
    let daemon = FakeDaemon::start("threads");
    let client = daemon.client();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let breaker = client.breaker(&format!("b{}", thread % 3)).unwrap();
            scope.spawn(move || {
                for _ in 0..200 {
                    breaker.admit().unwrap().succeed();
                }
            });
        }
    });
    assert_eq!(daemon.hellos().len(), 1);
    told(&client.breaker("b0").unwrap());
}

#[test]
fn a_slow_daemon_is_believed_as_last_seen_and_asked_no_more_for_a_while() {
    let daemon = FakeDaemon::start("slow");
    let client = daemon.client();
    let closed = client.breaker("closed").unwrap();
    let open = client.breaker_with("open", three()).unwrap();
    let probing = client.breaker_with("probing", PolicyPatch { cooldown_first_ms: Some(1), ..three() }).unwrap();
    closed.admit().unwrap().succeed();
    trip(&open);
    trip(&probing);
    assert_eq!(told(&open).state, State::Open);
    let mut admitted = std::iter::repeat_with(|| probing.admit()).filter_map(Result::ok);
    let probe = admitted.find(Permit::is_probe).unwrap();
    daemon.mute(true);
    let no = open.admit().unwrap_err();
    assert_eq!(no.reason, RejectReason::Open);
    assert!(no.retry_after().unwrap() > Duration::from_secs(10));
    let no = probing.admit().unwrap_err();
    assert_eq!((no.reason, no.retry_after()), (RejectReason::NoAnswer, Some(Duration::from_secs(1))));
    let before = Mono::now();
    for _ in 0..1000 {
        closed.admit().unwrap().succeed();
    }
    let took = Mono::now().since(before);
    assert!(took < Duration::from_secs(2), "a thousand calls beside a mute daemon took {took:?}");
    assert!(matches!(client.health(), Health::Silent { .. }));
    daemon.mute(false);
    drop(probe);
    let found = std::iter::repeat_with(|| closed.observe()).find(|seen| seen.source == Source::Daemon);
    assert_eq!(found.unwrap().state, State::Closed);
}

#[test]
fn a_daemon_that_never_says_welcome_delays_the_first_call_once() {
    let daemon = FakeDaemon::start("unwelcoming");
    daemon.mute(true);
    let client = daemon.client();
    let breaker = client.breaker("x").unwrap();
    let before = Mono::now();
    for _ in 0..100 {
        breaker.admit().unwrap().succeed();
    }
    let took = Mono::now().since(before);
    assert!((Duration::from_millis(250)..Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[test]
fn what_was_open_stays_open_without_the_daemon_and_the_next_daemon_is_told() {
    let mut daemon = FakeDaemon::start("restart");
    let client = daemon.client();
    let breaker = client.breaker_with("openai", three()).unwrap();
    trip(&breaker);
    told(&breaker);
    daemon.stop();
    let reached = (0..1000).filter(|_| breaker.call(|| Ok::<_, ()>(())).is_ok()).count();
    assert_eq!(reached, 0, "an open breaker's provider was reached when the daemon went");
    assert_eq!(breaker.observe().source, Source::Local);
    daemon.restart();
    let found = std::iter::repeat_with(|| breaker.observe()).find(|seen| seen.source == Source::Daemon);
    assert_eq!(found.unwrap().state, State::Closed, "the next daemon's word is the truth");
    let hellos = daemon.hellos();
    assert_eq!((hellos.len(), hellos[1].alone_calls), (2, 1000));
    assert_eq!(hellos[0].nonce, hellos[1].nonce);
}

#[test]
fn a_forked_child_has_a_connection_of_its_own_and_settles_nothing_of_its_parents() {
    let daemon = FakeDaemon::start("fork");
    let client = daemon.client();
    let breaker = client.breaker_with("openai", PolicyPatch { cooldown_first_ms: Some(1), ..three() }).unwrap();
    trip(&breaker);
    let mut admitted = std::iter::repeat_with(|| breaker.admit()).filter_map(Result::ok);
    let probe = admitted.find(Permit::is_probe).unwrap();
    let shared = Arc::clone(&breaker.shared);
    let held = shared.process();
    // The lock is held by a thread that the child does not have.
    let (locked, release) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let (locked, release) = (&locked, &release);
        let hold = Arc::clone(&held);
        scope.spawn(move || {
            let _guard = hold.main.hold();
            locked.wait();
            release.wait();
        });
        locked.wait();
        // SAFETY: the child runs no destructors of its parent's threads and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let no = rejection(&breaker);
            let refused = (no.state, no.reason) == (State::HalfOpen, RejectReason::Probing);
            drop(probe);
            let seen = told(&breaker);
            let fine = refused && (seen.state, seen.source) == (State::HalfOpen, Source::Daemon);
            // SAFETY: ends the child.
            unsafe { libc::_exit(if fine { 0 } else { 1 + i32::from(refused) }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        release.wait();
        assert_eq!(status, 0, "the child left with {}", libc::WEXITSTATUS(status));
        let hellos = daemon.hellos();
        assert_eq!((hellos.len(), hellos[1].pid), (2, u32::try_from(child).unwrap()));
        assert_ne!(hellos[0].nonce, hellos[1].nonce);
        assert_eq!(rejection(&breaker).reason, RejectReason::Probing, "the probe is still out");
        probe.succeed();
        assert_eq!(told(&breaker).state, State::Closed);
    });
}
