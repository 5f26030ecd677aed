//! `workers`: who is connected.

use std::process::ExitCode;

use breakerd_proto::message::WorkerRow;
use serde_json::{Value, json};

use super::args::Global;
use super::failure::Failure;
use super::json as object;
use super::printer::say;
use super::status::{about_others, foot};
use super::table::Table;
use super::text::about;
use crate::config::user_name;

pub(super) fn workers(global: &Global) -> Result<ExitCode, Failure> {
    let mut operator = global.look()?;
    // This command is a connection too, and none of those that it was asked about.
    let own = operator.welcome().map(|welcome| welcome.worker);
    let mut rows = operator.workers()?;
    rows.retain(|row| Some(row.worker) != own);
    let daemon = about_others(&mut operator)?;
    if global.json {
        let workers: Vec<Value> = rows.iter().map(object::worker).collect();
        object::say(json!({ "daemon": object::daemon(&daemon), "workers": workers }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = if rows.is_empty() { vec!["no workers".to_owned()] } else { table(&rows) };
    lines.push(foot(&daemon));
    say(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[WorkerRow]) -> Vec<String> {
    let mut table = Table::new(&["WORKER", "USER", "FOR", "CONNECTIONS", "BREAKERS", "PROBES"]);
    for row in rows {
        table.row([
            row.label.clone(),
            user_name(row.uid),
            about(row.age_ms),
            row.connections.to_string(),
            row.breakers.to_string(),
            row.permits_out.to_string(),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_a_table() {
        let row = WorkerRow {
            worker: 1,
            label: "chat-api[4211]".to_owned(),
            uid: 0,
            age_ms: 61_000,
            connections: 2,
            breakers: 3,
            permits_out: 0,
        };
        assert_eq!(
            table(&[row]),
            [
                "WORKER          USER  FOR    CONNECTIONS  BREAKERS  PROBES",
                "chat-api[4211]  root  1 min  2            3         0",
            ]
        );
    }
}
