//! How often errors that mean nothing open the fleet, and how soon an outage does.
//!
//! 480 workers on 30 hosts call one provider; each call fails by itself with the same chance. The days of the table are
//! 1.8 thousand million calls, so it takes the number of openings from closed forms ([`chances`]), which are held against
//! the shipped core and the rivals where openings are frequent, at 10 and 20 % of errors. `tests/run day` plays the days
//! themselves, call by call; the short form plays [`PLAYED`] of each.
//!
//! Hosts are alike and know of each other only by the fleet's openings, so they are played one after another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "the figures are what this is for")]

mod chances;
mod host;
mod redis;
mod rivals;

use std::time::Duration;

use breakerd_proto::Mono;
use breakerd_proto::message::PolicyPatch;

use crate::host::{Host, Openings, WORKERS};
use crate::rivals::{Resilience4j, ThreeOfAny};

const HOSTS: u32 = 30;
const DAY: f64 = 86_400.0;
const ERRORS: [f64; 4] = [0.005, 0.01, 0.02, 0.05];
/// Calls of a worker, a second.
const RATES: [f64; 2] = [1.0, 10.0];

/// One host's calls: when, whose, and whether each fails.
struct Calls {
    rng: fastrand::Rng,
    now: Mono,
    a_second: f64,
    errors: f64,
}

impl Calls {
    fn new(seed: u64, rate: f64, errors: f64) -> Self {
        let a_second = rate * WORKERS as f64;
        Self { rng: fastrand::Rng::with_seed(seed), now: Host::start(), a_second, errors }
    }
}

impl Iterator for Calls {
    type Item = (Mono, usize, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let gap = -(1.0 - self.rng.f64()).ln() / self.a_second;
        self.now = self.now.after(Duration::from_secs_f64(gap));
        Some((self.now, self.rng.usize(..WORKERS), self.rng.f64() < self.errors))
    }
}

/// Whether so many were seen as are expected: by four standard deviations of a Poisson count, of which the few are skewed by
/// three more, and by a tenth for what a closed form leaves out.
#[track_caller]
fn about(what: &str, seen: f64, expected: f64) {
    let most_off = 3.0 + 4.0 * expected.sqrt() + 0.1 * expected;
    assert!((seen - expected).abs() <= most_off, "{what}: {seen} seen, {expected:.1} expected");
}

#[test]
fn the_closed_forms_are_what_the_core_does() {
    let mut total = Openings::default();
    for (errors, calls) in [(0.2, 1_000_000_u32), (0.1, 1_000_000)] {
        let mut host = Host::new(PolicyPatch::default(), 1);
        for (now, worker, failed) in Calls::new(7, 10.0, errors).take(calls as usize) {
            host.call(now, worker, failed);
        }
        let (own, pooled) = (chances::runs(calls.into(), errors, 5), chances::runs(calls.into(), errors, 6));
        about(&format!("host openings at {errors}"), host.openings.host as f64, own);
        about(&format!("fleet openings at {errors}"), host.openings.fleet as f64, pooled);
        total = Openings { host: total.host + host.openings.host, fleet: total.fleet + host.openings.fleet };
    }
    println!("at 10 and 20 % errors: {} host and {} fleet openings in two million calls", total.host, total.fleet);
}

#[test]
fn the_closed_forms_are_what_the_rivals_do() {
    let mut three = ThreeOfAny::default();
    let opened = Calls::new(7, 1.0, 0.05).take(1_000_000).filter(|(_, _, failed)| three.call(*failed)).count();
    about("three of any", opened as f64, chances::runs(1e6, 0.05, 3));
    // Openings of a window cluster, so its chance is a bound, and the closed form of the chance is what is held here.
    let mut rng = fastrand::Rng::with_seed(7);
    let windows = 20_000;
    let half = (0..windows).filter(|_| (0..100).filter(|_| rng.f64() < 0.45).count() >= 50).count();
    about("half of a hundred", half as f64, f64::from(windows) * chances::at_least(50, 100, 0.45));
    let mut process = Resilience4j::new();
    let opened = Calls::new(8, 1.0, 0.4).take(100_000).filter(|(_, _, failed)| process.call(*failed)).count();
    let most = 1e5 * chances::at_least(50, 100, 0.4);
    assert!(opened > 0 && (opened as f64) < most, "{opened} openings, at most {most:.0} expected");
}

/// Openings a day of the whole fleet's calls.
#[derive(Clone, Copy, Debug)]
struct Daily {
    host: f64,
    fleet: f64,
    three: f64,
    resilience4j: f64,
}

fn expected(rate: f64, errors: f64) -> Daily {
    let calls = rate * DAY * WORKERS as f64 * f64::from(HOSTS);
    Daily {
        // A worker's own run of five among fifteen neighbours is contradicted but for a chance of (1/16)^4, and their run
        // together takes six. Of the default's rate there is nothing to count: its window holds hundreds of calls, and half
        // of them never fail together.
        host: chances::runs(calls, errors, 5),
        fleet: chances::runs(calls, errors, 6),
        three: chances::runs(calls, errors, 3),
        resilience4j: calls * chances::at_least(50, 100, errors),
    }
}

/// Seconds from the provider's end to the fleet's opening, or to that of the last process where each opens alone: the median
/// of so many outages.
struct Outage {
    default: f64,
    three: f64,
    resilience4j: f64,
}

fn outage(rate: f64) -> Outage {
    let outages = 9;
    let median = |times: &mut dyn Iterator<Item = f64>| {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let first = |of: &dyn Fn(u64) -> f64, outage: u64| {
        (0..u64::from(HOSTS)).map(|host| of(outage * 1000 + host)).fold(f64::INFINITY, f64::min)
    };
    let default = |seed: u64| {
        let (mut host, calls) = (Host::new(PolicyPatch::default(), seed), Calls::new(seed, rate, 0.0));
        let ends = Host::start().after(Duration::from_secs(5));
        let opened = calls.into_iter().find(|(now, worker, _)| host.call(*now, *worker, *now >= ends));
        opened.unwrap().0.since(ends).as_secs_f64()
    };
    let three = |seed: u64| {
        let mut rule = ThreeOfAny::default();
        let opened = Calls::new(seed, rate, 1.0).find(|(_, _, failed)| rule.call(*failed));
        opened.unwrap().0.since(Host::start()).as_secs_f64()
    };
    let each = |seed: u64| {
        let mut processes: Vec<Resilience4j> = (0..WORKERS).map(|_| Resilience4j::new()).collect();
        processes.iter_mut().for_each(|process| assert!(!(0..100).any(|_| process.call(false))));
        let mut open = [false; WORKERS];
        let last = Calls::new(seed, rate, 1.0).find(|(_, worker, _)| {
            open[*worker] |= processes[*worker].call(true);
            open.iter().all(|open| *open)
        });
        last.unwrap().0.since(Host::start()).as_secs_f64()
    };
    let last = |outage: u64| (0..u64::from(HOSTS)).map(|host| each(outage * 1000 + host)).fold(0.0, f64::max);
    Outage {
        default: median(&mut (0..outages).map(|outage| first(&default, outage))),
        three: median(&mut (0..outages).map(|outage| first(&three, outage))),
        resilience4j: median(&mut (0..outages).map(last)),
    }
}

fn head(what: &str) -> String {
    let columns = "default: hosts | default: fleet | 3 of any: fleet | resilience4j: processes";
    format!("| {what}: calls/s of each of 480 workers | errors | {columns} |\n|---|---|---|---|---|---|")
}

fn row(rate: f64, errors: f64, of: &Daily) -> String {
    let shown = |value: f64| {
        if value > 0.0 && value < 1e-4 { format!("{value:.0e}") } else { format!("{}", (value * 1e4).round() / 1e4) }
    };
    let cells = [of.host, of.fleet, of.three, of.resilience4j].map(shown).join(" | ");
    format!("| {rate} | {} % | {cells} |", errors * 100.0)
}

#[test]
fn at_two_percent_the_shipped_default_opens_the_fleet_less_than_once_a_day() {
    let rows = RATES.iter().flat_map(|rate| ERRORS.map(|errors| row(*rate, errors, &expected(*rate, errors))));
    let table: Vec<String> = [head("false openings a day, expected")].into_iter().chain(rows).collect();
    println!("{}", table.join("\n"));
    for rate in RATES {
        let daily = expected(rate, 0.02).fleet;
        assert!(daily < 1.0, "{daily} a day at {rate} calls/s");
    }
}

#[test]
fn an_outage_opens_the_fleet_before_each_process_would_know() {
    let rules = "default: fleet | 3 of any: fleet | resilience4j: last process";
    let mut table = format!("| full outage, calls/s of each worker | {rules} |\n|---|---|---|---|\n");
    for rate in RATES {
        let Outage { default, three, resilience4j } = outage(rate);
        table += &format!("| {rate} | {default:.3} s | {three:.3} s | {resilience4j:.1} s |\n");
        assert!(three <= default && default < resilience4j);
    }
    println!("{table}");
}

/// A host's calls for so many seconds, one by one.
fn play_host(seed: u64, seconds: f64, (rate, errors): (f64, f64)) -> Daily {
    let (mut host, mut three) = (Host::new(PolicyPatch::default(), seed), ThreeOfAny::default());
    let mut processes: Vec<Resilience4j> = (0..WORKERS).map(|_| Resilience4j::new()).collect();
    let end = Host::start().after(Duration::from_secs_f64(seconds));
    let (mut of_three, mut of_processes) = (0, 0);
    for (now, worker, failed) in Calls::new(seed, rate, errors).take_while(|(now, ..)| *now < end) {
        host.call(now, worker, failed);
        of_three += u32::from(three.call(failed));
        of_processes += u32::from(processes[worker].call(failed));
    }
    let Openings { host, fleet } = host.openings;
    Daily { host: host as f64, fleet: fleet as f64, three: of_three.into(), resilience4j: of_processes.into() }
}

fn play(seconds: f64, (rate, errors): (f64, f64)) -> Daily {
    let sum = |a: Daily, b: Daily| Daily {
        host: a.host + b.host,
        fleet: a.fleet + b.fleet,
        three: a.three + b.three,
        resilience4j: a.resilience4j + b.resilience4j,
    };
    let none = Daily { host: 0.0, fleet: 0.0, three: 0.0, resilience4j: 0.0 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let seeds = |first: usize| (first..HOSTS as usize).step_by(cores);
        let half = |first| {
            scope
                .spawn(move || seeds(first).map(|seed| play_host(seed as u64, seconds, (rate, errors))).fold(none, sum))
        };
        let parts: Vec<_> = (0..cores).map(half).collect();
        parts.into_iter().map(|part| part.join().unwrap()).fold(none, sum)
    })
}

/// How many seconds of each day the short form plays; `SIM_SECONDS` says otherwise.
const PLAYED: f64 = 20.0;

#[allow(clippy::disallowed_methods, reason = "this test's own edge: how long it may take is its caller's to say")]
fn played() -> f64 {
    std::env::var("SIM_SECONDS").map_or(PLAYED, |seconds| seconds.parse().expect("SIM_SECONDS is a number"))
}

#[test]
fn what_is_played_is_what_is_expected() {
    let seconds = played();
    println!("{}", head(&format!("false openings in {seconds} s that were played")));
    for rate in RATES {
        for errors in ERRORS {
            let (seen, daily) = (play(seconds, (rate, errors)), expected(rate, errors));
            println!("{}", row(rate, errors, &seen));
            let part = |daily: f64| daily * seconds / DAY;
            about("fleet", seen.fleet, part(daily.fleet));
            about("hosts", seen.host, part(daily.host));
            about("three", seen.three, part(daily.three));
            assert!(seen.resilience4j == 0.0, "{seen:?}");
        }
    }
}
