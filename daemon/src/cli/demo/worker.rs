//! A worker of the demo: a process that calls the provider through the client library, as any service would.

use std::io;
use std::net::SocketAddr;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use breakerd_client::{Breaker, Client, Failure, Outcome, Source, State};
use breakerd_proto::Mono;

use super::orders::{self, BREAKER, Order, Reply, Sight, Tally};
use super::{Stuck, provider};

/// A trip is seen within a millisecond or something is wrong.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a worker asks for a fresh answer before it tells an old one.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Obeys orders until there are no more.
pub(super) fn work(provider: SocketAddr) -> Result<(), Stuck> {
    let client = Client::open().map_err(Stuck::Environment)?;
    let guard = client.breaker(BREAKER).map_err(Stuck::Breaker)?;
    let (mut orders, mut replies) = (io::stdin().lock(), io::stdout().lock());
    // The demo's end closes the pipe, and that is this worker's end.
    while let Some(order) = orders::read(&mut orders).map_err(Stuck::Orders)? {
        let reply = match order {
            Order::Look => Reply::Sight(look(&guard)),
            Order::Burst { calls } => burst(&guard, provider, calls),
            Order::AwaitOpen => {
                orders::write(&mut replies, &Reply::Watching).map_err(Stuck::Orders)?;
                Reply::Seen(await_open(&guard))
            }
            Order::Calls { calls } => Reply::Tally(tally(&guard, provider, calls)),
        };
        orders::write(&mut replies, &reply).map_err(Stuck::Orders)?;
    }
    Ok(())
}

/// What the worker sees now. On a busy machine the daemon may miss the client's deadline of 5 ms, and then the client tells
/// what it last saw: that is no answer to this question, so it is put again.
fn look(guard: &Breaker) -> Sight {
    let deadline = Mono::now().after(LOOK_WAIT_MAX);
    loop {
        let seen = guard.observe();
        if seen.source != Source::LastSeen || Mono::now() > deadline {
            return Sight { state: seen.state.word().to_owned(), failures: seen.failures };
        }
    }
}

fn outcome_of(answer: io::Result<u16>) -> Outcome {
    match answer {
        Ok(200) => Outcome::SUCCESS,
        Ok(status) => Outcome::failure(&format!("http-{status}")),
        Err(error) => Outcome::Failure(Failure::new("connect").with_detail(&error.to_string())),
    }
}

/// Calls that are all in flight before any of them comes back.
fn burst(guard: &Breaker, provider: SocketAddr, calls: u32) -> Reply {
    let in_flight = Barrier::new(usize::try_from(calls).unwrap_or(1));
    let reported_ns = Mutex::new(Vec::new());
    let one = || {
        let permit = guard.admit();
        in_flight.wait();
        let Ok(permit) = permit else { return };
        let outcome = outcome_of(provider::call(provider));
        // Under the lock, so that the order of the stamps is the order of the reports.
        let mut stamps = reported_ns.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(outcome, Outcome::Failure(_)) {
            stamps.push(Mono::now().0);
        }
        permit.settle(outcome);
    };
    thread::scope(|scope| {
        for _ in 0..calls {
            scope.spawn(one);
        }
    });
    let reported_ns = reported_ns.into_inner().unwrap_or_else(PoisonError::into_inner);
    Reply::Burst { failed: u32::try_from(reported_ns.len()).unwrap_or(u32::MAX), reported_ns }
}

fn await_open(guard: &Breaker) -> Option<u64> {
    let deadline = Mono::now().after(OPEN_WAIT_MAX);
    loop {
        let open = guard.state() == State::Open;
        let now = Mono::now();
        if open {
            return Some(now.0);
        }
        if now > deadline {
            return None;
        }
    }
}

fn tally(guard: &Breaker, provider: SocketAddr, calls: u32) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..calls {
        let began = Mono::now();
        match guard.admit() {
            Ok(permit) => {
                let outcome = outcome_of(provider::call(provider));
                match outcome {
                    Outcome::Success { .. } => tally.succeeded += 1,
                    _ => tally.failed += 1,
                }
                permit.settle(outcome);
            }
            Err(no) => {
                tally.rejected += 1;
                tally.reason = no.reason.word().to_owned();
                let retry_after_ms = no.retry_after().map_or(0, |after| after.as_millis());
                tally.retry_after_ms = u64::try_from(retry_after_ms).unwrap_or(u64::MAX);
                tally.longest_ns = tally.longest_ns.max(Mono::now().0.saturating_sub(began.0));
            }
        }
        tally.total_ns += Mono::now().0.saturating_sub(began.0);
    }
    tally
}
