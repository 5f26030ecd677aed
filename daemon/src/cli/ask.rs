//! `ask`: what a call would be told; for scripts, by its exit code.

use std::process::ExitCode;

use breakerd_proto::message::View;
use breakerd_proto::{Name, Verdict};
use serde_json::json;

use super::args::Global;
use super::failure::{Failure, NO};
use super::json as object;
use super::printer::{safe, say};
use super::status::{because, shown_mode};
use super::text::wait;

pub(super) fn ask(global: &Global, name: &Name) -> Result<ExitCode, Failure> {
    let asked = global.look()?.ask(name)?;
    if global.json {
        object::say(json!({
            "name": name.as_str(),
            "verdict": object::verdict_word(&asked.verdict),
            "reason": reject_reason(&asked.verdict),
            "breaker": object::view(&asked.view),
        }))?;
    } else {
        say(&safe(&line(name, &asked.verdict, &asked.view)))?;
    }
    Ok(match asked.verdict {
        Verdict::Reject { .. } => ExitCode::from(NO),
        Verdict::Admit { .. } | Verdict::Probe { .. } => ExitCode::SUCCESS,
    })
}

fn reject_reason(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Reject { reason, .. } => Some(reason.word()),
        _ => None,
    }
}

fn line(name: &Name, verdict: &Verdict, view: &View) -> String {
    let mode = shown_mode(view);
    match verdict {
        Verdict::Admit { .. } => format!("{name}: admit{}", note([mode, None])),
        Verdict::Probe { .. } => format!("{name}: admit, as a probe{}", note([mode, None])),
        Verdict::Reject { reason, retry_after_ms, .. } => {
            let retry = match retry_after_ms {
                Some(ms) => format!("retry in {}", wait(*ms)),
                None => "until released".to_owned(),
            };
            let because = Some(because(view)).filter(|because| !because.is_empty());
            format!("{name}: reject, {reason}, {retry}{}", note([mode, because]))
        }
    }
}

/// ` (mode shadow; maintenance, by anna@web-1)`; nothing of nothing.
fn note(parts: [Option<String>; 2]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use breakerd_proto::{Mode, RejectReason, State};

    #[test]
    fn the_answer_is_a_line() {
        let name = Name::parse("openai").unwrap();
        let reject = |retry_after_ms| Verdict::Reject {
            generation: 1,
            state: State::Open,
            reason: RejectReason::Open,
            retry_after_ms,
        };
        let view = |mode, why: &str| View {
            state: State::Open,
            forced: None,
            mode,
            mode_by: String::new(),
            mode_why: String::new(),
            generation: 1,
            retry_after_ms: None,
            age_ms: 0,
            by: String::new(),
            why: why.to_owned(),
            host_only: false,
        };
        let on = view(Mode::On, "x");
        let admit = Verdict::Admit { generation: 1 };
        assert_eq!(line(&name, &admit, &on), "openai: admit");
        assert_eq!(line(&name, &admit, &view(Mode::Shadow, "x")), "openai: admit (mode shadow)");
        assert_eq!(line(&name, &reject(Some(17_100)), &on), "openai: reject, open, retry in 18 s (x)");
        let shadow = view(Mode::Shadow, "x");
        assert_eq!(line(&name, &reject(None), &shadow), "openai: reject, open, until released (mode shadow; x)");
        assert_eq!(line(&name, &reject(None), &view(Mode::On, "")), "openai: reject, open, until released");
    }
}
