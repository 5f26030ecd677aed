//! What reqwest's results are evidence of.
//!
//! ```no_run
//! # async fn ask(guard: breakerd_client::tokio::Breaker, http: reqwest::Client) {
//! use breakerd_client::classify::reqwest::of_result;
//!
//! let reply = guard.call_classified(http.get("https://api.example.com/v1").send(), of_result).await;
//! # drop(reply); }
//! ```
//!
//! `send` ends at the response's headers. A call whose body counts too ends with it: await `text()` or `json()` inside the
//! guarded future, with `error_for_status()` before it, and classify its error by [`of_error`].

use std::error::Error as _;

use ::reqwest::{Error, Response};
use breakerd_proto::{Failure, Outcome};

use super::http::Answer;
use super::{CONNECT, TIMEOUT, Terms};

/// Of what `send` gives.
pub fn of_result(result: &Result<Response, Error>, terms: Terms<'_>) -> Outcome {
    match result {
        Ok(response) => terms.outcome(&answer(response)),
        Err(error) => of_error(error, terms),
    }
}

/// Of an error: by its status after `error_for_status`, which keeps no headers, else by what broke. A failure's detail is
/// the phase that it broke in.
#[must_use]
pub fn of_error(error: &Error, terms: Terms<'_>) -> Outcome {
    if let Some(status) = error.status() {
        return terms.outcome(&Answer::new(status.as_u16()));
    }
    if error.is_builder() {
        return Outcome::Ignored;
    }
    let kind = match () {
        () if error.is_timeout() => TIMEOUT,
        () if error.is_connect() || error.is_request() || has_broken(error) => CONNECT,
        () => "reqwest::Error",
    };
    Outcome::Failure(Failure::new(kind).with_detail(phase(error)))
}

/// The response's part that is evidence, for [`Terms::outcome_or`].
#[must_use]
pub fn answer(response: &Response) -> Answer {
    let headers = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Answer::new(response.status().as_u16()).with_headers(headers)
}

/// Whether the connection broke in the middle of a body; reqwest wraps that in an error of decoding it.
fn has_broken(error: &Error) -> bool {
    let inner = error.source().and_then(|source| source.downcast_ref::<Error>());
    error.is_body() || inner.is_some_and(Error::is_body)
}

fn phase(error: &Error) -> &'static str {
    match () {
        () if error.is_connect() => "connect",
        () if error.is_request() => "request",
        () if error.is_redirect() => "redirect",
        () if error.is_body() => "body",
        () if error.is_decode() => "decode",
        () => "",
    }
}

#[cfg(test)]
#[path = "reqwest_tests.rs"]
mod tests;
