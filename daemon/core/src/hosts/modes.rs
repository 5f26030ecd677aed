//! Shadow and off in a fleet: who sends, who obeys.

use breakerd_proto::{Mode, Override};

use super::*;

use State::{Closed, Open};

/// The first host acts, the second is in this mode.
fn beside(mode: Mode) -> Fleet {
    let mut fleet = Fleet::of(2, &policy());
    fleet.hosts[1].breaker.policy = Arc::new(Policy { mode, ..policy() });
    fleet
}

#[test]
fn shadow_and_off_do_not_obey_the_fleets_trips() {
    for mode in [Mode::Shadow, Mode::Off] {
        let mut fleet = beside(mode);
        fleet.trip(0);
        assert_eq!(fleet.states(), [Open, Closed]);
        let view = fleet.hosts[1].breaker.view(fleet.now);
        assert_eq!((view.mode, view.generation), (mode, 1), "its evidence is none of the fleet's business");
        fleet.pass(1000);
        assert_eq!(fleet.ask(1), "admit", "nor is the fleet's probe its to take");
        assert_eq!(fleet.ask(0), "probe");
        fleet.succeed(0);
        assert_eq!(fleet.states(), [Closed, Closed]);
        assert_eq!(fleet.hosts[1].changes, Vec::<String>::new());
    }
}

#[test]
fn a_mode_by_an_operator_is_its_hosts_alone() {
    let mut fleet = Fleet::of(2, &policy());
    fleet.trip(0);
    assert_eq!(fleet.states(), [Open, Open]);
    fleet.operator(1, |breaker, turn, because| breaker.order(turn, Some(Mode::Shadow), because));
    assert_eq!((fleet.states(), fleet.ask(1)), (vec![Open, Closed], "admit"));
    assert_eq!(fleet.last_change(1), "mode closed : ");
    fleet.operator(1, |breaker, turn, because| breaker.order(turn, None, because));
    assert_eq!(fleet.states(), [Open, Open], "what the fleet holds rules again");
}

#[test]
fn shadow_tells_nobody_of_its_trips_probes_and_recoveries() {
    let mut fleet = beside(Mode::Shadow);
    fleet.trip(1);
    assert_eq!(fleet.states(), [Closed, Open]);
    fleet.pass(1000);
    assert_eq!(fleet.ask(1), "probe");
    fleet.fail(1);
    fleet.pass(2000);
    assert_eq!(fleet.ask(1), "probe");
    fleet.succeed(1);
    assert_eq!(fleet.states(), [Closed, Closed]);
    fleet.trip(1);
    fleet.cut(1);
    fleet.pass(1);
    fleet.back(1);
    assert_eq!(fleet.told, [], "nor when it was away");
}

#[test]
fn shadow_keeps_its_books_while_the_fleet_opens_and_closes() {
    let mut fleet = beside(Mode::Shadow);
    fleet.trip(1);
    fleet.trip(0);
    fleet.pass(1000);
    fleet.ask(0);
    fleet.succeed(0);
    assert_eq!(fleet.states(), [Closed, Open]);
}

#[test]
fn shadow_obeys_operators_of_every_host() {
    let mut fleet = beside(Mode::Shadow);
    fleet.operator(0, |breaker, turn, because| breaker.force(turn, Override::ForcedOpen, None, because));
    assert_eq!((fleet.ask(1), fleet.last_change(1)), ("reject", "force open root@h0: drill"));
    fleet.operator(0, Breaker::release);
    assert_eq!(fleet.ask(1), "admit");
    fleet.trip(1);
    fleet.reset(0);
    assert_eq!((fleet.states(), fleet.last_change(1)), (vec![Closed, Closed], "reset closed root@h0: drill"));
}

#[test]
fn an_operators_word_on_a_shadow_host_is_the_fleets() {
    let mut fleet = beside(Mode::Shadow);
    fleet.operator(1, |breaker, turn, because| breaker.force(turn, Override::ForcedOpen, Some(fleet_end()), because));
    assert_eq!(fleet.states(), [Open, Open]);
    assert_eq!(fleet.last_change(0), "force open root@h1: drill");
    fleet.pass(5000);
    assert_eq!(fleet.states(), [Closed, Closed]);
}

/// Five seconds after the beginning.
fn fleet_end() -> Mono {
    Mono::default().after_ms(1_005_000)
}

#[test]
fn off_admits_whatever_lies_over_it_and_says_so() {
    let mut fleet = beside(Mode::Off);
    fleet.operator(0, |breaker, turn, because| breaker.force(turn, Override::ForcedOpen, None, because));
    assert_eq!([fleet.ask(0), fleet.ask(1)], ["reject", "admit"]);
    let view = fleet.hosts[1].breaker.view(fleet.now);
    assert_eq!((view.forced, view.mode), (Some(Override::ForcedOpen), Mode::Off));
}
