//! breakerd: one circuit breaker daemon per host.
//!
//! `drive` is the one loop; everything else turns bytes into its events or its decisions into bytes.

mod active;
mod board;
mod cli;
mod config;
mod connection;
mod drive;
mod fleet;
mod lanes;
mod listen;
mod outbox;
mod reload;
mod requests;
mod service;
mod snapshot;
mod timer;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
