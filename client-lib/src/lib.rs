//! The client of breakerd: a worker asks before each call and tells how it went.
//!
//! Sans-IO in the middle (`session`), a socket below it (`link`), callers above it: [`Client`] for code that blocks,
//! [`wire`] for a loop of the caller's own. A guarded call never fails by our own trouble: while a daemon is slow, what it
//! last told stands; without one the process judges by itself (`fallback`). No thread is ever started, and a forked child
//! has its own connection, locks and permits.
//!
//! ```no_run
//! use breakerd_client::{BadVariable, Breaker, CallError, Client};
//! # fn complete() -> Result<String, std::io::Error> { Ok(String::new()) }
//!
//! fn client() -> Result<Client, BadVariable> {
//!     Client::open() // $BREAKERD_SOCKET, else /run/breakerd/breakerd.sock; fine if nobody listens yet
//! }
//!
//! fn answer(guard: &Breaker) -> Result<String, std::io::Error> {
//!     match guard.call(complete) {
//!         Ok(reply) => Ok(reply),
//!         Err(CallError::Rejected(no)) => Ok(format!("busy; try again in {:?}", no.retry_after())),
//!         Err(CallError::Failed(error)) => Err(error), // your own error, untouched
//!     }
//! }
//! ```

mod attachment;
pub mod blocking;
mod board;
mod breakers;
mod channel;
pub mod classify;
pub mod closed;
mod connect;
mod dialogue;
pub mod error;
#[cfg(test)]
mod fake;
mod fallback;
mod fork;
pub mod health;
mod identity;
mod judge;
mod known;
mod link;
pub mod operator;
pub mod options;
mod patience;
pub mod permit;
mod session;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tower")]
pub mod tower;
mod up;
pub mod watcher;
pub mod wire;

pub use breakerd_proto::message::{Action, CallsRule, LastFailure, PolicyPatch, ProbeRate, Rules, TimeRule};
pub use breakerd_proto::{
    AuthErrors, BadName, Failure, Fallback, Mode, Name, OnQuota, Outcome, Override, RejectReason, State,
};

pub use crate::blocking::{Breaker, Client, Observation, Source};
pub use crate::closed::Closed;
pub use crate::connect::DEFAULT_SOCKET;
pub use crate::error::{BadBreaker, CallError, ConnectError, FirstError, OperatorError, ResetError};
pub use crate::health::Health;
pub use crate::identity::find_service;
pub use crate::operator::{Changes, Operator, WatchEvent};
pub use crate::options::{BadVariable, Options, socket_path};
pub use crate::permit::{Permit, Rejected};
