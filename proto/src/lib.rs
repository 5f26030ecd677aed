//! The words and the bytes that a worker, an operator and a daemon share.
//!
//! Nothing here decides anything: no policy, no sockets, no runtime. [`message`] lists every message, `WIRE.md` beside
//! this crate gives their bytes for other languages, [`limits`] holds every bound. [`board`] and [`lane`] are the layouts
//! of the memory that they share, [`map`] is where it is mapped.

pub mod board;
pub mod clock;
pub mod codec;
pub mod error;
pub mod frame;
pub mod lane;
pub mod limits;
#[cfg(not(loom))]
pub mod map;
pub mod message;
pub mod name;
pub mod outcome;
mod part;
pub mod state;
mod sync;
pub mod verdict;

pub use clock::Mono;
pub use error::{Code, WireError};
pub use message::{Kind, ToClient, ToDaemon};
pub use name::{BadName, Name};
pub use outcome::{Counts, Failure, Outcome, Untold};
pub use state::{AuthErrors, Fallback, Link, Mode, OnQuota, Override, State};
pub use verdict::{RejectReason, Verdict};
