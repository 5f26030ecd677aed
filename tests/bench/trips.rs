//! From the failure that trips in one worker to the first rejected call in another, which calls in a tight loop.
//!
//! Who fails runs on processor 0 with the daemon's loop, who is rejected on processor 1. The floor has the same shape: a
//! message over a Unix socket to a thread that sleeps on it, which stores a word that the other one watches.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use breakerd_client::{Breaker, CallError};
use breakerd_proto::Mono;
use breakerd_tests::wait::PATIENCE;

use crate::clock::{micros, pin_to, rest, spin};
use crate::harness::{Bench, Entry, Figure, quantile};
use crate::socket::FAILURE_BYTES;
use crate::worker::{Role, Worker};
use crate::world::{self, Broken, Resetter};

/// Trips of one measurement, after idle and awake.
const TRIPS: usize = 200;
/// How long who fails sleeps before it does, or is busy.
const IDLE: Duration = Duration::from_millis(3);
const BUSY: Duration = Duration::from_micros(300);

/// Who calls in a tight loop.
pub(crate) trait Watch {
    /// Waits for the next change: when it was rejected, or none for being admitted again.
    fn next(&mut self) -> Option<Mono>;
}

/// The loop of one who watches, on processor 1. `rejected` is told how often it was rejected before; `tell` gets the time of
/// each first rejection, and zero at each first call that is admitted after it.
pub(crate) fn watch(mut rejected: impl FnMut(usize) -> bool, mut tell: impl FnMut(u64)) {
    pin_to(1);
    let (mut was, mut turn) = (false, 0);
    loop {
        let is = rejected(turn);
        if is != was {
            tell(if is { Mono::now().0 } else { 0 });
            turn += usize::from(is);
            was = is;
        }
    }
}

/// Those who race. Each is told which trip it is, from zero on.
pub(crate) struct Race<W, A, B> {
    pub(crate) watcher: W,
    /// Fails, and tells when that began.
    pub(crate) act: A,
    /// Makes the next trip possible.
    pub(crate) again: B,
    /// How long the change back may be on its way to other hosts.
    pub(crate) settled: Duration,
}

impl<W: Watch + Send, A: FnMut(usize) -> Mono + Send, B: FnMut(usize) + Send> Race<W, A, B> {
    /// p50 and p99 of the time from one to the other, after idle and awake.
    pub(crate) fn run(mut self, trips: usize) -> Vec<Figure> {
        let run = move || {
            pin_to(0);
            let mut times = |before: &dyn Fn(), from: usize| -> Vec<f64> {
                (from..from + trips).map(|turn| self.trip(turn, before)).collect()
            };
            (times(&|| rest(IDLE), 0), times(&|| spin(BUSY), trips))
        };
        let (mut idle, mut awake) = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        vec![
            ("", "µs", quantile(&mut idle, 0.5)),
            ("_p99", "µs", quantile(&mut idle, 0.99)),
            ("_awake", "µs", quantile(&mut awake, 0.5)),
            ("_awake_p99", "µs", quantile(&mut awake, 0.99)),
        ]
    }

    fn trip(&mut self, turn: usize, before: &dyn Fn()) -> f64 {
        rest(self.settled);
        before();
        let began = (self.act)(turn);
        let rejected = self.watcher.next().expect("the watcher was admitted before");
        (self.again)(turn);
        assert_eq!(self.watcher.next(), None, "it is admitted again");
        micros(rejected.since(began))
    }
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

/// One who watches a word: the floor's.
pub(crate) struct Flag {
    flag: Arc<AtomicU8>,
    told: Receiver<u64>,
}

const LOW: u8 = 0;
const HIGH: u8 = 1;
const OVER: u8 = 2;

impl Flag {
    pub(crate) fn new() -> Self {
        let flag = Arc::new(AtomicU8::new(LOW));
        let (tell, told) = sync_channel(2);
        let watched = Arc::clone(&flag);
        std::thread::spawn(move || {
            // Unwinds out of the loop that ends no other way.
            let rejected = |_| match watched.load(Ordering::Acquire) {
                OVER => resume_unwind(Box::new("over")),
                is => is == HIGH,
            };
            watch(rejected, |at| tell.send(at).unwrap_or_default());
        });
        Self { flag, told }
    }

    /// Who sets and who clears it.
    pub(crate) fn handle(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.flag)
    }
}

/// Sets a [`Flag`], or clears it.
pub(crate) fn set(flag: &AtomicU8, high: bool) {
    flag.store(if high { HIGH } else { LOW }, Ordering::Release);
}

impl Watch for Flag {
    fn next(&mut self) -> Option<Mono> {
        let at = self.told.recv_timeout(PATIENCE).expect("the watcher sees a change");
        (at != 0).then_some(Mono(at))
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        self.flag.store(OVER, Ordering::Release);
    }
}

/// The floor: one message one way.
pub(crate) fn one_message(trips: usize) -> Vec<Figure> {
    let (mut from, mut to) = UnixStream::pair().unwrap();
    let watcher = Flag::new();
    let (setter, clearer) = (watcher.handle(), watcher.handle());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin_to(0);
            let mut bytes = [0; 4096];
            while to.read(&mut bytes).unwrap() > 0 {
                set(&setter, true);
            }
        });
        let end = from.try_clone().unwrap();
        let act = move |_| {
            let began = Mono::now();
            from.write_all(&[1; FAILURE_BYTES]).unwrap();
            began
        };
        let figures = Race { watcher, act, again: |_| set(&clearer, false), settled: Duration::ZERO }.run(trips);
        end.shutdown(std::net::Shutdown::Both).unwrap();
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
    let idle = world::idle_workers(&daemon, idle);
    let failing = &world::breaker(&daemon, "openai");
    let mut resetter = Resetter::of(&daemon);
    let trips = bench.many(TRIPS);
    bench.measure(vec![
        Entry::many(id, || {
            let watcher = Worker::start(&daemon, "openai", Role::Watches(1));
            Race { watcher, act: |_| fail(failing), again: |_| resetter.reset("openai"), settled: Duration::ZERO }
                .run(trips)
        }),
        Entry::many(floor, || one_message(trips)),
    ]);
    drop(idle);
}
