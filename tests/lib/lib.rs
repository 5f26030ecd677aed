//! Worlds for the tests: a real daemon in a directory of its own, a real Redis on a port of its own, and a client that
//! says exactly what it is told to.
//!
//! A world that fails to do as it is told panics with what it saw: that is the failed test's message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod daemon;
pub mod provider;
pub mod raw;
pub mod redis;
pub mod wait;

pub use daemon::{Daemon, Setup};
pub use provider::Provider;
pub use raw::Raw;
pub use redis::Redis;
pub use wait::until;
