//! SIGHUP: the configuration is read anew, all of it or nothing.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use breakerd_client::{Options, RejectReason, Source};
use breakerd_proto::message::Reloaded;
use breakerd_proto::{Code, State, ToClient, Verdict};
use breakerd_tests::wait::{PATIENCE, within};
use breakerd_tests::{Daemon, Setup, until};

fn five() -> Setup {
    Setup { failures: 5, ..Setup::default() }
}

/// Tells it to read this configuration, and waits until its log has the sentence.
fn reload(daemon: &Daemon, setup: &Setup, sentence: &str) {
    let before = daemon.log().len();
    daemon.write(setup);
    daemon.hangup();
    until("the log tells of it", || daemon.log().get(before..)?.contains(sentence).then_some(()));
}

#[test]
fn four_failures_a_reload_and_the_fifth_trips() {
    let daemon = Daemon::with(&five());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 4);
    reload(&daemon, &Setup { cooldown: Duration::from_secs(5), ..five() }, "reloaded; 1 breakers in use");
    assert_eq!(worker.read(), ToClient::Reloaded(Reloaded {}));
    let told = worker.register("openai");
    assert_eq!((told.lane, told.policy.cooldown_first_ms), (lane, Some(5000)), "the same lane, the new policy");
    assert_eq!(worker.observe(lane).failures, 4);
    worker.fail_together(lane, 1);
    let view = worker.observe(lane).view;
    assert_eq!((view.state, view.why.as_str()), (State::Open, "5 consecutive failures, last http-401"));
    assert!(view.retry_after_ms.unwrap() <= 5000, "by the new cooldown, not in {:?} ms", view.retry_after_ms);
}

#[test]
fn a_faulty_file_is_logged_line_by_line_and_the_running_settings_stay() {
    let daemon = Daemon::with(&five());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let faulty = Setup { failures: 1, more: "colldown = \"3s\"\n".to_owned(), ..Setup::default() };
    reload(&daemon, &faulty, "the configuration is not taken; the running settings stay");
    let text = std::fs::read_to_string(daemon.config()).unwrap();
    let line = text.lines().position(|line| line.starts_with("colldown")).unwrap() + 1;
    let place = format!("{}:{line}", daemon.config().display());
    assert!(daemon.log().contains(&place), "no {place} in\n{}", daemon.log());
    worker.fail_together(lane, 4);
    assert_eq!(worker.observe(lane).view.state, State::Closed, "the failures = 1 beside the fault was not taken");
    std::fs::remove_file(daemon.config()).unwrap();
    daemon.hangup();
    until("a missing file is told", || (daemon.log().matches("is not taken").count() == 2).then_some(()));
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }));
}

#[test]
fn what_only_a_restart_can_change_is_said_and_the_rest_holds() {
    let daemon = Daemon::with(&five());
    let moved = Setup { host: "web-2", failures: 2, fleet: None, ..Setup::default() };
    reload(&daemon, &moved, "reloaded");
    assert!(daemon.log().contains("host changed and needs a restart"), "{}", daemon.log());
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 2);
    let view = worker.observe(lane).view;
    assert_eq!(view.state, State::Open, "two trip from here on");
    assert!(view.by.ends_with("@web-1"), "{}", view.by);
}

#[test]
fn who_may_reset_is_a_matter_of_the_newest_file() {
    let daemon = Daemon::with(&five());
    let mut worker = daemon.worker();
    worker.lane("openai");
    let reset = breakerd_proto::message::Action::Reset;
    assert!(matches!(worker.command("openai", reset), ToClient::Refused(no) if no.code == Code::Denied));
    reload(&daemon, &Setup { may_reset: vec!["*".to_owned()], ..five() }, "reloaded; 0 breakers");
    assert!(matches!(worker.command("openai", reset), ToClient::Done(_)), "and nobody was told of policies");
}

#[test]
fn a_client_goes_by_the_new_policy_from_its_next_call_on() {
    let mut daemon = Daemon::with(&five());
    let client = Options::from_env().unwrap().socket(daemon.socket()).open();
    let breaker = client.breaker("openai").unwrap();
    breaker.admit().unwrap().succeed();
    reload(&daemon, &Setup { more: "fallback = \"reject\"\n".to_owned(), ..five() }, "reloaded; 1 breakers");
    let told = |source| until("it is told", || Some(breaker.observe()).filter(|seen| seen.source == source));
    // The first answer brings the word that policies are others, the next question asks for them.
    told(Source::Daemon);
    told(Source::Daemon);
    daemon.kill9();
    let no = until("the daemon is missed", || breaker.admit().err());
    assert_eq!(no.reason, RejectReason::NoDaemon, "the fallback that the reload brought");
}

#[test]
fn a_call_that_looks_at_the_board_only_goes_by_the_new_policy_too() {
    let daemon = Daemon::with(&five());
    let client = Options::from_env().unwrap().socket(daemon.socket()).open();
    let breaker = client.breaker("openai").unwrap();
    breaker.admit().unwrap().succeed();
    let more = "slow_after = \"1ms\"\ntrip.slow_count = { at_least = 3, of_calls = 3 }\n".to_owned();
    reload(&daemon, &Setup { more, ..five() }, "reloaded; 1 breakers");
    let slow = || within(Duration::from_millis(2), || None::<()>).map_or(Ok::<_, ()>(()), Ok);
    until("three slow calls trip", || breaker.call(slow).is_err().then_some(()));
    assert_eq!(breaker.observe().why, "3 of the last 3 calls were slow");
}

#[test]
fn systemd_is_told_when_it_begins_and_when_it_is_over() {
    let mut daemon = Daemon::idle(&five());
    let manager = UnixDatagram::bind(daemon.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    daemon.run();
    assert_eq!(told(), "READY=1");
    for setup in [five(), Setup { more: "colldown = 1\n".to_owned(), ..five() }] {
        daemon.write(&setup);
        daemon.hangup();
        let begins = told();
        let stamp = begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{begins}"));
        assert!(stamp.parse::<u64>().unwrap() > 0);
        assert_eq!(told(), "READY=1", "also when nothing was taken, or systemd would wait for it");
    }
}
