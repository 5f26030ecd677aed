//! Half-open, backoff and the two cells of several hosts, one history a test.

use breakerd_proto::message::ProbeRate;

use super::*;

fn with(change: impl FnOnce(&mut Probe)) -> Policy {
    let mut policy = policy();
    change(&mut policy.probe);
    policy
}

fn rate() -> Policy {
    with(|probe| {
        probe.rate = Some(ProbeRate { at_least: 0.5, of_probes: 4 });
        probe.permits = 2;
    })
}

fn minute() -> Policy {
    with(|probe| probe.period = Duration::from_secs(60))
}

fn connecting() -> Policy {
    with(|probe| probe.connect = Some("db:5432".to_owned()))
}

use State::{Closed, HalfOpen, Open};

#[test]
fn one_probe_leaves_the_fleet_and_its_success_closes_all() {
    let mut fleet = Fleet::of(3, &policy());
    fleet.trip(0);
    assert_eq!(fleet.states(), [Open, Open, Open]);
    assert_eq!(fleet.ask(1), "reject");
    fleet.pass(1000);
    assert_eq!([fleet.ask(1), fleet.ask(1), fleet.ask(0), fleet.ask(2)], ["probe", "reject", "reject", "reject"]);
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Closed, Closed, Closed]);
    for host in 0..3 {
        assert_eq!(fleet.last_change(host), "recover closed w[1]@h1: 1 of 1 probes succeeded");
    }
}

#[test]
fn successes_of_several_hosts_add_up_and_none_counts_twice() {
    let mut fleet = Fleet::of(2, &with(|probe| probe.successes = 4));
    fleet.trip(0);
    fleet.pass(1000);
    for host in [0, 0, 1] {
        assert_eq!(fleet.ask(host), "probe");
        fleet.succeed(host);
        assert_eq!(fleet.states(), [HalfOpen, HalfOpen]);
    }
    assert_eq!(fleet.ask(0), "probe");
    fleet.succeed(0);
    assert_eq!(fleet.states(), [Closed, Closed]);
}

#[test]
fn a_success_beside_an_ignored_probe_is_not_lost() {
    let policy = with(|probe| (probe.permits, probe.successes) = (2, 2));
    let mut fleet = Fleet::of(2, &policy);
    fleet.trip(0);
    fleet.pass(1000);
    assert_eq!([fleet.ask(0), fleet.ask(0)], ["probe", "probe"]);
    fleet.succeed(0);
    fleet.settle(0, &Outcome::Ignored);
    fleet.pass(1001);
    assert_eq!(fleet.ask(1), "probe");
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Closed, Closed]);
}

#[test]
fn with_a_rate_the_holder_counts_all_and_tells_once() {
    let mut fleet = Fleet::of(2, &rate());
    fleet.trip(0);
    fleet.pass(1000);
    assert_eq!([fleet.ask(0), fleet.ask(0), fleet.ask(0), fleet.ask(1)], ["probe", "probe", "reject", "reject"]);
    fleet.fail(0);
    fleet.fail(0);
    assert_eq!([fleet.ask(0), fleet.ask(0), fleet.ask(0)], ["probe", "probe", "reject"]);
    fleet.succeed(0);
    assert_eq!(fleet.ask(0), "reject", "the fourth is out and no fifth is made");
    fleet.succeed(0);
    assert_eq!(fleet.states(), [Closed, Closed]);
    assert_eq!(fleet.last_change(1), "recover closed w[1]@h0: 2 of 4 probes succeeded");
    assert_eq!(fleet.accepted(), BTreeMap::from([("trip", 1), ("probe", 1), ("pok", 1)]));
}

#[test]
fn with_a_rate_what_was_counted_outlives_a_lease_that_nobody_used() {
    let mut fleet = Fleet::of(2, &rate());
    fleet.trip(0);
    fleet.pass(1000);
    for _ in 0..4 {
        assert_eq!(fleet.ask(0), "probe");
        assert_eq!(fleet.states(), [HalfOpen, HalfOpen]);
        fleet.fail(0);
        fleet.pass(5000);
    }
    assert_eq!(fleet.accepted().get("free"), Some(&3), "for another host to try meanwhile");
    assert_eq!(fleet.last_change(1), "reopen open w[1]@h0: 4 of 4 probes failed, last http-503");
}

/// OmniRoute#13836, in a fleet: whoever holds the lease ends a half-open that nobody decides.
#[test]
fn only_the_holder_of_the_lease_reopens_by_the_period() {
    let mut fleet = Fleet::of(3, &minute());
    fleet.trip(0);
    fleet.pass(1000);
    for _ in 0..59 {
        assert_eq!(fleet.ask(1), "probe");
        fleet.settle(1, &Outcome::Ignored);
        fleet.pass(999);
    }
    assert_eq!(fleet.ask(1), "probe");
    fleet.pass(3000);
    assert_eq!(fleet.states(), [Open, Open, Open]);
    assert_eq!(
        fleet.told.iter().filter(|(_, word, _)| *word == "pfail").collect::<Vec<_>>(),
        [&(1, "pfail", OpResult::Ok)]
    );
    for host in 0..3 {
        assert_eq!(fleet.last_change(host), "reopen open breakerd@h1: half-open for 1 min without a decision");
    }
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Open, Open, Open], "a late report decides nothing");
}

#[test]
fn a_half_open_that_nobody_tried_is_tried_first_and_then_reopens() {
    let mut fleet = Fleet::of(2, &minute());
    fleet.trip(0);
    fleet.pass(1000);
    assert_eq!(fleet.ask(0), "probe");
    fleet.settle(0, &Outcome::Ignored);
    fleet.pass(3_000_000);
    assert_eq!(fleet.states(), [HalfOpen, HalfOpen], "it has no holder, and any worker may try");
    assert_eq!(fleet.ask(1), "probe");
    fleet.pass(20_000);
    assert_eq!(fleet.states(), [HalfOpen, HalfOpen], "its probe is out");
    fleet.settle(1, &Outcome::Abandoned);
    fleet.pass(1000);
    assert_eq!(fleet.last_change(0), "reopen open breakerd@h1: half-open for 50 min without a decision");
}

#[test]
fn a_host_that_is_alone_ends_its_half_open_by_the_period() {
    let mut fleet = Fleet::of(2, &minute());
    fleet.trip(0);
    fleet.cut(0);
    fleet.pass(3000);
    assert_eq!(fleet.ask(0), "probe");
    fleet.pass(59_999);
    assert_eq!(fleet.states()[0], HalfOpen);
    fleet.pass(1);
    assert_eq!(fleet.last_change(0), "reopen open breakerd@h0: half-open for 1 min without a decision");
}

#[test]
fn every_host_that_saw_a_recovery_goes_on_with_the_backoff() {
    let mut fleet = Fleet::of(3, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.fail(0);
    assert_eq!(fleet.waits(), [2, 2, 2]);
    fleet.pass(2000);
    fleet.ask(1);
    fleet.succeed(1);
    fleet.pass(59_000);
    fleet.trip(2);
    assert_eq!(fleet.waits(), [4, 4, 4], "the third step, by the policy of the host that trips");
    fleet.pass(4000);
    fleet.ask(0);
    fleet.fail(0);
    assert_eq!(fleet.waits(), [8, 8, 8], "the fleet has kept the step");
    fleet.pass(8000);
    fleet.ask(0);
    fleet.succeed(0);
    fleet.pass(60_000);
    fleet.trip(1);
    assert_eq!(fleet.waits(), [1, 1, 1], "forgotten");
}

#[test]
fn a_reset_anywhere_clears_the_backoff_everywhere() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.succeed(0);
    fleet.reset(1);
    fleet.trip(0);
    assert_eq!(fleet.waits(), [1, 1]);
    fleet.reset(0);
    assert_eq!(fleet.last_change(1), "reset closed root@h0: drill");
    fleet.trip(1);
    assert_eq!(fleet.waits(), [1, 1], "what an operator has closed has no backoff");
}

#[test]
fn a_reset_anywhere_closes_what_a_host_holds_open_by_itself() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip_by(0, true);
    assert_eq!(fleet.states(), [Open, Closed], "contradicted: its own host's business");
    fleet.reset(1);
    assert_eq!(fleet.states(), [Closed, Closed]);
    assert_eq!(fleet.last_change(0), "reset closed root@h1: drill");
}

#[test]
fn an_open_host_stays_open_whatever_the_fleet_forces_and_releases() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip_by(0, true);
    fleet
        .operator(1, |breaker, turn, because| breaker.force(turn, breakerd_proto::Override::ForcedOpen, None, because));
    fleet.operator(1, Breaker::release);
    assert_eq!(fleet.states(), [Open, Closed]);
}

#[test]
fn a_failed_probe_of_an_open_host_is_the_fleets_business_if_nothing_spoke_against_it() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip_by(0, true);
    fleet.pass(1000);
    assert_eq!(fleet.ask(0), "probe");
    fleet.fail(0);
    assert_eq!((fleet.states(), fleet.waits()), (vec![Open, Open], vec![2, 2]));
    assert_eq!(fleet.last_change(1), "trip open w[1]@h0: the probe failed: http-503");
    fleet.pass(2000);
    assert_eq!([fleet.ask(1), fleet.ask(0)], ["probe", "reject"], "one lease for both");
    fleet.fail(1);
    assert_eq!(fleet.waits(), [4, 4], "the step went with it");
}

#[test]
fn a_success_since_it_opened_keeps_it_the_hosts_own() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip_by(0, true);
    let from = Reporter { connection: WORKER, worker: WorkerId(2), label: "w[2]", overtaken: false };
    // A call that was under way when it tripped.
    fleet.touch(0, |breaker, turn| breaker.settle(turn, &from, (1, 0), turn.now, &Outcome::SUCCESS));
    fleet.pass(1000);
    fleet.ask(0);
    fleet.fail(0);
    assert_eq!(fleet.states(), [Open, Closed]);
    fleet.pass(2000);
    fleet.ask(0);
    fleet.fail(0);
    assert_eq!(fleet.states(), [Open, Open], "nothing has succeeded since it opened again");
}

#[test]
fn a_probe_of_an_open_host_that_succeeds_ends_it_there() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip_by(0, true);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.succeed(0);
    assert_eq!(fleet.states(), [Closed, Closed]);
    assert_eq!(fleet.accepted(), BTreeMap::new(), "the fleet never heard of it");
}

#[test]
fn a_probe_that_ends_while_the_fleet_is_away_decides_here_and_is_told_on_its_return() {
    for (success, state, last) in [
        (false, Open, "reopen open w[1]@h0: the probe failed: http-503"),
        (true, Closed, "recover closed w[1]@h0: 1 of 1 probes succeeded"),
    ] {
        let mut fleet = Fleet::of(2, &policy());
        fleet.trip(0);
        fleet.pass(1000);
        fleet.ask(0);
        fleet.cut(0);
        fleet.pass(500);
        if success {
            fleet.succeed(0)
        } else {
            fleet.fail(0)
        }
        assert_eq!(fleet.states(), [state, HalfOpen]);
        fleet.back(0);
        assert_eq!(fleet.states(), [state, state]);
        assert_eq!(fleet.last_change(1), last);
    }
}

#[test]
fn a_host_that_holds_a_lease_and_is_cut_off_for_long_goes_on_alone() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.cut(0);
    fleet.fail(0);
    for wait in [2, 4, 8, 8] {
        assert_eq!((fleet.states()[0], fleet.waits()[0]), (Open, wait));
        fleet.pass(wait * 1000);
        assert_eq!(fleet.ask(0), "probe");
        fleet.fail(0);
    }
}

#[test]
fn a_result_that_the_link_does_not_take_is_told_again() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.hosts[0].deaf = true;
    fleet.succeed(0);
    fleet.pass(5000);
    assert_eq!(fleet.states(), [HalfOpen, HalfOpen]);
    fleet.hosts[0].deaf = false;
    fleet.pass(1000);
    assert_eq!(fleet.states(), [Closed, Closed]);
}

#[test]
fn one_daemon_of_the_fleet_connects_and_all_go_by_what_it_finds() {
    let mut fleet = Fleet::of(3, &connecting());
    fleet.trip(0);
    fleet.pass(1000);
    let connects = |fleet: &Fleet| fleet.hosts.iter().map(|host| host.connects.len()).sum::<usize>();
    assert_eq!(connects(&fleet), 1);
    assert_eq!([fleet.ask(0), fleet.ask(1), fleet.ask(2)], ["reject", "reject", "reject"]);
    let holder = |fleet: &Fleet| fleet.hosts.iter().position(|host| !host.connects.is_empty()).unwrap();
    let first = holder(&fleet);
    fleet.connected(first, &Outcome::failure("connection-refused"));
    assert_eq!((fleet.states(), fleet.waits()), (vec![Open; 3], vec![2; 3]));
    fleet.pass(2000);
    assert_eq!(connects(&fleet), 1);
    let second = holder(&fleet);
    fleet.connected(second, &Outcome::SUCCESS);
    assert_eq!(fleet.states(), [Closed, Closed, Closed]);
    let why = format!("recover closed breakerd@h{second}: 1 of 1 probes succeeded");
    (0..3).for_each(|host| assert_eq!(fleet.last_change(host), why));
    fleet.pass(100_000);
    assert_eq!(connects(&fleet), 0);
}

#[test]
fn a_daemon_that_never_tells_the_end_of_its_connect_leaves_the_probe_to_another() {
    let mut fleet = Fleet::of(2, &connecting());
    fleet.trip(0);
    fleet.pass(1000);
    let lost = usize::from(fleet.hosts[0].connects.is_empty());
    fleet.hosts[lost].stand = Stand::JustDetached;
    fleet.pass(12_000);
    assert_eq!(fleet.hosts[1 - lost].connects.len(), 1, "the lease ran out");
    fleet.connected(1 - lost, &Outcome::SUCCESS);
    assert_eq!(fleet.states()[1 - lost], Closed);
}
