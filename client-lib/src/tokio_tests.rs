#![allow(clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;
use std::task::Context;

use breakerd_proto::{AuthErrors, Failure, Mono, RejectReason};

use super::*;
use crate::blocking::Source;
use crate::classify::http::Answer;
use crate::fake::FakeDaemon;

fn run<R>(test: impl Future<Output = R>) -> R {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn policy(cooldown_ms: u64) -> PolicyPatch {
    PolicyPatch {
        consecutive_failures: Some(3),
        cooldown_first_ms: Some(cooldown_ms),
        cooldown_jitter: Some(0.0),
        ..PolicyPatch::default()
    }
}

async fn trip(breaker: &Breaker) {
    for _ in 0..3 {
        breaker.admit().await.unwrap().fail(Failure::new("http-500"));
    }
}

#[test]
fn the_same_names_awaited() {
    let daemon = FakeDaemon::start("tokio");
    let client = Client::from(daemon.client());
    let breaker = client.breaker_with("openai", policy(60_000)).unwrap();
    run(async {
        assert_eq!(breaker.call(async { Ok::<_, ()>(7) }).await, Ok(7));
        assert_eq!(breaker.call(async { Err::<(), _>(7) }).await, Err(CallError::Failed(7)));
        breaker.admit().await.unwrap().succeed();
        trip(&breaker).await;
        let seen = breaker.observe().await;
        assert_eq!((seen.state, seen.failures, seen.source), (State::Open, 3, Source::Daemon));
        let no = breaker.admit().await.unwrap_err();
        assert!(no.why.starts_with("3 consecutive failures, last http-500 ("), "{no}");
        let first = client.first_admitted(["openai", "anthropic"], |_| async { Ok::<_, ()>(1) }).await.unwrap();
        assert_eq!((first.0.as_str(), first.1), ("anthropic", 1));
        breaker.reset("tested").await.unwrap();
        assert_eq!(breaker.state().await, State::Closed);
    });
    // Another runtime has a connection of its own.
    run(async { assert_eq!(breaker.observe().await.source, Source::Daemon) });
    assert_eq!(daemon.hellos().len(), 2);
}

#[test]
fn many_tasks_share_one_connection() {
    let daemon = FakeDaemon::start("tasks");
    let client = Client::from(daemon.client());
    let workers = ::tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    workers.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let breaker = client.breaker(&format!("b{}", task % 3)).unwrap();
                ::tokio::spawn(async move {
                    for _ in 0..50 {
                        breaker.admit().await.unwrap().succeed();
                    }
                    breaker.observe().await.source
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Source::Daemon);
        }
    });
    assert_eq!(daemon.hellos().len(), 1);
}

#[test]
fn a_future_that_is_dropped_gives_its_probe_back() {
    let daemon = FakeDaemon::start("dropped");
    let breaker = Client::from(daemon.client()).breaker_with("openai", policy(1)).unwrap();
    run(async {
        trip(&breaker).await;
        while breaker.observe().await.retry_after != Some(Duration::ZERO) {}
        for _ in 0..20 {
            let mut asking = Box::pin(breaker.call(std::future::pending::<Result<(), ()>>()));
            poll_once(asking.as_mut()).await;
            // The daemon has answered this before it answers the next, so the probe may be granted by now.
            breaker.observe().await;
            poll_once(asking.as_mut()).await;
        }
        let probe = breaker.admit().await.unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.admit().await.unwrap_err().reason, RejectReason::Probing);
    });
}

/// Cancels so many calls that are never answered, each by a time-out around it.
async fn hang(breaker: &Breaker, calls: u32) {
    for _ in 0..calls {
        let call = breaker.call(std::future::pending::<Result<(), ()>>());
        ::tokio::time::timeout(Duration::from_millis(20), call).await.unwrap_err();
    }
}

#[test]
fn calls_that_are_cancelled_after_too_long_are_a_run_of_failures() {
    let daemon = FakeDaemon::start("hung");
    let client = Client::from(daemon.client());
    let hasty = PolicyPatch { hung_after_ms: Some(1), ..policy(1) };
    let (hung, cancelled) = (client.breaker_with("hung", hasty), client.breaker_with("cancelled", policy(60_000)));
    let (hung, cancelled) = (hung.unwrap(), cancelled.unwrap());
    run(async {
        hang(&hung, 2).await;
        drop(hung.admit().await.unwrap());
        assert_eq!(hung.observe().await.failures, 2, "what is dropped at once is abandoned");
        hang(&hung, 1).await;
        let seen = hung.observe().await;
        assert_eq!((seen.state, seen.failures), (State::Open, 3));
        assert_eq!(seen.last_failure.unwrap().kind, "hung");
        hang(&cancelled, 5).await;
        let seen = cancelled.observe().await;
        assert_eq!((seen.state, seen.failures), (State::Closed, 0), "twenty milliseconds are not ten seconds");
        // A probe that hangs has failed too.
        while hung.observe().await.retry_after != Some(Duration::ZERO) {}
        hang(&hung, 1).await;
        let seen = hung.observe().await;
        assert_eq!((seen.state, seen.failures), (State::Open, 4), "{}", seen.why);
    });
}

#[test]
fn a_429_fails_a_probe_whatever_ones_own_function_says() {
    let daemon = FakeDaemon::start("limited");
    let breaker = Client::from(daemon.client()).breaker_with("openai", policy(1)).unwrap();
    let tolerant = |result: &Result<u16, ()>, terms: Terms<'_>| {
        terms.outcome_or(Some(Outcome::Ignored), &Answer::new(result.unwrap()))
    };
    run(async {
        trip(&breaker).await;
        while breaker.observe().await.retry_after != Some(Duration::ZERO) {}
        assert_eq!(breaker.call_classified(async { Ok(429) }, tolerant).await, Ok(429));
        let seen = breaker.observe().await;
        assert_eq!((seen.state, seen.last_failure.unwrap().kind.as_str()), (State::Open, "http-429"));
        breaker.reset("tested").await.unwrap();
        assert_eq!(breaker.call_classified(async { Ok(429) }, tolerant).await, Ok(429));
        assert_eq!(breaker.observe().await.failures, 0, "closed, it is what the function says");
    });
}

#[test]
fn what_401_counts_as_is_the_policys() {
    let daemon = FakeDaemon::start("auth");
    let client = Client::from(daemon.client());
    let by_status = |result: &Result<u16, ()>, terms: Terms<'_>| terms.outcome(&Answer::new(result.unwrap()));
    run(async {
        for (name, auth_errors, failures) in [("a", None, 0), ("b", Some(AuthErrors::Failure), 1)] {
            let breaker = client.breaker_with(name, PolicyPatch { auth_errors, ..policy(60_000) }).unwrap();
            breaker.call_classified(async { Ok(401) }, by_status).await.unwrap();
            assert_eq!(breaker.observe().await.failures, failures, "{auth_errors:?}");
        }
    });
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|context: &mut Context<'_>| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_mute_daemon_delays_a_call_by_its_deadline_and_the_next_not_at_all() {
    let daemon = FakeDaemon::start("mute-tokio");
    let breaker = Client::from(daemon.client()).breaker("openai").unwrap();
    run(async {
        breaker.admit().await.unwrap().succeed();
        daemon.mute(true);
        let began = Mono::now();
        breaker.admit().await.unwrap().succeed();
        let took = Mono::now().since(began);
        assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&took), "{took:?}");
        let began = Mono::now();
        breaker.admit().await.unwrap().succeed();
        assert!(Mono::now().since(began) < Duration::from_millis(100));
    });
}

#[test]
fn no_daemon_ever() {
    let client = Client::with(Options::from_env().unwrap().socket("/nowhere/s.sock"));
    let breaker = client.breaker_with("openai", policy(60_000)).unwrap();
    run(async {
        trip(&breaker).await;
        assert_eq!(breaker.admit().await.unwrap_err().reason, RejectReason::Open);
        assert_eq!(breaker.observe().await.source, Source::Local);
        breaker.reset("tested").await.unwrap();
        assert!(breaker.admit().await.is_ok());
    });
    assert!(matches!(client.health(), Health::Alone { .. }));
}
