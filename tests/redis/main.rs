//! Real daemons that agree through a real Redis, and what they do when it goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod active;
mod agree;
mod away;
mod faults;
mod script;
mod world;
