//! `force`, `release`, `reset`, `mode`: what an operator may do.

use std::process::ExitCode;

use breakerd_client::{Action, ConnectError, Operator};
use breakerd_proto::message::Done;
use breakerd_proto::{Link, Mode, Name, Override};
use serde_json::json;

use super::args::{ForceArgs, Global, ModeArgs, ReleaseArgs, ResetArgs};
use super::failure::Failure;
use super::json as object;
use super::printer::{safe, say};
use super::status::shown_state;
use super::text::exact;

pub(super) fn force(global: &Global, force: &ForceArgs) -> Result<ExitCode, Failure> {
    let for_ms = force.end.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    let action = Action::Force { to: force.to.over(), for_ms };
    let operator = Operator::connect(global.control())?;
    order(global, operator, &force.name, action, &force.because)
}

pub(super) fn release(global: &Global, release: &ReleaseArgs) -> Result<ExitCode, Failure> {
    let operator = Operator::connect(global.control())?;
    order(global, operator, &release.name, Action::Release, &release.because)
}

pub(super) fn reset(global: &Global, reset: &ResetArgs) -> Result<ExitCode, Failure> {
    let operator = match Operator::connect(global.control()) {
        // Whoever is no operator may still hold the right to reset, which goes by account over the workers' socket.
        Err(ConnectError::Forbidden(_)) => Operator::connect(global.socket())?,
        other => other?,
    };
    order(global, operator, &reset.name, Action::Reset, &reset.because)
}

pub(super) fn mode(global: &Global, mode: &ModeArgs) -> Result<ExitCode, Failure> {
    let operator = Operator::connect(global.control())?;
    order(global, operator, &mode.name, Action::Mode { to: mode.to.mode() }, &mode.because)
}

fn order(
    global: &Global,
    mut operator: Operator,
    name: &Name,
    action: Action,
    because: &str,
) -> Result<ExitCode, Failure> {
    let done = operator.command(name, action, because)?;
    if global.json {
        object::say(json!({ "name": name.as_str(), "breaker": object::view(&done.view), "fleet": done.fleet }))?;
    } else {
        let link = operator.welcome().map_or(Link::Standalone, |welcome| welcome.link);
        say(&safe(&line(name, action, &done, link)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(name: &Name, action: Action, done: &Done, link: Link) -> String {
    let state = shown_state(&done.view);
    let mut line = match action {
        Action::Reset => format!("{name} is reset: {state}"),
        Action::Release => format!("{name} is released: {state}"),
        Action::Force { to, for_ms } => {
            let end = for_ms.map_or_else(|| "until released".to_owned(), |ms| format!("for {}", exact(ms)));
            let calls = match to {
                Override::ForcedOpen => "every call is rejected",
                Override::ForcedClosed => "every call is admitted",
            };
            format!("{name} is {state} {end}: {calls}")
        }
        Action::Mode { to } => return mode_line(name, to, done.view.mode),
    };
    match (done.fleet, link) {
        (true, _) => line.push_str(", on every host of the fleet"),
        (false, Link::Standalone) => {}
        (false, _) => line.push_str(", on this host; the fleet hears of it when Redis answers again"),
    }
    line
}

/// A mode is the host's own, whatever fleet it is in.
fn mode_line(name: &Name, to: Option<Mode>, mode: Mode) -> String {
    let does = match mode {
        Mode::On => "it judges and rejects",
        Mode::Shadow => "it judges in its own books and rejects nobody, save by a force",
        Mode::Off => "it admits everything and counts nothing",
    };
    let until = match to {
        Some(_) => format!(", on this host until `breakerd mode {name} config`"),
        None => ", as the configuration says".to_owned(),
    };
    format!("{name} is in mode {}{until}: {does}", mode.word())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use breakerd_proto::State;
    use breakerd_proto::message::View;

    #[test]
    fn what_was_done_is_a_sentence() {
        let name = Name::parse("openai").unwrap();
        let done = |state, forced, fleet| Done {
            request: 1,
            fleet,
            view: View {
                state,
                forced,
                mode: Mode::On,
                mode_by: String::new(),
                mode_why: String::new(),
                generation: 3,
                retry_after_ms: None,
                age_ms: 0,
                by: "anna@web-1".to_owned(),
                why: "test".to_owned(),
                host_only: false,
            },
        };
        let to = Override::ForcedOpen;
        assert_eq!(
            line(&name, Action::Force { to, for_ms: Some(600_000) }, &done(State::Open, Some(to), true), Link::Joined),
            "openai is forced-open for 10 min: every call is rejected, on every host of the fleet"
        );
        assert_eq!(
            line(&name, Action::Release, &done(State::Closed, None, false), Link::Standalone),
            "openai is released: closed"
        );
        assert_eq!(
            line(&name, Action::Reset, &done(State::Closed, None, false), Link::Detached),
            "openai is reset: closed, on this host; the fleet hears of it when Redis answers again"
        );
        let mut shadow = done(State::Closed, None, false);
        shadow.view.mode = Mode::Shadow;
        assert_eq!(
            line(&name, Action::Mode { to: Some(Mode::Shadow) }, &shadow, Link::Joined),
            "openai is in mode shadow, on this host until `breakerd mode openai config`: \
             it judges in its own books and rejects nobody, save by a force"
        );
        assert_eq!(
            line(&name, Action::Mode { to: None }, &done(State::Closed, None, false), Link::Joined),
            "openai is in mode on, as the configuration says: it judges and rejects"
        );
    }
}
