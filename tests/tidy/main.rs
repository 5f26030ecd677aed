//! Rules that a reader can't see being kept: who may use what, how long a file is, what the documents promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arrows;
mod documents;
mod files;
mod rules;
