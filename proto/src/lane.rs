//! Lane memory: what one worker counts, where the daemon can read it.
//!
//! Made and sealed against resizing by the daemon, writable by one worker. A worker's breakers are numbered by its own
//! registrations (the lane's number); ten of them share a page, in which each *stripe* has a part of its own, so that two
//! threads that count never write the same cache line, and a worker with few breakers has one page. A stripe belongs to
//! one thread at a time, which counts by a load and a store; the last stripe is everybody's, counted by atomic adds.
//!
//! The daemon reads cells as hostile input: it trusts no figure, and figures that go back count as nothing.

use crate::sync::{AtomicU64, Ordering};

/// Bytes of a page of cells.
pub const PAGE_BYTES: usize = 4096;
/// Stripes; the last is shared.
pub const STRIPES: usize = 16;
/// The stripe of threads that have none of their own.
pub const SHARED_STRIPE: usize = STRIPES - 1;
/// Bytes of one stripe's part of a page: whole cache lines.
pub const PART_BYTES: usize = PAGE_BYTES / STRIPES;
/// Lanes whose cells share a page.
pub const LANES_PER_PAGE: usize = PART_BYTES / CELL_BYTES;
/// Bytes of a cell.
const CELL_BYTES: usize = 24;
/// Lanes that a lane memory holds; those beyond report by messages.
pub const LANES_MAX: usize = 4096;
/// The size of a lane memory, in bytes.
pub const BYTES: usize = LANES_MAX.div_ceil(LANES_PER_PAGE) * PAGE_BYTES;

/// One stripe's counts of one lane. They only grow.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cell {
    /// Successes, slow ones among them.
    successes: AtomicU64,
    /// Slow successes.
    slow: AtomicU64,
    /// Failures that no message told, with the generation that they are of: [`Untold`].
    untold: AtomicU64,
}

/// Failures that no message told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// How many, in this generation; stays at its largest.
    pub failures: u32,
    /// The low 32 bits of the generation.
    pub generation: u32,
}

/// What one cell, or all cells of a lane, count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Successes, slow ones among them.
    pub successes: u64,
    /// Slow successes.
    pub slow: u64,
}

impl Cell {
    /// Counts a success on a stripe of the calling thread's own.
    #[inline]
    pub fn succeed(&self, slow: bool) {
        // One writer: nobody's count is lost between the load and the store.
        if slow {
            self.slow.store(self.slow.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        self.successes.store(self.successes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Counts a success on the shared stripe.
    #[inline]
    pub fn succeed_shared(&self, slow: bool) {
        if slow {
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        self.successes.fetch_add(1, Ordering::Release);
    }

    /// Leaves a failure for the daemon to find; any thread, any stripe.
    pub fn leave_failure(&self, generation: u64) {
        let generation = low_half(generation);
        let next = |packed: u64| {
            let untold = Untold::of(packed);
            let failures = if untold.generation == generation { untold.failures.saturating_add(1) } else { 1 };
            Some(Untold { failures, generation }.packed())
        };
        // `next` always gives a value, so this never fails.
        self.untold.fetch_update(Ordering::Release, Ordering::Relaxed, next).ok();
    }

    /// What it counts.
    #[must_use]
    pub fn read(&self) -> Reading {
        // Acquire pairs with the counting store: whoever sees a success sees that it was slow.
        let successes = self.successes.load(Ordering::Acquire);
        Reading { successes, slow: self.slow.load(Ordering::Relaxed) }
    }

    /// The failures that it left.
    #[must_use]
    pub fn untold(&self) -> Untold {
        Untold::of(self.untold.load(Ordering::Acquire))
    }
}

impl Untold {
    fn of(packed: u64) -> Self {
        Self { failures: low_half(packed >> 32), generation: low_half(packed) }
    }

    fn packed(self) -> u64 {
        u64::from(self.failures) << 32 | u64::from(self.generation)
    }
}

impl Reading {
    /// The sum of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { successes: self.successes.saturating_add(other.successes), slow: self.slow.saturating_add(other.slow) }
    }
}

fn low_half(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Where a lane's cell in a stripe begins, in bytes; none beyond [`LANES_MAX`] and [`STRIPES`].
#[must_use]
pub const fn cell_at(lane: usize, stripe: usize) -> Option<usize> {
    if lane >= LANES_MAX || stripe >= STRIPES {
        return None;
    }
    let page = lane / LANES_PER_PAGE * PAGE_BYTES;
    Some(page + stripe * PART_BYTES + lane % LANES_PER_PAGE * CELL_BYTES)
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Cell>() == CELL_BYTES && LANES_PER_PAGE == 10 && PART_BYTES.is_multiple_of(64));
    assert!(BYTES.is_multiple_of(PAGE_BYTES));
};

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stripes_share_a_cache_line_and_no_two_cells_a_byte() {
        let mut taken = std::collections::BTreeMap::new();
        for lane in 0..25 {
            for stripe in 0..STRIPES {
                let at = cell_at(lane, stripe).unwrap();
                assert!(at + size_of::<Cell>() <= BYTES && at.is_multiple_of(8));
                for byte in at..at + size_of::<Cell>() {
                    assert!(taken.insert(byte, stripe).is_none());
                }
            }
        }
        let mut lines = std::collections::BTreeMap::new();
        for (byte, stripe) in taken {
            assert_eq!(*lines.entry(byte / 64).or_insert(stripe), stripe);
        }
        assert_eq!(cell_at(LANES_MAX, 0), None);
        assert_eq!(cell_at(0, STRIPES), None);
        assert!(cell_at(LANES_MAX - 1, STRIPES - 1).unwrap() + size_of::<Cell>() <= BYTES);
    }

    #[test]
    fn counts_and_what_is_left_untold() {
        let cell = Cell::default();
        cell.succeed(false);
        cell.succeed(true);
        cell.succeed_shared(true);
        assert_eq!(cell.read(), Reading { successes: 3, slow: 2 });
        assert_eq!(cell.untold(), Untold::default());
        cell.leave_failure(7);
        cell.leave_failure(7);
        assert_eq!(cell.untold(), Untold { failures: 2, generation: 7 });
        cell.leave_failure(1 << 32 | 8);
        assert_eq!(cell.untold(), Untold { failures: 1, generation: 8 }, "another generation's are stale");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    /// A thread counts, gives its stripe to another, which counts on; a daemon reads meanwhile.
    #[test]
    fn a_stripe_changes_hands_and_no_count_is_lost() {
        loom::model(|| {
            let cell = Arc::new(Cell::default());
            let theirs = Arc::clone(&cell);
            let first = loom::thread::spawn(move || theirs.succeed(true));
            let reading = cell.read();
            assert!(reading.slow >= reading.successes, "whoever sees the success sees that it was slow");
            first.join().unwrap(); // the hand-over is ordered, as by the lock that keeps the free stripes
            cell.succeed(false);
            assert_eq!(cell.read(), Reading { successes: 2, slow: 1 });
        });
    }

    #[test]
    fn failures_left_by_two_threads_are_both_there() {
        loom::model(|| {
            let cell = Arc::new(Cell::default());
            let theirs = Arc::clone(&cell);
            let other = loom::thread::spawn(move || theirs.leave_failure(1));
            cell.leave_failure(1);
            other.join().unwrap();
            assert_eq!(cell.untold(), Untold { failures: 2, generation: 1 });
        });
    }
}
