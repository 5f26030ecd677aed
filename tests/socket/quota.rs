//! What one account may hold is bounded, and what it held comes back.

use breakerd_client::Options;
use breakerd_proto::message::{PolicyPatch, Register};
use breakerd_proto::{Code, OnQuota, RejectReason, State, ToClient, Verdict};
use breakerd_tests::{Daemon, Raw, Setup, until};

fn with(quota: &str) -> Daemon {
    Daemon::with(&Setup { more: format!("[quotas]\n{quota}\n"), ..Setup::default() })
}

/// The answer to registering this name: the refusal's sentence, if it is one.
fn refusal(worker: &mut Raw, name: &str) -> Option<String> {
    let request = worker.request();
    worker.send(Register { request, name: name.to_owned(), policy: None });
    match worker.read() {
        ToClient::Registered(_) => None,
        ToClient::Refused(no) if no.code == Code::Quota => Some(no.sentence),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_quota_on_names_is_the_configurations() {
    for (quota, told) in [
        ("names = 2", "all 2 names are in use"),
        ("names_per_user = 2", "has 2 names in use"),
        ("names_per_connection = 2", "one connection may use 2 breakers"),
    ] {
        let daemon = with(quota);
        let mut worker = daemon.worker();
        assert_eq!((refusal(&mut worker, "a"), refusal(&mut worker, "b")), (None, None), "{quota}");
        let third = refusal(&mut worker, "c").unwrap_or_default();
        assert!(third.contains(told), "{quota}: {third}");
    }
}

#[test]
fn each_quota_on_connections_is_the_configurations() {
    for (quota, told) in [
        ("connections = 2", "2 connections are all there may be"),
        ("connections_per_user = 2", "already has 2 connections"),
    ] {
        let daemon = with(quota);
        let _two = [daemon.worker(), daemon.worker()];
        let mut third = Raw::silent(&daemon.socket());
        third.send(Raw::greeting("test", 0));
        match third.read() {
            ToClient::Bye(bye) => assert!(bye.code == Code::Quota && bye.sentence.contains(told), "{bye:?}"),
            other => panic!("{quota}: {other:?}"),
        }
    }
}

#[test]
fn the_quota_on_probes_is_the_configurations() {
    let more = "probe.permits = 9\n[quotas]\nprobes_per_user = 1\n".to_owned();
    let daemon = Daemon::with(&Setup { more, ..Setup::short_cooldown() });
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    until("a probe is out", || matches!(worker.query(lane), Verdict::Probe { .. }).then_some(()));
    match worker.query(lane) {
        Verdict::Reject { reason: RejectReason::Quota, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_over_the_quota_are_refused_and_the_rest_goes_on() {
    let daemon = Daemon::start();
    let mut refused = None;
    // Connections are limited in lanes, the account in names: many connections, many names.
    'all: for connection in 0..64 {
        let mut worker = daemon.worker();
        for number in 0..1024 {
            let request = worker.request();
            worker.send(Register { request, name: format!("n/{connection}/{number}"), policy: None });
            match worker.read() {
                ToClient::Registered(_) => {}
                ToClient::Refused(no) if no.sentence.contains("one connection") => break,
                ToClient::Refused(no) => {
                    refused = Some(no);
                    break 'all;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let refused = refused.expect("no quota on names");
    assert_eq!(refused.code, Code::Quota);
    let uid = rustix::process::getuid().as_raw().to_string();
    assert!(refused.sentence.contains("names") && refused.sentence.contains(&uid), "{}", refused.sentence);
    let mut worker = daemon.worker();
    worker.lane("n/0/0");

    // The client library admits such a call unguarded, or rejects it where the policy says so.
    let client = Options::from_env().unwrap().socket(daemon.socket()).open();
    let over = client.breaker("over").unwrap();
    let unguarded = until("the daemon answers, and nobody judges the call", || {
        Some(over.admit().unwrap()).filter(|permit| permit.generation() == 0)
    });
    unguarded.succeed();
    let strict = PolicyPatch { on_quota: Some(OnQuota::Reject), ..PolicyPatch::default() };
    let strict = client.breaker_with("over/strict", strict).unwrap();
    let no = until("the daemon answers", || strict.admit().err());
    assert_eq!((no.state, no.reason), (State::Closed, RejectReason::Quota));
    assert!(no.retry_after().is_some());

    let about = crate::operate::about(&mut daemon.operator());
    assert!(about.over_quota >= 3, "each is counted, not {}", about.over_quota);
    assert_eq!(daemon.log().matches("over quota").count(), 1, "and said once:\n{}", daemon.log());
    let shown = daemon.cli(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(" calls over quota"), "{shown:?}");
}
