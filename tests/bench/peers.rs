//! The Rust crates that do the same in one process, each by its defaults unless said otherwise.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use breaker_machines::AsyncCircuitBreaker;
use failsafe::failure_policy::consecutive_failures;
use failsafe::{Config, StateMachine, backoff};
use recloser::Recloser;
use tower::service_fn;
use tower::util::ServiceFn;
use tower_resilience_circuitbreaker::{CircuitBreaker, CircuitBreakerLayer, DefaultClassifier};

/// So long that nothing measured here sees its end.
const COOLDOWN: Duration = Duration::from_secs(3_600);

pub(crate) fn recloser() -> Recloser {
    Recloser::custom().open_wait(COOLDOWN).build()
}

/// One that judges from its second call on: its first failure fills its ring.
pub(crate) fn recloser_open() -> Recloser {
    let recloser = Recloser::custom().error_rate(0.5).closed_len(1).open_wait(COOLDOWN).build();
    for _ in 0..3 {
        recloser.call(|| Err::<(), ()>(())).unwrap_err();
    }
    recloser
}

pub(crate) type Consecutive = StateMachine<failsafe::failure_policy::ConsecutiveFailures<backoff::Constant>, ()>;

/// The cheaper of failsafe's two rules, and the one that breakerd's tests compare with.
pub(crate) fn failsafe() -> Consecutive {
    Config::new().failure_policy(consecutive_failures(3, backoff::constant(COOLDOWN))).build()
}

pub(crate) fn failsafe_open() -> Consecutive {
    let failsafe = failsafe();
    for _ in 0..3 {
        failsafe::CircuitBreaker::call(&failsafe, || Err::<(), ()>(())).unwrap_err();
    }
    failsafe
}

pub(crate) fn machines() -> Arc<AsyncCircuitBreaker> {
    Arc::new(AsyncCircuitBreaker::builder("openai").build_async())
}

/// A service that answers at once.
pub(crate) type Echo = ServiceFn<fn(u64) -> Ready<Result<u64, Infallible>>>;

pub(crate) fn echo() -> Echo {
    service_fn(|request| ready(Ok(request)))
}

pub(crate) fn resilience() -> CircuitBreaker<Echo, DefaultClassifier> {
    CircuitBreakerLayer::builder().build().unwrap().layer_fn(echo())
}
