//! A restart keeps open breakers open and overrides in force (I14).

use std::fs;

use breakerd_proto::message::Action;
use breakerd_proto::{Override, State, ToClient, Verdict};
use breakerd_tests::{Daemon, Raw, Setup, until};

fn trip(daemon: &Daemon, name: &str) {
    let mut worker = daemon.worker();
    let lane = worker.lane(name);
    worker.fail_together(lane, 3);
    assert_eq!(worker.observe(lane).view.state, State::Open);
}

/// What a new worker is told on its first call.
fn first_call(daemon: &Daemon, name: &str) -> (Raw, Verdict) {
    let mut worker = daemon.worker();
    let lane = worker.lane(name);
    let verdict = worker.query(lane);
    (worker, verdict)
}

#[track_caller]
fn assert_open(daemon: &Daemon) {
    let (mut worker, verdict) = first_call(daemon, "openai");
    match verdict {
        Verdict::Reject { state: State::Open, retry_after_ms: Some(ms), .. } => {
            assert!((1..=60_000).contains(&ms), "what is left of a minute, not {ms} ms");
        }
        other => panic!("{other:?}"),
    }
    let lane = worker.lane("openai");
    let view = worker.observe(lane).view;
    assert_eq!(view.why, "3 consecutive failures, last http-401", "the reason lives on");
    assert!(view.by.ends_with("@web-1"), "and the author: {}", view.by);
}

#[test]
fn after_a_clean_stop_open_is_open() {
    let mut daemon = Daemon::start();
    trip(&daemon, "openai");
    assert!(daemon.stop().success());
    daemon.run();
    assert_open(&daemon);
    assert!(matches!(first_call(&daemon, "anthropic").1, Verdict::Admit { .. }));
}

#[test]
fn after_a_kill_open_is_open() {
    let mut daemon = Daemon::start();
    trip(&daemon, "openai");
    until("the snapshot has the trip", || daemon.has_saved("openai").then_some(()));
    daemon.kill9();
    daemon.run();
    assert_open(&daemon);
}

#[test]
fn a_probe_that_was_out_comes_back_with_the_next_life() {
    let mut daemon = Daemon::with(&Setup::short_cooldown());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    until("a probe is out", || matches!(worker.query(lane), Verdict::Probe { .. }).then_some(()));
    assert!(daemon.stop().success());
    daemon.run();
    let mut next = daemon.worker();
    let lane = next.lane("openai");
    until("the probe is to be had again", || matches!(next.query(lane), Verdict::Probe { .. }).then_some(()));
}

#[test]
fn an_override_stays_in_force() {
    let mut daemon = Daemon::start();
    let force = Action::Force { to: Override::ForcedOpen, for_ms: None };
    assert!(matches!(daemon.operator().command("payments/psp", force), ToClient::Done(_)));
    until("the snapshot has the force", || daemon.has_saved("payments/psp").then_some(()));
    daemon.kill9();
    daemon.run();
    let (mut worker, verdict) = first_call(&daemon, "payments/psp");
    assert!(matches!(verdict, Verdict::Reject { retry_after_ms: None, .. }), "{verdict:?}");
    let lane = worker.lane("payments/psp");
    assert_eq!(worker.observe(lane).view.forced, Some(Override::ForcedOpen));
}

#[test]
fn a_reset_is_remembered_as_well() {
    let mut daemon = Daemon::start();
    trip(&daemon, "openai");
    until("the snapshot has the trip", || daemon.has_saved("openai").then_some(()));
    assert!(matches!(daemon.operator().command("openai", Action::Reset), ToClient::Done(_)));
    assert!(daemon.stop().success());
    daemon.run();
    assert!(matches!(first_call(&daemon, "openai").1, Verdict::Admit { .. }));
}

#[test]
fn an_unreadable_snapshot_is_one_line_and_no_failure() {
    let mut daemon = Daemon::start();
    trip(&daemon, "openai");
    assert!(daemon.stop().success());
    let files = daemon.snapshots();
    assert!(!files.is_empty(), "no snapshot in {}", daemon.state().display());
    for damage in [b"\x00\xff garbage".as_slice(), b"", b"{}", b"{\"format\": 4000000000}"] {
        for file in &files {
            fs::write(file, damage).unwrap();
        }
        daemon.run();
        assert!(matches!(first_call(&daemon, "anthropic").1, Verdict::Admit { .. }));
        assert!(daemon.stop().success());
    }
    assert!(daemon.log().contains("snapshot"), "{}", daemon.log());
}

#[test]
fn a_snapshot_cut_anywhere_is_no_failure() {
    let mut daemon = Daemon::start();
    trip(&daemon, "openai");
    assert!(daemon.stop().success());
    let file = daemon.snapshots().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&file).unwrap();
    for eighths in 1..8 {
        fs::write(&file, &whole[..whole.len() * eighths / 8]).unwrap();
        daemon.run();
        daemon.worker().lane("openai");
        daemon.kill9();
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_no_failure() {
    let mut daemon = Daemon::idle(&Setup::default());
    fs::remove_dir(daemon.state()).unwrap();
    fs::write(daemon.state(), "in the way").unwrap();
    daemon.run();
    trip(&daemon, "openai");
    assert!(matches!(first_call(&daemon, "openai").1, Verdict::Reject { .. }));
    assert!(daemon.log().contains(&daemon.state().display().to_string()), "{}", daemon.log());
}
