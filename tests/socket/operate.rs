//! Commands, who may give them, and what they do.

use breakerd_proto::message::{Action, Ask, Asked, Daemon as AboutDaemon, Done};
use breakerd_proto::{Code, Mode, Override, RejectReason, State, ToClient, Verdict};
use breakerd_tests::{Daemon, Raw, Setup};

use crate::breaker::{four, table};

const FORCE: Action = Action::Force { to: Override::ForcedOpen, for_ms: None };

pub(crate) fn about(raw: &mut Raw) -> AboutDaemon {
    let request = raw.request();
    raw.send(breakerd_proto::message::About { request });
    match raw.read() {
        ToClient::Daemon(about) => about,
        other => panic!("{other:?}"),
    }
}

fn done(answer: ToClient) -> Done {
    match answer {
        ToClient::Done(done) => done,
        other => panic!("not done but {other:?}"),
    }
}

fn denied(answer: ToClient) -> String {
    match answer {
        ToClient::Refused(refused) if refused.code == Code::Denied => refused.sentence,
        other => panic!("not denied but {other:?}"),
    }
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn ask(raw: &mut Raw, name: &str) -> Asked {
    let request = raw.request();
    raw.send(Ask { request, name: name.to_owned() });
    match raw.read() {
        ToClient::Asked(asked) => asked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reset_closes_for_all_and_clears_the_evidence() {
    let daemon = Daemon::start();
    let mut workers = four(&daemon, "openai");
    let (first, lane) = &mut workers[0];
    first.fail_together(*lane, 5);
    first.observe(*lane);
    let done = done(daemon.operator().command("openai", Action::Reset));
    assert_eq!((done.view.state, done.view.why.as_str(), done.fleet), (State::Closed, "a test", false));
    assert_eq!(table(&mut workers), [(State::Closed, 0); 4]);
}

#[test]
fn a_worker_may_not_force_on_the_workers_socket() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    worker.lane("openai");
    let sentence = denied(worker.command("openai", FORCE));
    let control = daemon.control().display().to_string();
    for part in ["force", "control", control.as_str()] {
        assert!(sentence.contains(part), "no {part:?} in {sentence:?}");
    }
    assert!(names_account(&sentence), "no account in {sentence:?}");
    assert!(matches!(worker.command("openai", Action::Release), ToClient::Refused(_)));
    assert!(denied(worker.command("openai", Action::Mode { to: Some(Mode::Off) })).contains("mode"));
    let lane = worker.lane("openai");
    assert_eq!(worker.observe(lane).view.state, State::Closed, "and nothing has changed");
}

/// Whether the sentence names this process's account, by name or by number.
fn names_account(sentence: &str) -> bool {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid().to_string();
    let of_number = |line: &&str| line.split(':').nth(2) == Some(&number);
    let name = passwd.lines().find(of_number).and_then(|line| line.split(':').next()).unwrap_or("");
    sentence.contains(&number) || (!name.is_empty() && sentence.contains(name))
}

#[test]
fn a_worker_without_the_right_may_not_reset() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    worker.lane("openai");
    let sentence = denied(worker.command("openai", Action::Reset));
    for part in ["reset", "[rights]"] {
        assert!(sentence.contains(part), "no {part:?} in {sentence:?}");
    }
    assert!(names_account(&sentence), "no account in {sentence:?}");
}

#[test]
fn a_worker_whose_account_has_the_right_may_reset() {
    let daemon = Daemon::with(&Setup { may_reset: vec![uid().to_string()], ..Setup::default() });
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    done(worker.command("openai", Action::Reset));
    assert_eq!(worker.observe(lane).view.state, State::Closed);
    denied(worker.command("openai", FORCE));
}

#[test]
fn another_account_s_right_is_not_this_one_s() {
    let daemon = Daemon::with(&Setup { may_reset: vec![(uid() + 1).to_string()], ..Setup::default() });
    let mut worker = daemon.worker();
    worker.lane("openai");
    denied(worker.command("openai", Action::Reset));
}

#[test]
fn forced_open_rejects_and_release_shows_what_is_beneath() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let mut operator = daemon.operator();
    let forced = done(operator.command("openai", FORCE)).view;
    assert_eq!((forced.state, forced.forced), (State::Open, Some(Override::ForcedOpen)));
    match worker.query(lane) {
        Verdict::Reject { reason: RejectReason::Forced, retry_after_ms: None, .. } => {}
        other => panic!("{other:?}"),
    }
    let released = done(operator.command("openai", Action::Release)).view;
    assert_eq!((released.state, released.forced), (State::Closed, None));
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }));
}

#[test]
fn forced_closed_admits_over_an_open_breaker() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    let mut operator = daemon.operator();
    done(operator.command("openai", Action::Force { to: Override::ForcedClosed, for_ms: None }));
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }));
    done(operator.command("openai", Action::Release));
    assert!(matches!(worker.query(lane), Verdict::Reject { reason: RejectReason::Open, .. }));
}

#[test]
fn workers_are_told_of_a_mode_and_learn_it_as_their_policy() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    worker.lane("openai");
    let view = done(daemon.operator().command("openai", Action::Mode { to: Some(Mode::Shadow) })).view;
    assert_eq!((view.mode, view.mode_why.as_str()), (Mode::Shadow, "a test"));
    assert!(view.mode_by.ends_with("@web-1"), "{}", view.mode_by);
    assert_eq!(worker.read(), ToClient::Reloaded(breakerd_proto::message::Reloaded {}));
    assert_eq!(worker.register("openai").policy.mode, Some(Mode::Shadow));
}

#[test]
fn a_force_with_an_end_ends() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    done(daemon.operator().command("openai", Action::Force { to: Override::ForcedOpen, for_ms: Some(30) }));
    breakerd_tests::until("the force has ended", || matches!(worker.query(lane), Verdict::Admit { .. }).then_some(()));
    assert_eq!(worker.observe(lane).view.forced, None);
}

#[test]
fn a_reset_of_a_name_that_nobody_uses() {
    let daemon = Daemon::start();
    match daemon.operator().command("opneai", Action::Reset) {
        ToClient::Refused(refused) => {
            assert_eq!(refused.code, Code::UnknownBreaker);
            assert!(refused.sentence.contains("opneai"), "{}", refused.sentence);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn asking_takes_no_probe() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    breakerd_tests::until("the cooldown is over", || {
        matches!(ask(&mut worker, "openai").verdict, Verdict::Probe { permit: 0, .. }).then_some(())
    });
    assert_eq!(worker.observe(lane).view.state, State::Open, "nobody took it");
    assert!(matches!(worker.query(lane), Verdict::Probe { .. }));
}

#[test]
fn the_daemon_tells_of_itself() {
    let daemon = Daemon::start();
    let mut workers = four(&daemon, "openai");
    let told = about(&mut workers[0].0);
    assert_eq!((told.pid, told.host.as_str()), (daemon.pid(), "web-1"));
    assert_eq!((told.workers, told.breakers), (4, 1));
    assert_eq!((told.link, told.redis.as_str(), told.fleet.as_str()), (breakerd_proto::Link::Standalone, "", ""));
    assert_eq!(told.release, env!("CARGO_PKG_VERSION"));
}
