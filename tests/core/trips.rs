//! What trips, rule by rule.

use breakerd_proto::Mode;
use breakerd_proto::message::{CallsRule, PolicyPatch, Rules, TimeRule};

use crate::script::{check, check_with, policy};

/// The script's policy with no run that trips.
fn without_runs() -> PolicyPatch {
    PolicyPatch { consecutive_failures: Some(0), ..policy() }
}

fn last(at_least: f64, of_calls: u32, min_calls: u32) -> Option<Rules> {
    Some(Rules { calls: Some(CallsRule { at_least, of_calls, min_calls }), time: None })
}

fn within(at_least: f64, min_calls: u32, within_ms: u64) -> Option<Rules> {
    Some(Rules { calls: None, time: Some(TimeRule { at_least, min_calls, within_ms }) })
}

#[test]
fn a_rate_over_the_last_calls() {
    let half = PolicyPatch { failure_rate: last(0.5, 10, 10), ..without_runs() };
    check_with(
        half.clone(),
        "
        0 a ok x5
        0 b fail http-503 x4
        0 a ask
        0 - want admit
        0 b fail http-503
        0 a ask
        0 - want reject open retry=1000
        0 a reason
        0 - want 5 of the last 10 calls failed, last http-503
        ",
    );
    // The oldest make room: of eleven calls the first is no longer looked at, however long ago it was.
    check_with(half.clone(), "0 a fail\n0 a ok x6\n9000000 a fail x4\n9000000 a ask\n9000000 - want admit");
    check_with(half, "0 a ok\n0 a ok x5\n0 a fail x5\n0 a see\n0 - want open failures=5 retry=1000 gen=2");
}

#[test]
fn a_rate_over_the_last_while() {
    let half = PolicyPatch { failure_rate: within(0.5, 20, 30_000), ..without_runs() };
    check_with(
        half.clone(),
        "
        1000 a ok x8
        2000 b fail http-500 x7
        3000 c fail http-503 x4
        3000 a ask
        3000 - want admit
        3000 c fail http-503
        3000 a ask
        3000 - want reject open retry=1000
        3000 a reason
        3000 - want 12 of 20 calls within 30 s failed, last http-503
        ",
    );
    // A second after the eight successes have left the thirty seconds there are too few calls.
    check_with(half, "1000 a ok x8\n2000 b fail x7\n31500 c fail x5\n31500 a ask\n31500 - want admit");
}

#[test]
fn counts_over_either() {
    let calls = PolicyPatch { failure_count: last(3.0, 5, 1), ..without_runs() };
    check_with(
        calls.clone(),
        "0 a fail\n1 a ok\n2 a fail\n3 a ok\n4 a fail\n4 a reason\n4 - want 3 of the last 5 calls failed, last http-500",
    );
    check_with(
        calls,
        "0 a fail\n1 a ok x3\n2 a fail\n3 a ok\n4 a fail\n4 a see\n4 - want closed failures=1 retry=0 gen=1",
    );
    let time = PolicyPatch { failure_count: within(3.0, 1, 1500), ..without_runs() };
    check_with(
        time.clone(),
        "0 a fail\n700 a ok x99\n800 b fail\n1400 c fail\n1400 a reason\n1400 - want 3 of 102 calls within 1500 ms failed, last http-500",
    );
    check_with(time, "1 a fail\n800 b fail\n1576 c fail\n1576 a see\n1576 - want closed failures=1 retry=0 gen=1");
}

#[test]
fn slow_calls_over_either() {
    let rate = PolicyPatch { slow_rate: last(0.9, 10, 10), slow_after_ms: Some(2000), ..policy() };
    check_with(
        rate,
        "
        0 a ok
        0 a slow x8
        0 b ask
        0 - want admit
        0 b slow
        0 b ask
        0 - want reject open retry=1000
        0 b reason
        0 - want 9 of the last 10 calls were slow
        ",
    );
    let count = PolicyPatch { slow_count: within(2.0, 4, 10_000), slow_after_ms: Some(2000), ..policy() };
    check_with(count.clone(), "0 a ok x2\n1 a slow\n2 a slow\n2 a reason\n2 - want 2 of 4 calls within 10 s were slow");
    check_with(
        count,
        "0 a slow x3\n1 a ask\n1 - want admit\n1 a ok\n1 a ask\n1 - want admit\n2 a slow\n2 a reason\n2 - want 4 of 5 calls within 10 s were slow",
    );
}

#[test]
fn a_slow_success_is_a_success_for_the_rules_about_failures() {
    check("0 a fail x2\n1 a slow\n2 a fail x2\n2 a ask\n2 - want admit");
    let half = PolicyPatch { failure_rate: last(0.5, 4, 4), ..without_runs() };
    check_with(
        half,
        "0 a slow x3\n1 a fail\n1 a ask\n1 - want admit\n2 a fail\n2 a reason\n2 - want 2 of the last 4 calls failed, last http-500",
    );
}

#[test]
fn only_a_failure_trips_by_failures_though_a_success_may_complete_the_minimum() {
    let half = PolicyPatch { failure_rate: last(0.5, 4, 4), ..without_runs() };
    check_with(
        half,
        "
        0 a fail x3
        1 a ok
        1 a ask
        1 - want admit
        2 a fail
        2 a reason
        2 - want 3 of the last 4 calls failed, last http-500
        ",
    );
}

#[test]
fn any_rule_trips_and_a_run_is_named_first() {
    let both = PolicyPatch { failure_rate: last(0.5, 2, 2), failure_count: last(2.0, 10, 1), ..policy() };
    check_with(both.clone(), "0 a ok\n0 a fail\n0 a reason\n0 - want 1 of the last 2 calls failed, last http-500");
    let few = PolicyPatch { failure_rate: last(1.0, 3, 3), ..policy() };
    check_with(few, "0 a fail x3\n0 a reason\n0 - want 3 consecutive failures, last http-500");
    check("0 a fail x2\n0 b fail x2\n0 a reason\n0 - want 4 consecutive failures over all workers, last http-500");
}

#[test]
fn no_run_trips_where_consecutive_failures_are_off() {
    check_with(without_runs(), "0 a fail x99\n0 a see\n0 - want closed failures=99 retry=0 gen=1");
}

#[test]
fn the_shipped_default() {
    let shipped = PolicyPatch::default();
    check_with(shipped.clone(), "0 a fail http-401 x5\n0 a reason\n0 - want 5 consecutive failures, last http-401");
    check_with(
        shipped,
        "
        0 a ok x4
        1 b fail x4
        2 a ok x4
        3 c fail x4
        4 a ok
        5 d fail x2
        5 a ask
        5 - want admit
        6 a ok
        7 d fail
        7 a reason
        7 - want 11 of 21 calls within 30 s failed, last http-500
        ",
    );
}

#[test]
fn successes_that_no_report_told_dilute_rates_and_end_runs() {
    check("0 a fail x2\n1 a missed 3\n2 a fail\n2 a see\n2 - want closed failures=1 retry=0 gen=1");
    check(
        "0 a fail x2\n1 b missed 3\n2 b ask\n2 c fail\n2 a ask\n2 - want admit\n3 a fail\n3 a ask\n3 - want reject open retry=1000",
    );
    let half = PolicyPatch { failure_rate: within(0.5, 4, 10_000), ..policy() };
    check_with(
        half,
        "0 a fail\n1 b missed 3\n2 b ask\n3 c fail\n4 d fail\n4 a reason\n4 - want 3 of 6 calls within 10 s failed, last http-500",
    );
}

#[test]
fn slow_successes_that_no_report_told_trip_nothing_until_one_is_told() {
    let slow = PolicyPatch { slow_rate: last(0.5, 10, 4), slow_after_ms: Some(2000), ..policy() };
    check_with(
        slow,
        "
        0 a missed 6 slow=5
        1 a ask
        1 - want admit
        2 b slow
        2 b reason
        2 - want 6 of the last 7 calls were slow
        ",
    );
}

#[test]
fn a_late_report_counts_at_its_stamp_and_not_at_all_when_that_is_too_old() {
    let count = PolicyPatch { failure_count: within(3.0, 1, 10_000), ..without_runs() };
    check_with(
        count.clone(),
        "60000 a fail x2\n60000 b fail ago=9000\n60000 a reason\n60000 - want 3 of 3 calls within 10 s failed, last http-500",
    );
    check_with(count.clone(), "60000 a fail x2\n60000 b fail ago=10001\n60000 a ask\n60000 - want admit");
    check_with(count, "60000 b fail ago=9000\n62000 a fail x2\n62000 a ask\n62000 - want admit");
    // Over the last calls it is simply the newest, as over a run of its own worker.
    let calls = PolicyPatch { failure_count: last(3.0, 3, 1), ..without_runs() };
    check_with(
        calls,
        "60000 a fail x2\n60000 b fail ago=59000\n60000 a reason\n60000 - want 3 of the last 3 calls failed, last http-500",
    );
}

#[test]
fn a_clock_that_jumps_or_stands_still_keeps_nothing_alive() {
    let count = PolicyPatch { failure_count: within(3.0, 1, 10_000), ..without_runs() };
    check_with(
        count.clone(),
        "0 a fail x2\n999999999999 a fail x2\n999999999999 a ask\n999999999999 - want admit\n999999999999 a fail\n999999999999 a ask\n999999999999 - want reject open retry=1000",
    );
    check_with(count, "5 a fail\n5 a ok x9\n5 b fail\n5 c fail\n5 a ask\n5 - want reject open retry=1000");
}

#[test]
fn every_change_begins_anew() {
    let half = PolicyPatch { failure_rate: last(0.5, 10, 4), ..without_runs() };
    check_with(half.clone(), "0 a fail x3\n1 - op reset\n2 a fail x3\n2 a ask\n2 - want admit");
    check_with(half.clone(), "0 a fail x3\n1 - op force-closed\n2 - op release\n3 a fail x3\n3 a ask\n3 - want admit");
    check_with(
        half,
        "0 a fail x4\n1000 a ok\n1001 a fail x3\n1001 a ask\n1001 - want admit\n1002 a fail\n1002 a reason\n1002 - want 4 of the last 4 calls failed, last http-500",
    );
}

#[test]
fn off_counts_nothing_and_shadow_judges_in_its_own_books() {
    let off = PolicyPatch { mode: Some(Mode::Off), failure_rate: last(0.5, 2, 2), ..policy() };
    check_with(
        off,
        "0 a fail x9\n0 a missed 5\n0 a ask\n0 - want admit\n0 a see\n0 - want closed failures=0 retry=0 gen=1",
    );
    let shadow = PolicyPatch { mode: Some(Mode::Shadow), failure_rate: last(0.5, 2, 2), ..without_runs() };
    check_with(
        shadow,
        "0 a fail x2\n0 a reason\n0 - want 2 of the last 2 calls failed, last http-500\n0 a ask\n0 - want admit",
    );
}

/// App-vNext/Polly#216 and #217, denoland/std#7306: there a call from before the trip that ends well closes the circuit, or
/// one that ends badly opens the next.
#[test]
fn a_late_success_closes_nothing_and_a_late_failure_trips_nothing() {
    check("0 b take 9\n0 a fail x3\n10 b ok x9\n10 a ask\n10 - want reject open retry=990");
    check("0 b take 9\n0 a fail x3\n1000 a ask\n1001 b ok x9\n1001 c ask\n1001 - want reject probing retry=1000");
    check("0 b take 9\n0 a fail x3\n1000 a ok\n1001 b fail x9\n1001 c ask\n1001 - want admit");
    let half = PolicyPatch { failure_rate: last(0.5, 4, 4), ..without_runs() };
    check_with(
        half,
        "0 b take 9\n0 a fail x4\n1000 a ok\n1001 b fail x9\n1002 a fail x3\n1002 c ask\n1002 - want admit",
    );
}

#[test]
fn a_late_success_ends_a_run() {
    check("0 a take 1\n0 b fail x3\n1000 b ok\n1001 b fail x2\n1002 a ok\n1003 c fail\n1003 a ask\n1003 - want admit");
    check(
        "0 b take 1\n0 a fail x3\n1000 a ok\n1001 b take 5\n1002 b ok\n1003 b fail x2\n1003 b see\n1003 - want closed failures=2 retry=0 gen=4",
    );
}

/// BerriAI/litellm#40130: there cooling down again keeps the shorter of two deadlines. App-vNext/Polly#1035: a 429 says for
/// how long.
#[test]
fn a_providers_deadline_is_never_shortened() {
    // One alone trips nothing.
    check("0 a fail http-429 retry=60000\n0 b ask\n0 - want admit");
    // It moves the deadline of what opens by it, which a shorter one does not.
    check("0 a fail x2\n0 a fail http-429 retry=60000\n0 b ask\n0 - want reject open retry=60000");
    check("0 a fail x2\n0 a fail http-429 retry=10\n0 b ask\n0 - want reject open retry=1000");
    // And of what is open: the latest wins, whatever comes in which order, counted from when the call ended.
    check(
        "
        0 b take 4
        0 a fail x3
        100 b fail http-429 retry=3000
        100 b ask
        100 - want reject open retry=3000
        200 b fail http-429 retry=100
        200 b fail http-500
        200 b ask
        200 - want reject open retry=2900
        300 b fail http-429 retry=5000 ago=200
        300 b ask
        300 - want reject open retry=4800
        ",
    );
    // An hour is all that a provider may wish.
    check("0 b take 1\n0 a fail x3\n0 b fail http-429 retry=99999999999\n0 b ask\n0 - want reject open retry=3600000");
}
