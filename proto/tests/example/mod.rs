//! One example of every message, and more where an enum's other variants or an absent option show another shape.
#![allow(clippy::panic)]

use breakerd_proto::message::*;
use breakerd_proto::{
    AuthErrors, Code, Counts, Failure, Fallback, Link, Mode, Mono, OnQuota, Outcome, Override, RejectReason, State,
    ToClient, ToDaemon, Untold, Verdict,
};

const SECOND: u64 = 1_000_000_000;

fn counts() -> Counts {
    Counts { successes: 40, slow: 2, failures: 3, untold: Untold { generation: 7, failures: 2, run: 1 } }
}

fn patch() -> PolicyPatch {
    PolicyPatch {
        consecutive_failures: Some(3),
        failure_rate: Some(Rules {
            calls: None,
            time: Some(TimeRule { at_least: 0.5, min_calls: 20, within_ms: 30_000 }),
        }),
        failure_count: Some(Rules::default()),
        slow_rate: None,
        slow_count: Some(Rules { calls: Some(CallsRule { at_least: 8.0, of_calls: 10, min_calls: 10 }), time: None }),
        cooldown_first_ms: Some(15_000),
        cooldown_factor: Some(2.0),
        cooldown_max_ms: Some(120_000),
        cooldown_jitter: Some(0.1),
        cooldown_forget_ms: Some(60_000),
        probe_permits: Some(1),
        probe_successes: Some(1),
        probe_rate: Some(ProbeRate { at_least: 0.5, of_probes: 10 }),
        probe_max_ms: Some(120_000),
        probe_period_ms: Some(600_000),
        probe_connect: Some("api.openai.com:443".to_owned()),
        slow_after_ms: None,
        hung_after_ms: Some(10_000),
        auth_errors: Some(AuthErrors::Failure),
        on_quota: Some(OnQuota::Reject),
        mode: Some(Mode::Shadow),
        fallback: Some(Fallback::Reject),
    }
}

fn open() -> View {
    View {
        state: State::Open,
        forced: None,
        mode: Mode::On,
        mode_by: String::new(),
        mode_why: String::new(),
        generation: 7,
        retry_after_ms: Some(14_250),
        age_ms: 750,
        by: "chat-api[4211]@web-1".to_owned(),
        why: "3 consecutive failures, last http-401".to_owned(),
        host_only: false,
    }
}

fn forced() -> View {
    View {
        state: State::Closed,
        forced: Some(Override::ForcedClosed),
        mode: Mode::Off,
        mode_by: "anna@web-1".to_owned(),
        mode_why: "maintenance".to_owned(),
        generation: 8,
        retry_after_ms: None,
        age_ms: 0,
        by: "root@web-1".to_owned(),
        why: "drill".to_owned(),
        host_only: true,
    }
}

fn last_failure() -> LastFailure {
    LastFailure { kind: "http-401".to_owned(), detail: "invalid_api_key".to_owned(), ago_ms: 1200 }
}

fn row() -> BreakerRow {
    BreakerRow {
        name: "openai".to_owned(),
        view: open(),
        failures: 5,
        failures_total: 9,
        workers: 4,
        permits_out: 1,
        successes: 0,
        cooldown_ms: 60_000,
        step: 2,
    }
}

fn report(generation: u64, permit: u64, outcome: Outcome) -> ToDaemon {
    Report { lane: 0, generation, permit, at: Mono(61 * SECOND), outcome, counts: counts() }.into()
}

fn command(action: Action) -> ToDaemon {
    Command { request: 12, name: "openai".to_owned(), action, because: "drill".to_owned() }.into()
}

/// What a client sends.
pub(crate) fn to_daemon() -> Vec<(&'static str, ToDaemon)> {
    let hello = Hello {
        version_min: 1,
        version_max: 2,
        features: 0,
        pid: 4211,
        nonce: 0x0102_0304_0506_0708,
        alone_ms: 1500,
        alone_calls: 17,
        service: "chat-api".to_owned(),
    };
    let failure = Failure::new("http-429").with_detail("rate_limit").with_retry_after_ms(2000);
    vec![
        ("the first message", hello.into()),
        (
            "a breaker by the daemon's own policy",
            Register { request: 1, name: "openai".to_owned(), policy: None }.into(),
        ),
        (
            "a breaker with a policy in code",
            Register { request: 2, name: "a/b".to_owned(), policy: Some(Box::new(patch())) }.into(),
        ),
        ("may I call?", Query { request: 3, lane: 0, deadline: Mono(60 * SECOND), counts: counts() }.into()),
        ("an ordinary call that worked", report(7, 0, Outcome::SUCCESS)),
        ("a slow success", report(7, 0, Outcome::Success { slow: true })),
        ("a failure with all that it can say", report(7, 0, Outcome::Failure(failure))),
        ("a failure of a probe", report(8, 99, Outcome::failure("connect"))),
        ("no evidence", report(7, 0, Outcome::Ignored)),
        ("a permit dropped", report(7, 0, Outcome::Abandoned)),
        ("the asker has gone", Forget { request: 3 }.into()),
        ("what do I see?", Observe { request: 4, lane: 0 }.into()),
        ("what would I be told?", Ask { request: 5, name: "openai".to_owned() }.into()),
        ("the first page", List { request: 6, after: String::new() }.into()),
        ("one breaker", Describe { request: 7, name: "openai".to_owned(), after: 0 }.into()),
        ("the workers", Workers { request: 8, after: 21 }.into()),
        ("every change from here on", Watch { request: 9 }.into()),
        ("reset", command(Action::Reset)),
        ("force for ten minutes", command(Action::Force { to: Override::ForcedOpen, for_ms: Some(600_000) })),
        ("force until released", command(Action::Force { to: Override::ForcedClosed, for_ms: None })),
        ("release", command(Action::Release)),
        ("watch only, on this host", command(Action::Mode { to: Some(Mode::Shadow) })),
        ("as the configuration says", command(Action::Mode { to: None })),
        ("what is this daemon?", About { request: 13 }.into()),
    ]
}

/// What the daemon sends.
pub(crate) fn to_client() -> Vec<(&'static str, ToClient)> {
    let mut all = verdicts();
    all.extend(pages());
    all.extend(notices());
    let order = |message: &ToClient| message.kind() as u16;
    all.sort_by_key(|(_, message)| order(message));
    all
}

fn verdicts() -> Vec<(&'static str, ToClient)> {
    let welcome = Welcome {
        version: 1,
        features: 0,
        instance: 0x1122_3344_5566_7788,
        worker: 21,
        now: Mono(59 * SECOND),
        link: Link::Joined,
        release: "0.1.0".to_owned(),
        fleet: "demo".to_owned(),
    };
    let answer = |verdict| ToClient::from(Answer { request: 3, verdict });
    let reject = |reason, retry_after_ms| Verdict::Reject { generation: 7, state: State::Open, reason, retry_after_ms };
    let asked = Asked { request: 5, verdict: Verdict::Probe { generation: 7, permit: 0 }, view: open() };
    let observed =
        Observed { request: 4, view: open(), failures: 5, last_failure: Some(last_failure()), link: Link::Detached };
    let quiet = Observed { request: 4, view: forced(), failures: 0, last_failure: None, link: Link::Standalone };
    vec![
        ("the answer to hello", welcome.into()),
        (
            "a lane",
            Registered {
                request: 1,
                lane: 0,
                place: Some(Place { slot: 3, incarnation: 1 }),
                policy: Box::new(patch()),
                view: open(),
            }
            .into(),
        ),
        ("call", answer(Verdict::Admit { generation: 7 })),
        ("call, as the probe", answer(Verdict::Probe { generation: 8, permit: 99 })),
        ("do not call: open", answer(reject(RejectReason::Open, Some(14_250)))),
        ("do not call: forced without end", answer(reject(RejectReason::Forced, None))),
        ("what this worker sees", observed.into()),
        ("what a worker without failures sees", quiet.into()),
        ("what a query would be told", asked.into()),
    ]
}

fn pages() -> Vec<(&'static str, ToClient)> {
    let lane = LaneRow {
        worker: 21,
        label: "chat-api[4211]".to_owned(),
        failures: 5,
        successes_total: 40,
        failures_total: 9,
        last_failure: Some(last_failure()),
    };
    let worker = WorkerRow {
        worker: 21,
        label: "chat-api[4211]".to_owned(),
        uid: 1000,
        age_ms: 90_000,
        connections: 2,
        breakers: 3,
        permits_out: 1,
    };
    let description = Description { request: 7, row: row(), policy: Box::default(), lanes: vec![lane], more: false };
    vec![
        ("a page", Page { request: 6, rows: vec![row()], more: true }.into()),
        ("an empty page", Page { request: 6, rows: vec![], more: false }.into()),
        ("one breaker with a lane", description.into()),
        ("one worker", WorkersPage { request: 8, rows: vec![worker], more: false }.into()),
    ]
}

fn notices() -> Vec<(&'static str, ToClient)> {
    let changed = Changed {
        name: "openai".to_owned(),
        from: State::HalfOpen,
        view: open(),
        what: "reopen".to_owned(),
        at: Mono(60 * SECOND),
    };
    let daemon = Daemon {
        request: 13,
        pid: 4200,
        host: "web-1".to_owned(),
        release: "0.1.0".to_owned(),
        up_ms: 60_000,
        link: Link::Joined,
        redis: "redis://10.0.0.5:6379".to_owned(),
        fleet: "demo".to_owned(),
        link_ms: 59_000,
        workers: 4,
        breakers: 3,
        stale_reports: 2,
        over_quota: 3,
    };
    let refused = Refused { request: 12, code: Code::Denied, sentence: "user 1000 may not force".to_owned() };
    let bye = Bye { code: Code::Protocol, sentence: "no header of this protocol".to_owned() };
    vec![
        ("changes follow", Watching { request: 9 }.into()),
        ("a change", changed.into()),
        ("so many were dropped", Lagged { dropped: 12 }.into()),
        ("other settings hold", Reloaded {}.into()),
        ("done", Done { request: 12, view: forced(), fleet: true }.into()),
        ("the daemon", daemon.into()),
        ("refused", refused.into()),
        ("the end", bye.into()),
    ]
}
