//! The same histories through breakerd's client and through the Rust crates with the same rule: equal, but for the rows
//! that say why not.
//!
//! breakerd runs here as its client's fallback, which is the daemon's own breaker on one process's calls.
//!
//! | crate | the rule, in its own words |
//! |---|---|
//! | recloser 1.4 | `closed_len(3)` failed at a rate of 1; `half_open_len(1)` |
//! | failsafe 1.3 | `consecutive_failures(3)`; half-open ends with its first result |
//! | tower-resilience 0.14 | `consecutive_failures(3)`; `permitted_calls_in_half_open` of as many as must succeed |
//! | breaker-machines 0.16 | `failure_threshold(3)` within a minute; `success_threshold` |
//!
//! Where they differ:
//!
//! | what | who | why breakerd does not |
//! |---|---|---|
//! | half-open admits every call (`Flood`) | recloser, failsafe | all who wait would be probes at once: 17 times the usual load on what is just recovering (safe-client-gateway#3442) |
//! | as many probes at once as must succeed (`TwoAtOnce`) | tower-resilience, breaker-machines | how many are out and how many decide are two settings, `probe.permits` and `probe.successes` |
//! | a call from before the trip decides after it (`Straggler`) | failsafe, tower-resilience | its success says how the provider was before it failed (Polly#217, denoland/std#7306), its failure is of a trouble that is over: a permit names its generation |
//! | a success ends no run, a recovery forgets none (`Window`) | breaker-machines | it counts failures within a time; breakerd's rule says consecutive, and a recovery begins anew |
//! | the first trip and a half-open's end come a call late (`Ring`) | recloser | it judges from the call after the one that fills its ring |
//!
//! None of them sticks in half-open when a probe goes without a result (OmniRoute#13836).
//!
//! A peer whose behaviour changes fails its row: read its change, then correct the row and this table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod breakers;
mod history;
mod rows;
