//! The client of breakerd: a worker asks before each call and tells how it went.
//!
//! Sans-IO in the middle (`session`), a socket below it (`link`), callers above it (`blocking`). A guarded call never fails
//! by our own trouble: without a daemon the process judges by itself (`fallback`). No thread is ever started.

mod channel;
mod connect;
pub mod error;
mod fork;
mod identity;
mod link;
pub mod operator;

pub use breakerd_proto::message::{Action, PolicyPatch};
pub use breakerd_proto::{BadName, Failure, Fallback, Mode, Name, Outcome, RejectReason, State};

pub use crate::connect::{DEFAULT_SOCKET, socket_path};
pub use crate::error::{ConnectError, OperatorError, ResetError};
pub use crate::identity::find_service;
pub use crate::operator::{Changes, Operator, WatchEvent};
