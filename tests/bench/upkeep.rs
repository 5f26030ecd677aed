//! What the daemon costs while nothing happens, how soon it is there, and whether it loses a trip.

use std::fs;
use std::time::Duration;

use breakerd_client::Breaker;
use breakerd_proto::Mono;
use breakerd_tests::{Daemon, Redis, Setup, until};

use crate::clock::rest;
use crate::harness::{Bench, Entry, Figure};
use crate::trips::fail;
use crate::worker::{Role, Worker};
use crate::world::{self, Resetter};

/// Starts of one measurement.
const STARTS: usize = 10;

/// From the daemon's start to the first call that it admits, in steps of a millisecond.
pub(crate) fn ready(bench: &mut Bench) {
    let starts = bench.many(STARTS);
    let start = || {
        let mut daemon = Daemon::idle(&world::setup());
        let began = Mono::now();
        daemon.run();
        let mut worker = daemon.worker();
        let lane = worker.lane("openai");
        worker.query(lane);
        Mono::now().since(began).as_secs_f64() * 1e3
    };
    bench.measure(vec![Entry::one("ready", "ms", || {
        crate::harness::median(&mut (0..starts).map(|_| start()).collect::<Vec<f64>>())
    })]);
}

/// Trips of one round, healthy workers beside, and how long a trip may take before it is lost.
const TRIPS: usize = 2_000;
const HEALTHY: usize = 2;
const LOST_AFTER: Duration = Duration::from_secs(2);

/// A worker that fails three times in a row, over and over, while its neighbours succeed as fast as they can.
pub(crate) fn lost_trips(bench: &mut Bench) {
    let daemon = Daemon::with(&Setup { failures: 3, ..world::setup() });
    let failing = &world::breaker(&daemon, "openai");
    let mut resetter = Resetter::of(&daemon);
    let trips = bench.many(TRIPS);
    bench.measure(vec![Entry::one("lost_trips", "trips", || {
        let healthy: Vec<Worker> = (0..HEALTHY).map(|_| Worker::start(&daemon, "openai", Role::Calls)).collect();
        let lost = (0..trips).filter(|_| is_lost(failing, &mut resetter)).count();
        drop(healthy);
        lost as f64
    })]);
}

fn is_lost(failing: &Breaker, resetter: &mut Resetter) -> bool {
    for _ in 0..3 {
        fail(failing);
    }
    let opened = soon(|| failing.admit().map(drop).is_err());
    resetter.reset("openai");
    assert!(soon(|| failing.admit().map(drop).is_ok()), "a reset did not arrive");
    !opened
}

/// Whether it comes to be before a trip counts as lost.
fn soon(mut is: impl FnMut() -> bool) -> bool {
    let deadline = Mono::now().after(LOST_AFTER);
    loop {
        if is() {
            return true;
        }
        if Mono::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
}

/// Workers and names of one measurement.
const WORKERS: usize = 1_000;
const NAMES: usize = 9_999;

/// Resident memory: of a daemon that has just begun, for each idle worker, for each closed name that nobody uses.
pub(crate) fn memory(bench: &mut Bench) {
    let (workers, names) = (bench.many(WORKERS), bench.many(NAMES));
    bench.measure(vec![
        Entry::one("rss_idle", "KiB", || resident_bytes(&world::daemon()) / 1024.0),
        Entry::one("rss_worker", "B", || {
            let daemon = world::daemon();
            let _first = world::breaker(&daemon, "openai");
            let before = resident_bytes(&daemon);
            let all = world::idle_workers(&daemon, workers);
            let after = resident_bytes(&daemon);
            drop(all);
            (after - before) / workers as f64
        }),
        Entry::one("rss_name", "B", || {
            let daemon = world::daemon();
            let mut worker = daemon.worker();
            let lane = worker.lane("openai");
            worker.query(lane);
            let before = resident_bytes(&daemon);
            for number in 0..names {
                worker.lane(&format!("tenant-{number:06}/openai"));
            }
            (resident_bytes(&daemon) - before) / names as f64
        }),
    ]);
}

fn resident_bytes(daemon: &Daemon) -> f64 {
    daemon.memory_kib("VmRSS") as f64 * 1024.0
}

/// How long an idle daemon is watched in a round, in seconds.
const WATCHED: usize = 6;

/// Processor time and wake-ups of a daemon with four idle workers: one that is joined to a real Redis, one alone.
pub(crate) fn idle(bench: &mut Bench) {
    let redis = Redis::start();
    let fleet = Some((redis.url(), "bench".to_owned()));
    let daemons = [Daemon::with(&Setup { fleet, ..world::setup() }), Daemon::with(&world::setup())];
    let of = |daemon| (0..4).map(move |_| Worker::start(daemon, "openai", Role::Idle));
    let workers: Vec<Worker> = daemons.iter().flat_map(of).collect();
    let joined = world::client(&daemons[0]);
    until("it is joined", || joined.health().is_joined().then_some(()));
    let seconds = bench.many(WATCHED);
    bench.measure(vec![Entry::many("idle", || {
        let before = daemons.each_ref().map(Spent::of);
        let began = Mono::now();
        rest(Duration::from_secs(seconds as u64));
        let took = Mono::now().since(began);
        let [joined, alone] = [0, 1].map(|at| Spent::of(&daemons[at]).since(&before[at], took));
        figures(&joined, &alone)
    })]);
    drop(workers);
}

fn figures(joined: &Spent, alone: &Spent) -> Vec<Figure> {
    vec![
        ("_cpu", "%", joined.nanos),
        ("_wakeups", "1/s", joined.woken),
        ("_cpu_standalone", "%", alone.nanos),
        ("_wakeups_standalone", "1/s", alone.woken),
    ]
}

/// What all threads of a daemon have used.
struct Spent {
    nanos: f64,
    woken: f64,
}

impl Spent {
    fn of(daemon: &Daemon) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let mut spent = Self { nanos: 0.0, woken: 0.0 };
        for task in tasks.map(|task| task.unwrap().path()) {
            // Time on a processor, time waiting for one, times run (Documentation/scheduler/sched-stats.rst).
            let ran = fs::read_to_string(task.join("schedstat")).unwrap();
            spent.nanos += ran.split(' ').next().unwrap().parse::<f64>().unwrap();
            let status = fs::read_to_string(task.join("status")).unwrap();
            let woken = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            spent.woken += woken.trim().parse::<f64>().unwrap();
        }
        spent
    }

    /// In percent of one processor, and a second.
    fn since(&self, before: &Self, took: Duration) -> Self {
        let nanos = (self.nanos - before.nanos) / took.as_nanos() as f64 * 100.0;
        Self { nanos, woken: (self.woken - before.woken) / took.as_secs_f64() }
    }
}
