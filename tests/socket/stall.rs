//! A daemon that is stopped for a while under load: a healthy provider stays closed, a dead one opens when it goes on.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use breakerd_proto::{Mono, State};
use breakerd_tests::wait::{PATIENCE, within};
use breakerd_tests::{Daemon, Setup, until};

const WORKERS: u64 = 4;
const CALLS_A_SECOND: u64 = 1000;
const STALL: Duration = Duration::from_millis(200);
/// Lines that may wait to be read: more than the workers say in a test.
const LINES_MAX: usize = 1 << 20;
/// Failures after it goes on by which a stopped daemon is to have opened.
const FAILURES_BOUND: usize = 10;

/// Stalls; `REPEATS` says otherwise.
#[allow(clippy::disallowed_methods, reason = "this test's own edge: how often is its caller's to say")]
fn repeats() -> u32 {
    std::env::var("REPEATS").map_or(20, |repeats| repeats.parse().expect("REPEATS is a number"))
}

/// Workers at work.
struct Workers {
    processes: Vec<(Child, ChildStdin)>,
    lines: Receiver<(u64, String)>,
}

impl Workers {
    fn start(daemon: &Daemon, one_in: u64) -> Self {
        let (say, lines) = sync_channel(LINES_MAX);
        let start = |seed: u64| {
            let mut caller = Command::new(env!("CARGO_BIN_EXE_caller"));
            caller.arg(daemon.socket()).args(["openai", &CALLS_A_SECOND.to_string(), &one_in.to_string()]);
            let pipes = caller.arg(seed.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = pipes.spawn().unwrap();
            let (say, told) = (say.clone(), BufReader::new(process.stdout.take().unwrap()));
            std::thread::spawn(move || told.lines().map_while(Result::ok).try_for_each(|line| say.send((seed, line))));
            let stdin = process.stdin.take().unwrap();
            (process, stdin)
        };
        Self { processes: (0..WORKERS).map(start).collect(), lines }
    }

    fn fail_one_in(&mut self, one_in: u64) {
        for (_, stdin) in &mut self.processes {
            writeln!(stdin, "{one_in}").unwrap();
        }
    }

    /// Waits until each has had a call.
    fn at_work(&self) {
        let mut heard = BTreeSet::new();
        while heard.len() < self.processes.len() {
            heard.insert(self.lines.recv_timeout(PATIENCE).expect("a worker says something").0);
        }
    }

    /// What they have said, when they have ended.
    fn end(self) -> Vec<String> {
        for (mut process, stdin) in self.processes {
            drop(stdin);
            assert!(process.wait().unwrap().success());
        }
        self.lines.iter().map(|(_, line)| line).collect()
    }
}

/// Five in a row and nothing else, so that what is judged is what a stop confuses: which came first.
fn five_in_a_row() -> Daemon {
    Daemon::with(&Setup {
        failures: 5,
        more: "[breaker.openai]\ntrip.failure_rate = false\n".to_owned(),
        ..Setup::default()
    })
}

fn stop_and_go(daemon: &Daemon, stopped: Duration) {
    daemon.freeze();
    assert!(within(stopped, || None::<()>).is_none());
    daemon.thaw();
}

fn state(daemon: &Daemon) -> State {
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.observe(lane).view.state
}

#[test]
fn stops_under_load_do_not_open_a_healthy_provider() {
    let daemon = five_in_a_row();
    let workers = Workers::start(&daemon, 20);
    workers.at_work();
    for _ in 0..repeats() {
        stop_and_go(&daemon, STALL);
        assert!(within(STALL / 4, || (state(&daemon) != State::Closed).then_some(())).is_none(), "{}", daemon.log());
    }
    let told = workers.end();
    assert!(told.len() > 100, "only {} calls failed", told.len());
    assert!(!told.iter().any(|line| line.starts_with("rejected")));
}

#[test]
fn a_provider_that_died_meanwhile_is_open_as_soon_as_the_daemon_goes_on() {
    let daemon = five_in_a_row();
    let mut workers = Workers::start(&daemon, 20);
    workers.at_work();
    daemon.freeze();
    workers.fail_one_in(1);
    assert!(within(STALL, || None::<()>).is_none());
    let resumed = Mono::now();
    daemon.thaw();
    until("it is open", || (state(&daemon) == State::Open).then_some(()));
    let stamps = workers.end().into_iter().filter_map(|line| line.parse().ok().map(Mono));
    let failures = stamps.filter(|stamp| *stamp > resumed).count();
    #[allow(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!("{failures} calls failed after the daemon went on, bound {FAILURES_BOUND}");
    }
    assert!(failures <= 10 * FAILURES_BOUND);
}
