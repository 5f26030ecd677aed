//! The rings against lists that are read from the beginning each time.

use breakerd_proto::Mono;
use breakerd_proto::message::{CallsRule, Rules, TimeRule};
use proptest::prelude::*;

use super::calls::Calls;
use super::time::{Ring, Tally};
use super::{Fault, Window};
use crate::WorkerId;
use crate::policy::{Policy, Trip};

const MS: u64 = 1_000_000;

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![Just(None), Just(Some(Fault::Failed)), Just(Some(Fault::Slow))]
}

fn of_fault(calls: &[Option<Fault>], fault: Fault) -> u32 {
    calls.iter().filter(|call| **call == Some(fault)).count().try_into().unwrap()
}

/// The lower and the upper edge of what a ring of `within_ms` holds at `now`, in nanoseconds: after the one, up to the other.
fn edges(within_ms: u64, now: u64) -> (i128, i128) {
    let bucket = i128::from(within_ms * MS / 20);
    let upper = (i128::from(now) / bucket..).map(|n| n * bucket).find(|edge| *edge >= i128::from(now)).unwrap();
    (upper - i128::from(within_ms * MS), upper)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_calls_are_the_end_of_a_list(
        (first, then) in (0_u32..200, 0_u32..200),
        before in proptest::collection::vec(fault(), 0..300),
        after in proptest::collection::vec((fault(), 1_u64..5), 0..100),
        of in 0_u32..250,
    ) {
        let mut ring = Calls::default();
        let keep = |list: &mut Vec<_>, most: u32| drop(list.drain(..list.len().saturating_sub(most as usize)));
        let mut list = Vec::new();
        ring.fit(first);
        for call in before {
            ring.push(call);
            list.push(call);
        }
        keep(&mut list, first);
        ring.fit(then);
        keep(&mut list, then);
        for (call, times) in after {
            ring.push_many(call, times);
            list.extend((0..times).map(|_| call));
        }
        keep(&mut list, then);
        prop_assert_eq!(ring.len() as usize, list.len());
        keep(&mut list, of);
        for fault in [Fault::Failed, Fault::Slow] {
            prop_assert_eq!(ring.count(fault, of), of_fault(&list, fault));
        }
    }

    #[test]
    fn the_last_while_is_a_list_of_stamps(
        within_ms in prop_oneof![Just(100_u64), Just(1000), Just(30_000)],
        steps in proptest::collection::vec((passing(), 0_u64..40_000, fault(), 1_u64..4), 1..120),
    ) {
        let (mut now, mut list) = (0_u64, Vec::new());
        let mut ring = Ring::new(within_ms, Mono(now));
        for (pass, late, call, times) in steps {
            now += pass * MS / 2;
            let at = now.saturating_sub(late * MS / 2);
            let is = |fault| if call == Some(fault) { times } else { 0 };
            ring.advance(Mono(now));
            ring.add(Mono(at), Tally { calls: times, failed: is(Fault::Failed), slow: is(Fault::Slow) });
            list.extend((0..times).map(|_| (at, call)));

            let (after, up_to) = edges(within_ms, now);
            let held = |at: u64| i128::from(at) > after && i128::from(at) <= up_to;
            let held: Vec<_> = list.iter().filter(|(at, _)| held(*at)).map(|(_, call)| *call).collect();
            let sum = ring.sum();
            prop_assert_eq!(sum.calls, held.len() as u64);
            prop_assert_eq!(sum.failed, u64::from(of_fault(&held, Fault::Failed)));
            prop_assert_eq!(sum.slow, u64::from(of_fault(&held, Fault::Slow)));
        }
    }
}

/// Half milliseconds: the clock stands, creeps, walks, or jumps.
fn passing() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0_u64), 3 => 1_u64..20, 3 => 20_u64..4000, 1 => 4000_u64..200_000]
}

#[test]
fn at_an_edge_the_ring_holds_exactly_the_time_that_ends_there() {
    let mut ring = Ring::new(1000, Mono(0));
    let one = Tally { calls: 1, failed: 0, slow: 0 };
    let stamps = [5000 * MS, 5000 * MS + 1, 5050 * MS, 5050 * MS + 1, 6000 * MS];
    stamps.iter().for_each(|at| ring.add(Mono(*at), one));
    let mut at = |now: u64| {
        ring.advance(Mono(now));
        ring.sum().calls
    };
    assert_eq!(at(6000 * MS), 4, "the call of a second ago is no part of the last second; the one after it is");
    assert_eq!(at(6000 * MS + 1), 2, "between edges up to a twentieth is missing");
    assert_eq!(at(6050 * MS), 2);
    assert_eq!(at(6950 * MS), 1);
    assert_eq!(at(6950 * MS + 1), 0);
}

#[test]
fn the_ends_of_time_and_of_numbers() {
    let mut ring = Ring::new(30_000, Mono(0));
    let huge = Tally { calls: u64::MAX, failed: u64::MAX, slow: 0 };
    ring.add(Mono(0), huge);
    ring.add(Mono(0), huge);
    assert_eq!(ring.sum().calls, u64::from(u32::MAX), "it saturates");
    ring.add(Mono::NEVER, huge);
    assert_eq!(ring.sum().calls, u64::from(u32::MAX), "the old is gone");
    ring.add(Mono(0), huge);
    assert_eq!(ring.sum().failed, u64::from(u32::MAX), "what is too old counts nowhere");
    let mut still = Ring::new(u64::MAX, Mono(7));
    still.add(Mono(7), huge);
    assert_eq!(still.sum().calls, u64::from(u32::MAX));
}

fn trip(calls: Option<CallsRule>, time: Option<TimeRule>) -> Trip {
    let failure_rate = Rules { calls, time };
    let policy = Policy::default();
    Trip { failure_rate, ..policy.trip }
}

const HALF: TimeRule = TimeRule { at_least: 0.5, min_calls: 2, within_ms: 30_000 };
const LAST: CallsRule = CallsRule { at_least: 0.5, of_calls: 10, min_calls: 2 };

#[test]
fn a_closed_breaker_that_nobody_calls_holds_nothing() {
    let second = |s: u64| Mono(s * 1000 * MS);
    let (by_time, by_calls) = (trip(None, Some(HALF)), trip(Some(LAST), None));
    let worker = WorkerId(1);

    let mut window = Window::default();
    assert!(window.0.is_none() && window.review_at().is_none(), "nothing before the first outcome");
    window.succeed(&by_time, (worker, second(10)), (1, 0));
    assert_eq!(window.review_at(), Some(second(40)));
    window.succeed(&by_time, (worker, second(39)), (1, 0));
    assert_eq!(window.review_at(), Some(second(40)), "a later call moves no timer");
    window.review(second(40), false);
    assert_eq!(window.review_at(), Some(second(70)));
    window.review(second(70), false);
    assert!(window.0.is_none());

    let no_rule = trip(None, None);
    window.succeed(&no_rule, (worker, second(10)), (1, 0));
    window.succeed(&no_rule, (worker, second(39)), (1, 0));
    window.review(second(40), false);
    assert_eq!(window.review_at(), Some(second(69)), "a failure told late must not come before this success");
    window.review(second(69), false);
    assert!(window.0.is_none());

    window.fail(&by_time, second(100));
    window.review(second(140), false);
    assert_eq!((window.run(), window.review_at()), (1, None), "a run does not age, and needs no timer");
    window.succeed(&by_time, (worker, second(150)), (1, 0));
    window.review(second(180), true);
    assert!(window.0.is_some(), "a lane is in a run, and the success may contradict it");

    let mut window = Window::default();
    window.succeed(&by_calls, (worker, second(10)), (1, 0));
    window.review(second(99), false);
    assert!(window.0.is_some(), "the last calls are the last calls for ever");
}

#[test]
fn the_rings_follow_the_rules_when_they_change() {
    let at = Mono(1000 * MS);
    let held = |window: &mut Window, trip: &Trip| window.held(trip, Fault::Failed, at).map(|held| held.to_string());
    let mut window = Window::default();
    let short = TimeRule { within_ms: 1500, ..HALF };
    let (both, one) = (trip(Some(LAST), Some(HALF)), trip(None, Some(short)));
    let fail = |window: &mut Window, trip: &Trip, times: u32| (0..times).map(|_| window.fail(trip, at)).last();
    fail(&mut window, &both, 3);
    assert_eq!(held(&mut window, &both).unwrap(), "3 of the last 3 calls");
    fail(&mut window, &one, 1);
    assert_eq!(window.0.as_ref().unwrap().rings.len(), 1, "one that no rule looks at any more goes at once");
    fail(&mut window, &one, 1);
    assert_eq!(held(&mut window, &one).unwrap(), "2 of 2 calls within 1500 ms", "a time that is looked at anew");
    window.fail(&trip(None, Some(HALF)), at);
    assert_eq!(held(&mut window, &trip(None, Some(HALF))), None, "of the first three nothing is left");
}

#[test]
fn what_is_inline_is_a_pointer() {
    assert_eq!(size_of::<Window>(), size_of::<usize>());
    assert!(size_of::<super::Pooled>() <= 160, "{}", size_of::<super::Pooled>());
    assert!(size_of::<Ring>() <= 256, "{}", size_of::<Ring>());
}

#[test]
fn a_rate_is_compared_as_it_was_written() {
    for calls in 1..=200_u32 {
        for bad in 1..=calls {
            // As `at_least = 0.35` would be for 7 of 20, where that has so few digits.
            let written = format!("{:.6}", f64::from(bad) / f64::from(calls));
            let exact = u64::from(bad) * 1_000_000 % u64::from(calls) == 0;
            let at_least: f64 = written.parse().unwrap();
            assert!(!exact || super::is_rate(bad.into(), calls.into(), at_least), "{bad} of {calls}: {written}");
        }
    }
}
