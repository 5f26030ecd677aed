//! A policy for people, in a few short lines, and for programs.

use breakerd_proto::message::{CallsRule, PolicyPatch, ProbeRate, Rules, TimeRule};
use breakerd_proto::{AuthErrors, Fallback, OnQuota};
use serde_json::{Value, json};

use super::text::count;
use crate::config::{Word, written_duration};

/// A policy in lines: what trips, how long open lasts, how half-open tries, the rest. Absent parts are left out. The
/// mode is not among them: it stands beside the state.
pub(super) fn lines(policy: &PolicyPatch) -> Vec<String> {
    let lines = [trip(policy), cooldown(policy), probe(policy), rest(policy)];
    lines.into_iter().filter(|parts| !parts.is_empty()).map(|parts| parts.join(", ")).collect()
}

fn trip(policy: &PolicyPatch) -> Vec<String> {
    let mut rules = Vec::new();
    if let Some(n) = policy.consecutive_failures.filter(|n| *n > 0) {
        let of_all = if n > 1 { format!(" ({} over all workers)", u64::from(n) + 1) } else { String::new() };
        rules.push(count(u64::from(n), "failure", "failures in a row") + &of_all);
    }
    for (given, what, is_rate) in [
        (policy.failure_rate, "failed", true),
        (policy.failure_count, "failed", false),
        (policy.slow_rate, "slow", true),
        (policy.slow_count, "slow", false),
    ] {
        let Rules { calls, time } = given.unwrap_or_default();
        rules.extend(calls.map(|rule| over_calls(&rule, what, is_rate)));
        rules.extend(time.map(|rule| over_time(&rule, what, is_rate)));
    }
    match (rules.is_empty(), policy.consecutive_failures) {
        (true, None) => Vec::new(),
        (true, Some(_)) => vec!["never trips by itself".to_owned()],
        (false, _) => vec![format!("trips at {}", rules.join(", or "))],
    }
}

fn over_calls(rule: &CallsRule, what: &str, is_rate: bool) -> String {
    let CallsRule { at_least, of_calls, min_calls } = *rule;
    let from = if min_calls == of_calls { String::new() } else { format!(" (from {min_calls} on)") };
    format!("{} {what} of the last {of_calls} calls{from}", part(at_least, is_rate))
}

fn over_time(rule: &TimeRule, what: &str, is_rate: bool) -> String {
    let of = match rule.min_calls {
        1 => String::new(),
        least => format!(" of at least {least} calls"),
    };
    format!("{} {what}{of} within {}", part(rule.at_least, is_rate), written_duration(rule.within_ms))
}

/// `50 %`, `12.5 %`; a count as it is.
fn part(at_least: f64, is_rate: bool) -> String {
    // To a hundredth: 0.07 is 7 %, whatever binary makes of it.
    let percent = (at_least * 10_000.0).round() / 100.0;
    if is_rate { format!("{percent} %") } else { at_least.to_string() }
}

fn cooldown(policy: &PolicyPatch) -> Vec<String> {
    let mut parts = Vec::new();
    if let (Some(first), Some(factor), Some(max)) =
        (policy.cooldown_first_ms, policy.cooldown_factor, policy.cooldown_max_ms)
    {
        parts.push(format!("cooldown {} x{factor} to {}", written_duration(first), written_duration(max)));
    }
    parts.extend(policy.cooldown_jitter.map(|jitter| format!("jitter {jitter}")));
    parts.extend(policy.cooldown_forget_ms.map(|ms| format!("forgotten {} after a recovery", written_duration(ms))));
    parts
}

fn probe(policy: &PolicyPatch) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(permits) = policy.probe_permits {
        parts.push(format!("{} at a time", count(u64::from(permits), "probe", "probes")));
    }
    parts.extend(policy.probe_max_ms.map(|ms| format!("each for at most {}", written_duration(ms))));
    match (policy.probe_rate, policy.probe_successes) {
        (Some(ProbeRate { at_least, of_probes }), _) if of_probes > 0 => {
            parts.push(format!("{} of {of_probes} recover", part(at_least, true)));
        }
        (_, Some(n)) => parts.push(count(u64::from(n), "success recovers", "successes recover")),
        (_, None) => {}
    }
    parts.extend(policy.probe_period_ms.map(|ms| format!("undecided for at most {}", written_duration(ms))));
    let target = policy.probe_connect.as_ref().filter(|target| !target.is_empty());
    parts.extend(target.map(|target| format!("made by the daemon at {target}")));
    parts
}

fn rest(policy: &PolicyPatch) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(policy.slow_after_ms.map(|ms| format!("slow after {}", written_duration(ms))));
    parts.extend(policy.hung_after_ms.map(|ms| format!("hung after {}", written_duration(ms))));
    parts.extend(policy.auth_errors.map(|what| match what {
        AuthErrors::Ignored => "401 and 403 ignored".to_owned(),
        AuthErrors::Failure => "401 and 403 fail".to_owned(),
    }));
    parts.extend(policy.fallback.map(|fallback| match fallback {
        Fallback::Local => "without a daemon each process alone".to_owned(),
        Fallback::Admit => "without a daemon all admitted".to_owned(),
        Fallback::Reject => "without a daemon all rejected".to_owned(),
    }));
    parts.extend(policy.on_quota.map(|what| match what {
        OnQuota::Admit => "over quota admitted".to_owned(),
        OnQuota::Reject => "over quota rejected".to_owned(),
    }));
    parts
}

/// Every field, durations in milliseconds; null for what is not decided.
pub(super) fn object(policy: &PolicyPatch) -> Value {
    json!({
        "mode": policy.mode.map(Word::written),
        "consecutive_failures": policy.consecutive_failures,
        "failure_rate": policy.failure_rate.map(rules_object),
        "failure_count": policy.failure_count.map(rules_object),
        "slow_rate": policy.slow_rate.map(rules_object),
        "slow_count": policy.slow_count.map(rules_object),
        "slow_after_ms": policy.slow_after_ms,
        "hung_after_ms": policy.hung_after_ms,
        "auth_errors": policy.auth_errors.map(Word::written),
        "cooldown_first_ms": policy.cooldown_first_ms,
        "cooldown_factor": policy.cooldown_factor,
        "cooldown_max_ms": policy.cooldown_max_ms,
        "cooldown_jitter": policy.cooldown_jitter,
        "cooldown_forget_ms": policy.cooldown_forget_ms,
        "probe_permits": policy.probe_permits,
        "probe_successes": policy.probe_successes,
        "probe_rate": policy.probe_rate.map(|rate| json!({ "at_least": rate.at_least, "of_probes": rate.of_probes })),
        "probe_max_ms": policy.probe_max_ms,
        "probe_period_ms": policy.probe_period_ms,
        "probe_connect": policy.probe_connect,
        "fallback": policy.fallback.map(Word::written),
        "on_quota": policy.on_quota.map(Word::written),
    })
}

/// `{"calls": …, "time": …}`, each null where there is no such rule.
fn rules_object(Rules { calls, time }: Rules) -> Value {
    json!({
        "calls": calls.map(|rule| {
            json!({ "at_least": rule.at_least, "of_calls": rule.of_calls, "min_calls": rule.min_calls })
        }),
        "time": time.map(|rule| {
            json!({ "at_least": rule.at_least, "min_calls": rule.min_calls, "within_ms": rule.within_ms })
        }),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use breakerd_core::Policy;
    use breakerd_proto::Mode;

    #[test]
    fn a_policy_reads_as_sentences() {
        assert_eq!(
            lines(&Policy::default().to_patch()),
            [
                "trips at 5 failures in a row (6 over all workers), or 50 % failed of at least 20 calls within 30s",
                "cooldown 15s x2 to 2m, jitter 0.1, forgotten 1m after a recovery",
                "1 probe at a time, each for at most 2m, 1 success recovers, undecided for at most 10m",
                "hung after 10s, 401 and 403 ignored, without a daemon each process alone, over quota admitted",
            ]
        );
        assert_eq!(lines(&PolicyPatch::default()), [""; 0], "an older daemon says less");
    }

    #[test]
    fn each_rule_has_its_words() {
        let calls = |at_least, of_calls, min_calls| Some(CallsRule { at_least, of_calls, min_calls });
        let time = |at_least, min_calls| Some(TimeRule { at_least, min_calls, within_ms: 60_000 });
        let failed = |rules| PolicyPatch { failure_rate: Some(rules), ..PolicyPatch::default() };
        let slow = |rules| PolicyPatch { slow_count: Some(rules), ..PolicyPatch::default() };
        let probe = |at_least, of_probes| PolicyPatch {
            probe_rate: Some(ProbeRate { at_least, of_probes }),
            probe_successes: Some(2),
            ..PolicyPatch::default()
        };
        let connect = PolicyPatch { probe_connect: Some("h:1".to_owned()), ..PolicyPatch::default() };
        let never = PolicyPatch { consecutive_failures: Some(0), ..failed(Rules::default()) };
        for (policy, line) in [
            (failed(Rules { calls: calls(0.07, 100, 100), time: None }), "trips at 7 % failed of the last 100 calls"),
            (
                failed(Rules { calls: calls(0.125, 100, 20), time: time(1.0, 3) }),
                "trips at 12.5 % failed of the last 100 calls (from 20 on), or 100 % failed of at least 3 calls within 1m",
            ),
            (slow(Rules { calls: None, time: time(5.0, 1) }), "trips at 5 slow within 1m"),
            (slow(Rules { calls: calls(5.0, 9, 9), time: None }), "trips at 5 slow of the last 9 calls"),
            (never, "never trips by itself"),
            (probe(0.5, 10), "50 % of 10 recover"),
            (probe(0.5, 0), "2 successes recover"),
            (connect, "made by the daemon at h:1"),
        ] {
            assert_eq!(lines(&policy), [line]);
        }
    }

    #[test]
    fn programs_see_every_field() {
        let policy = Policy { mode: Mode::Shadow, ..Policy::default() };
        let object = object(&policy.to_patch());
        assert_eq!(object["mode"], "shadow");
        assert_eq!(
            object["failure_rate"],
            json!({ "calls": null, "time": { "at_least": 0.5, "min_calls": 20, "within_ms": 30_000 } })
        );
        // The wire's struct is the list of all fields.
        let all = serde_json::to_value(policy.to_patch()).unwrap();
        let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&object), names(&all));
    }
}
