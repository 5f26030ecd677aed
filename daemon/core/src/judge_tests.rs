//! Whom a trip concerns: its own host, or the fleet too (I9).
//!
//! A history on the left: worker `a` fails three times is `a---`, `b` succeeds is `b+`, `c` succeeds slowly is `c~`; `<`
//! stamps what follows four milliseconds ago, each step taking one, and at `.` a minute passes. When the next failure is
//! served, a success of `b`'s is found in memory: at once is `b!`, by a daemon that was stopped is `b?`. On the right, what
//! it comes to.

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::message::{CallsRule, Rules};
use breakerd_proto::{Mode, Mono, Name, Outcome, State};

use crate::breaker::{Breaker, Effects, Reporter, Stand, Turn};
use crate::fleet::OpKind;
use crate::policy::Policy;
use crate::{ConnectionId, WorkerId};

const CLOSED: &str = "closed";
const HOST: &str = "open on its host";
const FLEET: &str = "open, and the fleet is told";

/// Three in a row and nothing else.
fn three() -> Policy {
    let mut policy = Policy::default();
    policy.trip.consecutive_failures = 3;
    policy.trip.failure_rate = Rules::default();
    policy
}

fn last(at_least: f64, of_calls: u32) -> Rules {
    Rules { calls: Some(CallsRule { at_least, of_calls, min_calls: of_calls }), time: None }
}

#[track_caller]
fn check(policy: Policy, history: &str, comes_to: &str) {
    let mut now = Mono::default().after_ms(1_000_000);
    let mut breaker = Breaker::new(Name::parse("openai").unwrap(), Arc::new(policy), now);
    let (mut out, mut rng, forget_after) = (Effects::default(), fastrand::Rng::with_seed(1), Duration::from_secs(3600));
    let (mut worker, mut found, mut late) = (WorkerId(0), Vec::new(), Duration::ZERO);
    let stopped = Duration::from_millis(if history.contains('?') { 100 } else { 0 });
    for step in history.chars() {
        now = now.after_ms(1);
        let outcome = match step {
            '-' => Outcome::failure("http-500"),
            '+' => Outcome::SUCCESS,
            '~' => Outcome::Success { slow: true },
            '!' | '?' => {
                found.push(worker);
                continue;
            }
            '<' => {
                late = Duration::from_millis(4);
                continue;
            }
            '.' => {
                now = now.after_ms(60_000);
                let mut turn =
                    Turn { now, rng: &mut rng, host: "h", forget_after, stand: Stand::Joined, out: &mut out };
                breaker.handle_timeout(&mut turn);
                continue;
            }
            name => {
                worker = WorkerId(name.into());
                continue;
            }
        };
        let at = now.before(std::mem::take(&mut late));
        breaker.lanes.entry(worker).or_default();
        let from = Reporter { connection: ConnectionId(worker.0), worker, label: "w[1]", overtaken: false };
        let generation = breaker.generation;
        let mut turn = Turn { now, rng: &mut rng, host: "h", forget_after, stand: Stand::Joined, out: &mut out };
        let at = at.before(stopped);
        for worker in found.drain(..) {
            breaker.lanes.entry(worker).or_default();
            breaker.found((at, now), (worker, ConnectionId(worker.0)), 1, Some(at));
        }
        breaker.settle(&mut turn, &from, (generation, 0), at, &outcome);
    }
    let told = out.wishes.iter().filter(|(kind, _)| matches!(kind, OpKind::Trip { .. })).count();
    let got = match (breaker.state(), told) {
        (State::Closed, 0) => CLOSED,
        (State::Open, 0) => HOST,
        (State::Open, 1) => FLEET,
        other => panic!("{other:?}"),
    };
    assert_eq!(got, comes_to, "{history}");
}

#[test]
fn a_run_that_no_neighbour_contradicts_concerns_the_fleet() {
    check(three(), "a--", CLOSED);
    check(three(), "a---", FLEET);
    check(three(), "b+a---", FLEET);
    check(three(), "a-+---", FLEET);
}

#[test]
fn a_run_beside_a_neighbour_s_success_concerns_its_host() {
    check(three(), "a-b+a--", HOST);
    check(three(), "a--b+a-", HOST);
    check(three(), "b+a--c+a-", HOST);
    check(three(), "a--b~a-", HOST);
}

#[test]
fn what_a_reading_finds_contradicts_the_runs_under_way_and_not_the_one_that_it_was_made_for() {
    check(three(), "b!a---", FLEET);
    check(three(), "a-b!a--", HOST);
    check(three(), "a--b!a-", HOST);
    check(three(), "a--b!c-a-", HOST);
    check(three(), "b!a-c!a--", HOST);
    check(three(), "a-b!c--", CLOSED);
    check(three(), "a-b!c---", FLEET);
}

#[test]
fn a_daemon_that_was_stopped_cannot_say_what_came_first() {
    check(three(), "b?a---", HOST);
    check(three(), "a--b?c---", HOST);
    check(three(), "b?a-c-d-e-f-g-h-", CLOSED);
}

#[test]
fn a_success_contradicts_a_run_that_began_before_it_however_long_ago() {
    check(three(), "a-b<+a--", FLEET);
    check(three(), "a-b+.a--", HOST);
    check(three(), "b+.a---", FLEET);
}

#[test]
fn a_contradicted_run_that_the_run_of_all_agrees_with_concerns_the_fleet() {
    let mut two = three();
    two.trip.consecutive_failures = 2;
    check(two.clone(), "a-b+c-d-a-", FLEET);
    check(two, "a-b+c-a-", HOST);
}

#[test]
fn a_contradicted_run_that_a_rate_agrees_with_concerns_the_fleet() {
    let mut policy = three();
    policy.trip.failure_rate = last(0.75, 4);
    check(policy.clone(), "a--b+a-", FLEET);
    policy.trip.failure_rate = last(0.8, 4);
    check(policy.clone(), "a--b+a-", HOST);
    policy.trip.failure_count = last(3.0, 4);
    check(policy, "a--b+a-", FLEET);
}

#[test]
fn what_is_pooled_concerns_the_fleet() {
    check(three(), "a-b-c-", CLOSED);
    check(three(), "a-b-c-d-", FLEET);
    check(three(), "a-b-c-b-", FLEET);
    let mut policy = three();
    policy.trip.failure_rate = last(0.5, 4);
    check(policy, "a+b-c+d-", FLEET);
    let mut policy = three();
    policy.trip.slow_count = last(2.0, 4);
    check(policy.clone(), "a~b+c-d+a~", CLOSED);
    check(policy, "a~b+c-d~", FLEET);
}

#[test]
fn shadow_tells_nobody() {
    let mut policy = three();
    policy.mode = Mode::Shadow;
    policy.trip.slow_count = last(2.0, 4);
    check(policy.clone(), "a---", HOST);
    check(policy, "a+b+c~d~", HOST);
}

#[test]
fn off_judges_nothing() {
    let mut policy = three();
    policy.mode = Mode::Off;
    check(policy, "a---------", CLOSED);
}
