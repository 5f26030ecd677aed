//! A history as text. One `check`, so that renaming a method of the core touches this file and no row.
//!
//! A line is `TIME WORKER VERB [ARGUMENTS]`, the time in milliseconds since the start:
//!
//! - `ask`: a query; its permit is kept as the worker's newest, and its answer is what `want` compares.
//! - `ok`, `slow`, `fail KIND [retry=MS]`, `ignored`, `drop`: settles the worker's oldest permit; `fail x3` settles three.
//!   `ago=MS` stamps them so long ago: they are told late.
//! - `missed N [slow=N]`: so many successes are counted by the worker and told by no report; its next message shows them.
//! - `take N`: N queries whose permits are kept in order; settling takes the oldest.
//! - `forget`: the worker waits no longer for the answer to its newest query, and never saw it.
//! - `die`: the worker's connection ends.
//! - `op reset|release|force-open [MS]|force-closed [MS]|mode on|shadow|off|config`: an operator's command.
//! - `cooldown`: its length in milliseconds and the backoff's step.
//! - `mode`: the mode that the breaker shows, and by whose word where it is an operator's.
//! - `tick`: the alarm, if one is due.
//! - `want TEXT`: the newest answer, or after `see`, is exactly this.
//! - `reason`: the reason that the breaker shows.
//! - `see`: `STATE failures=N retry=MS gen=N` of the breaker, as the worker sees it.
//! - `why`: who made the breaker what it is, and why.
//! - `connect`: the connect that the daemon must make, if one is due; `connect ok`, `connect fail KIND` is its end.
//! - `changes`: the words of all changes since the last such line.

use std::collections::{BTreeMap, VecDeque};

use breakerd_core::{ActiveProbe, ConnectionId, Core, Peer, Settings};
use breakerd_proto::message::{Action, Command, Hello, PolicyPatch, Query, Register, Report, Rules};
use breakerd_proto::{Counts, Failure, Mode, Mono, Outcome, Override, Verdict};

#[derive(Default)]
struct Worker {
    connection: Option<ConnectionId>,
    lane: u32,
    permits: VecDeque<(u64, u64)>,
    counts: Counts,
    newest_request: u32,
}

struct World {
    core: Core,
    now: Mono,
    workers: BTreeMap<String, Worker>,
    answer: String,
    request: u32,
    connect: Option<ActiveProbe>,
}

/// Three failures in a row trip and nothing else does, a second's cooldown without chance, one probe of at most ten seconds.
pub(crate) fn policy() -> PolicyPatch {
    PolicyPatch {
        consecutive_failures: Some(3),
        failure_rate: Some(Rules::default()),
        cooldown_first_ms: Some(1000),
        cooldown_factor: Some(2.0),
        cooldown_max_ms: Some(4000),
        cooldown_jitter: Some(0.0),
        cooldown_forget_ms: Some(0),
        probe_permits: Some(1),
        probe_successes: Some(1),
        probe_max_ms: Some(10_000),
        ..PolicyPatch::default()
    }
}

/// Plays a history against the shipped core, and at its end lets every worker die: nothing may be left held.
#[track_caller]
pub(crate) fn check(history: &str) {
    check_with(policy(), history);
}

#[track_caller]
pub(crate) fn check_with(default: PolicyPatch, history: &str) {
    let settings = Settings { default, host: "web-1".to_owned(), ..Settings::default() };
    let mut world = World {
        core: Core::new(settings, 1),
        now: Mono(0),
        workers: BTreeMap::new(),
        answer: String::new(),
        request: 0,
        connect: None,
    };
    for (number, line) in history.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        world.play(line.trim()).unwrap_or_else(|wrong| panic!("line {number}: {line}\n{wrong}"));
    }
    for worker in std::mem::take(&mut world.workers).into_values() {
        world.core.handle_gone(world.now, worker.connection.unwrap_or(ConnectionId(0)));
    }
    assert!(world.core.is_settled(), "I10: something is still held after the last worker's end");
}

impl World {
    fn play(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        self.now = Mono(time.parse::<u64>().map_err(|_| format!("no time: {time}"))? * 1_000_000);
        let who = words.next().unwrap_or_default().to_owned();
        let verb = words.next().unwrap_or_default().to_owned();
        let rest: Vec<&str> = words.collect();
        match verb.as_str() {
            "want" => {
                let want = rest.join(" ");
                if want == self.answer { Ok(()) } else { Err(format!("want {want}\n got {}", self.answer)) }
            }
            "tick" => {
                self.core.handle_timeout(self.now);
                Ok(())
            }
            "changes" => {
                let mut words = Vec::new();
                while let Some(change) = self.core.poll_change() {
                    words.push(change.what.word());
                }
                self.answer = words.join(" ");
                Ok(())
            }
            "op" => self.operate(&rest),
            "connect" => self.connect(&rest),
            "cooldown" => {
                let row = self.core.describe(self.now, 0, "p", 0).map_err(|refusal| refusal.sentence)?.row;
                self.answer = format!("{} step={}", row.cooldown_ms, row.step);
                Ok(())
            }
            "mode" => {
                let view = self.core.view(self.now, "p").map_err(|refusal| refusal.sentence)?;
                let by = [view.mode_by, view.mode_why].join(" ");
                self.answer = format!("{} {by}", view.mode.word()).trim_end().to_owned();
                Ok(())
            }
            "why" => {
                let view = self.core.view(self.now, "p").map_err(|refusal| refusal.sentence)?;
                self.answer = format!("{}: {}", view.by, view.why);
                Ok(())
            }
            _ => self.work(&who, &verb, &rest),
        }
    }

    fn operate(&mut self, rest: &[&str]) -> Result<(), String> {
        let for_ms = rest.get(1).and_then(|ms| ms.parse().ok());
        let action = match rest.first().copied() {
            Some("reset") => Action::Reset,
            Some("release") => Action::Release,
            Some("force-open") => Action::Force { to: Override::ForcedOpen, for_ms },
            Some("force-closed") => Action::Force { to: Override::ForcedClosed, for_ms },
            Some("mode") => Action::Mode { to: Mode::parse(rest[1]) },
            other => return Err(format!("no command {other:?}")),
        };
        let command = Command { request: 0, name: "p".to_owned(), action, because: "drill".to_owned() };
        let done = self.core.command(self.now, "root@web-1", &command);
        self.answer = done.map_or_else(|refusal| refusal.sentence, |done| done.view.state.to_string());
        Ok(())
    }

    /// The daemon's own probe.
    fn connect(&mut self, rest: &[&str]) -> Result<(), String> {
        let result = match rest.first().copied() {
            None => {
                let due = self.core.poll_active();
                self.answer = due.as_ref().map_or_else(|| "none".to_owned(), |due| due.target.clone());
                self.connect = due.or(self.connect.take());
                return Ok(());
            }
            Some("ok") => Ok(()),
            Some(_) => Err(Failure::new(rest.get(1).unwrap_or(&"refused"))),
        };
        let permit = self.connect.as_ref().ok_or("no connect was due")?.permit;
        self.core.handle_active(self.now, permit, result);
        Ok(())
    }

    fn work(&mut self, who: &str, verb: &str, rest: &[&str]) -> Result<(), String> {
        self.attach(who);
        let named = |prefix: &str| rest.iter().find_map(|word| word.strip_prefix(prefix)?.parse::<u64>().ok());
        let times = named("x").unwrap_or(1);
        let at = Mono(self.now.0 - named("ago=").unwrap_or(0) * 1_000_000);
        match verb {
            "ask" => self.ask(who),
            "take" => (0..rest[0].parse().unwrap()).for_each(|_| self.ask(who)),
            "ok" => (0..times).for_each(|_| self.settle(who, at, &Outcome::SUCCESS)),
            "slow" => (0..times).for_each(|_| self.settle(who, at, &Outcome::Success { slow: true })),
            "ignored" => self.settle(who, at, &Outcome::Ignored),
            "drop" => self.settle(who, at, &Outcome::Abandoned),
            "forget" => {
                let worker = self.workers.get_mut(who).unwrap();
                worker.permits.pop_back();
                self.core.handle_forget(self.now, worker.connection.unwrap(), worker.newest_request);
            }
            "missed" => {
                let counts = &mut self.workers.get_mut(who).unwrap().counts;
                counts.successes += rest[0].parse::<u64>().unwrap();
                counts.slow += named("slow=").unwrap_or(0);
            }
            "reason" => self.answer = self.core.view(self.now, "p").unwrap().why,
            "fail" => {
                let kind = rest.first().filter(|word| !word.starts_with('x') && !word.contains('='));
                let mut failure = Failure::new(kind.unwrap_or(&"http-500"));
                failure.retry_after_ms = named("retry=");
                (0..times).for_each(|_| self.settle(who, at, &Outcome::Failure(failure.clone())));
            }
            "die" => {
                let worker = self.workers.remove(who).unwrap();
                self.core.handle_gone(self.now, worker.connection.unwrap());
            }
            "see" => {
                let worker = &self.workers[who];
                let seen = self.core.observe(self.now, worker.connection.unwrap(), 0, worker.lane).unwrap();
                let view = seen.view;
                let retry = view.retry_after_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string());
                self.answer =
                    format!("{} failures={} retry={retry} gen={}", view.state, seen.failures, view.generation);
            }
            other => return Err(format!("no verb {other}")),
        }
        Ok(())
    }

    fn attach(&mut self, who: &str) {
        if self.workers.contains_key(who) {
            return;
        }
        let pid = u32::from(who.as_bytes()[0]);
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            features: 0,
            pid,
            nonce: u64::from(pid),
            alone_ms: 0,
            alone_calls: 0,
            service: "api".to_owned(),
        };
        let connection = self.core.handle_connect(self.now, Peer { uid: 1000, pid }, &hello).unwrap();
        let register = Register { request: 0, name: "p".to_owned(), policy: None };
        let lane = self.core.handle_register(self.now, connection, &register).unwrap().lane;
        self.workers.insert(who.to_owned(), Worker { connection: Some(connection), lane, ..Worker::default() });
    }

    fn ask(&mut self, who: &str) {
        self.request += 1;
        let worker = self.workers.get_mut(who).unwrap();
        worker.newest_request = self.request;
        let deadline = Mono(self.now.0 + 5_000_000);
        let query = Query { request: self.request, lane: worker.lane, deadline, counts: worker.counts };
        let verdict = self.core.handle_query(self.now, worker.connection.unwrap(), &query).unwrap().unwrap();
        self.answer = match verdict {
            Verdict::Admit { generation } => {
                worker.permits.push_back((generation, 0));
                "admit".to_owned()
            }
            Verdict::Probe { generation, permit } => {
                worker.permits.push_back((generation, permit));
                "probe".to_owned()
            }
            Verdict::Reject { reason, retry_after_ms, .. } => match retry_after_ms {
                Some(ms) => format!("reject {reason} retry={ms}"),
                None => format!("reject {reason} retry=never"),
            },
        };
    }

    /// Settles the oldest permit that the worker holds; an ordinary one is asked for where it holds none.
    fn settle(&mut self, who: &str, at: Mono, outcome: &Outcome) {
        if self.workers[who].permits.is_empty() {
            self.ask(who);
        }
        let worker = self.workers.get_mut(who).unwrap();
        let Some((generation, permit)) = worker.permits.pop_front() else { return };
        match outcome {
            Outcome::Success { slow } => {
                worker.counts.successes += 1;
                worker.counts.slow += u64::from(*slow);
            }
            Outcome::Failure(_) => worker.counts.failures += 1,
            Outcome::Ignored | Outcome::Abandoned => {}
        }
        let (lane, counts) = (worker.lane, worker.counts);
        let report = Report { lane, generation, permit, at, outcome: outcome.clone(), counts };
        self.core.handle_report(self.now, worker.connection.unwrap(), &report).unwrap();
    }
}
