//! `probe.connect` in a fleet: one host connects, all hear what it found.

use std::time::Duration;

use breakerd_proto::{Link, State};
use breakerd_tests::{Daemon, Provider, Redis, Setup, until};

use crate::world::{FLEET, Host};

fn host(redis: &Redis, name: &'static str, provider: &Provider) -> Host {
    let fleet = Some((redis.url(), FLEET.to_owned()));
    let more = format!("probe.connect = \"{}\"\n", provider.address());
    let cooldown = Duration::from_millis(300);
    let daemon = Daemon::with(&Setup { host: name, cooldown, fleet, more, ..Setup::default() });
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    Host { daemon, worker, lane }
}

#[test]
fn one_of_two_hosts_connects_and_both_recover() {
    let redis = Redis::start();
    let provider = Provider::up();
    let (mut one, mut two) = (host(&redis, "web-1", &provider), host(&redis, "web-2", &provider));
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    for round in 0..3 {
        one.worker.fail_together(one.lane, 5);
        until("both hosts have opened", || {
            let opened = |host: &Host| host.daemon.log().matches("to=open").count() > round;
            (opened(&one) && opened(&two)).then_some(())
        });
        one.until_state(State::Closed);
        two.until_state(State::Closed);
        assert_eq!(provider.accepted(), 1, "round {round}");
    }
}
