//! `probe.connect`: the daemon's own connect decides, and no call is let through meanwhile.

use breakerd_proto::{RejectReason, State, Verdict};
use breakerd_tests::{Daemon, Provider, Raw, Setup, until, wait};

/// A daemon that probes this provider itself; the cooldown grows from 50 ms by this factor.
fn daemon(provider: &Provider, factor: u32) -> Daemon {
    let more = format!(
        "[breaker.\"openai\"]\nprobe.connect = \"{}\"\n\
         cooldown = {{ first = \"50ms\", factor = {factor}, max = \"10m\", jitter = 0.0 }}\n",
        provider.address()
    );
    Daemon::with(&Setup { more, ..Setup::default() })
}

/// A worker whose failures have opened `openai`.
fn tripped(daemon: &Daemon) -> (Raw, u32) {
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    (worker, lane)
}

#[test]
fn while_the_provider_is_down_it_stays_open_backs_off_and_lets_no_call_through() {
    let provider = Provider::down();
    let daemon = daemon(&provider, 100);
    let (mut worker, lane) = tripped(&daemon);
    let seen = until("a connect has failed", || {
        let verdict = worker.query(lane);
        let rejected = matches!(verdict, Verdict::Reject { reason: RejectReason::Open | RejectReason::Probing, .. });
        assert!(rejected, "{verdict:?}");
        let reopened = daemon.log().contains("what=\"reopen\"");
        reopened.then(|| worker.observe(lane))
    });
    assert_eq!(seen.view.state, State::Open);
    let left_ms = seen.view.retry_after_ms.unwrap();
    assert!(left_ms > 1000, "the cooldown has grown from 50 ms to 5 s, {left_ms} ms are left");
    assert!(seen.view.why.starts_with("the probe failed: connect"), "{}", seen.view.why);
    assert_eq!(seen.failures, 3, "a connect of the daemon's is no worker's failure");
}

#[test]
fn when_the_provider_is_back_it_recovers_without_any_call() {
    let mut provider = Provider::down();
    let daemon = daemon(&provider, 1);
    let (mut worker, lane) = tripped(&daemon);
    until("a connect has failed", || daemon.log().contains("what=\"reopen\"").then_some(()));
    provider.rise();
    let seen = until("it is closed", || Some(worker.observe(lane)).filter(|seen| seen.view.state == State::Closed));
    assert_eq!(seen.view.by, "breakerd@web-1");
    assert_eq!(provider.accepted(), 1, "one connect is enough");
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }));
}

#[test]
fn a_connect_that_hangs_holds_up_neither_the_workers_nor_the_end() {
    let mut provider = Provider::down();
    provider.hang();
    let mut daemon = daemon(&provider, 1);
    let (mut worker, lane) = tripped(&daemon);
    until("the connect is out", || (worker.observe(lane).view.state == State::HalfOpen).then_some(()));
    let verdict = worker.query(lane);
    assert!(matches!(verdict, Verdict::Reject { reason: RejectReason::Probing, .. }), "{verdict:?}");
    let since = breakerd_proto::Mono::now();
    assert!(daemon.stop().success());
    wait::bounded(
        "a stop during a connect",
        breakerd_proto::Mono::now().since(since),
        std::time::Duration::from_millis(100),
    );
}
