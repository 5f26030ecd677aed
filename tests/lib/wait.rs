//! Waiting for a condition, never for time.

use std::time::Duration;

use breakerd_proto::Mono;
use rustix::event::{Timespec, poll};

/// How long any single thing may take before its test fails: far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until `find` finds something.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub fn until<T>(what: &str, find: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, find).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Looks until `find` finds something or the time is over.
pub fn within<T>(most: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Mono::now().after(most);
    loop {
        if let Some(found) = find() {
            return Some(found);
        }
        if Mono::now() >= deadline {
            return None;
        }
        pause();
    }
}

/// A millisecond between two looks, so that what is waited for gets the processor.
fn pause() {
    let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // An interrupted pause is a shorter pause.
    poll(&mut [], Some(&millisecond)).unwrap_or(0);
}

/// Prints how long something took beside its bound, and fails at ten times that: machines are noisy, and what is ten
/// times too slow is not noise.
///
/// # Panics
/// At ten times the bound.
#[allow(clippy::print_stdout, reason = "the figure is what it is for")]
pub fn bounded(what: &str, took: Duration, bound: Duration) {
    println!("{what}: {took:?}, bound {bound:?}");
    assert!(took < bound * 10, "{what} took {took:?}, its bound is {bound:?}");
}
