//! `status`: the table, or one breaker with its workers.

use std::process::ExitCode;

use breakerd_client::Operator;
use breakerd_proto::message::{BreakerRow, Daemon, Description, LastFailure, PolicyPatch, View};
use breakerd_proto::{Link, Mode, Name, Override, State};
use serde_json::{Value, json};

use super::args::Global;
use super::failure::Failure;
use super::json as object;
use super::policy;
use super::printer::{safe, say};
use super::table::Table;
use super::text::{about, clock_time, count, exact, wait};

pub(super) fn status(global: &Global, name: Option<&Name>) -> Result<ExitCode, Failure> {
    let mut operator = global.look()?;
    match name {
        Some(name) => one(global, &operator.describe(name)?)?,
        None => all(global, &mut operator)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn all(global: &Global, operator: &mut Operator) -> Result<(), Failure> {
    let rows = operator.list()?;
    let daemon = about_others(operator)?;
    if global.json {
        let breakers: Vec<Value> = rows.iter().map(object::breaker).collect();
        return object::say(json!({ "daemon": object::daemon(&daemon), "breakers": breakers }));
    }
    let mut lines = breakers(operator, &rows)?;
    lines.push(foot(&daemon));
    say(&lines.join("\n"))
}

/// What the daemon says of itself, this command not counted as a worker.
pub(super) fn about_others(operator: &mut Operator) -> Result<Daemon, Failure> {
    let daemon = operator.about()?;
    Ok(Daemon { workers: daemon.workers.saturating_sub(1), ..daemon })
}

/// The lines of the table; asks for the policy of what is half-open, to say how far it is.
pub(super) fn breakers(operator: &mut Operator, rows: &[BreakerRow]) -> Result<Vec<String>, Failure> {
    if rows.is_empty() {
        return Ok(vec!["no breakers yet: a worker makes one by its first call".to_owned()]);
    }
    let mut table = Table::new(&["NAME", "STATE", "FOR", "RETRY IN", "FAILURES", "WHY"]);
    for row in rows {
        let probing = row.view.state == State::HalfOpen;
        // It may be gone by now; then its row says what it said.
        let policy = match Name::parse(&row.name) {
            Ok(name) if probing => operator.describe(&name).ok().map(|description| description.policy),
            _ => None,
        };
        table.row(cells(row, &policy.unwrap_or_default()));
    }
    Ok(table.lines())
}

fn cells(row: &BreakerRow, policy: &PolicyPatch) -> [String; 6] {
    let view = &row.view;
    let retry_in = match (view.state, view.retry_after_ms) {
        (State::Open, Some(ms)) => wait(ms),
        _ => "-".to_owned(),
    };
    let state = shown_state(view).to_owned();
    // A first cooldown is the rule; a later one says how bad it is.
    let grown = cooldown(row).filter(|_| row.step > 0);
    let why = Some(why(row, policy)).filter(|why| !why.is_empty());
    let why = why.into_iter().chain(grown).collect::<Vec<_>>().join("; ");
    [row.name.clone(), state, about(view.age_ms), retry_in, row.failures.to_string(), why]
}

/// The override's word where there is one, else the state's.
pub(super) fn shown_state(view: &View) -> &'static str {
    view.forced.map_or_else(|| view.state.word(), Override::word)
}

/// `mode shadow`, and which operator said so and why; nothing for a breaker that acts by its configuration.
pub(super) fn shown_mode(view: &View) -> Option<String> {
    let mode = format!("mode {}", view.mode.word());
    match (view.mode, view.mode_by.as_str(), view.mode_why.as_str()) {
        (Mode::On, "", _) => None,
        (_, "", _) => Some(mode),
        (_, by, "") => Some(format!("{mode} by {by}")),
        (_, by, why) => Some(format!("{mode} by {by}: {why}")),
    }
}

fn why(row: &BreakerRow, policy: &PolicyPatch) -> String {
    let view = &row.view;
    let mut parts = Vec::from_iter(shown_mode(view));
    match (view.forced, view.state) {
        (None, State::Closed) => {}
        (None, State::HalfOpen) => parts.push(probing(row, policy)),
        _ => parts.push(because(view)),
    }
    if view.host_only && view.state != State::Closed {
        parts.push("this host only".to_owned());
    }
    parts.join("; ")
}

/// `cooldown 1 min (step 2)`; nothing of a breaker that is closed or forced.
fn cooldown(row: &BreakerRow) -> Option<String> {
    if row.view.forced.is_some() || row.view.state == State::Closed {
        return None;
    }
    let step = if row.step > 0 { format!(" (step {})", row.step) } else { String::new() };
    Some(format!("cooldown {}{step}", exact(row.cooldown_ms)))
}

fn probing(row: &BreakerRow, policy: &PolicyPatch) -> String {
    let of = |most: Option<u32>| most.map(|most| format!(" of {most}")).unwrap_or_default();
    let out = match policy.probe_connect.as_deref() {
        None | Some("") => format!("{}{} permits out", row.permits_out, of(policy.probe_permits)),
        Some(target) => format!("the daemon connects to {target}"),
    };
    let successes = match policy.probe_rate {
        Some(rate) if rate.of_probes > 0 => {
            let successes = count(u64::from(row.successes), "success", "successes");
            format!("{successes} of {} probes", rate.of_probes)
        }
        _ => format!("{}{} successes", row.successes, of(policy.probe_successes)),
    };
    format!("probing: {out}, {successes}")
}

/// What happened and who did it: `3 consecutive failures, last http-401, by chat-api[4211]@web-1`.
pub(super) fn because(view: &View) -> String {
    match (view.why.is_empty(), view.by.is_empty()) {
        (false, false) => format!("{}, by {}", view.why, view.by),
        (false, true) => view.why.clone(),
        (true, false) => format!("by {}", view.by),
        (true, true) => String::new(),
    }
}

/// How the daemon stands: `joined redis://10.0.0.5:6379 as "prod" · 4 workers · up 3 h 2 min`.
pub(super) fn foot(daemon: &Daemon) -> String {
    let link = match daemon.link {
        Link::Standalone => "standalone".to_owned(),
        Link::Joined => format!("joined {} as {:?}", daemon.redis, daemon.fleet),
        Link::Detached => {
            format!("detached from {} as {:?} for {}", daemon.redis, daemon.fleet, exact(daemon.link_ms))
        }
    };
    let workers = count(u64::from(daemon.workers), "worker", "workers");
    let over = match daemon.over_quota {
        0 => String::new(),
        calls => format!(" · {} over quota", count(calls, "call", "calls")),
    };
    safe(&format!("{link} · {workers} · up {}{over}", exact(daemon.up_ms)))
}

fn one(global: &Global, description: &Description) -> Result<(), Failure> {
    if global.json {
        return object::say(object::description(description));
    }
    let row = &description.row;
    let view = &row.view;
    let mut head = format!(
        "{}  {}, generation {}, since {} ({})",
        row.name,
        shown_state(view),
        view.generation,
        clock_time(view.age_ms),
        about(view.age_ms)
    );
    if let Some(cooldown) = cooldown(row) {
        head.push_str(&format!(", {cooldown}"));
    }
    match (view.state, view.retry_after_ms) {
        (State::Open, Some(ms)) => head.push_str(&format!(", retry in {}", wait(ms))),
        (State::Open, None) => head.push_str(", until released"),
        _ => {}
    }
    let mut lines = vec![safe(&head)];
    let why = why(row, &description.policy);
    if !why.is_empty() {
        lines.push(safe(&format!("why     {why}")));
    }
    let heads = std::iter::once("policy").chain(std::iter::repeat(""));
    let policy = policy::lines(&description.policy).into_iter().zip(heads);
    lines.extend(policy.map(|(line, head)| safe(&format!("{head:<6}  {line}"))));
    lines.append(&mut lanes(description));
    say(&lines.join("\n"))
}

fn lanes(description: &Description) -> Vec<String> {
    if description.lanes.is_empty() {
        return vec!["no worker uses it".to_owned()];
    }
    let mut table = Table::new(&["WORKER", "FAILURES", "CALLS", "LAST FAILURE"]);
    for lane in &description.lanes {
        let calls = lane.successes_total.saturating_add(lane.failures_total);
        let last = lane.last_failure.as_ref().map_or_else(|| "-".to_owned(), last_failure);
        table.row([lane.label.clone(), lane.failures.to_string(), calls.to_string(), last]);
    }
    table.lines()
}

fn last_failure(failure: &LastFailure) -> String {
    let detail = if failure.detail.is_empty() { String::new() } else { format!(": {}", failure.detail) };
    format!("{}{detail}, {} ago", failure.kind, about(failure.ago_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> View {
        View {
            state: State::Closed,
            forced: None,
            mode: Mode::On,
            mode_by: String::new(),
            mode_why: String::new(),
            generation: 1,
            retry_after_ms: Some(0),
            age_ms: 10_900_000,
            by: String::new(),
            why: String::new(),
            host_only: false,
        }
    }

    fn row(name: &str, failures: u64, view: View) -> BreakerRow {
        BreakerRow {
            name: name.to_owned(),
            view,
            failures,
            failures_total: failures,
            workers: 4,
            permits_out: 1,
            successes: 1,
            cooldown_ms: 15_000,
            step: 0,
        }
    }

    #[test]
    fn the_table_shows_each_state_as_people_look_for_it() {
        let open = View {
            state: State::Open,
            retry_after_ms: Some(17_400),
            age_ms: 12_000,
            by: "chat-api[4211]@web-1".to_owned(),
            why: "3 consecutive failures, last http-401".to_owned(),
            ..closed()
        };
        let half_open = View { state: State::HalfOpen, age_ms: 1000, host_only: true, ..closed() };
        let forced = View {
            state: State::Open,
            forced: Some(Override::ForcedOpen),
            retry_after_ms: None,
            age_ms: 60_000,
            by: "anna@web-1".to_owned(),
            why: "main\x1btenance".to_owned(),
            ..closed()
        };
        let policy = PolicyPatch { probe_permits: Some(1), probe_successes: Some(2), ..PolicyPatch::default() };
        let mut table = Table::new(&["NAME", "STATE", "FOR", "RETRY IN", "FAILURES", "WHY"]);
        for row in [
            row("openai", 5, open.clone()),
            row("payments/psp", 0, half_open),
            BreakerRow { cooldown_ms: 60_900, step: 2, ..row("anthropic", 1, open.clone()) },
            row("postgres", 2, closed()),
            row("stripe", 0, forced),
            row("shadow", 0, View { mode: Mode::Shadow, ..closed() }),
            row("off", 0, View { mode: Mode::Off, mode_by: "anna@web-1".to_owned(), ..closed() }),
        ] {
            table.row(cells(&row, &policy));
        }
        assert_eq!(
            table.lines().join("\n"),
            "\
NAME          STATE        FOR    RETRY IN  FAILURES  WHY
openai        open         12 s   18 s      5         3 consecutive failures, last http-401, by chat-api[4211]@web-1
payments/psp  half-open    1 s    -         0         probing: 1 of 1 permits out, 1 of 2 successes; this host only
anthropic     open         12 s   18 s      1         3 consecutive failures, last http-401, by chat-api[4211]@web-1; cooldown 1 min (step 2)
postgres      closed       3 h    -         2
stripe        forced-open  1 min  -         0         main\\u{1b}tenance, by anna@web-1
shadow        closed       3 h    -         0         mode shadow
off           closed       3 h    -         0         mode off by anna@web-1"
        );
    }

    #[test]
    fn half_open_says_how_far_it_is() {
        let half_open = row("x", 0, View { state: State::HalfOpen, ..closed() });
        let rate = Some(breakerd_proto::message::ProbeRate { at_least: 0.5, of_probes: 10 });
        let rate = PolicyPatch { probe_rate: rate, probe_permits: Some(3), ..PolicyPatch::default() };
        let connect = Some("h:1".to_owned());
        let connect = PolicyPatch { probe_connect: connect, probe_successes: Some(2), ..PolicyPatch::default() };
        for (policy, told) in [
            (rate, "probing: 1 of 3 permits out, 1 success of 10 probes"),
            (connect, "probing: the daemon connects to h:1, 1 of 2 successes"),
        ] {
            assert_eq!(why(&half_open, &policy), told);
        }
    }

    #[test]
    fn the_foot_says_how_the_daemon_stands() {
        let mut daemon = Daemon {
            request: 0,
            pid: 1,
            host: "web-1".to_owned(),
            release: "0.1.0".to_owned(),
            up_ms: 10_920_000,
            link: Link::Joined,
            redis: "redis://10.0.0.5:6379".to_owned(),
            fleet: "prod".to_owned(),
            link_ms: 72_000,
            workers: 4,
            breakers: 3,
            stale_reports: 0,
            over_quota: 0,
        };
        assert_eq!(foot(&daemon), "joined redis://10.0.0.5:6379 as \"prod\" · 4 workers · up 3 h 2 min");
        daemon.link = Link::Detached;
        assert_eq!(
            foot(&daemon),
            "detached from redis://10.0.0.5:6379 as \"prod\" for 1 min 12 s · 4 workers · up 3 h 2 min"
        );
        (daemon.link, daemon.workers) = (Link::Standalone, 1);
        assert_eq!(foot(&daemon), "standalone · 1 worker · up 3 h 2 min");
        daemon.over_quota = 7;
        assert_eq!(foot(&daemon), "standalone · 1 worker · up 3 h 2 min · 7 calls over quota");
    }
}
