//! `watch`: the table once, then every change as it happens.

use std::process::ExitCode;

use breakerd_client::WatchEvent;
use breakerd_proto::message::Changed;
use breakerd_proto::{Mono, State};
use serde_json::json;

use super::args::Global;
use super::failure::Failure;
use super::json as object;
use super::printer::{safe, say};
use super::status::{because, breakers, shown_mode, shown_state};
use super::text::{clock_time, wait};

pub(super) fn watch(global: &Global) -> Result<ExitCode, Failure> {
    // Changes are asked for first, so that none falls between the table and them.
    let changes = global.look()?.watch()?;
    if !global.json {
        table(global)?;
    }
    for event in changes {
        match (event?, global.json) {
            (WatchEvent::Changed(changed), true) => object::say(object::changed(&changed, ago_ms(&changed)))?,
            (WatchEvent::Changed(changed), false) => say(&line(&changed, ago_ms(&changed)))?,
            (WatchEvent::Lagged(dropped), true) => object::say(json!({ "event": "lagged", "dropped": dropped }))?,
            (WatchEvent::Lagged(dropped), false) => {
                say(&format!("-- {dropped} changes came too fast to be shown; the table again:"))?;
                table(global)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(global: &Global) -> Result<(), Failure> {
    let mut operator = global.look()?;
    let rows = operator.list()?;
    say(&breakers(&mut operator, &rows)?.join("\n"))
}

/// How long ago it happened. The daemon's clock is ours, but for time namespaces, where this reads zero at worst.
fn ago_ms(changed: &Changed) -> u64 {
    u64::try_from(Mono::now().since(changed.at).as_millis()).unwrap_or(u64::MAX)
}

/// `14:02:11Z  openai  closed -> open  trip: 3 consecutive failures, by chat-api[4211]@web-1; retry in 18 s`
fn line(changed: &Changed, ago_ms: u64) -> String {
    let view = &changed.view;
    let mut line = format!(
        "{}  {}  {} -> {}  {}",
        clock_time(ago_ms),
        changed.name,
        changed.from.word(),
        shown_state(view),
        changed.what
    );
    let because = because(view);
    if !because.is_empty() {
        line.push_str(": ");
        line.push_str(&because);
    }
    if let Some(mode) = shown_mode(view) {
        line.push_str("; ");
        line.push_str(&mode);
    }
    if let (State::Open, Some(ms)) = (view.state, view.retry_after_ms) {
        line.push_str("; retry in ");
        line.push_str(&wait(ms));
    }
    safe(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakerd_proto::Mode;
    use breakerd_proto::message::View;

    #[test]
    fn a_change_is_one_line() {
        let changed = Changed {
            name: "openai".to_owned(),
            from: State::Closed,
            view: View {
                state: State::Open,
                forced: None,
                mode: Mode::On,
                mode_by: String::new(),
                mode_why: String::new(),
                generation: 2,
                retry_after_ms: Some(14_900),
                age_ms: 0,
                by: "chat-api[4211]@web-1".to_owned(),
                why: "3 consecutive failures, last http-401".to_owned(),
                host_only: false,
            },
            what: "trip".to_owned(),
            at: Mono(0),
        };
        let shadow = View { mode: Mode::Shadow, ..changed.view.clone() };
        let ordered = View { mode_by: "anna@web-1".to_owned(), mode_why: "drill".to_owned(), ..shadow.clone() };
        for (view, told) in [
            (shadow, ", by chat-api[4211]@web-1; mode shadow; retry in 15 s"),
            (ordered, ", by chat-api[4211]@web-1; mode shadow by anna@web-1: drill; retry in 15 s"),
        ] {
            let told_by = line(&Changed { view, ..changed.clone() }, 0);
            assert!(told_by.ends_with(told), "{told_by}");
        }
        let line = line(&changed, 0);
        let (time, rest) = line.split_once("  ").unwrap_or_default();
        assert_eq!(time.len(), 9, "{time}");
        assert_eq!(
            rest,
            "openai  closed -> open  trip: 3 consecutive failures, last http-401, by chat-api[4211]@web-1; retry in 15 s"
        );
    }
}
