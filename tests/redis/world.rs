//! Two hosts and one Redis.

use std::time::Duration;

use breakerd_proto::message::{About, Daemon as AboutDaemon};
use breakerd_proto::{Link, State, ToClient};
use breakerd_tests::redis::Session;
use breakerd_tests::{Daemon, Raw, Redis, Setup, until};

/// The fleet's name in these tests; each test has a Redis of its own.
pub(crate) const FLEET: &str = "demo";

/// A host's daemon and one worker with `openai` registered.
pub(crate) struct Host {
    pub(crate) daemon: Daemon,
    pub(crate) worker: Raw,
    pub(crate) lane: u32,
}

impl Host {
    /// One that need not be joined yet.
    pub(crate) fn start(url: &str, host: &'static str, cooldown: Duration) -> Self {
        let fleet = Some((url.to_owned(), FLEET.to_owned()));
        let daemon = Daemon::with(&Setup { host, cooldown, fleet, ..Setup::default() });
        let mut worker = daemon.worker();
        let lane = worker.lane("openai");
        Self { daemon, worker, lane }
    }

    pub(crate) fn state(&mut self) -> State {
        self.worker.observe(self.lane).view.state
    }

    pub(crate) fn trip(&mut self) {
        self.worker.fail_together(self.lane, 5);
        assert_eq!(self.state(), State::Open);
    }

    pub(crate) fn until_state(&mut self, state: State) {
        until(&format!("the state is {state}"), || (self.state() == state).then_some(()));
    }

    pub(crate) fn about(&mut self) -> AboutDaemon {
        let request = self.worker.request();
        self.worker.send(About { request });
        match self.worker.read() {
            ToClient::Daemon(about) => about,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn until_link(&mut self, link: Link) {
        until(&format!("the daemon is {link}"), || (self.about().link == link).then_some(()));
    }
}

/// Two joined hosts with a minute of cooldown.
pub(crate) fn two(redis: &Redis) -> (Host, Host) {
    two_with(redis, Duration::from_secs(60))
}

/// Two joined hosts.
pub(crate) fn two_with(redis: &Redis, cooldown: Duration) -> (Host, Host) {
    let mut one = Host::start(&redis.url(), "web-1", cooldown);
    let mut two = Host::start(&redis.url(), "web-2", cooldown);
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    (one, two)
}

/// Connections of anybody but the asking session, each as its line of CLIENT LIST.
pub(crate) fn connections(session: &mut Session) -> Vec<String> {
    let list = session.ask(&["CLIENT", "LIST"]).text();
    list.lines()
        .filter(|line| !line.contains("cmd=client|list") && !line.contains("cmd=client "))
        .map(str::to_owned)
        .collect()
}
