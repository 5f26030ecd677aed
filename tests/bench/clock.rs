//! Timing: many calls between two readings of the clock, one call between two, two threads at once; and pinning.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use breakerd_proto::Mono;
use rustix::event::{Timespec, poll};
use rustix::thread::{CpuSet, Pid, sched_setaffinity};

use crate::harness::median;

/// Calls between two readings: what the readings take vanishes in them.
const WINDOW: u32 = 5_000;
/// A measurement lasts at least so long and has at least so many windows.
const LONG: Duration = Duration::from_millis(40);
const WINDOWS_MIN: usize = 9;

/// Nanoseconds a call: the median window's mean, so that a window in which the thread was displaced decides nothing.
pub(crate) fn per_call(mut call: impl FnMut()) -> f64 {
    for _ in 0..WINDOW {
        call();
    }
    median(&mut windows(&mut call))
}

fn windows(call: &mut impl FnMut()) -> Vec<f64> {
    let end = Mono::now().after(LONG);
    let mut windows = Vec::new();
    loop {
        let began = Mono::now();
        for _ in 0..WINDOW {
            call();
        }
        let now = Mono::now();
        windows.push(nanos(now.since(began)) / f64::from(WINDOW));
        if now >= end && windows.len() >= WINDOWS_MIN {
            return windows;
        }
    }
}

/// Nanoseconds an awaited call, as [`per_call`].
pub(crate) async fn per_await<F: Future>(mut call: impl FnMut() -> F) -> f64 {
    let end = Mono::now().after(LONG);
    let mut windows = Vec::new();
    while Mono::now() < end || windows.len() < WINDOWS_MIN {
        let began = Mono::now();
        for _ in 0..WINDOW {
            black_box(call().await);
        }
        windows.push(nanos(Mono::now().since(began)) / f64::from(WINDOW));
    }
    median(&mut windows)
}

/// The same for two threads that call at once, each on a processor of its own; the slower one's. `caller` makes each
/// thread's call.
pub(crate) fn per_call_of_two<F: FnMut()>(caller: impl Fn(usize) -> F + Sync) -> f64 {
    let (start, measuring) = (Barrier::new(2), AtomicUsize::new(2));
    let one = |thread: usize| {
        pin_to(thread);
        let mut call = caller(thread);
        start.wait();
        for _ in 0..WINDOW {
            call();
        }
        let median = median(&mut windows(&mut call));
        measuring.fetch_sub(1, Ordering::SeqCst);
        // The other one is not to be alone before it has done.
        while measuring.load(Ordering::SeqCst) > 0 {
            call();
        }
        median
    };
    std::thread::scope(|scope| {
        let one = &one;
        let both = [0, 1].map(|thread| scope.spawn(move || one(thread)));
        both.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
    })
}

/// Nanoseconds of one call.
pub(crate) fn once(call: impl FnOnce()) -> f64 {
    let began = Mono::now();
    call();
    nanos(Mono::now().since(began))
}

/// In nanoseconds.
pub(crate) fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// In microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    nanos(time) / 1e3
}

/// Gives the processor away for a while.
pub(crate) fn rest(time: Duration) {
    let end = Mono::now().after(time);
    loop {
        let left = end.left(Mono::now());
        if left.is_zero() {
            return;
        }
        let left = Timespec { tv_sec: left.as_secs().try_into().unwrap(), tv_nsec: left.subsec_nanos().into() };
        // An interrupted rest goes on.
        poll(&mut [], Some(&left)).unwrap_or(0);
    }
}

/// Keeps the processor busy for a while.
pub(crate) fn spin(time: Duration) {
    let end = Mono::now().after(time);
    while Mono::now() < end {
        spin_loop();
    }
}

/// The calling thread runs on this processor only, where there are two.
pub(crate) fn pin_to(processor: usize) {
    pin(None, processor);
}

/// That process's first thread runs on this processor only, where there are two.
pub(crate) fn pin_process(pid: u32, processor: usize) {
    pin(Pid::from_raw(i32::try_from(pid).unwrap()), processor);
}

fn pin(thread: Option<Pid>, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // A machine with one processor needs no pinning and refuses the second.
    sched_setaffinity(thread, &set).unwrap_or_default();
}
