//! What the daemon costs.

use std::time::Duration;

use breakerd_client::{Breaker, Failure, Options, RejectReason, Source};
use breakerd_proto::Verdict;
use breakerd_tests::wait::{bounded, within};
use breakerd_tests::{Daemon, Raw, until};

/// The figure that the project promises for four workers and three breakers.
const PROMISED_KIB: u64 = 8 * 1024;

#[test]
fn four_workers_and_three_breakers_fit_eight_megabytes() {
    let daemon = Daemon::released();
    let mut workers: Vec<Raw> = (0..4).map(|_| daemon.worker()).collect();
    for worker in &mut workers {
        for name in ["openai", "anthropic", "vertexai"] {
            let lane = worker.lane(name);
            for _ in 0..200 {
                let verdict = worker.query(lane);
                assert!(matches!(verdict, Verdict::Admit { .. }));
                worker.report(lane, &verdict, breakerd_proto::Outcome::SUCCESS);
            }
        }
    }
    let lane = workers[0].lane("openai");
    workers[0].fail_together(lane, 5);
    workers[0].observe(lane);
    let (resident, peak) = (daemon.memory_kib("VmRSS"), daemon.memory_kib("VmHWM"));
    let (own, threads) = (daemon.memory_kib("RssAnon"), threads(&daemon));
    #[allow(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!("resident {resident} KiB (of its own {own}), peak {peak} KiB, {threads} threads");
    }
    assert!(resident < PROMISED_KIB, "{resident} KiB resident");
}

/// The figure that the project promises for a closed breaker that nobody asks about, its worker still connected: its slot
/// on the board is 64 of it.
const PROMISED_BYTES_A_NAME: u64 = 480;

#[test]
fn ten_thousand_idle_names_are_small() {
    let daemon = Daemon::released();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.query(lane);
    let before = daemon.memory_kib("VmRSS");
    let names = 9_999;
    for number in 0..names {
        worker.lane(&format!("tenant-{number:06}/openai"));
    }
    let bytes = (daemon.memory_kib("VmRSS") - before) * 1024 / names;
    #[allow(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!("{bytes} bytes a closed idle name");
    }
    assert!(bytes <= PROMISED_BYTES_A_NAME, "{bytes} bytes a name");
}

/// The figure that the project promises for a connected worker that uses one breaker: the page that it counts in is half.
const PROMISED_BYTES_A_WORKER: u64 = 10 * 1024;
/// How many of them.
const CONNECTED: usize = 1000;

#[test]
fn a_thousand_workers_are_small_idle_and_reached_by_one_store() {
    let daemon = Daemon::released();
    let attached = |_| {
        let client = Options::from_env().unwrap().socket(daemon.socket()).open();
        let breaker = client.breaker("openai").unwrap();
        until("it is attached", || (breaker.observe().source == Source::Daemon).then_some(()));
        breaker
    };
    drop(attached(0));
    let before = daemon.memory_kib("VmRSS");
    let breakers: Vec<Breaker> = (0..CONNECTED).map(attached).collect();
    let bytes = (daemon.memory_kib("VmRSS") - before) * 1024 / CONNECTED as u64;
    #[allow(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!("{bytes} bytes a connected worker");
    }
    assert!(bytes <= PROMISED_BYTES_A_WORKER, "{bytes} bytes a worker");

    let (began, second) = (processor_time(&daemon), Duration::from_secs(1));
    assert!(within(second, || None::<()>).is_none());
    bounded(
        "an idle second beside a thousand workers, of the processor",
        processor_time(&daemon) - began,
        second / 1000,
    );

    (0..3).for_each(|_| breakers[0].admit().unwrap().fail(Failure::new("http-503")));
    assert_eq!(breakers[0].admit().unwrap_err().reason, RejectReason::Open);
    // Nobody can be told by a message any more.
    daemon.freeze();
    let open =
        breakers.iter().filter(|breaker| breaker.admit().is_err_and(|no| no.reason == RejectReason::Open)).count();
    daemon.thaw();
    assert_eq!(open, CONNECTED);
}

/// What the daemon's threads have had of the processors.
fn processor_time(daemon: &Daemon) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let of_one = |task: std::path::PathBuf| {
        // proc(5): the first figure is the time on a processor, in nanoseconds.
        let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().map(Duration::from_nanos).unwrap()
    };
    tasks.map(|task| of_one(task.unwrap().path())).sum()
}

fn threads(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count()
}

#[test]
fn a_daemon_with_nothing_to_do_does_nothing() {
    let daemon = Daemon::start();
    let _worker = daemon.worker();
    let before = switches(&daemon);
    // A second of nothing: whatever wakes an idle daemon is a timer that nobody asked for.
    breakerd_tests::wait::within(std::time::Duration::from_secs(1), || None::<()>);
    let woke = switches(&daemon) - before;
    assert!(woke <= 20, "it woke {woke} times in an idle second");
}

/// How often the main thread gave up the processor by itself, since its start.
fn switches(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}
