//! What the daemon costs.

use breakerd_proto::Verdict;
use breakerd_tests::{Daemon, Raw};

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
