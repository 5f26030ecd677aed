//! A tower layer: each request to the service below is a guarded call.
//!
//! Put it outside the time-out, so that the breaker hears of each time-out as a failure:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use breakerd_client::tower::BreakerLayer;
//! use tower::{BoxError, Service, ServiceBuilder, service_fn};
//!
//! fn guarded(breaker: breakerd_client::tokio::Breaker) -> impl Service<String, Response = String> {
//!     ServiceBuilder::new()
//!         .layer(BreakerLayer::new(breaker))
//!         .timeout(Duration::from_secs(30))
//!         .service(service_fn(|prompt: String| async move { Ok::<_, BoxError>(prompt) }))
//! }
//! ```

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use breakerd_proto::Outcome;
use tower_layer::Layer;
use tower_service::Service;

use crate::classify::{Terms, by_type};
use crate::error::CallError;
use crate::tokio::Breaker;

/// Guards every request to a service by one breaker.
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = ByType> {
    breaker: Breaker,
    classify: C,
}

/// A service whose requests are guarded: it is always ready, and a request that is not admitted ends with
/// [`CallError::Rejected`].
///
/// The breaker is asked before the readiness of the service below: while it is open a request is rejected at once, even if
/// that service would never be ready. Waiting for it is a part of the guarded call, and its failure to become ready is the
/// call's. So back-pressure does not reach whoever polls this service; a limit of its own belongs outside the layer.
#[derive(Clone, Debug)]
pub struct Guarded<S, C = ByType> {
    inner: S,
    breaker: Breaker,
    classify: C,
}

/// Classifies as `call` does: `Ok` is a success, `Err` a failure whose kind is the error's type.
#[derive(Clone, Copy, Debug)]
pub struct ByType;

/// What the result of a request is evidence of. Any function of the same form is one.
pub trait Classify<T, E> {
    /// As the function given to [`Breaker::call_classified`].
    fn classify(&self, result: &Result<T, E>, terms: Terms<'_>) -> Outcome;
}

impl<T, E> Classify<T, E> for ByType {
    fn classify(&self, result: &Result<T, E>, terms: Terms<'_>) -> Outcome {
        by_type(result, terms)
    }
}

impl<T, E, F: Fn(&Result<T, E>, Terms<'_>) -> Outcome> Classify<T, E> for F {
    fn classify(&self, result: &Result<T, E>, terms: Terms<'_>) -> Outcome {
        self(result, terms)
    }
}

impl BreakerLayer {
    /// A layer that classifies by the error's type.
    #[must_use]
    pub fn new(breaker: Breaker) -> Self {
        Self { breaker, classify: ByType }
    }

    /// The same with your own judge of what a result is evidence of; [`classify`](crate::classify) has some ready.
    #[must_use]
    pub fn classify<C>(self, classify: C) -> BreakerLayer<C> {
        BreakerLayer { breaker: self.breaker, classify }
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Guarded<S, C>;

    fn layer(&self, inner: S) -> Guarded<S, C> {
        Guarded { inner, breaker: self.breaker.clone(), classify: self.classify.clone() }
    }
}

impl<S, C, R> Service<R> for Guarded<S, C>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    C: Classify<S::Response, S::Error> + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, CallError<S::Error>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let Self { mut inner, breaker, classify } = self.clone();
        Box::pin(async move {
            let call = async move {
                poll_fn(|context| inner.poll_ready(context)).await?;
                inner.call(request).await
            };
            breaker.call_classified(call, move |result, terms| classify.classify(result, terms)).await
        })
    }
}

#[cfg(test)]
#[path = "tower_tests.rs"]
mod tests;
