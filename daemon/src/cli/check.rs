//! `check`: is the configuration right, and where does each value come from?

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{CheckArgs, Global};
use super::failure::Failure;
use super::json as object;
use super::printer::say;
use super::table::Table;
use super::text::count;
use crate::config::{self, Config, Explained};

pub(super) fn check(global: &Global, check: &CheckArgs) -> Result<ExitCode, Failure> {
    let config = config::load(global.config.as_deref())?;
    let explained = check.explain.as_ref().map(|name| config::explain(&config, name));
    let quotas = config::explain_quotas(&config);
    if global.json {
        let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
        let policy = explained.as_deref().map(explained_object);
        object::say(json!({ "ok": true, "files": files, "policy": policy, "quotas": explained_object(&quotas) }))?;
    } else {
        let whole = |policy: Vec<Explained>| table(&[policy, quotas].concat()).join("\n");
        say(&explained.map_or_else(|| ok(&config), whole))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ok(config: &Config) -> String {
    let files = match config.files.as_slice() {
        [] => format!("no {}: all defaults", config::FILE),
        files => files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let fleet = match &config.fleet {
        Some(fleet) => format!("fleet {:?} at {}", fleet.name, fleet.redis),
        None => "standalone".to_owned(),
    };
    let patterns = u64::try_from(config.breakers.patterns.len()).unwrap_or(u64::MAX);
    let patterns = count(patterns, "pattern", "patterns");
    format!("ok: {files}\n{fleet} · {patterns} · socket {}", config.listen.socket.display())
}

fn explained_object(lines: &[Explained]) -> Value {
    lines
        .iter()
        .map(|line| {
            json!({
                "key": line.key,
                "value": line.value,
                "from": line.from,
                "code_may_change": line.code_may_change,
            })
        })
        .collect()
}

fn table(lines: &[Explained]) -> Vec<String> {
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    for line in lines {
        let mark = if line.code_may_change { " *" } else { "" };
        table.row([line.key.to_owned(), line.value.clone(), format!("{}{mark}", line.from)]);
    }
    let mut shown = table.lines();
    if lines.iter().any(|line| line.code_may_change) {
        shown.push("* a policy in a worker's code stands above this".to_owned());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_line() {
        let line = |key, value: &str, from: &str, code_may_change| Explained {
            key,
            value: value.to_owned(),
            from: from.to_owned(),
            code_may_change,
        };
        let lines = [
            line("mode", "on", "built-in", true),
            line("trip.consecutive_failures", "3", "b.toml:4 [breaker.\"pay/*\"]", false),
        ];
        assert_eq!(
            table(&lines),
            [
                "KEY                        VALUE  FROM",
                "mode                       on     built-in *",
                "trip.consecutive_failures  3      b.toml:4 [breaker.\"pay/*\"]",
                "* a policy in a worker's code stands above this",
            ]
        );
    }
}
