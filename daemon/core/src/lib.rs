//! The breaker itself, pure: `now` comes in, decisions go out.
//!
//! [`Core`] is a host's whole table. Its methods are of four kinds, told by the name, after quinn-proto's `Connection`:
//!
//! - getters (`view`, `page`, …) change nothing;
//! - `handle_*`: the world told us something;
//! - `command`: an operator asked for something;
//! - `poll_*`: what the world must now do. After each call the driver drains `poll_change`, `poll_reruled`,
//!   `poll_answer`, `poll_active`, `poll_request`, in this order, and then sets its alarm by `poll_timeout`.
//!
//! It reads no clock, does no I/O, starts nothing and keeps no unordered map, so it is a function of its settings, its
//! seed and the sequence of calls (I2). [`Solo`] is the same breaker for one process: the client's fallback.
#![forbid(unsafe_code)]

mod account;
mod active;
mod breaker;
mod cell;
mod change;
mod cooldown;
mod core;
pub mod fleet;
#[cfg(test)]
mod hosts;
mod joined;
mod joint;
mod judge;
mod lane;
mod lease;
mod pattern;
mod policies;
mod policy;
mod posted;
mod probe;
mod read;
mod reading;
mod refusal;
mod register;
mod reload;
mod report;
mod resting;
mod settings;
mod settle;
mod shown;
mod snapshot;
mod solo;
mod table;
mod tally;
mod window;
mod worker;

pub use crate::account::{Accounts, Charge, Held};
pub use crate::active::{ActivePermit, ActiveProbe};
pub use crate::change::{Because, Change, What};
pub use crate::cooldown::Cooldown;
pub use crate::core::{Core, Peer};
pub use crate::pattern::{BadPattern, Pattern};
pub use crate::policy::{BadPolicy, Policy, Probe, Trip, check_patch};
pub use crate::posted::Posted;
pub use crate::reading::Found;
pub use crate::refusal::Refusal;
pub use crate::reload::Reruled;
pub use crate::settings::{BadSettings, PatternPolicy, Quotas, Settings};
pub use crate::snapshot::{SavedBreaker, SavedForce, SavedMode, Snapshot};
pub use crate::solo::Solo;
pub use crate::table::BreakerId;
pub use crate::worker::{ConnectionId, WorkerId};
