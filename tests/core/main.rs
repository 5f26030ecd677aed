//! The pure core: histories on the left, what is seen on the right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod evidence;
mod model;
mod rows;
mod script;
mod trips;
