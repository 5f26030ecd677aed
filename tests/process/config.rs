//! What a wrong configuration gets: file, line, the nearest key, and exit 78.

use std::process::Output;

use breakerd_tests::{Daemon, Setup};

fn start_with(more: &str) -> (Daemon, Output, String) {
    let daemon = Daemon::idle(&Setup { more: more.to_owned(), ..Setup::default() });
    let output = daemon.second();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (daemon, output, said)
}

/// The line of the file that holds this text, from 1.
fn line_of(daemon: &Daemon, text: &str) -> usize {
    let file = std::fs::read_to_string(daemon.config()).unwrap();
    file.lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let (daemon, output, said) = start_with("colldown = \"3s\"\n");
    assert_eq!(output.status.code(), Some(78), "{said}");
    let place = format!("{}:{}", daemon.config().display(), line_of(&daemon, "colldown"));
    for part in [place.as_str(), "colldown", "cooldown"] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

#[test]
fn a_file_that_is_no_toml() {
    let (daemon, output, said) = start_with("cooldown = = 3\n");
    assert_eq!(output.status.code(), Some(78), "{said}");
    let place = format!("{}:{}", daemon.config().display(), line_of(&daemon, "= = 3"));
    assert!(said.contains(&place), "no {place:?} in:\n{said}");
}

#[test]
fn a_value_out_of_its_bounds() {
    let (_, output, said) = start_with("[breaker.\"x\"]\ntrip.consecutive_failures = 0\n");
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("trip.consecutive_failures") && said.contains('1'), "{said}");
}

#[test]
fn an_impossible_policy_is_told_with_the_line_the_rule_and_the_fix() {
    for (key, fix) in [
        ("trip.failure_rate = { at_least = 50, of_calls = 20 }", "a rate is above 0 and at most 1"),
        ("trip.failure_rate = { at_least = 0.5, of_calls = 0 }", "it may be 1 to"),
        ("trip.failure_rate = { at_least = 0.5, of_calls = 9, min_calls = 10 }", "it may be 1 to 9"),
        ("trip.failure_rate = { at_least = 0.5, of_calls = 9, within = \"1 hour\" }", "write whole numbers with ms, s"),
        ("trip.slow_rate = { at_least = 0.5, of_calls = 9 }", "slow_after = \"2s\""),
    ] {
        let (daemon, output, said) = start_with(&format!("{key}\n"));
        assert_eq!(output.status.code(), Some(78), "{said}");
        let rule = key.split(' ').next().unwrap();
        let place = format!("{}:{}: {rule}", daemon.config().display(), line_of(&daemon, rule));
        assert!(said.contains(&place) && said.contains(fix), "no {place:?} and {fix:?} in:\n{said}");
    }
}

#[test]
fn a_quota_is_checked_at_its_line_and_explained() {
    let (daemon, output, said) = start_with("[quotas]\nnames = 0\n");
    assert_eq!(output.status.code(), Some(78), "{said}");
    let place =
        format!("{}:{}: quotas.names is 0; give 1 to", daemon.config().display(), line_of(&daemon, "names = 0"));
    assert!(said.contains(&place), "no {place:?} in:\n{said}");
    let daemon = Daemon::idle(&Setup { more: "[quotas]\nnames = 77\n".to_owned(), ..Setup::default() });
    let config = daemon.config().display().to_string();
    let from = format!("{config}:{} [quotas]", line_of(&daemon, "names = 77"));
    let explain = |json: &[&str]| {
        let output = daemon.cli(&[&["check", "--explain", "openai", "--config", config.as_str()], json].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let (table, json) = (explain(&[]), explain(&["--json"]));
    let row = table.lines().find(|line| line.starts_with("quotas.names ")).unwrap();
    assert!(row.contains(" 77 ") && row.ends_with(&from), "{row}");
    assert!(json.contains("\"key\":\"quotas.names\",\"value\":\"77\"") && json.contains(&from), "{json}");
}

#[test]
fn a_file_that_is_not_there() {
    let daemon = Daemon::idle(&Setup::default());
    std::fs::remove_file(daemon.config()).unwrap();
    let output = daemon.second();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(&daemon.config().display().to_string()), "{said}");
}

#[test]
fn an_unknown_subcommand_is_a_usage_error() {
    let daemon = Daemon::idle(&Setup::default());
    assert_eq!(daemon.cli(&["frobnicate"]).status.code(), Some(2));
}
