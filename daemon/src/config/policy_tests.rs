//! Policies: what each key may say, what is refused, and that what `check --explain` prints is what a file may say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use breakerd_core::{Policy, Settings};
use breakerd_proto::message::{CallsRule, PolicyPatch, ProbeRate, Rules, TimeRule};
use breakerd_proto::{AuthErrors, Fallback, Mode, Name, OnQuota};
use proptest::option;
use proptest::prelude::*;

use super::breaker::KEYS;
use super::tests::complaints;
use super::*;

/// The policy of `x` under a file whose default section says this.
fn policy(text: &str) -> Policy {
    load_text("b.toml", &format!("[breaker.default]\n{text}\n")).unwrap().breakers.policy("x", None)
}

fn calls(at_least: f64, of_calls: u32, min_calls: u32) -> Rules {
    Rules { calls: Some(CallsRule { at_least, of_calls, min_calls }), time: None }
}

fn time(at_least: f64, min_calls: u32, within_ms: u64) -> Rules {
    Rules { calls: None, time: Some(TimeRule { at_least, min_calls, within_ms }) }
}

#[test]
fn a_rule_is_over_calls_over_a_time_or_over_both() {
    for (text, rules) in [
        (r#"{ at_least = 0.5, of_calls = 20, within = "30s" }"#, time(0.5, 20, 30_000)),
        (r#"{ at_least = 0.5, of_calls = 100 }"#, calls(0.5, 100, 100)),
        (r#"{ at_least = 0.5, of_calls = 100, min_calls = 20 }"#, calls(0.5, 100, 20)),
        (r#"[{ at_least = 1, of_calls = 7, within = "1s" }]"#, time(1.0, 7, 1000)),
        (
            r#"[{ at_least = 0.1, of_calls = 9, within = "100ms" }, { at_least = 0.9, of_calls = 5 }]"#,
            Rules { calls: calls(0.9, 5, 5).calls, time: time(0.1, 9, 100).time },
        ),
        ("false", Rules::default()),
    ] {
        assert_eq!(policy(&format!("trip.failure_rate = {text}")).trip.failure_rate, rules, "{text}");
    }
    for (text, rules) in [
        (r#"{ at_least = 5, of_calls = 100 }"#, calls(5.0, 100, 100)),
        (r#"{ at_least = 5, of_calls = 20, within = "30s" }"#, time(5.0, 20, 30_000)),
        (r#"{ at_least = 5, within = "30s" }"#, time(5.0, 1, 30_000)),
    ] {
        assert_eq!(policy(&format!("trip.failure_count = {text}")).trip.failure_count, rules, "{text}");
    }
}

#[test]
fn every_key_says_what_it_says() {
    let policy = policy(
        r#"
            mode = "shadow"
            trip.consecutive_failures = false
            trip.failure_rate = false
            trip.slow_rate = { at_least = 0.5, of_calls = 10, within = "1m" }
            trip.slow_count = { at_least = 4, of_calls = 8 }
            slow_after = "2s"
            hung_after = "20s"
            auth_errors = "failure"
            cooldown.forget = "5m"
            probe = { rate = { at_least = 0.5, of_probes = 10 }, period = "1m", connect = "api.openai.com:443" }
            on_quota = "reject"
        "#,
    );
    assert_eq!(policy.mode, Mode::Shadow);
    assert_eq!((policy.trip.consecutive_failures, policy.trip.failure_rate), (0, Rules::default()));
    assert_eq!((policy.trip.slow_rate, policy.trip.slow_count), (time(0.5, 10, 60_000), calls(4.0, 8, 8)));
    assert_eq!((policy.slow_after.unwrap().as_secs(), policy.hung_after.as_secs()), (2, 20));
    assert_eq!((policy.auth_errors, policy.on_quota), (AuthErrors::Failure, OnQuota::Reject));
    assert_eq!((policy.cooldown.forget.as_secs(), policy.probe.period.as_secs()), (300, 60));
    assert_eq!(policy.probe.rate, Some(ProbeRate { at_least: 0.5, of_probes: 10 }));
    assert_eq!(policy.probe.connect.as_deref(), Some("api.openai.com:443"));
}

#[test]
fn a_more_specific_section_replaces_a_whole_key_and_may_switch_it_off() {
    let text = r#"
        [breaker.default]
        slow_after = "1s"
        trip.slow_rate = { at_least = 0.5, of_calls = 10 }
        probe.rate = { at_least = 0.5, of_probes = 10 }
        probe.connect = "h:1"
        [breaker."a"]
        trip.failure_rate = { at_least = 0.9, of_calls = 50 }
        trip.slow_rate = false
        probe.rate = false
        probe.connect = false
    "#;
    let config = load_text("b.toml", text).unwrap();
    let (a, other) = (config.breakers.policy("a", None), config.breakers.policy("b", None));
    assert_eq!(a.trip.failure_rate, calls(0.9, 50, 50), "the default's rule over a time is gone");
    assert_eq!((a.trip.slow_rate, a.probe.rate, a.probe.connect), (Rules::default(), None, None));
    assert_eq!((other.trip.slow_rate, other.probe.permits), (calls(0.5, 10, 10), 1));
    assert_eq!(other.probe.connect.as_deref(), Some("h:1"));
}

/// What stands under `[breaker.default]`, which is line 1, and the complaint with its line.
fn check(text: &str, complaint: &str) {
    assert_eq!(complaints(&format!("[breaker.default]\n{text}\n")), [format!("breakerd.toml:{complaint}")], "{text}");
}

#[test]
fn an_impossible_policy_is_refused_with_its_line_the_rule_and_the_fix() {
    for (text, complaint) in [
        (
            "trip.failure_rate = { at_least = 50, of_calls = 20 }",
            "2: trip.failure_rate.at_least is 50; a rate is above 0 and at most 1, as 0.5 for half of the calls",
        ),
        (
            "trip.slow_rate = { at_least = nan, of_calls = 20 }\nslow_after = \"1s\"",
            "2: trip.slow_rate.at_least is NaN; a rate is above 0 and at most 1, as 0.5 for half of the calls",
        ),
        (
            "trip.failure_count = { at_least = 0.5, of_calls = 20 }",
            "2: trip.failure_count.at_least is 0.5; a count is a whole number, 1 to 1000000",
        ),
        (
            "trip.failure_count = { at_least = 30, of_calls = 20 }",
            "2: trip.failure_count needs 30 of 20 calls and would never trip; raise of_calls",
        ),
        (
            "trip.failure_rate = { at_least = 0.5, of_calls = 0 }",
            "2: trip.failure_rate.of_calls is 0; it may be 1 to 10000",
        ),
        (
            "trip.failure_rate = { at_least = 0.5, of_calls = 20, min_calls = 21 }",
            "2: trip.failure_rate.min_calls is 21 of 20 calls; it may be 1 to 20",
        ),
        (
            "[breaker.default.trip.failure_rate]\nat_least = 0.5\nof_calls = 20\nwithin = \"0s\"",
            "5: trip.failure_rate.within (ms) is 0; it may be 100 to 86400000",
        ),
        (
            "trip.failure_rate = { at_least = 0.5, of_calls = 20, within = \"30sec\" }",
            "2: trip.failure_rate.within: \"30sec\" is no duration; write whole numbers with ms, s, m, h or d, as in \
             \"500ms\", \"15s\", \"2m\", \"1h30m\"",
        ),
        (
            "trip.failure_rate = { at_least = 0.5, of_calls = 20, within = \"30s\", min_calls = 3 }",
            "2: trip.failure_rate has min_calls beside within, where of_calls is the minimum; leave min_calls out",
        ),
        (
            "trip.failure_rate = { at_least = 0.5, within = \"30s\" }",
            "2: trip.failure_rate has no of_calls; write it as trip.failure_rate = { at_least = 0.5, of_calls = 20, \
             within = \"30s\" }",
        ),
        (
            "trip.failure_count = { of_calls = 20 }",
            "2: trip.failure_count has no at_least; write it as trip.failure_count = { at_least = 5, of_calls = 100 }",
        ),
        (
            "trip.failure_rate = { at_lest = 0.5, at_least = 0.5, of_calls = 20 }",
            "2: unknown key trip.failure_rate.at_lest in [breaker.default]; did you mean trip.failure_rate.at_least?",
        ),
        (
            "trip.failure_rate = [\n{ at_least = 0.5, of_calls = 20 },\n{ at_least = 0.9, of_calls = 5 },\n]",
            "4: trip.failure_rate has two rules over the last calls; a list has one over the last calls and one over a \
             time",
        ),
        (
            "trip.failure_count = [{ at_least = 5, within = \"1s\" }, { at_least = 9, within = \"1m\" }]",
            "2: trip.failure_count has two rules over a time; a list has one over the last calls and one over a time",
        ),
        ("trip.failure_rate = 0.5", "2: trip.failure_rate takes a table, a list of tables, or false, not a number"),
        ("trip.failure_rate = []", "2: trip.failure_rate takes a table, a list of tables, or false, not an empty list"),
        ("trip.failure_rate = true", "2: trip.failure_rate takes a table, a list of tables, or false, not true"),
        (
            "trip.failure_rat = false",
            "2: unknown key trip.failure_rat in [breaker.default]; did you mean trip.failure_rate?",
        ),
        ("trip.consecutive_failures = 0", "2: trip.consecutive_failures is 0; give 1 or more, or false for never"),
        ("trip.consecutive_failures = 1000001", "2: trip.consecutive_failures is 1000001; it may be 0 to 1000000"),
        ("cooldown.jitter = 0.6", "2: cooldown.jitter is 0.6; it may be 0 to 0.5"),
        ("cooldown.factor = 0.5", "2: cooldown.factor is 0.5; it may be 1 to 100"),
        ("cooldown.forget = \"2d\"", "2: cooldown.forget (ms) is 172800000; it may be 0 to 86400000"),
        ("probe.permits = 0", "2: probe.permits is 0; it may be 1 to 1000"),
        ("probe.period = \"0s\"", "2: probe.period (ms) is 0; it may be 1 to 86400000"),
        (
            "probe.rate = { at_least = 0, of_probes = 10 }",
            "2: probe.rate.at_least is 0; a rate is above 0 and at most 1, as 0.5 for half of the calls",
        ),
        (
            "probe.rate = { at_least = 0.5, of_probes = 0 }",
            "2: probe.rate.of_probes is 0; give 1 or more, or probe.rate = false, so that probe.successes decides",
        ),
        (
            "probe.rate = { at_least = 0.5 }",
            "2: probe.rate has no of_probes; write it as probe.rate = { at_least = 0.5, of_probes = 10 }",
        ),
        ("probe.rate = true", "2: probe.rate takes a table, not true"),
        (
            "probe.connect = \"api.openai.com\"",
            "2: probe.connect is \"api.openai.com\"; it takes HOST:PORT, as \"api.openai.com:443\"",
        ),
        ("probe.connect = \"\"", "2: probe.connect is \"\"; it takes HOST:PORT, as \"api.openai.com:443\""),
        ("auth_errors = \"fail\"", "2: auth_errors is \"fail\"; it may be \"ignored\", \"failure\""),
        ("on_quota = \"block\"", "2: on_quota is \"block\"; it may be \"admit\", \"reject\""),
        ("hung_after = 10", "2: hung_after takes a duration in quotes, as \"15s\", not a number"),
    ] {
        check(text, complaint);
    }
}

#[test]
fn what_is_wrong_only_in_company_is_told_at_the_key_of_the_section_that_makes_it_so() {
    for (text, complaint) in [
        (
            "mode = \"on\"\ntrip.slow_rate = { at_least = 0.5, of_calls = 20 }\n[breaker.\"a\"]\nmode = \"off\"",
            "3: trip.slow_rate needs slow_after, which says what is slow: slow_after = \"2s\"",
        ),
        (
            "mode = \"on\"\n[breaker.\"a\"]\nmode = \"on\"\ntrip.slow_count = { at_least = 5, of_calls = 20 }",
            "5: trip.slow_count needs slow_after, which says what is slow: slow_after = \"2s\"",
        ),
        (
            "cooldown = { first = \"3m\", max = \"2m\" }\n[breaker.\"a\"]\nmode = \"on\"",
            "2: cooldown.first (3m) is longer than cooldown.max (2m); raise max or lower first",
        ),
        (
            "cooldown.first = \"3m\"",
            "2: cooldown.first (3m) is longer than cooldown.max (2m); raise max or lower first",
        ),
        (
            "cooldown.first = \"1m\"\n[breaker.\"a\"]\nmode = \"on\"\ncooldown.max = \"10s\"",
            "5: cooldown.first (1m) is longer than cooldown.max (10s); raise max or lower first",
        ),
    ] {
        check(text, complaint);
    }
    let in_company = "slow_after = \"1s\"\n[breaker.\"a\"]\ntrip.slow_rate = { at_least = 0.5, of_calls = 20 }";
    assert_eq!(complaints(&format!("[breaker.default]\n{in_company}")), [""; 0]);
}

#[test]
fn explain_names_the_line_of_each_value() {
    let text = r#"[breaker.default]
cooldown.first = "20s"
trip.failure_rate = { at_least = 0.4, of_calls = 10 }
[breaker."pay/*"]
trip.consecutive_failures = 3
[breaker."*"]
trip.consecutive_failures = 9
probe.permits = 2
[breaker."pay/stripe"]
mode = "shadow"
trip.failure_rate = { at_least = 0.5, of_calls = 20, within = "30s" }
"#;
    let config = load_text("b.toml", text).unwrap();
    let explained = explain(&config, &Name::parse("pay/stripe").unwrap());
    for (key, value, from, code_may_change) in [
        ("trip.consecutive_failures", "3", "b.toml:5 [breaker.\"pay/*\"]", false),
        (
            "trip.failure_rate",
            "{ at_least = 0.5, of_calls = 20, within = \"30s\" }",
            "b.toml:11 [breaker.\"pay/stripe\"]",
            false,
        ),
        ("cooldown.first", "\"20s\"", "b.toml:2 [breaker.default]", true),
        ("probe.permits", "2", "b.toml:8 [breaker.\"*\"]", false),
        ("mode", "\"shadow\"", "b.toml:10 [breaker.\"pay/stripe\"]", false),
        ("cooldown.max", "\"2m\"", "built-in", true),
        ("trip.slow_rate", "false", "built-in", true),
        ("slow_after", "-", "built-in", true),
        ("probe.connect", "false", "built-in", false),
    ] {
        let line = explained.iter().find(|line| line.key == key).unwrap();
        assert_eq!((line.value.as_str(), line.from.as_str()), (value, from));
        assert_eq!(line.code_may_change, code_may_change, "{key}");
    }
    assert_eq!(explained.len(), KEYS.len());
}

/// The default section's lines as `check --explain` prints its values.
fn explained_lines(config: &Config) -> String {
    let lines = explain(config, &Name::parse("x").unwrap());
    let said = lines.iter().filter(|line| line.value != "-");
    said.map(|line| format!("{} = {}\n", line.key, line.value)).collect()
}

fn any_rules(is_rate: bool) -> impl Strategy<Value = Rules> {
    let least = move |most: u32| if is_rate { (0.0001..=1.0).boxed() } else { (1..=most).prop_map(f64::from).boxed() };
    let over_calls = (1_u32..=10_000).prop_flat_map(move |of| (least(of), 1..=of, Just(of)));
    let calls = over_calls.prop_map(|(at_least, min_calls, of_calls)| CallsRule { at_least, of_calls, min_calls });
    let over_time = (least(1000), 1_u32..=1000, 100_u64..=86_400_000);
    let time = over_time.prop_map(|(at_least, min_calls, within_ms)| TimeRule { at_least, min_calls, within_ms });
    (option::of(calls), option::of(time)).prop_map(|(calls, time)| Rules { calls, time })
}

fn any_policy() -> impl Strategy<Value = PolicyPatch> {
    let ms = || 1_u64..=86_400_000;
    let trip =
        (option::of(1_u32..=1000), any_rules(true), any_rules(false), any_rules(true), any_rules(false), ms(), ms());
    let cooldown = (ms(), 1.0..=100.0, ms(), 0.0..=0.5, 0_u64..=86_400_000);
    let rate = (0.0001..=1.0, 1_u32..=1000).prop_map(|(at_least, of_probes)| ProbeRate { at_least, of_probes });
    let connect = prop_oneof![Just(""), Just("api.openai.com:443"), Just("[::1]:8080")];
    let probe = (1_u32..=1000, 1_u32..=1000, option::of(rate), ms(), ms(), connect);
    let words = (
        prop_oneof![Just(Mode::On), Just(Mode::Shadow), Just(Mode::Off)],
        prop_oneof![Just(Fallback::Local), Just(Fallback::Admit), Just(Fallback::Reject)],
        prop_oneof![Just(AuthErrors::Ignored), Just(AuthErrors::Failure)],
        prop_oneof![Just(OnQuota::Admit), Just(OnQuota::Reject)],
    );
    (trip, cooldown, probe, words).prop_map(|(trip, cooldown, probe, words)| PolicyPatch {
        consecutive_failures: Some(trip.0.unwrap_or(0)),
        failure_rate: Some(trip.1),
        failure_count: Some(trip.2),
        slow_rate: Some(trip.3),
        slow_count: Some(trip.4),
        slow_after_ms: Some(trip.5),
        hung_after_ms: Some(trip.6),
        cooldown_first_ms: Some(cooldown.0.min(cooldown.2)),
        cooldown_factor: Some(cooldown.1),
        cooldown_max_ms: Some(cooldown.2),
        cooldown_jitter: Some(cooldown.3),
        cooldown_forget_ms: Some(cooldown.4),
        probe_permits: Some(probe.0),
        probe_successes: Some(probe.1),
        probe_rate: probe.2,
        probe_max_ms: Some(probe.3),
        probe_period_ms: Some(probe.4),
        probe_connect: Some(probe.5.to_owned()),
        mode: Some(words.0),
        fallback: Some(words.1),
        auth_errors: Some(words.2),
        on_quota: Some(words.3),
    })
}

proptest! {
    #[test]
    fn what_explain_prints_reads_as_the_same_policy(patch in any_policy()) {
        let empty = load_text("b.toml", "").unwrap();
        let breakers = Settings { default: patch, ..empty.breakers.clone() };
        let config = Config { breakers, ..empty };
        let lines = explained_lines(&config);
        prop_assert_eq!(policy(&lines), config.breakers.policy("x", None), "{}", lines);
    }
}

#[test]
fn the_readme_has_every_key_with_its_default() {
    let readme = include_str!("../../../README.md");
    for line in explain(&load_text("b.toml", "").unwrap(), &Name::parse("x").unwrap()) {
        let row = format!("| `{}` | `{}` |", line.key, line.value).replace("`-`", "none");
        assert!(readme.lines().any(|text| text.starts_with(&row)), "README.md has no row that begins with {row}");
    }
}

/// The configuration that is installed; its group is one that every machine has.
fn installed() -> String {
    include_str!("../../../systemd/breakerd.toml").replace("group = \"breakerd\"", "group = \"root\"")
}

#[test]
fn the_installed_file_says_the_default_of_every_key() {
    let config = load_text("b.toml", &installed()).unwrap();
    assert_eq!(config.breakers.policy("x", None), Policy::default());
    for line in explain(&config, &Name::parse("x").unwrap()) {
        assert!(line.from.starts_with("b.toml:") || line.value == "-", "{} is not in systemd/breakerd.toml", line.key);
        assert!(installed().contains(line.key.rsplit('.').next().unwrap()), "{}", line.key);
    }
}

#[test]
fn what_the_installed_file_has_commented_out_can_be_taken_in() {
    let plain = |line: &str| match line.strip_prefix("# ") {
        Some(text) if text.starts_with('[') || text.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
            text.replace("www-data", "root")
        }
        _ => line.to_owned(),
    };
    let text: Vec<String> = installed().lines().map(plain).collect();
    assert_eq!(complaints(&text.join("\n")), [""; 0]);
}
