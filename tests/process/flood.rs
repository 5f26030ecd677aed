//! A name for each request, as where a user's input stands in it: what the daemon makes of it, what others notice.

use breakerd_client::Options;
use breakerd_proto::message::Register;
use breakerd_proto::{Code, State, ToClient, Verdict};
use breakerd_tests::{Daemon, Raw};

/// How many names the short form asks for; `FLOOD_NAMES=1000000` asks for the million.
const NAMES: u32 = 200_000;
/// Requests that a worker lives for.
const LIFE: u32 = 5000;
/// Requests on their way at a time.
const PIPELINED: u32 = 100;
/// Names that one user's workers may have by default.
const QUOTA: u64 = 10_000;
/// What the daemon may grow by: 10,000 names in use, at the 1.5 KB of one that is, and what its connections need.
const GROWTH_KIB: u64 = 16 * 1024;

#[allow(clippy::disallowed_methods, reason = "this test's own edge: how long it may take is its caller's to say")]
fn names() -> u32 {
    std::env::var("FLOOD_NAMES").map_or(NAMES, |names| names.parse().expect("FLOOD_NAMES is a number"))
}

/// Registers a name for each number and calls by it once; how many found room.
fn ask_for(flood: &mut Raw, numbers: std::ops::Range<u32>) -> u64 {
    for number in numbers.clone() {
        let request = flood.request();
        flood.send(Register { request, name: format!("user/{number}"), policy: None });
    }
    let mut found = 0;
    for _ in numbers {
        match flood.read() {
            ToClient::Registered(told) if told.view.state == State::Closed => found += 1,
            ToClient::Refused(no) if no.code == Code::Quota => {}
            other => panic!("{other:?}"),
        }
    }
    found
}

#[test]
fn a_name_for_each_request_costs_nobody_else_anything() {
    let (daemon, names) = (Daemon::start(), names());
    let mut neighbour = daemon.worker();
    let lane = neighbour.lane("openai");
    neighbour.fail_together(lane, 2);
    let client = Options::from_env().unwrap().socket(daemon.socket()).open();
    let (before, mut peak, mut found) = (daemon.memory_kib("VmRSS"), 0, 0);
    for first in (0..names).step_by(LIFE as usize) {
        let mut flood = daemon.worker();
        for from in (first..names.min(first + LIFE)).step_by(PIPELINED as usize) {
            found += ask_for(&mut flood, from..names.min(from + PIPELINED));
        }
        assert!(matches!(neighbour.query(lane), Verdict::Admit { .. }));
        let seen = neighbour.observe(lane);
        assert_eq!((seen.view.state, seen.failures), (State::Closed, 2), "after {first} names");
        let own = client.breaker(&format!("caller/{first}")).unwrap();
        assert!(own.admit().is_ok(), "a call goes through, guarded or not");
        peak = peak.max(daemon.memory_kib("VmRSS"));
    }
    let told = about(&daemon);
    let refused = u64::from(names) - found;
    #[allow(clippy::print_stdout, reason = "the figures are what this test is for")]
    {
        println!(
            "{names} names: {found} found room, {refused} did not; resident {before} KiB before, {peak} KiB at most"
        );
    }
    assert!(told.over_quota >= refused && u64::from(told.breakers) <= QUOTA, "{told:?}");
    assert!(peak - before <= GROWTH_KIB, "it grew from {before} to {peak} KiB");
    neighbour.fail_together(lane, 1);
    let view = neighbour.observe(lane).view;
    assert_eq!((view.state, view.why.as_str()), (State::Open, "3 consecutive failures, last http-401"));
}

fn about(daemon: &Daemon) -> breakerd_proto::message::Daemon {
    let mut operator = daemon.operator();
    let request = operator.request();
    operator.send(breakerd_proto::message::About { request });
    match operator.read() {
        ToClient::Daemon(about) => about,
        other => panic!("{other:?}"),
    }
}
