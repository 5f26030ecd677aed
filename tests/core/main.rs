//! The pure core: histories on the left, what is seen on the right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod counts;
mod evidence;
mod half_open;
mod host;
mod joined;
mod model;
mod modes;
mod names;
mod readings;
mod reload;
mod rows;
mod script;
mod shown;
mod trips;
mod workers;
