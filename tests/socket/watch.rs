//! Watchers see every change, or are told how many they missed.

use breakerd_proto::message::{Action, Changed, Watch};
use breakerd_proto::{Code, Outcome, State, ToClient, Verdict};
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
    operator.command("openai", Action::Force { to: breakerd_proto::Override::ForcedOpen, for_ms: None });
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

#[test]
fn a_watcher_that_does_not_read_is_told_or_cut_off_and_nobody_else_notices() {
    let daemon = Daemon::start();
    let mut watcher = watching(&daemon);
    let mut operator = daemon.operator();
    // Far more than any queue and both socket buffers hold.
    for _ in 0..4000 {
        let answer =
            operator.command("openai", Action::Force { to: breakerd_proto::Override::ForcedOpen, for_ms: None });
        assert!(matches!(answer, ToClient::Done(_)), "{answer:?}");
    }
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < 4000 {
        match watcher.read() {
            ToClient::Changed(_) => seen += 1,
            ToClient::Lagged(lagged) => dropped += lagged.dropped,
            ToClient::Bye(bye) => {
                assert_eq!(bye.code, Code::SlowReader);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen + dropped, 4000, "every change is seen or counted");
    assert!(dropped > 0, "the queue has a bound");
}
