//! Workers and their connections: who is one worker, what goes back with whom, and by when a request must be granted.

use breakerd_core::{ConnectionId, Core, Peer, Settings};
use breakerd_proto::message::{Action, Hello, PolicyPatch, Query, WorkerRow};
use breakerd_proto::{Counts, Mode, Outcome, Override, RejectReason, State, Verdict};

use crate::host::{Host, Lane};
use crate::script::policy;

fn host() -> Host {
    Host::new(Settings { default: policy(), ..Settings::default() })
}

fn hello(pid: u32, service: &str) -> Hello {
    let service = service.to_owned();
    Hello { version_min: 1, version_max: 1, features: 0, pid, nonce: 9, alone_ms: 0, alone_calls: 0, service }
}

fn connect(host: &mut Host, kernel: u32, claimed: u32, service: &str) -> ConnectionId {
    let now = host.now();
    host.core.handle_connect(now, Peer { uid: 1, pid: kernel }, &hello(claimed, service)).unwrap()
}

fn rows(core: &Core, host: &Host) -> Vec<WorkerRow> {
    core.workers(host.now(), 0, 0).rows
}

#[test]
fn what_the_kernel_says_of_a_pid_counts_and_else_what_the_worker_claims() {
    let mut host = host();
    for (kernel, claimed) in [(7, 1), (7, 2), (8, 1), (0, 1), (0, 1), (0, 2)] {
        connect(&mut host, kernel, claimed, "chat api@x");
    }
    let seen: Vec<_> = rows(&host.core, &host).into_iter().map(|row| (row.label, row.connections)).collect();
    let label = |pid: &str| format!("chat_api_x[{pid}]");
    assert_eq!(seen, [(label("7"), 2), (label("8"), 1), (label("1?"), 2), (label("2?"), 1)]);
}

#[test]
fn a_lane_stays_until_the_last_connection_of_its_worker_has_gone() {
    let mut host = host();
    let (first, second) = (connect(&mut host, 7, 7, "api"), connect(&mut host, 7, 7, "api"));
    let (lane, other) = (host.lane(first, "openai"), host.lane(second, "openai"));
    host.fail(lane, 1);
    host.fail(other, 1);
    let failures = |host: &Host| {
        let lanes = host.core.describe(host.now(), 0, "openai", 0).unwrap().lanes;
        lanes.iter().map(|lane| lane.failures).collect::<Vec<_>>()
    };
    assert_eq!(failures(&host), [2], "one run, over both");
    host.gone(first);
    assert_eq!(failures(&host), [2]);
    assert!(!host.core.is_settled());
    host.gone(second);
    assert_eq!(failures(&host), [0; 0]);
    assert!(host.core.is_settled());
}

/// A host with two breakers, both past their cooldown, and one worker's lanes on them.
fn cooled(permits: u32) -> (Host, [Lane; 2]) {
    let default = PolicyPatch { probe_permits: Some(permits), ..policy() };
    let mut host = Host::new(Settings { default, ..Settings::default() });
    let worker = host.worker(1);
    let lanes = ["a", "b"].map(|name| host.lane(worker, name));
    lanes.iter().for_each(|lane| host.fail(*lane, 3));
    host.pass(1000);
    (host, lanes)
}

/// The number under which a probe was granted.
fn probe(host: &mut Host, lane: Lane) -> u32 {
    assert!(matches!(host.ask(lane), Verdict::Probe { .. }));
    host.newest_request()
}

fn forget(host: &mut Host, lane: Lane, request: u32) {
    let now = host.now();
    host.core.handle_forget(now, lane.connection, request);
}

fn out(host: &Host) -> [u32; 2] {
    ["a", "b"].map(|name| host.core.describe(host.now(), 0, name, 0).unwrap().row.permits_out)
}

#[test]
fn each_probe_comes_back_by_the_request_that_it_was_granted_to() {
    let (mut host, [a, b]) = cooled(2);
    let (first, second, third) = (probe(&mut host, a), probe(&mut host, b), probe(&mut host, a));
    assert_eq!((out(&host), rows(&host.core, &host)[0].permits_out), ([2, 1], 3));
    forget(&mut host, a, second);
    assert_eq!(out(&host), [2, 0]);
    forget(&mut host, a, second);
    forget(&mut host, a, first);
    assert_eq!(out(&host), [1, 0], "an unknown request is nobody's");
    let other = host.worker(1);
    let elsewhere = Lane { connection: other, ..a };
    forget(&mut host, elsewhere, third);
    assert_eq!((out(&host), rows(&host.core, &host)[1].permits_out), ([1, 0], 0), "nor is another connection's");
    host.gone(a.connection);
    assert_eq!(out(&host), [0, 0]);
}

#[test]
fn a_probe_is_granted_up_to_the_deadline_of_its_request_and_not_after() {
    for (deadline_ms, granted) in [(1001, true), (1000, false)] {
        let (mut host, [lane, _]) = cooled(1);
        assert_eq!(host.now().0, 1001 * 1_000_000);
        let deadline = host.now().before(std::time::Duration::from_millis(1001 - deadline_ms));
        let query = Query { request: 99, lane: lane.number, deadline, counts: Counts::default() };
        let now = host.now();
        let verdict = host.core.handle_query(now, lane.connection, &query).unwrap().unwrap();
        match verdict {
            Verdict::Probe { .. } => assert!(granted),
            Verdict::Reject { reason: RejectReason::NoAnswer, .. } => assert!(!granted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_operators_word_is_this_hosts_alone_where_there_is_no_fleet() {
    let mut host = host();
    let force = Action::Force { to: Override::ForcedOpen, for_ms: None };
    let done = host.command("openai", force);
    assert_eq!((done.fleet, done.view.state), (false, State::Open));
}

#[test]
fn what_is_off_counts_no_success_that_was_left_out_either() {
    let mut host =
        Host::new(Settings { default: PolicyPatch { mode: Some(Mode::Off), ..policy() }, ..Settings::default() });
    let worker = host.worker(1);
    let lane = host.lane(worker, "openai");
    host.ask_with(lane, Counts { successes: 5, ..Counts::default() }).unwrap();
    host.report_with(lane, 1, Outcome::SUCCESS, Counts { successes: 9, ..Counts::default() });
    assert_eq!(host.core.describe(host.now(), 0, "openai", 0).unwrap().lanes[0].successes_total, 0);
}

#[test]
fn how_long_it_has_been_so_begins_with_each_change() {
    let (mut host, [a, _]) = cooled(1);
    assert_eq!((host.view("a").state, host.view("a").age_ms), (State::Open, 1000));
    host.pass(500);
    let Verdict::Probe { generation, permit } = host.ask(a) else { panic!("no probe") };
    host.pass(30);
    assert_eq!((host.view("a").state, host.view("a").age_ms), (State::HalfOpen, 30));
    host.settle_probe(a, (generation, permit), Outcome::SUCCESS);
    host.pass(7);
    assert_eq!((host.view("a").state, host.view("a").age_ms), (State::Closed, 7));
}

#[test]
fn the_failures_that_are_shown_are_those_of_the_longest_lane_or_of_all_together() {
    let mut host = host();
    let (one, other) = (host.worker(1), host.worker(1));
    let (one, other) = (host.lane(one, "openai"), host.lane(other, "openai"));
    let shown = |host: &Host| host.core.page(host.now(), 0, "").rows[0].failures;
    assert_eq!(shown(&host), 0);
    host.fail(one, 1);
    host.fail(other, 1);
    assert_eq!(shown(&host), 2, "a run of both");
    host.succeed(other);
    assert_eq!(shown(&host), 1, "the lane that is in a run yet");
}
