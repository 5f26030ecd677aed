//! A daemon with the breakers that the figures need, and workers of it.

use std::fs;
use std::time::Duration;

use breakerd_client::{Breaker, Client, Name, Operator, Options};
use breakerd_proto::ToClient;
use breakerd_proto::limits::FEATURE_BOARD;
use breakerd_proto::message::{Action, Hello};
use breakerd_tests::{Daemon, Raw, Setup, until};

use crate::clock::pin_process;

/// One breaker that trips at the first failure and stays open; one whose calls are timed; one that no failure trips; one
/// that is half-open as soon as anybody asks.
const BREAKERS: &str = r#"
[breaker."timed"]
slow_after = "10s"
trip.slow_rate = { at_least = 0.9, of_calls = 1000, within = "30s" }
[breaker."patient"]
trip.consecutive_failures = 1000000
trip.failure_rate = false
[breaker."probed"]
cooldown = { first = "1ms", factor = 1.0, max = "1ms", jitter = 0.0 }
"#;

/// The release's daemon, its loop on processor 0.
pub(crate) fn daemon() -> Daemon {
    daemon_of(&setup())
}

pub(crate) fn daemon_of(setup: &Setup) -> Daemon {
    let daemon = Daemon::with(setup);
    pin_process(daemon.pid(), 0);
    daemon
}

pub(crate) fn setup() -> Setup {
    Setup { failures: 1, cooldown: Duration::from_secs(3_600), more: BREAKERS.to_owned(), ..Setup::default() }
}

/// A worker of its own connection, and memory if the daemon gives any.
pub(crate) fn client(daemon: &Daemon) -> Client {
    Options::from_env().unwrap().socket(daemon.socket()).open()
}

/// A breaker of a new worker that has been asked of the daemon, and is closed.
pub(crate) fn breaker(daemon: &Daemon, name: &str) -> Breaker {
    let breaker = client(daemon).breaker(name).unwrap();
    attached(&breaker);
    breaker
}

/// Calls until the daemon is who answers.
pub(crate) fn attached(breaker: &Breaker) {
    until("the daemon answers", || {
        let answered = breaker.call(|| Ok::<(), Broken>(())).is_ok();
        (answered && breaker.observe().source == breakerd_client::Source::Daemon).then_some(())
    });
}

/// Workers that have registered a breaker and been given memory, and do nothing: to the daemon each is a process of its
/// own, by its nonce.
pub(crate) fn idle_workers(daemon: &Daemon, number: usize) -> Vec<Raw> {
    let idle = |number: usize| {
        let mut worker = Raw::silent(&daemon.socket());
        worker.send(Hello { features: FEATURE_BOARD, ..Raw::greeting("idle", 1_000_000 + number as u64) });
        assert!(matches!(worker.read(), ToClient::Welcome(welcome) if welcome.features == FEATURE_BOARD));
        worker.lane("openai");
        worker
    };
    (0..number).map(idle).collect()
}

/// What a provider's failure is here.
#[derive(Debug)]
pub(crate) struct Broken;

/// One who may reset.
pub(crate) struct Resetter(Operator);

impl Resetter {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        Self(Operator::connect(&daemon.control()).unwrap())
    }

    pub(crate) fn reset(&mut self, name: &str) {
        self.0.command(&Name::parse(name).unwrap(), Action::Reset, "the next round").unwrap();
    }
}

/// What the figures were taken on.
pub(crate) fn machine() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = about.lines().filter(|line| line.starts_with("processor")).count();
    format!("{processors} × {model}, Linux {}", kernel.trim())
}
