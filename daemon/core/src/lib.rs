//! The breaker itself, pure: `now` comes in, decisions go out.
//!
//! [`Core`] is a host's whole table. Its methods are of four kinds, told by the name, after quinn-proto's `Connection`:
//!
//! - getters (`view`, `page`, …) change nothing;
//! - `handle_*`: the world told us something;
//! - `command`: an operator asked for something;
//! - `poll_*`: what the world must now do. The driver drains `poll_change`, then `poll_timeout`, after each call.
//!
//! It reads no clock, does no I/O, starts nothing and keeps no unordered map, so it is a function of its settings, its
//! seed and the sequence of calls (I2). [`Solo`] is the same breaker for one process: the client's fallback.
#![forbid(unsafe_code)]

mod account;
mod breaker;
mod cell;
mod change;
mod cooldown;
mod core;
pub mod fleet;
mod joined;
mod joint;
mod judge;
mod lane;
mod pattern;
mod policy;
mod read;
mod refusal;
mod settings;
mod settle;
mod shown;
mod snapshot;
mod solo;
mod table;
mod window;
mod worker;

pub use crate::account::{Accounts, Charge, Held};
pub use crate::change::{Because, Change, What};
pub use crate::cooldown::Cooldown;
pub use crate::core::{Core, Peer};
pub use crate::pattern::{BadPattern, Pattern};
pub use crate::policy::{BadPolicy, Policy, Probe, Trip, check_patch};
pub use crate::refusal::Refusal;
pub use crate::settings::{BadSettings, PatternPolicy, Quotas, Settings};
pub use crate::snapshot::{SavedBreaker, SavedForce, Snapshot};
pub use crate::solo::Solo;
pub use crate::worker::{ConnectionId, WorkerId};
