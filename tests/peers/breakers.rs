//! breakerd and its peers, each set to the same rule: three failures in a row, one fixed cooldown, so many successes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use breaker_machines::{AsyncCircuitBreaker, CircuitError};
use breakerd_client::{Failure, Options, PolicyPatch};
use recloser::Recloser;
use tokio::sync::oneshot;
use tower::util::ServiceFn;
use tower::{Service, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, DefaultClassifier};

use crate::history::{Breaker, COOLDOWN, End};

/// Failures in a row that trip.
pub(crate) const FAILURES: u32 = 3;

/// A peer's name, and how to make it.
type Peer = (&'static str, Box<dyn Fn() -> Box<dyn Breaker>>);

/// All peers that can be told how many successes recover.
pub(crate) fn peers(successes: u32) -> Vec<Peer> {
    let mut peers: Vec<Peer> = vec![
        ("tower-resilience", Box::new(move || Box::new(resilience(successes)))),
        ("breaker-machines", Box::new(move || Box::new(machines(successes)))),
    ];
    if successes == 1 {
        peers.push(("recloser", Box::new(|| Box::new(recloser()))));
        peers.push(("failsafe", Box::new(|| Box::new(failsafe()))));
    }
    peers
}

pub(crate) fn breakerd(successes: u32) -> Box<dyn Breaker> {
    let cooldown = u64::try_from(COOLDOWN.as_millis()).unwrap();
    let policy = PolicyPatch {
        consecutive_failures: Some(FAILURES),
        cooldown_first_ms: Some(cooldown),
        cooldown_max_ms: Some(cooldown),
        cooldown_jitter: Some(0.0),
        probe_successes: Some(successes),
        ..PolicyPatch::default()
    };
    let client = Options::from_env().unwrap().socket("/nowhere/s.sock").open();
    Box::new(client.breaker_with("openai", policy).unwrap())
}

impl Breaker for breakerd_client::Breaker {
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool {
        let Ok(permit) = self.admit() else { return false };
        match body() {
            End::Success => permit.succeed(),
            End::Failure => permit.fail(Failure::new("http-503")),
            End::Gone => drop(permit),
        }
        true
    }
}

fn recloser() -> Recloser {
    let custom = Recloser::custom().error_rate_closed(1.0).error_rate_half_open(0.5).open_wait(COOLDOWN);
    custom.closed_len(FAILURES as usize).half_open_len(1).build()
}

impl Breaker for Recloser {
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool {
        unwinding(body, |body| self.call(body).is_err_and(|error| matches!(error, recloser::Error::Rejected)))
    }
}

type Failsafe = failsafe::StateMachine<failsafe::failure_policy::ConsecutiveFailures<failsafe::backoff::Constant>, ()>;

fn failsafe() -> Failsafe {
    let policy = failsafe::failure_policy::consecutive_failures(FAILURES, failsafe::backoff::constant(COOLDOWN));
    failsafe::Config::new().failure_policy(policy).build()
}

impl Breaker for Failsafe {
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool {
        let call = |body: &mut dyn FnMut() -> Result<(), ()>| failsafe::CircuitBreaker::call(self, body);
        unwinding(body, |body| call(body).is_err_and(|error| matches!(error, failsafe::Error::Rejected)))
    }
}

/// A call by a closure that may unwind; `rejected` makes it and tells whether it was rejected.
fn unwinding(body: &mut dyn FnMut() -> End, rejected: impl FnOnce(&mut dyn FnMut() -> Result<(), ()>) -> bool) -> bool {
    let mut call = || match body() {
        End::Success => Ok(()),
        End::Failure => Err(()),
        // Without the message that a panic prints.
        End::Gone => resume_unwind(Box::new("gone")),
    };
    catch_unwind(AssertUnwindSafe(|| !rejected(&mut call))).unwrap_or(true)
}

fn machines(successes: u32) -> AsyncCircuitBreaker {
    AsyncCircuitBreaker::builder("openai")
        .failure_threshold(FAILURES as usize)
        .failure_window_secs(60.0)
        .half_open_timeout_secs(COOLDOWN.as_secs_f64())
        .success_threshold(successes as usize)
        .jitter_factor(0.0)
        .build_async()
}

impl Breaker for AsyncCircuitBreaker {
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool {
        awaited(body, |inner| async {
            match self.call(|| inner).await {
                Ok(()) | Err(CircuitError::Execution(())) => true,
                Err(CircuitError::Open { .. } | CircuitError::HalfOpenLimitReached { .. }) => false,
                Err(other) => panic!("{other:?}"),
            }
        })
    }
}

type Resilience = tower_resilience_circuitbreaker::CircuitBreaker<ServiceFn<fn(Inner) -> Inner>, DefaultClassifier>;

fn resilience(successes: u32) -> Resilience {
    let layer = CircuitBreakerLayer::builder()
        .consecutive_failures(FAILURES as usize)
        .wait_duration_in_open(COOLDOWN)
        .permitted_calls_in_half_open(successes as usize)
        .build()
        .unwrap();
    layer.layer_fn(service_fn(std::convert::identity as fn(Inner) -> Inner))
}

impl Breaker for Resilience {
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool {
        let mut service = self.clone();
        awaited(body, |inner| async move {
            poll_fn(|context| service.poll_ready(context)).await.unwrap();
            !service.call(inner).await.is_err_and(|error| error.is_circuit_open())
        })
    }
}

/// The call under a breaker's future: it has begun once it is polled, and ends as it is told.
type Inner = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

/// A call by a future: polled until it waits for its call, and again when that has ended.
fn awaited<F: Future<Output = bool>>(body: &mut dyn FnMut() -> End, call: impl FnOnce(Inner) -> F) -> bool {
    let (tell, told) = oneshot::channel();
    let mut call = Box::pin(call(Box::pin(async { told.await.unwrap() })));
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(admitted) = call.as_mut().poll(&mut context) {
        assert!(!admitted, "it has ended before its call");
        return false;
    }
    match body() {
        End::Success => tell.send(Ok(())).unwrap(),
        End::Failure => tell.send(Err(())).unwrap(),
        End::Gone => return true,
    }
    let Poll::Ready(admitted) = call.as_mut().poll(&mut context) else { panic!("its call has ended") };
    admitted
}
