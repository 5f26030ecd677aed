//! The tokio client against a real daemon: the same promises, awaited.

use std::future::pending;
use std::time::Duration;

use breakerd_client::tokio::{Breaker, Client};
use breakerd_client::tower::BreakerLayer;
use breakerd_client::{CallError, Failure, Health, Observation, Options, PolicyPatch, RejectReason, Source, State};
use breakerd_tests::{Daemon, Setup};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

fn client(daemon: &Daemon) -> Client {
    Client::with(Options::from_env().unwrap().socket(daemon.socket()).service("chat-api"))
}

fn run<R>(test: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs") })
}

/// What the daemon says, however busy the machine is.
async fn told(breaker: &Breaker) -> Observation {
    loop {
        let seen = breaker.observe().await;
        if seen.source == Source::Daemon {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

async fn trip(breaker: &Breaker) {
    for _ in 0..3 {
        breaker.admit().await.unwrap().fail(Failure::new("http-503"));
    }
    assert_eq!(told(breaker).await.state, State::Open);
}

/// Waits for the end of the cooldown.
async fn cool(breaker: &Breaker) {
    while told(breaker).await.retry_after != Some(Duration::ZERO) {}
}

#[test]
fn one_tasks_trip_is_every_tasks_and_every_workers() {
    let daemon = Daemon::start();
    let breaker = client(&daemon).breaker("openai").unwrap();
    let mut other = daemon.worker();
    let lane = other.lane("openai");
    let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    workers.block_on(async {
        let fail = || async { Err::<(), _>("down") };
        for _ in 0..3 {
            assert_eq!(breaker.call(fail()).await, Err(CallError::Failed("down")));
        }
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let breaker = breaker.clone();
                tokio::spawn(async move { breaker.call(fail()).await })
            })
            .collect();
        for task in tasks {
            let Err(CallError::Rejected(no)) = task.await.unwrap() else { panic!("admitted while open") };
            assert_eq!((no.state, no.reason), (State::Open, RejectReason::Open));
        }
        let seen = told(&breaker).await;
        assert_eq!((seen.state, seen.failures), (State::Open, 3));
        assert_eq!(seen.last_failure.unwrap().kind, "&str");
    });
    let theirs = other.observe(lane);
    assert_eq!((theirs.view.state, theirs.failures), (State::Open, 0));
}

#[test]
fn the_first_that_admits_is_called() {
    let daemon = Daemon::start();
    let client = client(&daemon);
    run(async {
        trip(&client.breaker("openai").unwrap()).await;
        let (name, value) = client.first_admitted(["openai", "anthropic"], |_| async { Ok::<_, ()>(7) }).await.unwrap();
        assert_eq!((name.as_str(), value), ("anthropic", 7));
    });
}

#[test]
fn a_cancelled_probe_comes_back_and_a_hung_one_has_failed() {
    let daemon = Daemon::with(&Setup::short_cooldown());
    let breaker = client(&daemon).breaker("openai").unwrap();
    let hasty = PolicyPatch { hung_after_ms: Some(1), ..PolicyPatch::default() };
    let hung = client(&daemon).breaker_with("hung", hasty).unwrap();
    run(async {
        let patience = Duration::from_millis(20);
        trip(&breaker).await;
        cool(&breaker).await;
        tokio::time::timeout(patience, breaker.call(pending::<Result<(), ()>>())).await.unwrap_err();
        let probe = breaker.admit().await.unwrap();
        assert!(probe.is_probe(), "the daemon has it back");
        probe.succeed();
        assert_eq!(told(&breaker).await.state, State::Closed);

        trip(&hung).await;
        cool(&hung).await;
        tokio::time::timeout(patience, hung.call(pending::<Result<(), ()>>())).await.unwrap_err();
        let seen = told(&hung).await;
        assert_eq!(seen.state, State::Open, "{seen:?}");
        assert_eq!(seen.last_failure.unwrap().kind, "hung");
    });
}

#[test]
fn a_tower_service_under_a_layer_is_guarded_and_its_time_outs_trip() {
    let daemon = Daemon::start();
    let breaker = client(&daemon).breaker("openai").unwrap();
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone()))
        .timeout(Duration::from_millis(5))
        .service(service_fn(|(): ()| pending::<Result<(), BoxError>>()));
    run(async {
        for _ in 0..3 {
            assert!(matches!(service.clone().oneshot(()).await, Err(CallError::Failed(_))));
        }
        assert_eq!(told(&breaker).await.state, State::Open);
        let Err(CallError::Rejected(no)) = service.oneshot(()).await else { panic!("admitted while open") };
        assert_eq!(no.reason, RejectReason::Open);
    });
}

#[test]
fn a_killed_daemon_is_missed_by_nobody_and_the_next_one_judges() {
    let mut daemon = Daemon::start();
    let client = client(&daemon);
    let breaker = client.breaker("openai").unwrap();
    run(async {
        trip(&breaker).await;
        daemon.kill9();
        for _ in 0..100 {
            assert_eq!(breaker.admit().await.unwrap_err().reason, RejectReason::Open);
        }
        assert_eq!(breaker.observe().await.source, Source::Local);
        daemon.run();
        told(&breaker).await;
        assert!(matches!(client.health(), Health::Attached { .. }));
    });
}
