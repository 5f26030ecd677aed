//! The fleet's lease over several hosts, one history a test: who holds it, for how long, and what its holder tells.

use super::*;

use State::{Closed, HalfOpen, Open};

/// Half-open, with a probe out on the first of two hosts.
fn probing(policy: &Policy) -> Fleet {
    let mut fleet = Fleet::of(2, policy);
    fleet.trip(0);
    fleet.pass(1000);
    assert_eq!(fleet.ask(0), "probe");
    fleet
}

fn with(change: impl FnOnce(&mut Probe)) -> Policy {
    let mut policy = policy();
    change(&mut policy.probe);
    policy
}

#[test]
fn a_lease_that_nobody_uses_goes_back_a_second_after_its_last_probe() {
    let mut fleet = probing(&policy());
    fleet.pass(100);
    fleet.settle(0, &Outcome::Ignored);
    fleet.pass(999);
    assert_eq!(fleet.ask(1), "reject", "the first host may still want it");
    fleet.pass(1);
    assert_eq!(fleet.ask(1), "probe");
}

#[test]
fn the_holder_tells_when_its_last_probe_is_in() {
    let mut fleet = probing(&with(|probe| (probe.permits, probe.successes) = (2, 3)));
    assert_eq!(fleet.ask(0), "probe");
    fleet.succeed(0);
    assert_eq!(fleet.accepted().get("pok"), None, "the other is out");
    fleet.succeed(0);
    assert_eq!((fleet.accepted().get("pok"), fleet.states()), (Some(&1), vec![HalfOpen, HalfOpen]));
    assert_eq!(fleet.ask(1), "probe");
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Closed, Closed]);
}

#[test]
fn a_probe_whose_lease_was_lost_decides_nothing() {
    for succeeds in [true, false] {
        let mut fleet = probing(&policy());
        fleet.hosts[0].deaf = true;
        fleet.pass(20_000);
        if succeeds {
            fleet.succeed(0)
        } else {
            fleet.fail(0)
        }
        assert_eq!(fleet.states(), [HalfOpen, HalfOpen], "no renewal was heard");
        fleet.hosts[0].deaf = false;
        assert_eq!(fleet.ask(1), "probe");
    }
}

#[test]
fn a_result_that_is_not_told_yet_outlives_the_period() {
    let mut fleet = probing(&with(|probe| probe.period = Duration::from_secs(60)));
    fleet.hosts[0].deaf = true;
    fleet.succeed(0);
    fleet.pass(61_000);
    fleet.hosts[0].deaf = false;
    fleet.pass(2000);
    assert_eq!(fleet.states(), [Closed, Closed], "the probe succeeded in time");
}

#[test]
fn a_recovery_made_alone_is_told_under_a_lease_of_its_own() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.cut(0);
    fleet.pass(3000);
    assert_eq!(fleet.ask(0), "probe");
    fleet.succeed(0);
    assert_eq!(fleet.states(), [Closed, Open]);
    fleet.back(0);
    assert_eq!(fleet.states(), [Closed, Closed]);
    assert_eq!(fleet.last_change(1), "recover closed w[1]@h0: 1 of 1 probes succeeded");
}

#[test]
fn a_recovery_made_alone_gives_way_to_another_hosts_lease() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.cut(0);
    fleet.pass(3000);
    assert_eq!([fleet.ask(0), fleet.ask(1)], ["probe", "probe"]);
    fleet.succeed(0);
    fleet.back(0);
    assert_eq!(fleet.states(), [HalfOpen, HalfOpen]);
    fleet.fail(1);
    assert_eq!(fleet.states(), [Open, Open]);
}

#[test]
fn who_asks_while_the_link_takes_nothing_is_answered_at_once() {
    let mut fleet = Fleet::of(1, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    fleet.hosts[0].deaf = true;
    assert_eq!(fleet.ask(0), "reject");
    assert!(fleet.hosts[0].breaker.joint.waiting.is_none());
    fleet.hosts[0].deaf = false;
    assert_eq!(fleet.ask(0), "probe");
}

#[test]
fn a_success_beside_a_probe_that_never_returns_is_told() {
    let mut fleet = probing(&with(|probe| (probe.permits, probe.successes) = (2, 2)));
    assert_eq!(fleet.ask(0), "probe");
    fleet.succeed(0);
    fleet.pass(40_000);
    assert_eq!(fleet.accepted().get("pok"), Some(&1));
    assert_eq!(fleet.ask(1), "probe");
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Closed, Closed], "one of each host");
}

#[test]
fn another_hosts_lease_is_believed_while_nobody_can_be_asked() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    fleet.pass(1000);
    assert_eq!(fleet.ask(1), "probe");
    fleet.cut(0);
    fleet.pass(9000);
    assert_eq!(fleet.ask(0), "reject");
    fleet.pass(1000);
    assert_eq!(fleet.ask(0), "probe", "its end as this host last heard it");
}
