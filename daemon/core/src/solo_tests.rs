//! The breaker that a process keeps for itself: the daemon's rules, by its own calls alone.

use breakerd_proto::message::{LastFailure, PolicyPatch, View};
use breakerd_proto::{Mono, Name, Outcome, Override, RejectReason, State, Verdict};

use super::Solo;
use crate::read::closed_view;

const ALONE: &str = "this process alone";

fn at(ms: u64) -> Mono {
    Mono::default().after_ms(ms)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Three in a row trip; a second's cooldown.
fn solo(names: &[&str]) -> Solo {
    let policy = PolicyPatch {
        consecutive_failures: Some(3),
        cooldown_first_ms: Some(1000),
        cooldown_jitter: Some(0.0),
        probe_connect: Some("db:5432".to_owned()),
        ..PolicyPatch::default()
    };
    let mut solo = Solo::new(1, at(0));
    names.iter().for_each(|each| solo.set_policy(at(0), &name(each), &policy));
    solo
}

/// A call that was admitted and ended so.
fn call(solo: &mut Solo, ms: u64, name: &Name, outcome: &Outcome) {
    let (generation, permit) = match solo.query(at(ms), name) {
        Verdict::Admit { generation } => (generation, 0),
        Verdict::Probe { generation, permit } => (generation, permit),
        other => panic!("{other:?}"),
    };
    solo.report(at(ms), name, generation, permit, outcome);
}

fn fail(solo: &mut Solo, ms: u64, name: &Name) {
    call(solo, ms, name, &Outcome::failure("http-500"));
}

fn changes(solo: &mut Solo) -> Vec<String> {
    let next = || solo.poll_change();
    std::iter::from_fn(next).map(|change| format!("{} by {}", change.what.word(), change.view.by)).collect()
}

/// `open retry=5000`, `probe`, `admit`.
fn asked(solo: &mut Solo, ms: u64, name: &Name) -> String {
    match solo.query(at(ms), name) {
        Verdict::Admit { .. } => "admit".to_owned(),
        Verdict::Probe { .. } => "probe".to_owned(),
        Verdict::Reject { reason, retry_after_ms, .. } => format!("{reason} retry={retry_after_ms:?}"),
    }
}

#[test]
fn trips_rejects_probes_and_recovers() {
    let (mut solo, name) = (solo(&["openai"]), name("openai"));
    assert_eq!((solo.failures(at(0), &name), solo.last_failure(at(0), &name)), (0, None));
    (0..3).for_each(|ms| fail(&mut solo, ms, &name));
    assert_eq!(asked(&mut solo, 2, &name), format!("{} retry=Some(1000)", RejectReason::Open));
    let last = LastFailure { kind: "http-500".to_owned(), detail: String::new(), ago_ms: 3 };
    assert_eq!((solo.failures(at(5), &name), solo.last_failure(at(5), &name)), (3, Some(last)));
    let view = solo.view(at(5), &name);
    assert_eq!((view.state, view.by.as_str()), (State::Open, ALONE));
    assert_eq!(view.why, "3 consecutive failures, last http-500");
    call(&mut solo, 1002, &name, &Outcome::SUCCESS);
    assert_eq!(asked(&mut solo, 1003, &name), "admit");
    let by_itself = ["trip", "probe", "recover"].map(|what| format!("{what} by {ALONE}"));
    assert_eq!(changes(&mut solo), by_itself);
}

#[test]
fn no_daemon_connects_for_it_so_a_call_is_the_probe() {
    let (mut solo, name) = (solo(&["openai"]), name("openai"));
    (0..3).for_each(|_| fail(&mut solo, 0, &name));
    assert_eq!(asked(&mut solo, 1000, &name), "probe");
}

#[test]
fn each_name_is_a_breaker_of_its_own() {
    let names = ["a", "b", "c"].map(name);
    let mut solo = solo(&["a", "b", "c"]);
    for failing in &names {
        assert_eq!(asked(&mut solo, 0, failing), "admit");
        (0..3).for_each(|_| fail(&mut solo, 0, failing));
        assert_eq!(solo.view(at(0), failing).state, State::Open);
    }
}

#[test]
fn a_reset_closes_it_here() {
    let (mut solo, name) = (solo(&["openai"]), name("openai"));
    (0..3).for_each(|_| fail(&mut solo, 0, &name));
    solo.reset(at(1), &name, "drill");
    let view = solo.view(at(1), &name);
    assert_eq!((view.state, view.by.as_str(), view.why.as_str()), (State::Closed, ALONE, "drill"));
}

fn seen(change: impl FnOnce(&mut View)) -> View {
    let mut view = View { by: "api[7]@web-1".to_owned(), why: "5 consecutive failures".to_owned(), ..closed_view() };
    change(&mut view);
    view
}

#[test]
fn starts_open_until_the_deadline_that_was_seen_last() {
    let (mut solo, name) = (solo(&[]), name("openai"));
    let open = seen(|view| (view.state, view.retry_after_ms, view.age_ms) = (State::Open, Some(5000), 300));
    solo.start_from(at(1000), &name, &open);
    assert_eq!(asked(&mut solo, 5999, &name), "open retry=Some(1)");
    let view = solo.view(at(5999), &name);
    assert_eq!((view.by.as_str(), view.age_ms), ("api[7]@web-1", 5299), "whoever tripped it stays named");
    assert_eq!(asked(&mut solo, 6000, &name), "probe");
}

#[test]
fn starts_forced_until_the_end_of_it_and_for_ten_minutes_at_most() {
    let (open, closed) = (Override::ForcedOpen, Override::ForcedClosed);
    for (to, retry_after_ms, ends_ms) in [
        (open, Some(5000), 5000),
        (open, Some(3_600_000), 600_000),
        (open, None, 600_000),
        (closed, Some(0), 600_000), // what is forced closed shows no end
    ] {
        let (mut solo, name) = (solo(&["openai"]), name("openai"));
        let view = seen(|view| (view.state, view.forced, view.retry_after_ms) = (to.state(), Some(to), retry_after_ms));
        solo.start_from(at(0), &name, &view);
        assert_eq!(solo.view(at(ends_ms - 1), &name).forced, Some(to));
        let then = solo.view(at(ends_ms), &name);
        assert_eq!((then.forced, then.state), (None, State::Closed), "nothing lies beneath");
    }
}
