//! Watchers see every change, or are told how many they missed.

use breakerd_proto::limits::OUT_QUEUE_TIME_MAX;
use breakerd_proto::message::{Action, Changed, Watch};
use breakerd_proto::{Mono, Outcome, Override, State, ToClient, Verdict};
use breakerd_tests::{Daemon, Raw, Setup, until};

fn watching(daemon: &Daemon) -> Raw {
    let mut watcher = daemon.worker();
    let request = watcher.request();
    watcher.send(Watch { request });
    assert_eq!(watcher.read(), breakerd_proto::message::Watching { request }.into());
    watcher
}

fn change(watcher: &mut Raw) -> Changed {
    match watcher.read() {
        ToClient::Changed(changed) => changed,
        other => panic!("no change but {other:?}"),
    }
}

#[test]
fn a_whole_life_in_the_words_of_the_status() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut watcher = watching(&daemon);
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let probe = |worker: &mut Raw| {
        until("the cooldown is over", || {
            let verdict = worker.query(lane);
            matches!(verdict, Verdict::Probe { .. }).then_some(verdict)
        })
    };
    worker.fail_together(lane, 3);
    let verdict = probe(&mut worker);
    worker.report(lane, &verdict, Outcome::failure("connect"));
    let verdict = probe(&mut worker);
    worker.report(lane, &verdict, Outcome::SUCCESS);
    worker.observe(lane);
    let mut operator = daemon.operator();
    operator.command("openai", FORCE);
    operator.command("openai", Action::Release);
    operator.command("openai", Action::Reset);
    use State::{Closed, HalfOpen, Open};
    let expected = [
        ("trip", Closed, Open),
        ("probe", Open, HalfOpen),
        ("reopen", HalfOpen, Open),
        ("probe", Open, HalfOpen),
        ("recover", HalfOpen, Closed),
        ("force", Closed, Open),
        ("release", Open, Closed),
        ("reset", Closed, Closed),
    ];
    let mut generation = 0;
    for (what, from, to) in expected {
        let changed = change(&mut watcher);
        assert_eq!((changed.what.as_str(), changed.from, changed.view.state), (what, from, to));
        assert!(changed.view.generation > generation, "a generation only rises: {changed:?}");
        assert!(!changed.view.by.is_empty() && !changed.view.why.is_empty(), "author and reason (I15): {changed:?}");
        generation = changed.view.generation;
    }
}

const FORCE: Action = Action::Force { to: Override::ForcedOpen, for_ms: None };

/// More changes than the queue and both socket buffers hold.
const STORM: u64 = 3000;

fn storm(operator: &mut Raw) {
    for _ in 0..STORM {
        let answer = operator.command("openai", FORCE);
        assert!(matches!(answer, ToClient::Done(_)), "{answer:?}");
    }
}

#[test]
fn a_watcher_that_falls_behind_is_told_how_much_it_missed() {
    let daemon = Daemon::start();
    let mut watcher = watching(&daemon);
    storm(&mut daemon.operator());
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < STORM {
        match watcher.read() {
            ToClient::Changed(_) => seen += 1,
            ToClient::Lagged(lagged) => dropped += lagged.dropped,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen + dropped, STORM, "every change is seen or counted");
    assert!(dropped > 0, "the queue has a bound");
    daemon.operator().command("openai", Action::Release);
    assert_eq!(change(&mut watcher).what, "release", "and it is told again of what comes");
}

#[test]
fn a_watcher_that_never_reads_is_cut_off_and_nobody_else_notices() {
    let daemon = Daemon::start();
    let watcher = watching(&daemon);
    let mut operator = daemon.operator();
    storm(&mut operator);
    let since = Mono::now();
    until("the watcher is cut off", || (crate::operate::about(&mut operator).workers == 1).then_some(()));
    let took = Mono::now().since(since);
    breakerd_tests::wait::bounded("cutting off who does not read", took, OUT_QUEUE_TIME_MAX);
    assert!(daemon.log().contains("answers were left unread for 5 s"), "{}", daemon.log());
    drop(watcher);
}
