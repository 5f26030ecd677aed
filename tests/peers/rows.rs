//! The histories: on the left what happens, on the right what breakerd says, and below it who says something else and why.

use crate::breakers::{breakerd, peers};
use crate::history::play;

/// What a peer says in place of breakerd's words, and why.
type Other<'a> = (&'a [&'a str], &'a str, Why);

/// Why a peer differs: the rows of the table in `main.rs`.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// Half-open admits every call.
    Flood,
    /// As many probes are out at once as must succeed.
    TwoAtOnce,
    /// The outcome of a call from before the trip counts after it.
    Straggler,
    /// Failures within a time are counted, whatever lies between them.
    Window,
    /// A ring judges from the call after the one that fills it.
    Ring,
}

/// Plays a history through all whose rule knows so many successes; `others` differ.
#[track_caller]
fn check(successes: u32, history: &str, says: &str, others: &[Other<'_>]) {
    let mut wrong = Vec::new();
    let mut compare = |who: &str, said: String, expected: &str, why: Option<Why>| {
        if said != expected {
            wrong.push(format!("{history} {who} says {said}, expected {expected} {why:?}"));
        }
    };
    compare("breakerd", play(history, || breakerd(successes)), says, None);
    for (peer, fresh) in peers(successes) {
        let other = others.iter().find(|(who, ..)| who.contains(&peer));
        let (expected, why) = other.map_or((says, None), |(_, said, why)| (said, Some(*why)));
        compare(peer, play(history, fresh), expected, why);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const RECLOSER: &[&str] = &["recloser"];
const MACHINES: &[&str] = &["breaker-machines"];
const RESILIENCE: &[&str] = &["tower-resilience"];

#[test]
fn three_in_a_row_trip_and_one_success_recovers() {
    check(1, "sfff.ss", "aaaa.aa", &[]);
    check(1, "sfff.f.ss", "aaaa.a.aa", &[]);
    check(1, "sf!ff!s", "aaaaa--", &[]);
    check(1, "s[[[[f]f]f]f]fs", "aaaaaa-", &[]);
    check(1, "fffs", "aaa-", &[(RECLOSER, "aaaa", Why::Ring)]);
    check(1, "sfff.fs", "aaaa.a-", &[(RECLOSER, "aaaa.aa", Why::Ring)]);
}

#[test]
fn a_success_ends_a_run_and_a_recovery_forgets_it() {
    check(1, "sffsffs", "aaaaaaa", &[(MACHINES, "aaaaa--", Why::Window)]);
    check(1, "sff[s]fs", "aaaaaa", &[(MACHINES, "aaaaa-", Why::Window)]);
    check(1, "sfff.ssffs", "aaaa.aaaaa", &[(MACHINES, "aaaa.aaa--", Why::Window)]);
}

#[test]
fn one_call_at_a_time_tries_a_half_open_breaker() {
    let flood = &["recloser", "failsafe"];
    check(1, "sfff.[s]ss", "aaaa.a-a", &[(flood, "aaaa.aaa", Why::Flood)]);
    check(1, "sfff.[[[[s]s]s]s]ss", "aaaa.a----a", &[(flood, "aaaa.aaaaaa", Why::Flood)]);
    check(2, "sfff.[s]sss", "aaaa.a-aa", &[(&["tower-resilience", "breaker-machines"], "aaaa.aaaa", Why::TwoAtOnce)]);
}

#[test]
fn as_many_successes_recover_as_are_asked_for() {
    check(2, "sfff.sfs", "aaaa.aa-", &[]);
    check(2, "sfff.ssffs", "aaaa.aaaaa", &[(MACHINES, "aaaa.aaa--", Why::Window)]);
}

#[test]
fn a_probe_that_goes_without_a_result_leaves_room_for_another() {
    check(1, "sfff.!s", "aaaa.aa", &[]);
    check(1, "sfff.!!!.ss", "aaaa.aaa.aa", &[]);
    check(2, "sfff.s!ss", "aaaa.aaaa", &[]);
}

#[test]
fn a_call_from_before_the_trip_decides_nothing_after_it() {
    check(1, "s[fff]ss.s", "aaaaa-.a", &[]);
    check(1, "s[fff.]ss", "aaaaa.a", &[]);
    check(2, "s[fff.s]sfs", "aaaaa.aa-", &[(RESILIENCE, "aaaaa.aaa", Why::Straggler)]);
    check(2, "s[fff.s]fs", "aaaaa.aa", &[(RESILIENCE, "aaaaa.a-", Why::Straggler)]);
    let late = [
        (&["failsafe", "tower-resilience"][..], "aaaaa.aaaa-", Why::Straggler),
        (MACHINES, "aaaaa.aaa--", Why::Window),
    ];
    check(1, "s[fff.ss]fffs", "aaaaa.aaaaa", &late);
}
