//! Impossible policies: each is refused with the rule that it breaks and what would do.

use super::*;

#[track_caller]
fn refused(patch: PolicyPatch, sentence: &str) {
    assert_eq!(check_patch(&patch).unwrap_err().to_string(), sentence);
}

#[track_caller]
fn taken(patch: PolicyPatch) {
    assert_eq!(check_patch(&patch), Ok(()));
}

fn of_calls(at_least: f64, of_calls: u32, min_calls: u32) -> Option<Rules> {
    Some(Rules { calls: Some(CallsRule { at_least, of_calls, min_calls }), time: None })
}

fn of_time(at_least: f64, min_calls: u32, within_ms: u64) -> Option<Rules> {
    Some(Rules { calls: None, time: Some(TimeRule { at_least, min_calls, within_ms }) })
}

fn none() -> PolicyPatch {
    PolicyPatch::default()
}

#[test]
fn a_number_out_of_its_bounds() {
    let bounds = |patch: PolicyPatch| match check_patch(&patch).unwrap_err() {
        BadPolicy::OutOfBounds { field, value, least, most } => (field.split(['.', ' ']).nth(1), value, least, most),
        other => panic!("{other}"),
    };
    let calls = PolicyPatch { failure_rate: of_calls(0.5, 0, 1), ..none() };
    assert_eq!(bounds(calls), (Some("failure_rate"), 0, 1, 10_000));
    let calls = PolicyPatch { slow_count: of_calls(1.0, 10_001, 1), ..none() };
    assert_eq!(bounds(calls), (Some("slow_count"), 10_001, 1, 10_000));
    let time = PolicyPatch { failure_count: of_time(5.0, 1, 0), ..none() };
    assert_eq!(bounds(time), (Some("failure_count"), 0, 100, 86_400_000));
    let time = PolicyPatch { slow_rate: of_time(0.5, 0, 1000), ..none() };
    assert_eq!(bounds(time), (Some("slow_rate"), 0, 1, 1_000_000));
    refused(
        PolicyPatch { consecutive_failures: Some(1_000_001), ..none() },
        "trip.consecutive_failures is 1000001; it may be 0 to 1000000",
    );
    refused(
        PolicyPatch { cooldown_first_ms: Some(86_400_001), ..none() },
        "cooldown.first (ms) is 86400001; it may be 1 to 86400000",
    );
    taken(PolicyPatch { consecutive_failures: Some(0), ..none() });
    taken(PolicyPatch { failure_rate: of_calls(1.0, 10_000, 10_000), failure_count: of_time(1e6, 1, 100), ..none() });
}

#[test]
fn a_rate_that_is_no_part_of_a_whole() {
    for at_least in [1.01, 50.0, 0.0, -0.5, f64::INFINITY] {
        let sentence = format!(
            "trip.failure_rate.at_least is {at_least}; a rate is above 0 and at most 1, as 0.5 for half of the calls"
        );
        refused(PolicyPatch { failure_rate: of_calls(at_least, 10, 1), ..none() }, &sentence);
        refused(PolicyPatch { failure_rate: of_time(at_least, 10, 1000), ..none() }, &sentence);
    }
    let nan = PolicyPatch { slow_rate: of_time(f64::NAN, 10, 1000), ..none() };
    assert!(matches!(check_patch(&nan), Err(BadPolicy::Rate { field: "trip.slow_rate", .. })));
    refused(
        PolicyPatch { probe_rate: Some(ProbeRate { at_least: 2.0, of_probes: 10 }), ..none() },
        "probe.rate.at_least is 2; a rate is above 0 and at most 1, as 0.5 for half of the calls",
    );
}

#[test]
fn a_count_that_is_no_whole_number() {
    for (at_least, shown) in [(2.5, "2.5"), (0.0, "0"), (-3.0, "-3"), (1_000_001.0, "1000001"), (f64::NAN, "NaN")] {
        let sentence = format!("trip.slow_count.at_least is {shown}; a count is a whole number, 1 to 1000000");
        refused(PolicyPatch { slow_count: of_time(at_least, 1, 1000), ..none() }, &sentence);
    }
}

#[test]
fn a_minimum_that_the_window_never_holds() {
    refused(
        PolicyPatch { failure_rate: of_calls(0.5, 20, 21), ..none() },
        "trip.failure_rate.min_calls is 21 of 20 calls; it may be 1 to 20",
    );
    refused(
        PolicyPatch { failure_count: of_calls(5.0, 20, 0), ..none() },
        "trip.failure_count.min_calls is 0 of 20 calls; it may be 1 to 20",
    );
}

#[test]
fn a_count_that_the_window_never_holds() {
    refused(
        PolicyPatch { failure_count: of_calls(21.0, 20, 20), ..none() },
        "trip.failure_count needs 21 of 20 calls and would never trip; raise of_calls",
    );
    taken(PolicyPatch { failure_count: of_calls(20.0, 20, 20), ..none() });
}

#[test]
fn a_factor_or_a_chance_out_of_its_bounds() {
    for factor in [0.99, 100.5] {
        let sentence = format!("cooldown.factor is {factor}; it may be 1 to 100");
        refused(PolicyPatch { cooldown_factor: Some(factor), ..none() }, &sentence);
    }
    for jitter in [-0.1, 0.6] {
        let sentence = format!("cooldown.jitter is {jitter}; it may be 0 to 0.5");
        refused(PolicyPatch { cooldown_jitter: Some(jitter), ..none() }, &sentence);
    }
    taken(PolicyPatch { cooldown_factor: Some(1.0), cooldown_jitter: Some(0.5), ..none() });
}

#[test]
fn a_rate_of_no_probes_is_none() {
    let rate = |of_probes| PolicyPatch { probe_rate: Some(ProbeRate { at_least: 0.5, of_probes }), ..none() };
    taken(rate(0));
    let policy = Policy::default().patched(&rate(4));
    assert_eq!(policy.probe.rate, Some(ProbeRate { at_least: 0.5, of_probes: 4 }));
    assert_eq!(policy.patched(&rate(0)).probe.rate, None, "a less specific pattern's is switched off");
}

#[test]
fn a_target_that_is_none() {
    let long = format!("{}:443", "a".repeat(limits::PROBE_CONNECT_BYTES_MAX));
    for target in
        ["api.openai.com", "api.openai.com:0", "api.openai.com:70000", ":443", "[::1:443", "[]:1", "a b:1", &long]
    {
        let sentence = format!("probe.connect is {target:?}; it takes HOST:PORT, as \"api.openai.com:443\"");
        refused(PolicyPatch { probe_connect: Some(target.to_owned()), ..none() }, &sentence);
    }
    for target in ["", "api.openai.com:443", "10.0.0.1:80", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:80"] {
        taken(PolicyPatch { probe_connect: Some(target.to_owned()), ..none() });
    }
}

#[test]
fn a_rule_about_slow_calls_where_nothing_says_what_is_slow() {
    let rates = PolicyPatch { slow_rate: of_time(0.5, 10, 1000), ..none() };
    let counts = PolicyPatch { slow_count: of_calls(5.0, 10, 10), ..none() };
    let says = |patch: &PolicyPatch| Policy::default().patched(patch).check().map_err(|bad| bad.to_string());
    assert_eq!(
        says(&rates),
        Err("trip.slow_rate needs slow_after, which says what is slow: slow_after = \"2s\"".into())
    );
    assert_eq!(
        says(&counts),
        Err("trip.slow_count needs slow_after, which says what is slow: slow_after = \"2s\"".into())
    );
    for patch in [rates, counts] {
        assert_eq!(says(&PolicyPatch { slow_after_ms: Some(2000), ..patch }), Ok(()));
    }
    assert_eq!(says(&none()), Ok(()), "the shipped default is a policy that can be used");
}
