#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{RejectReason, State};

use super::*;
use crate::Options;
use crate::classify::http::Answer;
use crate::tokio::Client;

fn run<R>(test: impl Future<Output = R>) -> R {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A breaker that this process judges alone; two failures trip.
fn breaker(hung_after_ms: u64) -> Breaker {
    let policy =
        PolicyPatch { consecutive_failures: Some(2), hung_after_ms: Some(hung_after_ms), ..PolicyPatch::default() };
    let client = Client::with(Options::from_env().unwrap().socket("/nowhere/s.sock"));
    client.breaker_with("openai", policy).unwrap()
}

#[test]
fn a_time_out_below_is_a_failure_and_an_open_breaker_reaches_nobody() {
    let (breaker, reached) = (breaker(10_000), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&reached);
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone()))
        .timeout(Duration::from_millis(1))
        .service(service_fn(move |(): ()| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<(), BoxError>>()
        }));
    run(async {
        for _ in 0..2 {
            let Err(CallError::Failed(error)) = service.clone().oneshot(()).await else { panic!("no time-out") };
            assert!(error.is::<::tower::timeout::error::Elapsed>(), "{error}");
        }
        assert_eq!(breaker.state().await, State::Open);
        for _ in 0..10 {
            let Err(CallError::Rejected(no)) = service.clone().oneshot(()).await else { panic!("admitted while open") };
            assert_eq!(no.reason, RejectReason::Open);
        }
    });
    assert_eq!(reached.load(Ordering::Relaxed), 2);
}

#[test]
fn a_result_is_judged_by_ones_own_function() {
    let breaker = breaker(10_000);
    let by_status = |result: &Result<u16, BoxError>, terms: Terms<'_>| match result {
        Ok(status) => terms.outcome(&Answer::new(*status)),
        Err(_) => Outcome::failure("connect"),
    };
    let layer = BreakerLayer::new(breaker.clone()).classify(by_status);
    let service =
        ServiceBuilder::new().layer(layer).service(service_fn(|status: u16| async move { Ok::<_, BoxError>(status) }));
    run(async {
        for (status, failures) in [(503, 1), (200, 0), (404, 0), (429, 1), (401, 1)] {
            assert_eq!(service.clone().oneshot(status).await.unwrap(), status);
            assert_eq!(breaker.observe().await.failures, failures, "after {status}");
        }
        assert_eq!(breaker.observe().await.last_failure.unwrap().kind, "http-429");
    });
}

/// Never ready, or ready with an error.
#[derive(Clone)]
struct Unready(Option<&'static str>);

impl Service<()> for Unready {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.0.map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("called although it is not ready")
    }
}

#[test]
fn the_breaker_is_asked_before_the_service_is_ready() {
    let breaker = breaker(10_000);
    run(async {
        let failing = BreakerLayer::new(breaker.clone()).layer(Unready(Some("pool is closed")));
        for _ in 0..2 {
            assert_eq!(failing.clone().oneshot(()).await, Err(CallError::Failed("pool is closed")));
        }
        let never = BreakerLayer::new(breaker.clone()).layer(Unready(None));
        assert!(matches!(never.oneshot(()).await, Err(CallError::Rejected(_))), "it waited for what is never ready");
    });
}

#[test]
fn a_time_out_outside_the_layer_trips_as_hung() {
    let breaker = breaker(1);
    let service = ServiceBuilder::new()
        .timeout(Duration::from_millis(20))
        .layer(BreakerLayer::new(breaker.clone()))
        .service(service_fn(|(): ()| std::future::pending::<Result<(), std::io::Error>>()));
    run(async {
        for _ in 0..2 {
            assert!(service.clone().oneshot(()).await.unwrap_err().is::<::tower::timeout::error::Elapsed>());
        }
        let seen = breaker.observe().await;
        assert_eq!((seen.state, seen.last_failure.unwrap().kind.as_str()), (State::Open, "hung"));
    });
}
