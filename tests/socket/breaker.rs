//! Trips, recoveries and what each worker sees of them.

use breakerd_proto::{Outcome, RejectReason, State, Verdict};
use breakerd_tests::{Daemon, Raw, Setup, until};

/// Four workers with one breaker registered each.
pub(crate) fn four(daemon: &Daemon, name: &str) -> Vec<(Raw, u32)> {
    (0..4)
        .map(|_| {
            let mut worker = daemon.worker();
            let lane = worker.lane(name);
            (worker, lane)
        })
        .collect()
}

/// State and failures, as each worker sees them.
pub(crate) fn table(workers: &mut [(Raw, u32)]) -> Vec<(State, u64)> {
    workers
        .iter_mut()
        .map(|(worker, lane)| {
            let seen = worker.observe(*lane);
            (seen.view.state, seen.failures)
        })
        .collect()
}

#[test]
fn five_failures_in_flight_together_are_five_and_nothing_elsewhere() {
    let daemon = Daemon::start();
    let mut workers = four(&daemon, "openai");
    assert_eq!(table(&mut workers), [(State::Closed, 0); 4]);
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 5);
    // The first worker's own question comes after its reports; by its answer the trip is everybody's.
    let (open, seen) = (State::Open, table(&mut workers));
    assert_eq!(seen, [(open, 5), (open, 0), (open, 0), (open, 0)]);
}

#[test]
fn the_trip_says_who_and_why() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 5);
    let seen = worker.observe(lane);
    assert_eq!(seen.view.why, "3 consecutive failures, last http-401");
    assert_eq!(seen.view.by, format!("test[{}]@web-1", std::process::id()));
    let last = seen.last_failure.unwrap();
    assert_eq!((last.kind.as_str(), last.detail.as_str()), ("http-401", ""));
}

#[test]
fn two_failures_do_not_trip_three_do() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail(lane);
    worker.fail(lane);
    let seen = worker.observe(lane);
    assert_eq!((seen.view.state, seen.failures), (State::Closed, 2));
    worker.fail(lane);
    assert_eq!(worker.observe(lane).view.state, State::Open);
}

#[test]
fn a_success_between_ends_the_run() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    for _ in 0..5 {
        worker.fail(lane);
        worker.fail(lane);
        let verdict = worker.query(lane);
        worker.report(lane, &verdict, Outcome::SUCCESS);
    }
    let seen = worker.observe(lane);
    assert_eq!((seen.view.state, seen.failures), (State::Closed, 0));
}

#[test]
fn failures_of_several_workers_with_no_success_between_are_a_run_that_trips_one_later() {
    let daemon = Daemon::start();
    let mut workers = four(&daemon, "openai");
    for (number, (worker, lane)) in workers.iter_mut().enumerate() {
        let before = worker.observe(*lane).view.state;
        assert_eq!(before, State::Closed, "after {number} failures");
        worker.fail(*lane);
        worker.observe(*lane); // the next worker's failure comes after this one's
    }
    assert_eq!(table(&mut workers), [(State::Open, 1); 4]);
}

#[test]
fn ignored_and_abandoned_outcomes_are_no_evidence() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    for outcome in [Outcome::Ignored, Outcome::Abandoned] {
        for _ in 0..5 {
            let verdict = worker.query(lane);
            worker.report(lane, &verdict, outcome.clone());
        }
    }
    let seen = worker.observe(lane);
    assert_eq!((seen.view.state, seen.failures), (State::Closed, 0));
}

#[test]
fn a_rejection_says_when_to_ask_again() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    match worker.query(lane) {
        Verdict::Reject { state: State::Open, reason: RejectReason::Open, retry_after_ms: Some(ms), .. } => {
            assert!((1..=60_000).contains(&ms), "{ms} ms of a cooldown of 60 s");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fifth_worker_is_rejected_on_its_first_call() {
    let daemon = Daemon::start();
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 5);
    first.observe(*lane);
    let mut fifth = daemon.worker();
    let registered = fifth.register("openai");
    assert_eq!(registered.view.state, State::Open);
    let verdict = fifth.query(registered.lane);
    assert!(matches!(verdict, Verdict::Reject { reason: RejectReason::Open, .. }), "{verdict:?}");
    assert_eq!(fifth.observe(registered.lane).failures, 0);
}

#[test]
fn one_breaker_s_trip_is_not_another_s() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let (openai, anthropic) = (worker.lane("openai"), worker.lane("anthropic"));
    worker.fail_together(openai, 5);
    assert_eq!(worker.observe(openai).view.state, State::Open);
    assert!(matches!(worker.query(anthropic), Verdict::Admit { .. }));
}

#[test]
fn an_outcome_from_before_a_reset_changes_nothing() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let old: Vec<Verdict> = (0..3).map(|_| worker.query(lane)).collect();
    worker.fail_together(lane, 3);
    let mut operator = daemon.operator();
    operator.command("openai", breakerd_proto::message::Action::Reset);
    for verdict in &old {
        worker.report(lane, verdict, Outcome::failure("http-500"));
    }
    let seen = worker.observe(lane);
    assert_eq!((seen.view.state, seen.failures), (State::Closed, 0), "stale failures");
    let about = crate::operate::about(&mut operator);
    assert_eq!(about.stale_reports, 3, "and they were counted");
}

#[test]
fn a_success_from_before_the_trip_does_not_recover() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let straggler = worker.query(lane);
    worker.fail_together(lane, 3);
    let probe = until("the cooldown is over", || {
        let verdict = worker.query(lane);
        matches!(verdict, Verdict::Probe { .. }).then_some(verdict)
    });
    worker.report(lane, &straggler, Outcome::SUCCESS);
    assert_eq!(worker.observe(lane).view.state, State::HalfOpen, "only the probe may decide");
    worker.report(lane, &probe, Outcome::SUCCESS);
    assert_eq!(worker.observe(lane).view.state, State::Closed);
}

#[test]
fn successes_that_no_report_told_come_with_the_counts() {
    use breakerd_proto::message::Query;
    use breakerd_proto::{Counts, Mono};
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail(lane);
    worker.fail(lane);
    let counts = Counts { successes: 1, failures: 2, ..Counts::default() };
    let request = worker.request();
    worker.send(Query { request, lane, deadline: Mono::NEVER, counts });
    worker.answer(request);
    assert_eq!(worker.observe(lane).failures, 0, "a success between ends the run");
}
