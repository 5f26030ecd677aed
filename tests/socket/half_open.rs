//! Half-open: one probe at a time, and none that sticks (I3, I6).

use breakerd_proto::message::Query;
use breakerd_proto::{Counts, Mono, Outcome, RejectReason, State, Verdict};
use breakerd_tests::{Daemon, Raw, Setup, until};

use crate::breaker::{four, table};

/// Asks until the cooldown is over; the probe.
fn probe(worker: &mut Raw, lane: u32) -> Verdict {
    until("the cooldown is over", || {
        let verdict = worker.query(lane);
        matches!(verdict, Verdict::Probe { .. }).then_some(verdict)
    })
}

fn is_probing(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Reject { state: State::HalfOpen, reason: RejectReason::Probing, .. })
}

#[test]
fn four_that_ask_at_once_are_one_probe_a_hundred_times() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    for round in 0..100 {
        let (first, lane) = &mut workers[round % 4];
        first.fail_together(*lane, 3);
        first.observe(*lane);
        until("the cooldown is over", || {
            let (watcher, lane) = &mut workers[0];
            let view = watcher.observe(*lane).view;
            (view.state == State::Open && view.retry_after_ms == Some(0)).then_some(())
        });
        let requests: Vec<u32> = workers.iter_mut().map(|(worker, lane)| worker.ask_without_waiting(*lane)).collect();
        let asked = workers.iter_mut().zip(requests);
        let verdicts: Vec<Verdict> = asked.map(|((worker, _), request)| worker.answer(request)).collect();
        let probes: Vec<usize> = (0..4).filter(|at| matches!(verdicts[*at], Verdict::Probe { .. })).collect();
        let waiting = verdicts.iter().filter(|verdict| is_probing(verdict)).count();
        assert_eq!((probes.len(), waiting), (1, 3), "round {round}: {verdicts:?}");
        let (holder, lane) = &mut workers[probes[0]];
        holder.report(*lane, &verdicts[probes[0]], Outcome::SUCCESS);
        holder.observe(*lane);
        assert_eq!(table(&mut workers), [(State::Closed, 0); 4], "round {round}");
    }
}

#[test]
fn who_waits_for_a_probe_is_told_at_least_a_second() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 3);
    probe(first, *lane);
    let (second, lane) = &mut workers[1];
    match second.query(*lane) {
        Verdict::Reject { reason: RejectReason::Probing, retry_after_ms: Some(ms), .. } => assert!(ms >= 1000, "{ms}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_probe_reopens() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    let verdict = probe(&mut worker, lane);
    worker.report(lane, &verdict, Outcome::failure("connect"));
    let seen = worker.observe(lane);
    assert_eq!((seen.view.state, seen.failures), (State::Open, 4));
    assert_eq!(seen.view.why, "the probe failed: connect");
}

#[test]
fn two_successes_where_two_are_asked_for() {
    let more = "probe = { permits = 1, successes = 2, max = \"2m\" }\n".to_owned();
    let daemon = Daemon::with(&Setup { more, ..Setup::short_cooldown() });
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    let verdict = probe(&mut worker, lane);
    worker.report(lane, &verdict, Outcome::SUCCESS);
    assert_eq!(worker.observe(lane).view.state, State::HalfOpen);
    let verdict = worker.query(lane);
    assert!(matches!(verdict, Verdict::Probe { .. }), "{verdict:?}");
    worker.report(lane, &verdict, Outcome::SUCCESS);
    assert_eq!(worker.observe(lane).view.state, State::Closed);
}

#[test]
fn an_abandoned_probe_is_free_again_at_once() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 3);
    let verdict = probe(first, *lane);
    first.report(*lane, &verdict, Outcome::Abandoned);
    first.observe(*lane);
    let (second, lane) = &mut workers[1];
    assert!(matches!(second.query(*lane), Verdict::Probe { .. }));
}

#[test]
fn a_worker_that_dies_with_the_probe_gives_it_back_at_once() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 3);
    probe(first, *lane);
    drop(workers.remove(0));
    let (second, lane) = &mut workers[0];
    // Half-open stays half-open until then: nothing but the dead worker's end frees the probe (it may keep it 2 min).
    let since = Mono::now();
    probe(second, *lane);
    let took = Mono::now().since(since);
    breakerd_tests::wait::bounded("a dead worker's probe is free again", took, std::time::Duration::from_millis(50));
}

#[test]
fn a_forgotten_request_gives_its_probe_back() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 3);
    let lane = *lane;
    let request = until("the cooldown is over", || {
        let request = first.ask_without_waiting(lane);
        matches!(first.answer(request), Verdict::Probe { .. }).then_some(request)
    });
    let (second, lane) = &mut workers[1];
    assert!(is_probing(&second.query(*lane)));
    workers[0].0.forget(request);
    let lane = workers[0].1;
    workers[0].0.observe(lane);
    let (second, lane) = &mut workers[1];
    assert!(matches!(second.query(*lane), Verdict::Probe { .. }));
}

#[test]
fn nothing_is_granted_after_the_deadline() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    until("the cooldown is over", || (worker.observe(lane).view.retry_after_ms == Some(0)).then_some(()));
    let request = worker.request();
    worker.send(Query { request, lane, deadline: Mono(1), counts: Counts::default() });
    let verdict = worker.answer(request);
    assert!(matches!(verdict, Verdict::Reject { reason: RejectReason::NoAnswer, .. }), "{verdict:?}");
    assert!(matches!(worker.query(lane), Verdict::Probe { .. }), "the probe is still to be had");
}

#[test]
fn another_s_permit_settles_nothing() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 3);
    let verdict = probe(first, *lane);
    let (second, lane) = &mut workers[1];
    second.report(*lane, &verdict, Outcome::SUCCESS);
    assert_eq!(second.observe(*lane).view.state, State::HalfOpen);
}
