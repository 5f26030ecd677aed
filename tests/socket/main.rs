//! One real daemon and raw clients: what the socket promises, message by message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod active;
mod board;
mod breaker;
mod bytes;
mod client;
mod half_open;
mod operate;
mod pages;
mod quota;
mod stall;
mod tokio_client;
mod untold;
mod watch;
mod wire_client;
