//! The daemon as a process: its start, its end, and what lies between two of its lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod config;
mod flood;
mod footprint;
mod private;
mod reload;
mod restart;
mod shown;
mod takeover;
