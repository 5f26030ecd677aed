//! What the breaker does, one history a test.

use crate::script::{check, check_with, policy};

#[test]
fn five_calls_in_flight_on_one_worker_show_5_0_0_0() {
    check(
        "
        0 a take 5
        0 b see
        0 - want closed failures=0 retry=0 gen=1
        10 a fail http-401 x5
        10 a see
        10 - want open failures=5 retry=1000 gen=2
        10 b see
        10 - want open failures=0 retry=1000 gen=2
        10 c ask
        10 - want reject open retry=1000
        10 - changes
        10 - want trip
        ",
    );
}

#[test]
fn one_failure_less_does_not_trip_and_a_success_ends_the_run() {
    check("0 a fail x2\n0 a see\n0 - want closed failures=2 retry=0 gen=1");
    check(
        "0 a fail x2\n0 a ok\n0 a see\n0 - want closed failures=0 retry=0 gen=1\n0 a fail x2\n0 a ask\n0 - want admit",
    );
}

#[test]
fn a_workers_own_run_trips_whatever_its_healthy_neighbours_see() {
    check(
        "
        0 a fail
        1 b ok x50
        2 a fail
        3 b ok x50
        4 a fail
        4 b ask
        4 - want reject open retry=1000
        ",
    );
}

#[test]
fn failures_spread_over_workers_trip_together_one_later_if_nobody_succeeds_between() {
    check("0 a fail\n0 b fail\n0 c fail\n0 d ask\n0 - want admit");
    check("0 a fail\n0 b fail\n0 c fail\n0 d fail\n0 e ask\n0 - want reject open retry=1000");
    check("0 a fail x2\n0 b fail x2\n0 a ask\n0 - want reject open retry=1000");
    check("0 a fail\n0 b fail\n1 d ok\n2 c fail x2\n2 d ask\n2 - want admit");
}

#[test]
fn a_straggler_from_before_the_trip_decides_nothing() {
    check(
        "
        0 b take 2
        0 a fail x3
        500 b ok
        500 b see
        500 - want open failures=0 retry=500 gen=2
        1000 a ask
        1000 - want probe
        1001 b fail
        1001 a see
        1001 - want half-open failures=3 retry=1000 gen=3
        1002 a ok
        1002 a see
        1002 - want closed failures=0 retry=0 gen=4
        1002 - changes
        1002 - want trip probe recover
        ",
    );
}

/// Polly#217 and denoland/std#7306: a call from before the trip that succeeded late closed the breaker.
#[test]
fn a_success_from_before_the_trip_closes_nothing() {
    check(
        "
        0 b take 3
        0 a fail x3
        500 b ok
        1000 a ask
        1000 - want probe
        1001 b ok
        1001 b see
        1001 - want half-open failures=0 retry=1000 gen=3
        1002 a fail
        1003 b ok
        1003 b ask
        1003 - want reject open retry=1999
        ",
    );
}

#[test]
fn one_probe_at_a_time_and_its_success_recovers() {
    check(
        "
        0 a fail x3
        999 b ask
        999 - want reject open retry=1
        1000 b ask
        1000 - want probe
        1000 a ask
        1000 - want reject probing retry=1000
        1000 c ask
        1000 - want reject probing retry=1000
        1100 b ok
        1100 c ask
        1100 - want admit
        ",
    );
}

#[test]
fn a_failed_probe_doubles_the_cooldown_up_to_its_maximum() {
    check(
        "
        0 a fail x3
        1000 a fail
        1000 a see
        1000 - want open failures=4 retry=2000 gen=4
        3000 a fail
        3000 a see
        3000 - want open failures=5 retry=4000 gen=6
        7000 a fail
        7000 a see
        7000 - want open failures=6 retry=4000 gen=8
        11000 a ok
        11000 a see
        11000 - want closed failures=0 retry=0 gen=10
        11000 a fail x3
        11000 a see
        11000 - want open failures=3 retry=1000 gen=11
        ",
    );
}

#[test]
fn a_probe_comes_back_when_its_worker_dies_drops_it_or_keeps_it_too_long() {
    check("0 a fail x3\n1000 a ask\n1001 a die\n1001 b ask\n1001 - want probe");
    check("0 a fail x3\n1000 a ask\n1001 a drop\n1001 b ask\n1001 - want probe");
    check("0 a fail x3\n1000 a ask\n1001 a ignored\n1001 b ask\n1001 - want probe");
    check("0 a fail x3\n1000 a ask\n10999 - tick\n10999 b ask\n10999 - want reject probing retry=1000");
    check(
        "0 a fail x3\n1000 a ask\n11000 - tick\n11000 b ask\n11000 - want probe\n11001 a ok\n11001 a see\n11001 - want half-open failures=3 retry=1000 gen=3",
    );
}

#[test]
fn several_permits_and_several_successes() {
    let mut wide = policy();
    (wide.probe_permits, wide.probe_successes) = (Some(2), Some(3));
    check_with(
        wide,
        "
        0 a fail x3
        1000 a ask
        1000 b ask
        1000 - want probe
        1000 c ask
        1000 - want reject probing retry=1000
        1001 a ok
        1001 b ok
        1001 b see
        1001 - want half-open failures=0 retry=0 gen=3
        1002 c ok
        1002 c see
        1002 - want closed failures=0 retry=0 gen=4
        ",
    );
}

/// litellm#40130: each further failure set the cooldown anew, to an end before that which stood.
#[test]
fn a_providers_wish_moves_the_deadline_later_and_never_sooner() {
    check("0 a fail x2\n0 a fail http-429 retry=5000\n0 b ask\n0 - want reject open retry=5000");
    check(
        "0 b take 2\n0 a fail x3\n10 b fail http-429 retry=3000\n10 b ask\n10 - want reject open retry=3000\n20 b fail http-429 retry=100\n20 b ask\n20 - want reject open retry=2990",
    );
    check("0 a fail http-429 retry=5000\n0 b ask\n0 - want admit");
    check(
        "0 b take 3\n0 a fail x3\n10 b fail http-429 retry=3000\n10 b fail http-429 retry=3000\n10 b see\n10 - want open failures=2 retry=3000 gen=3",
    );
}

#[test]
fn a_stragglers_wish_moves_no_deadline_but_that_of_an_open_breaker() {
    check(
        "0 b take 2\n0 a fail x3\n1000 a ask\n1001 b fail http-429 retry=5000\n1001 b see\n1001 - want half-open failures=1 retry=1000 gen=3",
    );
    check(
        "0 b take 2\n0 a fail x3\n5 - op force-open 100\n9 b fail http-429 retry=5000\n105 - tick\n105 b see\n105 - want open failures=1 retry=895 gen=4",
    );
}

#[test]
fn overrides_lie_over_the_state_and_end_by_word_or_by_time() {
    check(
        "
        0 a ask
        0 - op force-open
        0 a ask
        0 - want reject forced retry=never
        5 - op release
        5 a ask
        5 - want admit
        6 - op force-open 100
        7 a ask
        7 - want reject forced retry=99
        106 - tick
        106 a ask
        106 - want admit
        107 - op force-closed
        107 a fail x9
        107 a ask
        107 - want admit
        107 - changes
        107 - want force release force release force
        ",
    );
}

#[test]
fn a_reset_closes_beneath_an_override_and_leaves_it() {
    check("0 a fail x3\n1 - op force-open\n2 - op reset\n2 - want open\n3 - op release\n3 - want closed");
}

#[test]
fn a_release_is_what_a_closed_breaker_says_and_an_open_one_keeps_the_words_of_its_trip() {
    check("0 a ask\n1 - op force-open\n2 - op release\n2 - why\n2 - want root@web-1: drill");
    check(
        "0 a fail x3\n1 - op force-open\n2 - op release\n2 - why\n2 - want api[97]@web-1: 3 consecutive failures, last http-500",
    );
}

#[test]
fn a_reset_clears_the_evidence() {
    check(
        "0 a fail x2\n1 - op reset\n1 a see\n1 - want closed failures=0 retry=0 gen=2\n2 a fail x2\n2 a ask\n2 - want admit",
    );
}

#[test]
fn open_for_long_with_nobody_asking_is_forgotten() {
    check(
        "0 a fail x3\n3600999 - tick\n3600999 a see\n3600999 - want open failures=3 retry=0 gen=2\n3601000 - tick\n3601000 a see\n3601000 - want closed failures=0 retry=0 gen=3",
    );
}

#[test]
fn a_clock_that_jumps_far_ahead_leaves_nothing_stuck() {
    check("0 a fail x3\n1000 a ask\n999999999999 - tick\n999999999999 b ask\n999999999999 - want admit");
}
