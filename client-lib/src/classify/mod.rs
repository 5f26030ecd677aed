//! What the end of a call is evidence of.
//!
//! The worker's own part: a function from its result to an [`Outcome`], given to `call_classified` or to the tower layer.
//! Whatever it decides, it may leave the rest to what is ready here: [`http`] for any client that has a status and
//! headers, [`retry_after`] for the headers alone, `reqwest` (feature `reqwest`) for that client's results. The Python
//! package counts by the same table, in the same words:
//!
//! | what the call ended in | counts as | kind |
//! |---|---|---|
//! | a value, a status below 400 | success; slow if it took longer than the policy's `slow_after` | |
//! | no connection, or one that broke, in the middle of a body too | failure | `connect` |
//! | TLS failed | failure | `tls`, or `connect` where the library does not tell the two apart (reqwest, httpx) |
//! | a time-out | failure | `timeout` |
//! | 408, 429, 5xx | failure, with the provider's `retry-after` | `http-503` |
//! | 401, 403 | by `auth_errors`: ignored and warned of once, or failure | `http-401` |
//! | any other 4xx | ignored | |
//! | a 429 to a probe | failure, whatever your own function says | `http-429` |
//! | cancelled, or dropped without a word | abandoned | |
//! | cancelled after more than the policy's `hung_after` | failure | `hung` |
//! | the caller's own bug: a request that cannot be built | ignored | |
//! | any other error | failure | the error's type: its text may hold what no log should |
//!
//! A status of 429 to a probe says that the provider has not recovered, even where 429 is one tenant's own trouble while
//! closed. So a function of your own hands its word to [`Terms::outcome_or`], which knows whether the call is a probe.
//!
//! `auth_errors` is the policy's that the daemon sent, else the one declared in code, else `ignored`: one tenant's bad key
//! must not shut a provider for all.
//!
//! ```
//! use breakerd_client::classify::{Terms, http::Answer};
//! use breakerd_client::{AuthErrors, Outcome};
//!
//! # fn header() -> Option<&'static str> { Some("30") }
//! /// Your own word on 404; the table's on the rest.
//! fn judge(status: u16, retry_after: Option<&str>, terms: Terms<'_>) -> Outcome {
//!     let answer = Answer::new(status).with_headers(retry_after.map(|value| ("retry-after", value.as_bytes())));
//!     let own = (status == 404).then(|| Outcome::failure("gone"));
//!     terms.outcome_or(own, &answer)
//! }
//!
//! let terms = Terms::new(AuthErrors::Ignored, false);
//! assert_eq!(judge(404, None, terms), Outcome::failure("gone"));
//! assert_eq!(judge(401, None, terms), Outcome::Ignored);
//! let Outcome::Failure(busy) = judge(503, header(), terms) else { unreachable!() };
//! assert_eq!((busy.kind.as_str(), busy.retry_after_ms), ("http-503", Some(30_000)));
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use breakerd_proto::{AuthErrors, Failure, Name, Outcome};

use crate::known::Known;
use crate::options::Warn;

pub mod http;
#[cfg(feature = "reqwest")]
pub mod reqwest;
pub mod retry_after;

/// The kind of a failure to connect, and of a connection that broke.
pub const CONNECT: &str = "connect";
/// The kind of a time-out.
pub const TIMEOUT: &str = "timeout";
/// The kind of a TLS failure.
pub const TLS: &str = "tls";
/// The kind of a call that was cancelled after more than the policy's `hung_after`.
pub const HUNG: &str = "hung";

/// On what terms one call is classified: its breaker's policy, and whether it decides about recovery.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    is_probe: bool,
    source: Source<'a>,
}

/// Where a policy's part in them is looked up: only by a classifier that asks, since most calls succeed.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Breaker(&'a Known),
    Test(AuthErrors),
}

impl Terms<'static> {
    /// Terms for a test of a classifier. A guarded call's come from its permit.
    #[must_use]
    pub fn new(auth_errors: AuthErrors, is_probe: bool) -> Self {
        Self { is_probe, source: Source::Test(auth_errors) }
    }
}

impl<'a> Terms<'a> {
    pub(crate) fn of(breaker: &'a Known, is_probe: bool) -> Self {
        Self { is_probe, source: Source::Breaker(breaker) }
    }

    /// What 401 and 403 count as.
    #[must_use]
    pub fn auth_errors(self) -> AuthErrors {
        match self.source {
            Source::Breaker(breaker) => breaker.auth_errors(),
            Source::Test(auth_errors) => auth_errors,
        }
    }

    /// Whether the call is a probe.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.is_probe
    }

    /// What an answer is evidence of, by the table.
    #[must_use]
    pub fn outcome(self, answer: &http::Answer) -> Outcome {
        match answer.status {
            ..=399 => Outcome::SUCCESS,
            401 | 403 if self.auth_errors() == AuthErrors::Ignored => {
                if let Source::Breaker(breaker) = self.source {
                    breaker.auth_warning.tell(&breaker.name, answer.status);
                }
                Outcome::Ignored
            }
            401 | 403 | 408 | 429 | 500.. => Outcome::Failure(answer.failure()),
            _ => Outcome::Ignored,
        }
    }

    /// Your own word where you have one, else the table's. A 429 fails a probe all the same.
    #[must_use]
    pub fn outcome_or(self, own: Option<Outcome>, answer: &http::Answer) -> Outcome {
        match own {
            Some(own @ Outcome::Failure(_)) => own,
            Some(own) if !(self.is_probe && answer.status == 429) => own,
            _ => self.outcome(answer),
        }
    }
}

/// Tells once for each breaker that refused credentials are not counted: whoever expects them to trip should hear of it.
pub(crate) struct AuthWarning {
    told: AtomicBool,
    warn: Option<Warn>,
}

impl AuthWarning {
    pub(crate) fn new(warn: Option<Warn>) -> Self {
        Self { told: AtomicBool::new(false), warn }
    }

    fn tell(&self, breaker: &Name, status: u16) {
        if let Some(warn) = &self.warn
            && !self.told.swap(true, Ordering::Relaxed)
        {
            warn(&format!(
                "{breaker}: the provider answered {status}, which is not counted, since one caller's bad key must not \
                 shut a provider for all; where one key serves all, set auth_errors = \"failure\""
            ));
        }
    }
}

impl fmt::Debug for AuthWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthWarning").field("told", &self.told).finish_non_exhaustive()
    }
}

/// Of any result: `Ok` is a success, `Err` a failure whose kind is the error's type.
pub(crate) fn by_type<T, E>(result: &Result<T, E>, _: Terms<'_>) -> Outcome {
    match result {
        Ok(_) => Outcome::SUCCESS,
        Err(_) => Outcome::Failure(Failure::new(&type_word(std::any::type_name::<E>()))),
    }
}

/// `alloc::boxed::Box<dyn core::error::Error>` is `Box`, `reqwest::error::Error` is `reqwest::Error`.
fn type_word(name: &str) -> String {
    let plain = name.split('<').next().unwrap_or(name);
    match plain.split("::").collect::<Vec<_>>()[..] {
        [] | [_] => plain.to_owned(),
        ["alloc" | "core" | "std", .., last] => last.to_owned(),
        [first, .., last] => format!("{first}::{last}"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
