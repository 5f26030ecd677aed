//! From the failure that trips in one worker to the first rejected call in another, which calls in a tight loop.
//!
//! Who fails runs on processor 0 with the daemon's loop, who is rejected on processor 1. The floor has the same shape: a
//! message over a Unix socket to a thread that sleeps on it, which stores a word that the other one watches.

use std::hint::spin_loop;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use breakerd_client::{Breaker, CallError};
use breakerd_proto::Mono;
use breakerd_tests::until;

use crate::calls::works;
use crate::clock::{micros, pin_to, rest, spin};
use crate::harness::{Bench, Entry, Figure, quantile};
use crate::socket::FAILURE_BYTES;
use crate::world::{self, Broken, Resetter};

/// Trips of one measurement, after idle and awake.
const TRIPS: usize = 200;
/// As long as the other processor's worker calls, this one's sleeps before it fails, or is busy.
const IDLE: Duration = Duration::from_millis(3);
const BUSY: Duration = Duration::from_micros(300);

/// What the watching thread sees.
#[derive(Default)]
struct Seen {
    /// When it was first rejected; zero while it is admitted.
    at: AtomicU64,
    /// Which trip it is.
    turn: AtomicUsize,
    over: AtomicBool,
}

/// Ends the watching thread, also when who acts has panicked.
struct Over<'s>(&'s Seen);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// Those who race. Each is told which trip it is, from zero on.
pub(crate) struct Race<R, A, B> {
    /// Whether the watcher's call is rejected.
    pub(crate) rejected: R,
    /// Fails, and tells when that began.
    pub(crate) act: A,
    /// Makes the next trip possible.
    pub(crate) again: B,
}

impl<R: FnMut(usize) -> bool + Send, A: FnMut(usize) -> Mono + Send, B: FnMut(usize) + Send> Race<R, A, B> {
    /// p50 and p99 of the time from one to the other, after idle and awake.
    pub(crate) fn run(self, trips: usize) -> Vec<Figure> {
        let Self { mut rejected, mut act, mut again } = self;
        let seen = &Seen::default();
        std::thread::scope(|scope| {
            scope.spawn(move || watch(seen, &mut rejected));
            let acting = scope.spawn(move || {
                let _over = Over(seen);
                pin_to(0);
                let mut times = |before: &dyn Fn(), from: usize| -> Vec<f64> {
                    let turns = from..from + trips;
                    turns.map(|turn| trip(seen, turn, before, &mut act, &mut again)).collect()
                };
                (times(&|| rest(IDLE), 0), times(&|| spin(BUSY), trips))
            });
            let (mut idle, mut awake) = acting.join().unwrap();
            vec![
                ("", "µs", quantile(&mut idle, 0.5)),
                ("_p99", "µs", quantile(&mut idle, 0.99)),
                ("_awake", "µs", quantile(&mut awake, 0.5)),
                ("_awake_p99", "µs", quantile(&mut awake, 0.99)),
            ]
        })
    }
}

fn watch(seen: &Seen, rejected: &mut impl FnMut(usize) -> bool) {
    pin_to(1);
    let mut was = false;
    while !seen.over.load(Ordering::Acquire) {
        let is = rejected(seen.turn.load(Ordering::Acquire));
        if is != was {
            seen.at.store(if is { Mono::now().0 } else { 0 }, Ordering::Release);
            was = is;
        }
    }
}

fn trip(
    seen: &Seen,
    turn: usize,
    before: &dyn Fn(),
    act: &mut impl FnMut(usize) -> Mono,
    again: &mut impl FnMut(usize),
) -> f64 {
    seen.turn.store(turn, Ordering::Release);
    until("the watcher is admitted", || (seen.at.load(Ordering::Acquire) == 0).then_some(()));
    before();
    let began = act(turn);
    let rejected = until("the watcher is rejected", || Some(seen.at.load(Ordering::Acquire)).filter(|at| *at != 0));
    again(turn);
    micros(Mono(rejected).since(began))
}

/// A call that fails; when.
pub(crate) fn fail(breaker: &Breaker) -> Mono {
    let mut began = Mono::NEVER;
    let failed = breaker.call(|| {
        began = Mono::now();
        Err::<(), _>(Broken)
    });
    assert!(matches!(failed, Err(CallError::Failed(_))), "a call that was to fail was rejected");
    began
}

/// The floor: one message one way.
pub(crate) fn one_message(trips: usize) -> Vec<Figure> {
    let (mut from, mut to) = UnixStream::pair().unwrap();
    let flag = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin_to(0);
            let mut bytes = [0; 4096];
            while to.read(&mut bytes).unwrap() > 0 {
                flag.store(true, Ordering::Release);
            }
        });
        let figures = Race {
            rejected: |_| {
                spin_loop();
                flag.load(Ordering::Acquire)
            },
            act: |_| {
                let began = Mono::now();
                from.write_all(&[1; FAILURE_BYTES]).unwrap();
                began
            },
            again: |_| flag.store(false, Ordering::Release),
        }
        .run(trips);
        from.shutdown(std::net::Shutdown::Both).unwrap();
        figures
    })
}

pub(crate) fn same_host(bench: &mut Bench) {
    beside(bench, ("trip_same_host", "floor.trip_same_host"), 0);
}

/// With a thousand workers of the same breaker beside, connected and idle.
pub(crate) fn same_host_1000(bench: &mut Bench) {
    beside(bench, ("trip_same_host_1000", "floor.trip_same_host_1000"), 1000);
}

fn beside(bench: &mut Bench, (id, floor): (&'static str, &'static str), idle: usize) {
    let daemon = world::daemon();
    let idle: Vec<Breaker> = (0..idle).map(|_| world::breaker(&daemon, "openai")).collect();
    let (one, other) = (&world::breaker(&daemon, "openai"), &world::breaker(&daemon, "openai"));
    let mut resetter = Resetter::of(&daemon);
    let trips = bench.many(TRIPS);
    bench.measure(vec![
        Entry::many(id, || {
            Race {
                rejected: |_| other.call(works).is_err(),
                act: |_| fail(one),
                again: |_| resetter.reset("openai"),
            }
            .run(trips)
        }),
        Entry::many(floor, || one_message(trips)),
    ]);
    drop(idle);
}
