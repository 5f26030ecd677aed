//! breakerd beside its peers and beside what the machine takes for the bare deed (the *floor*), in one run.
//!
//! `tests/run bench [--json FILE] [--rounds N] [--quick] [ID-PREFIX...]`; quick makes a tenth of what takes long
//!
//! A nanosecond figure means nothing on another day; a ratio inside one round does. A peer's or floor's id is
//! breakerd's behind its own (`recloser.check_success`), a ratio has a slash (`check_success/recloser`).
//!
//! | file | what |
//! |---|---|
//! | `calls` | a call's cost in the worker: success, rejection, through tower |
//! | `cold` | the same where no cache line is near |
//! | `trips` | from a failure in one worker to a rejection in another |
//! | `socket`, `attach` | what a worker says to the daemon: a failure, a probe's permit, its first words |
//! | `upkeep` | what the daemon costs when nothing happens, and whether it loses a trip |
//! | `fleet` | through a real Redis |
//! | `worker` | a worker in a process of its own, where figures need several |
//! | `python` | the same calls from Python, by `python.py` in the tests' venv |
//!
//! Threads are pinned where two of them race: whoever acts on processor 0, with the daemon's loop; whoever watches on 1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]

mod attach;
mod calls;
mod clock;
mod cold;
mod fleet;
mod goals;
mod harness;
mod peers;
mod python;
mod report;
mod socket;
mod trips;
mod upkeep;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::harness::{Bench, load};

/// A group's ids, and what measures it.
type Group = (&'static [&'static str], fn(&mut Bench));

const GROUPS: &[Group] = &[
    (&["check_success", "check_success_2t"], calls::success),
    (&["check_success_timed"], calls::timed),
    (&["check_success_cold"], cold::success),
    (&["reject"], calls::reject),
    (&["tower_call"], calls::tower),
    (&["trip_same_host"], trips::same_host),
    (&["trip_same_host_1000"], trips::same_host_1000),
    (&["probe_permit"], socket::probe_permit),
    (&["report_failure"], socket::report_failure),
    (&["report_rate"], socket::report_rate),
    (&["attach"], attach::measure),
    (&["ready"], upkeep::ready),
    (&["lost_trips"], upkeep::lost_trips),
    (&["rss_idle", "rss_worker", "rss_name"], upkeep::memory),
    (&["idle_cpu", "idle_wakeups"], upkeep::idle),
    (&["py_allow_success", "py_with", "py_decorator", "py_async_with"], python::calls),
    (&["local_trip_redis_frozen"], fleet::redis_frozen),
    (&["trip_fleet"], fleet::trip),
];

/// Rounds at the least, and unless more are asked for.
const ROUNDS: usize = 5;

struct Args {
    json: Option<PathBuf>,
    rounds: usize,
    quick: bool,
    prefixes: Vec<String>,
}

#[allow(clippy::print_stdout, reason = "the table is what it is for")]
fn main() {
    let all: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("--worker", rest)) = all.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return worker::main(rest);
    }
    let args = args(all);
    let mut bench = Bench::new(args.rounds, args.quick, args.prefixes);
    let (before, mut failed) = (load(), Vec::new());
    for (ids, measure) in GROUPS {
        if bench.wants(ids) {
            // What one group cannot do, the panic has told; the others' figures stand.
            if catch_unwind(AssertUnwindSafe(|| measure(&mut bench))).is_err() {
                failed.push(ids[0]);
            }
        }
    }
    println!("{}; load {before} before, {} after; {} rounds\n", world::machine(), load(), bench.rounds());
    println!("{}", report::table(&bench.rows));
    if let Some(path) = args.json {
        report::write_json(&path, &bench.rows);
    }
    assert!(failed.is_empty(), "not measured: {failed:?}");
}

fn args(all: Vec<String>) -> Args {
    let mut parsed = Args { json: None, rounds: ROUNDS, quick: false, prefixes: Vec::new() };
    let mut args = all.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--quick" => parsed.quick = true,
            "--json" => parsed.json = Some(value().into()),
            "--rounds" => parsed.rounds = value().parse::<usize>().expect("a number of rounds").max(ROUNDS),
            _ => {
                let known = |id: &&str| id.starts_with(arg.as_str());
                assert!(GROUPS.iter().any(|(ids, _)| ids.iter().any(known)), "nothing here begins with {arg:?}");
                parsed.prefixes.push(arg);
            }
        }
    }
    parsed
}
