//! New settings under live breakers: what survives, what begins anew.

use breakerd_core::{Pattern, PatternPolicy, Quotas, Settings};
use breakerd_proto::message::{Action, PolicyPatch};
use breakerd_proto::{Mode, Override, State, Verdict};

use crate::host::{Host, Lane};
use crate::script::policy;

fn settings(failures: u32) -> Settings {
    Settings { default: PolicyPatch { consecutive_failures: Some(failures), ..policy() }, ..Settings::default() }
}

fn host(failures: u32) -> (Host, Lane) {
    let mut host = Host::new(settings(failures));
    let worker = host.worker(1);
    let lane = host.lane(worker, "openai");
    (host, lane)
}

/// Brings the settings to every breaker, and tells how many have another policy then.
fn reload(host: &mut Host, settings: Settings) -> usize {
    host.core.handle_settings(host.now(), settings);
    host.core.poll_reruled().expect("few names hear of it in one turn").changed
}

#[test]
fn four_failures_a_reload_and_the_fifth_trips() {
    let (mut host, lane) = host(5);
    host.fail(lane, 4);
    let longer = PolicyPatch { cooldown_first_ms: Some(4000), ..settings(5).default };
    assert_eq!(reload(&mut host, Settings { default: longer, ..Settings::default() }), 1);
    assert_eq!(host.changes(), [""; 0], "nothing that is shown has changed");
    host.fail(lane, 1);
    let view = host.view("openai");
    assert_eq!((view.state, view.retry_after_ms), (State::Open, Some(4000)), "by the new cooldown");
}

#[test]
fn a_run_that_is_long_enough_by_the_new_policy_trips_with_the_next_failure() {
    let (mut host, lane) = host(5);
    host.fail(lane, 3);
    reload(&mut host, settings(2));
    assert_eq!(host.view("openai").state, State::Closed);
    host.fail(lane, 1);
    assert_eq!(host.view("openai").why, "4 consecutive failures, last http-500");
}

#[test]
fn an_operators_mode_lies_over_that_of_the_settings() {
    let (mut host, lane) = host(3);
    host.command("openai", Action::Mode { to: Some(Mode::Shadow) });
    let off = PolicyPatch { mode: Some(Mode::Off), ..policy() };
    reload(&mut host, Settings { default: off, ..Settings::default() });
    assert_eq!((host.view("openai").mode, host.changes()), (Mode::Shadow, vec!["mode"]));
    host.fail(lane, 3);
    assert_eq!(host.view("openai").state, State::Open, "in its own books");
    host.command("openai", Action::Mode { to: None });
    assert_eq!(host.view("openai").mode, Mode::Off);
}

#[test]
fn an_open_breaker_keeps_its_deadline_and_a_probe_its_permit() {
    let (mut host, lane) = host(3);
    host.fail(lane, 3);
    let shorter = PolicyPatch { cooldown_first_ms: Some(10), ..policy() };
    reload(&mut host, Settings { default: shorter.clone(), ..Settings::default() });
    assert_eq!(host.view("openai").retry_after_ms, Some(1000));
    host.pass(1000);
    assert!(matches!(host.ask(lane), Verdict::Probe { .. }));
    reload(&mut host, Settings { default: policy(), ..Settings::default() });
    assert!(matches!(host.ask(lane), Verdict::Reject { .. }), "the probe is still out");
}

#[test]
fn an_override_stays() {
    let (mut host, _) = host(3);
    host.command("openai", Action::Force { to: Override::ForcedOpen, for_ms: None });
    reload(&mut host, settings(4));
    assert_eq!(host.view("openai").forced, Some(Override::ForcedOpen));
}

#[test]
fn another_mode_is_shown_as_a_change_and_evidence_begins_anew() {
    let (mut host, lane) = host(3);
    host.fail(lane, 2);
    let before = host.view("openai").generation;
    let shadow = PolicyPatch { mode: Some(Mode::Shadow), ..policy() };
    assert_eq!(reload(&mut host, Settings { default: shadow, ..Settings::default() }), 1);
    let view = host.view("openai");
    assert_eq!((view.mode, view.generation), (Mode::Shadow, before + 1));
    assert_eq!(host.changes(), ["mode"]);
    host.fail(lane, 2);
    assert_eq!(host.view("openai").state, State::Closed);
    host.fail(lane, 1);
    assert_eq!(host.view("openai").state, State::Open);
    assert!(matches!(host.ask(lane), Verdict::Admit { .. }), "a shadow rejects nobody");
    reload(&mut host, settings(3));
    assert!(matches!(host.ask(lane), Verdict::Reject { .. }), "what the shadow tripped is obeyed from here on");
    assert_eq!(host.changes(), ["trip", "mode"]);
}

#[test]
fn the_mode_of_one_that_rests_is_shown_too() {
    let (mut host, _) = host(3);
    host.pass(600_000);
    let off = PolicyPatch { mode: Some(Mode::Off), ..policy() };
    assert_eq!(reload(&mut host, Settings { default: off, ..Settings::default() }), 1);
    assert_eq!((host.view("openai").mode, host.changes()), (Mode::Off, vec!["mode"]));
}

#[test]
fn what_code_declared_stands_below_the_new_patterns_too() {
    let (mut host, _) = host(5);
    let worker = host.worker(1);
    let declared = PolicyPatch { consecutive_failures: Some(2), probe_permits: Some(4), ..PolicyPatch::default() };
    host.register_as(worker, "pay/stripe", Some(declared)).unwrap();
    let three = PatternPolicy {
        pattern: Pattern::parse("pay/*").unwrap(),
        patch: PolicyPatch { consecutive_failures: Some(3), ..PolicyPatch::default() },
    };
    assert_eq!(reload(&mut host, Settings { patterns: vec![three], ..settings(5) }), 1, "of two breakers");
    let told = host.register_as(worker, "pay/stripe", None).unwrap().policy;
    assert_eq!((told.consecutive_failures, told.probe_permits), (Some(3), Some(4)));
}

#[test]
fn the_same_settings_change_nothing() {
    let (mut host, lane) = host(3);
    host.fail(lane, 2);
    assert_eq!(reload(&mut host, settings(3)), 0);
    assert_eq!(host.changes(), [""; 0]);
}

#[test]
fn a_quota_that_becomes_smaller_takes_nothing_away_at_once() {
    let (mut host, lane) = host(3);
    let worker = lane.connection;
    host.lane(worker, "b");
    let quotas = Quotas { names_per_account: 1, ..Quotas::default() };
    reload(&mut host, Settings { quotas, ..settings(3) });
    host.fail(lane, 3);
    assert_eq!(host.view("openai").state, State::Open);
    assert!(host.register_as(worker, "c", None).is_err());
}
