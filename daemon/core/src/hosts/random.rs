//! Random histories of three hosts: probes that never return, late reports, hosts cut off, jumps of time.

use proptest::prelude::*;

use super::*;

const HOSTS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Jump(u64),
    Trip(usize, bool),
    Ask(usize),
    /// The oldest probe ends: by success, failure, or no evidence.
    Settle(usize, u8),
    /// Its worker never settles it, and never dies.
    Lose(usize),
    Cut(usize),
    Back(usize),
    Reset(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    prop_oneof![
        4 => prop_oneof![Just(1), Just(500), Just(1000), Just(4000), Just(20_000)].prop_map(Step::Pass),
        1 => prop_oneof![Just(15_000), Just(700_000), Just(100_000_000)].prop_map(Step::Jump),
        3 => (host.clone(), any::<bool>()).prop_map(|(host, contradicted)| Step::Trip(host, contradicted)),
        6 => host.clone().prop_map(Step::Ask),
        5 => (host.clone(), 0..3_u8).prop_map(|(host, how)| Step::Settle(host, how)),
        1 => host.clone().prop_map(Step::Lose),
        1 => host.clone().prop_map(Step::Cut),
        2 => host.clone().prop_map(Step::Back),
        1 => host.prop_map(Step::Reset),
    ]
}

fn play(fleet: &mut Fleet, step: &Step) {
    match *step {
        Step::Pass(ms) => fleet.pass(ms),
        Step::Jump(ms) => fleet.jump(ms),
        Step::Trip(host, contradicted) => fleet.trip_by(host, contradicted),
        Step::Ask(host) => drop(fleet.ask(host)),
        Step::Settle(host, 0) => fleet.succeed(host),
        Step::Settle(host, 1) => fleet.fail(host),
        Step::Settle(host, _) => fleet.settle(host, &Outcome::Ignored),
        Step::Lose(host) => drop(fleet.hosts[host].held.pop()),
        Step::Cut(host) if fleet.hosts[host].stand == Stand::Joined => fleet.cut(host),
        Step::Back(host) if fleet.hosts[host].stand != Stand::Joined => fleet.back(host),
        Step::Cut(_) | Step::Back(_) => {}
        Step::Reset(host) => fleet.reset(host),
    }
}

/// One step where the daemons probe.
#[derive(Clone, Debug)]
enum Daemon {
    Pass(u64),
    Jump(u64),
    Trip(usize),
    /// The oldest connect of a host ends, well or not.
    End(usize, bool),
    /// Its end is never told.
    Lose(usize),
    Force(usize),
    Release(usize),
}

fn daemon_step() -> impl Strategy<Value = Daemon> {
    let host = 0..HOSTS;
    prop_oneof![
        4 => prop_oneof![Just(1), Just(1000), Just(4000), Just(20_000)].prop_map(Daemon::Pass),
        1 => prop_oneof![Just(15_000), Just(700_000)].prop_map(Daemon::Jump),
        3 => host.clone().prop_map(Daemon::Trip),
        4 => (host.clone(), any::<bool>()).prop_map(|(host, well)| Daemon::End(host, well)),
        1 => host.clone().prop_map(Daemon::Lose),
        1 => host.clone().prop_map(Daemon::Force),
        2 => host.prop_map(Daemon::Release),
    ]
}

fn play_daemon(fleet: &mut Fleet, step: &Daemon) {
    match *step {
        Daemon::Pass(ms) => fleet.pass(ms),
        Daemon::Jump(ms) => fleet.jump(ms),
        Daemon::Trip(host) => fleet.trip(host),
        Daemon::End(host, _) | Daemon::Lose(host) if fleet.hosts[host].connects.is_empty() => {}
        Daemon::End(host, true) => fleet.connected(host, &Outcome::SUCCESS),
        Daemon::End(host, false) => fleet.connected(host, &Outcome::failure("connection-refused")),
        Daemon::Lose(host) => drop(fleet.hosts[host].connects.pop()),
        Daemon::Force(host) => {
            let to = breakerd_proto::Override::ForcedOpen;
            fleet.operator(host, |breaker, turn, because| breaker.force(turn, to, None, because));
        }
        Daemon::Release(host) => fleet.operator(host, Breaker::release),
    }
}

/// Probes that are out under the fleet's cell, of the hosts that hear the fleet.
fn leased_out(fleet: &Fleet) -> usize {
    let joined = fleet.hosts.iter().filter(|host| host.stand == Stand::Joined && host.breaker.fleet_rules());
    joined.map(|host| host.breaker.permits.len()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// I3: whatever was lost, the fleet is well a quarter of an hour after its dependency is. I6: no more probes are out
    /// under the fleet than configured. I4: hosts that hear the fleet and have decided nothing alone hold its cell.
    #[test]
    fn nothing_sticks_and_no_probe_is_one_too_many(
        steps in proptest::collection::vec(step(), 1..80),
        permits in 1..4_u32,
        successes in 1..4_u32,
        of_probes in prop_oneof![Just(0_u32), 1..6_u32],
    ) {
        let mut policy = policy();
        (policy.probe.permits, policy.probe.successes) = (permits, successes);
        let rate = breakerd_proto::message::ProbeRate { at_least: 0.6, of_probes };
        policy.probe.rate = (of_probes > 0).then_some(rate);
        let mut fleet = Fleet::of(HOSTS, &policy);
        let mut was_cut = false;
        for step in &steps {
            play(&mut fleet, step);
            was_cut |= matches!(step, Step::Cut(_));
            if !was_cut {
                prop_assert!(leased_out(&fleet) <= usize::try_from(permits).unwrap(), "I6");
                let cells = fleet.hosts.iter().map(|host| host.breaker.joint.cell.state);
                prop_assert_eq!(cells.collect::<Vec<_>>(), vec![fleet.judge.value.state; HOSTS], "I4");
            }
        }
        for host in 0..HOSTS {
            if fleet.hosts[host].stand != Stand::Joined {
                fleet.back(host);
            }
        }
        for _ in 0..900 {
            for host in 0..HOSTS {
                fleet.ask(host);
                while !fleet.hosts[host].held.is_empty() {
                    fleet.succeed(host);
                }
            }
            fleet.pass(1000);
        }
        prop_assert_eq!(fleet.states(), vec![State::Closed; HOSTS], "{:?}", fleet.hosts[0].changes);
        prop_assert_eq!(fleet.judge.value.state, State::Closed);
        for host in &fleet.hosts {
            prop_assert_eq!(host.breaker.permits.len(), 0);
        }
    }

    /// Where a daemon probes no worker ever does, one daemon of the fleet connects at a time, and nothing sticks (I3, I6).
    #[test]
    fn one_daemon_probes_and_no_worker(steps in proptest::collection::vec(daemon_step(), 1..80)) {
        let mut policy = policy();
        policy.probe.connect = Some("db:5432".to_owned());
        let mut fleet = Fleet::of(HOSTS, &policy);
        for step in &steps {
            play_daemon(&mut fleet, step);
            prop_assert!(leased_out(&fleet) <= 1, "I6");
            for host in 0..HOSTS {
                prop_assert_ne!(fleet.ask(host), "probe");
            }
        }
        fleet.operator(0, Breaker::release);
        for _ in 0..60 {
            fleet.pass(1000);
            for host in 0..HOSTS {
                while !fleet.hosts[host].connects.is_empty() {
                    fleet.connected(host, &Outcome::SUCCESS);
                }
            }
        }
        prop_assert_eq!(fleet.states(), vec![State::Closed; HOSTS]);
    }

    /// A dependency that stays down gets no more probes a minute than the backoff's longest cooldown allows, however many
    /// ask: the fleet's calls to it don't grow with its hosts.
    #[test]
    fn a_dependency_that_is_down_gets_one_probe_a_cooldown(hosts in 1..6_usize, askers in 1..20_usize) {
        let mut fleet = Fleet::of(hosts, &policy());
        fleet.trip(0);
        let mut probes = 0;
        for _ in 0..600 {
            for asker in 0..askers {
                if fleet.ask(asker % hosts) == "probe" {
                    probes += 1;
                    fleet.fail(asker % hosts);
                }
            }
            fleet.pass(100);
        }
        // 1 + 2 + 4 s, and then every 8 s of the minute.
        prop_assert_eq!(probes, 9);
    }
}
