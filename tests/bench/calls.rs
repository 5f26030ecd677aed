//! What a call costs in the worker, beside the crates that do it in one process.

use std::cell::RefCell;
use std::hint::{black_box, spin_loop};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use breakerd_client::tower::BreakerLayer;
use breakerd_client::{CallError, Options};
use breakerd_proto::Mono;
use tower::{Layer, Service};

use crate::clock::{per_await, per_call, per_call_of_two};
use crate::harness::{Bench, Entry};
use crate::peers;
use crate::world::{self, Broken};

/// What the least that could be done would be: the daemon's life, the breaker's word, one's own counter, each on a line of
/// its own.
#[derive(Default)]
pub(crate) struct Floor {
    alive: Line<AtomicU32>,
    word: Line<AtomicU64>,
    counts: [Line<AtomicU64>; 2],
}

/// A cache line and its neighbour, which is fetched with it.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

impl Floor {
    pub(crate) fn new() -> Self {
        let floor = Self::default();
        floor.alive.0.store(1, Ordering::Relaxed);
        floor.word.0.store(1, Ordering::Relaxed);
        floor
    }

    #[inline]
    pub(crate) fn call(&self, thread: usize, call: impl FnOnce() -> Result<u64, Broken>) -> Result<u64, Broken> {
        let admits = self.word.0.load(Ordering::Acquire) & 0xff == 1 && self.alive.0.load(Ordering::Acquire) != 0;
        if !admits {
            return Err(Broken);
        }
        let result = call()?;
        self.count(thread);
        Ok(result)
    }

    /// Two lines: the breaker's and the counter's.
    pub(crate) fn look_and_count(&self) -> Result<u64, Broken> {
        if self.word.0.load(Ordering::Acquire) & 0xff != 1 {
            return Err(Broken);
        }
        let result = works()?;
        self.count(0);
        Ok(result)
    }

    #[inline]
    fn count(&self, thread: usize) {
        let count = &self.counts[thread & 1].0;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// The call itself.
pub(crate) fn works() -> Result<u64, Broken> {
    black_box(Ok(1))
}

/// Measures a call on something whose address the compiler cannot know from one call to the next, so that it loads anew
/// what it has to.
macro_rules! per_call_on {
    ($on:expr, |$it:ident| $call:expr) => {
        per_call(|| {
            let $it = black_box($on);
            black_box($call).ok();
        })
    };
}

macro_rules! per_call_of_two_on {
    ($on:expr, |$it:ident, $thread:ident| $call:expr) => {
        per_call_of_two(|$thread| {
            move || {
                let $it = black_box($on);
                black_box($call).ok();
            }
        })
    };
}

pub(crate) fn success(bench: &mut Bench) {
    let daemon = world::daemon();
    let breaker = &world::breaker(&daemon, "openai");
    let (floor, recloser, failsafe, machines) =
        (&Floor::new(), &peers::recloser(), &peers::failsafe(), &*peers::machines());
    let failsafe_default = &failsafe::Config::new().build();
    let resilience = &peers::resilience();
    bench.measure(vec![
        Entry::one("check_success", "ns", || per_call_on!(breaker, |it| it.call(works))),
        Entry::one("check_success_permit", "ns", || {
            per_call_on!(breaker, |it| it.admit().map(breakerd_client::Permit::succeed))
        }),
        Entry::one("floor.check_success", "ns", || per_call_on!(floor, |it| it.call(0, works))),
        Entry::one("recloser.check_success", "ns", || per_call_on!(recloser, |it| it.call(works))),
        Entry::one("failsafe.check_success", "ns", || {
            per_call_on!(failsafe, |it| failsafe::CircuitBreaker::call(it, works))
        }),
        Entry::one("failsafe-default.check_success", "ns", || {
            per_call_on!(failsafe_default, |it| failsafe::CircuitBreaker::call(it, works))
        }),
        Entry::one("breaker-machines.check_success", "ns", || {
            per_call_on!(machines, |it| now(it.call(|| async { works() })))
        }),
        Entry::one("tower-resilience.check_success", "ns", || {
            let mut service = resilience.clone();
            per_call_on!(&mut service, |it| now(it.call(black_box(1))))
        }),
        Entry::one("check_success_2t", "ns", || per_call_of_two_on!(breaker, |it, _thread| it.call(works))),
        Entry::one("floor.check_success_2t", "ns", || per_call_of_two_on!(floor, |it, thread| it.call(thread, works))),
        Entry::one("recloser.check_success_2t", "ns", || per_call_of_two_on!(recloser, |it, _thread| it.call(works))),
        Entry::one("failsafe.check_success_2t", "ns", || {
            per_call_of_two_on!(failsafe, |it, _thread| failsafe::CircuitBreaker::call(it, works))
        }),
        Entry::one("breaker-machines.check_success_2t", "ns", || {
            per_call_of_two_on!(machines, |it, _thread| now(it.call(|| async { works() })))
        }),
        Entry::one("tower-resilience.check_success_2t", "ns", || {
            per_call_of_two(|_| {
                let mut service = resilience.clone();
                move || {
                    black_box(now(black_box(&mut service).call(black_box(1)))).ok();
                }
            })
        }),
    ]);
}

/// Where the policy judges slowness; the floor is two clock readings and a call where it does not.
pub(crate) fn timed(bench: &mut Bench) {
    let daemon = world::daemon();
    let (breaker, untimed) = (&world::breaker(&daemon, "timed"), &world::breaker(&daemon, "openai"));
    bench.measure(vec![
        Entry::one("check_success_timed", "ns", || per_call_on!(breaker, |it| it.call(works))),
        Entry::one("floor.check_success_timed", "ns", || {
            per_call_on!(untimed, |it| {
                let began = Mono::now();
                let result = it.call(works);
                black_box(Mono::now().since(began));
                result
            })
        }),
    ]);
}

/// A call while the breaker is open; the floor is one reading of the clock.
pub(crate) fn reject(bench: &mut Bench) {
    let daemon = world::daemon();
    let breaker = &world::breaker(&daemon, "openai");
    breaker.call(|| Err::<(), _>(Broken)).unwrap_err();
    breakerd_tests::until("it is open", || matches!(breaker.call(works), Err(CallError::Rejected(_))).then_some(()));
    let (recloser, failsafe) = (&peers::recloser_open(), &peers::failsafe_open());
    assert!(recloser.call(works).is_err() && failsafe::CircuitBreaker::call(failsafe, works).is_err());
    bench.measure(vec![
        Entry::one("reject", "ns", || per_call_on!(breaker, |it| it.call(works))),
        Entry::one("floor.reject", "ns", || per_call_on!(&(), |_it| Err::<(), _>(Mono::now()))),
        Entry::one("recloser.reject", "ns", || per_call_on!(recloser, |it| it.call(works))),
        Entry::one("failsafe.reject", "ns", || per_call_on!(failsafe, |it| failsafe::CircuitBreaker::call(it, works))),
    ]);
}

/// Through a tower layer, awaited in a runtime; the floor is the service without one.
pub(crate) fn tower(bench: &mut Bench) {
    let daemon = world::daemon();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let client = breakerd_client::tokio::Client::with(Options::from_env().unwrap().socket(daemon.socket()));
    let breaker = client.breaker("openai").unwrap();
    runtime.block_on(async { breaker.call(async { works() }).await.map(|_| ()) }).unwrap();
    let guarded = RefCell::new(BreakerLayer::new(breaker).layer(peers::echo()));
    let (resilience, bare) = (RefCell::new(peers::resilience()), RefCell::new(peers::echo()));
    macro_rules! per_call_in_runtime {
        ($service:expr) => {
            runtime.block_on(per_await(|| black_box($service).borrow_mut().call(black_box(1))))
        };
    }
    bench.measure(vec![
        Entry::one("tower_call", "ns", || per_call_in_runtime!(&guarded)),
        Entry::one("floor.tower_call", "ns", || per_call_in_runtime!(&bare)),
        Entry::one("tower-resilience.tower_call", "ns", || per_call_in_runtime!(&resilience)),
    ]);
}

/// What a future ends with. Who has to wait, for another thread's lock, waits awake.
fn now<T>(future: impl Future<Output = T>) -> T {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        spin_loop();
    }
}
