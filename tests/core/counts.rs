//! Failures that only the counts tell of: evidence where their order and their generation are known, never lost.

use breakerd_core::Settings;
use breakerd_proto::message::{LaneRow, PolicyPatch};
use breakerd_proto::{Counts, Mode, Outcome, State, Untold, Verdict};

use crate::host::{Host, Lane};
use crate::script::policy;

/// A breaker that trips at three, used by one worker that has told nothing yet.
fn host() -> (Host, Lane) {
    let mut host = Host::new(Settings { default: policy(), ..Settings::default() });
    let worker = host.worker(1);
    let lane = host.lane(worker, "openai");
    (host, lane)
}

fn untold(generation: u64, failures: u32, run: u32) -> Untold {
    Untold { generation, failures, run }
}

fn row(host: &Host) -> LaneRow {
    host.core.describe(host.now(), 0, "openai", 0).unwrap().lanes.remove(0)
}

#[test]
fn the_failures_between_two_messages_are_in_a_row_with_both() {
    for (before, left_out, state) in [(0, 2, State::Open), (1, 1, State::Open), (0, 1, State::Closed)] {
        let (mut host, lane) = host();
        host.fail(lane, before);
        let generation = host.view("openai").generation;
        let failures = before as u64 + u64::from(left_out) + 1;
        let counts = Counts { failures, untold: untold(generation, left_out, left_out), ..Counts::default() };
        // The reports before said nothing in their counts, so these count them as told.
        let counts = Counts { failures: counts.failures - before as u64, ..counts };
        host.report_with(lane, generation, Outcome::failure("http-500"), counts);
        assert_eq!(host.view("openai").state, state, "{before} told, {left_out} left out, one told");
        assert_eq!(row(&host).failures_total, failures);
    }
}

#[test]
fn a_query_brings_them_too_and_is_answered_by_what_they_did() {
    let (mut host, lane) = host();
    let counts = Counts { failures: 3, untold: untold(1, 3, 3), ..Counts::default() };
    let verdict = host.ask_with(lane, counts).unwrap();
    assert!(matches!(verdict, Verdict::Reject { state: State::Open, .. }), "{verdict:?}");
    assert_eq!(host.view("openai").why, "3 consecutive failures, last unreported");
}

#[test]
fn no_run_where_a_success_lay_between_or_the_generation_is_another() {
    for (why, counts) in [
        (
            "the last success came after all but two",
            Counts { successes: 1, untold: untold(1, 9, 2), ..Counts::default() },
        ),
        ("of an older generation", Counts { untold: untold(0, 9, 9), ..Counts::default() }),
        ("of none that there was", Counts { untold: untold(7, 9, 9), ..Counts::default() }),
        ("without their order", Counts::default()),
    ] {
        let (mut host, lane) = host();
        host.ask_with(lane, Counts { failures: 9, ..counts }).unwrap();
        assert_eq!(host.view("openai").state, State::Closed, "{why}");
        assert_eq!(row(&host).failures_total, 9, "{why}");
    }
}

#[test]
fn what_came_too_late_for_evidence_is_shown_in_its_lane() {
    let (mut host, lane) = host();
    let counts = Counts { failures: 10, untold: untold(1, 10, 10), ..Counts::default() };
    host.ask_with(lane, counts).unwrap();
    assert_eq!((host.view("openai").state, row(&host).failures), (State::Open, 10), "the run and what followed it");
}

#[test]
fn a_peer_that_claims_the_impossible_is_told_nothing_and_breaks_nothing() {
    let (mut host, lane) = host();
    for (failures, claimed) in [(2, u32::MAX), (u64::MAX, 1), (0, 9), (u64::MAX, u32::MAX)] {
        let counts = Counts { failures, untold: untold(1, claimed, claimed), ..Counts::default() };
        host.ask_with(lane, counts).unwrap();
    }
    assert_eq!(row(&host).failures_total, u64::MAX, "what it claims is in its own lane, saturated");
}

#[test]
fn another_workers_success_meanwhile_keeps_such_a_run_on_its_host() {
    let (mut host, lane) = host();
    let other = host.worker(1);
    let other = host.lane(other, "openai");
    host.fail(lane, 1);
    host.pass(1000);
    host.succeed(other);
    host.pass(1000);
    let counts = Counts { failures: 2, untold: untold(1, 2, 2), ..Counts::default() };
    host.ask_with(lane, counts).unwrap();
    let view = host.view("openai");
    assert_eq!(view.why, "3 consecutive failures, last unreported", "the lane's own run, not the pooled one");
}

#[test]
fn a_breaker_that_is_off_counts_nothing_of_them() {
    let mut host =
        Host::new(Settings { default: PolicyPatch { mode: Some(Mode::Off), ..policy() }, ..Settings::default() });
    let worker = host.worker(1);
    let lane = host.lane(worker, "openai");
    let counts = Counts { failures: 9, untold: untold(1, 9, 9), ..Counts::default() };
    host.ask_with(lane, counts).unwrap();
    assert_eq!((host.view("openai").state, row(&host).failures_total), (State::Closed, 0));
}
