//! Cooldown and half-open, one history a test: backoff that is forgotten, probes that decide together, a limit on the
//! whole period, the daemon's own probe.

use breakerd_proto::message::{PolicyPatch, ProbeRate};

use crate::script::{check, check_with, policy};

fn forgetting(ms: u64) -> PolicyPatch {
    PolicyPatch { cooldown_forget_ms: Some(ms), ..policy() }
}

/// Half of four probes must succeed; two are out at a time.
fn half_of_four() -> PolicyPatch {
    let probe_rate = Some(ProbeRate { at_least: 0.5, of_probes: 4 });
    PolicyPatch { probe_rate, probe_permits: Some(2), ..policy() }
}

fn within_a_minute() -> PolicyPatch {
    PolicyPatch { probe_period_ms: Some(60_000), ..policy() }
}

fn connecting() -> PolicyPatch {
    PolicyPatch { probe_connect: Some("db:5432".to_owned()), ..policy() }
}

#[test]
fn a_trip_soon_after_a_recovery_goes_on_with_the_backoff() {
    check_with(
        forgetting(60_000),
        "
        0 a fail x3
        1000 a fail
        3000 a ok
        3000 a see
        3000 - want closed failures=0 retry=0 gen=6
        62999 a fail x3
        62999 a see
        62999 - want open failures=3 retry=4000 gen=7
        66999 a ok
        66999 a fail x3
        66999 a see
        66999 - want open failures=3 retry=4000 gen=10
        ",
    );
}

#[test]
fn after_a_quiet_time_the_backoff_begins_anew() {
    check_with(
        forgetting(60_000),
        "
        0 a fail x3
        1000 a fail
        3000 a ok
        63000 a fail x3
        63000 a see
        63000 - want open failures=3 retry=1000 gen=7
        ",
    );
}

#[test]
fn a_recovery_from_the_first_cooldown_counts_too() {
    check_with(
        forgetting(60_000),
        "
        0 a fail x3
        1000 a ok
        2000 a fail x3
        2000 a see
        2000 - want open failures=3 retry=2000 gen=5
        ",
    );
}

#[test]
fn an_operators_reset_clears_the_backoff_before_and_after_the_recovery() {
    check_with(
        forgetting(60_000),
        "
        0 a fail x3
        1000 a fail
        3000 a ok
        3001 - op reset
        3002 a fail x3
        3002 a see
        3002 - want open failures=3 retry=1000 gen=8
        3003 - op reset
        3004 a fail x3
        3004 a see
        3004 - want open failures=3 retry=1000 gen=10
        ",
    );
}

#[test]
fn the_step_and_the_length_of_a_cooldown_are_told() {
    check(
        "
        0 a fail x3
        0 - cooldown
        0 - want 1000 step=0
        1000 a fail
        1000 - cooldown
        1000 - want 2000 step=1
        3000 a ask
        3000 - cooldown
        3000 - want 2000 step=1
        3000 a fail http-429 retry=9000
        3000 - cooldown
        3000 - want 9000 step=2
        12000 a ok
        12000 - cooldown
        12000 - want 0 step=0
        ",
    );
}

#[test]
fn who_waits_no_longer_gives_his_own_probe_back() {
    check("0 a fail x3\n1000 a ask\n1000 - want probe\n1001 a forget\n1001 b ask\n1001 - want probe");
    check_with(
        PolicyPatch { probe_permits: Some(2), ..policy() },
        "
        0 a fail x3
        1000 a ask
        1000 b ask
        1000 - want probe
        1001 b forget
        1001 c ask
        1001 - want probe
        1002 a ok
        1002 a see
        1002 - want closed failures=0 retry=0 gen=4
        ",
    );
}

#[test]
fn with_a_rate_all_probes_together_decide_and_one_that_fails_does_not() {
    check_with(
        half_of_four(),
        "
        0 a fail x3
        1000 a fail
        1000 a fail
        1000 a ok
        1000 a see
        1000 - want half-open failures=5 retry=0 gen=3
        1000 a ok
        1000 a see
        1000 - want closed failures=0 retry=0 gen=4
        1000 - why
        1000 - want api[97]@web-1: 2 of 4 probes succeeded
        ",
    );
    check_with(
        half_of_four(),
        "
        0 a fail x3
        1000 a ok
        1000 a fail x3
        1000 a see
        1000 - want open failures=6 retry=2000 gen=4
        1000 - why
        1000 - want api[97]@web-1: 3 of 4 probes failed, last http-500
        ",
    );
}

#[test]
fn with_a_rate_no_more_probes_are_made_than_decide() {
    check_with(
        half_of_four(),
        "
        0 a fail x3
        1000 a ok
        1000 a ok
        1000 a ok
        1000 b ask
        1000 - want probe
        1000 c ask
        1000 - want reject probing retry=1000
        1001 b drop
        1001 c ask
        1001 - want probe
        1002 c fail
        1002 c see
        1002 - want closed failures=0 retry=0 gen=4
        ",
    );
}

#[test]
fn each_half_open_counts_its_probes_anew() {
    check_with(
        half_of_four(),
        "
        0 a fail x3
        1000 a ok
        1000 a fail x3
        3000 a ok
        3000 a fail x2
        3000 a see
        3000 - want half-open failures=8 retry=0 gen=5
        3000 a ok
        3000 a see
        3000 - want closed failures=0 retry=0 gen=6
        ",
    );
}

/// safe-client-gateway#3442: half-open without a bound let 17 times the calls through to a service that was down.
#[test]
fn a_crowd_at_the_end_of_the_cooldown_gets_one_probe_between_them() {
    let crowd = |line: &str| (0..17).map(|_| format!("1000 {line}\n")).collect::<String>();
    let rejected = crowd("b ask\n1000 - want reject probing retry=1000");
    check(&format!("0 a fail x3\n1000 a ask\n1000 - want probe\n{rejected}"));
}

/// OmniRoute#13836: a probe that never returned left the breaker half-open for days.
#[test]
fn probes_that_never_return_do_not_keep_it_half_open() {
    check_with(
        within_a_minute(),
        "
        0 a fail x3
        1000 a ask
        60999 - tick
        60999 b ask
        60999 - want probe
        61000 - tick
        61000 c ask
        61000 - want reject open retry=2000
        61000 - why
        61000 - want breakerd@web-1: half-open for 1 min without a decision
        61001 a ok
        61002 b ok
        61002 c see
        61002 - want open failures=0 retry=1998 gen=4
        63000 c ask
        63000 - want probe
        63000 - changes
        63000 - want trip probe reopen probe
        ",
    );
}

#[test]
fn probes_that_are_always_ignored_do_not_keep_it_half_open_either() {
    let ignored: String = (1..60).map(|second| format!("{second}000 a ignored\n")).collect();
    check_with(
        within_a_minute(),
        &format!(
            "0 a fail x3\n{ignored}60999 - tick\n60999 b ask\n60999 - want probe\n60999 b ignored\n61000 - tick\n61000 b ask\n61000 - want reject open retry=2000"
        ),
    );
}

#[test]
fn a_period_that_ends_by_a_decision_ends_nothing_later() {
    check_with(within_a_minute(), "0 a fail x3\n1000 a ok\n61000 - tick\n61000 a ask\n61000 - want admit");
}

#[test]
fn a_429_on_a_probe_reopens_until_the_provider_says_and_never_sooner() {
    check(
        "
        0 a fail x3
        1000 a fail http-429 retry=9000
        1000 a see
        1000 - want open failures=4 retry=9000 gen=4
        1000 - why
        1000 - want api[97]@web-1: the probe failed: http-429
        10000 a fail rate-limited retry=10
        10000 a see
        10000 - want open failures=5 retry=4000 gen=6
        14000 a fail http-429 retry=99999999999
        14000 a see
        14000 - want open failures=6 retry=3600000 gen=8
        ",
    );
}

#[test]
fn with_a_rate_the_latest_of_the_wishes_counts() {
    check_with(
        half_of_four(),
        "
        0 a fail x3
        1000 a fail http-429 retry=30000
        1500 a fail http-429 retry=20000
        2000 a fail
        2000 a fail
        2000 a see
        2000 - want open failures=7 retry=29000 gen=4
        ",
    );
}

#[test]
fn the_daemons_connect_is_the_probe_and_no_call_need_pay() {
    check_with(
        connecting(),
        "
        0 a fail x3
        999 - tick
        999 - connect
        999 - want none
        999 a see
        999 - want open failures=3 retry=1000 gen=2
        1000 a ask
        1000 - want reject probing retry=1000
        1000 - tick
        1000 - connect
        1000 - want db:5432
        1000 - connect
        1000 - want none
        1000 a ask
        1000 - want reject probing retry=1000
        1020 - connect fail connection-refused
        1020 a see
        1020 - want open failures=3 retry=2000 gen=4
        1020 - why
        1020 - want breakerd@web-1: the probe failed: connection-refused
        3020 - tick
        3020 - connect
        3020 - want db:5432
        3030 - connect ok
        3030 a ask
        3030 - want admit
        3030 - why
        3030 - want breakerd@web-1: 1 of 1 probes succeeded
        3030 - changes
        3030 - want trip probe reopen probe recover
        ",
    );
}

#[test]
fn a_connect_whose_end_is_never_told_comes_back_after_ten_seconds() {
    check_with(
        connecting(),
        "
        0 a fail x3
        1000 - tick
        1000 - connect
        1000 - want db:5432
        10999 - tick
        10999 - connect
        10999 - want none
        11000 - tick
        11000 - connect
        11000 - want db:5432
        11001 - connect ok
        11001 - connect fail again
        11001 a ask
        11001 - want admit
        ",
    );
}

#[test]
fn several_connects_go_one_after_the_other_a_second_apart() {
    check_with(
        PolicyPatch { probe_successes: Some(2), probe_permits: Some(2), ..connecting() },
        "
        0 a fail x3
        1000 - tick
        1000 - connect
        1000 - want db:5432
        1001 - connect ok
        1001 - tick
        1001 - connect
        1001 - want none
        1001 a ask
        1001 - want reject probing retry=1000
        2000 - tick
        2000 - connect
        2000 - want db:5432
        2001 - connect ok
        2001 a ask
        2001 - want admit
        ",
    );
}

#[test]
fn an_override_holds_the_daemons_connect_back() {
    check_with(
        connecting(),
        "
        0 a fail x3
        500 - op force-open
        1000 - tick
        1000 - connect
        1000 - want none
        1500 - op release
        1500 - tick
        1500 - connect
        1500 - want db:5432
        1600 - op reset
        1601 - connect fail refused
        1601 a ask
        1601 - want admit
        ",
    );
}
