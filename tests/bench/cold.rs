//! A call whose lines are in no cache: so it is where a worker does other things between its calls.

use std::hint::black_box;

use breakerd_proto::Mono;

use crate::calls::{Floor, works};
use crate::clock::once;
use crate::harness::{Bench, Entry, median};
use crate::{peers, world};

/// Walked before each call, a line at a time: more than the second level's cache holds.
const WALK_BYTES: usize = 3 << 20;
const LINE_BYTES: usize = 64;
/// Calls of one measurement.
const CALLS: usize = 600;

struct Walk(Vec<u8>);

impl Walk {
    fn go(&mut self) {
        for byte in self.0.iter_mut().step_by(LINE_BYTES) {
            *byte = byte.wrapping_add(1);
        }
        black_box(&self.0);
        // What reads the clock is warm again; only the call is not.
        black_box(Mono::now());
    }

    /// The median call, less what two readings of the clock take by themselves under the same conditions.
    fn per_call(&mut self, mut call: impl FnMut()) -> f64 {
        let (mut calls, mut nothings) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            self.go();
            nothings.push(once(|| ()));
            self.go();
            calls.push(once(&mut call));
        }
        median(&mut calls) - median(&mut nothings)
    }
}

pub(crate) fn success(bench: &mut Bench) {
    let daemon = world::daemon();
    let breaker = &world::breaker(&daemon, "openai");
    let (floor, recloser, failsafe) = (&Floor::new(), &peers::recloser(), &peers::failsafe());
    let after_walk = |call: &mut dyn FnMut()| Walk(vec![0; WALK_BYTES]).per_call(call);
    bench.measure(vec![
        Entry::one("check_success_cold", "ns", || after_walk(&mut || drop(black_box(breaker.call(works))))),
        Entry::one("floor.check_success_cold", "ns", || after_walk(&mut || drop(black_box(floor.look_and_count())))),
        Entry::one("recloser.check_success_cold", "ns", || after_walk(&mut || drop(black_box(recloser.call(works))))),
        Entry::one("failsafe.check_success_cold", "ns", || {
            after_walk(&mut || drop(black_box(failsafe::CircuitBreaker::call(failsafe, works))))
        }),
    ]);
}
