//! Lane memory: the successes that one worker counts, where the daemon can read them.
//!
//! Made and sealed against resizing by the daemon, writable by one worker. A worker's breakers are numbered by its own
//! registrations (the lane's number); 31 of them share the first page and 32 each later one, in which each *stripe* has a
//! part of its own, so that two threads that count never write the same cache line, and a worker with few breakers has one
//! page. A stripe belongs to one thread at a time, which counts by a load and a store; the last stripe is everybody's,
//! counted by atomic adds. The first word says which stripes are in use, so that a reader looks at no other.
//!
//! Only successes that were not slow are counted here: everything else is told by a message, since it may trip.
//!
//! The daemon reads it as hostile input: it trusts no figure, and figures that go back count as nothing.

use crate::sync::{AtomicU64, Ordering};

/// Bytes of a page of cells.
pub const PAGE_BYTES: usize = 4096;
/// Stripes; the last is shared.
pub const STRIPES: usize = 16;
/// The stripe of threads that have none of their own.
pub const SHARED_STRIPE: usize = STRIPES - 1;
/// Bytes of one stripe's part of a page: whole cache lines.
pub const PART_BYTES: usize = PAGE_BYTES / STRIPES;
/// Lanes that a lane memory holds; those beyond report by messages.
pub const LANES_MAX: usize = 4095;
/// The size of a lane memory, in bytes.
pub const BYTES: usize = (LANES_MAX + 1) / CELLS_PER_PART * PAGE_BYTES;

const CELLS_PER_PART: usize = PART_BYTES / size_of::<u64>();

/// One stripe's successes in one lane. They only grow.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Counts a success on a stripe of the calling thread's own.
    #[inline]
    pub fn succeed(&self) {
        // One writer: nobody's count is lost between the load and the store. Release, so that whoever reads the count also
        // sees what the call did before it.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Counts a success on the shared stripe.
    #[inline]
    pub fn succeed_shared(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// How many it counts.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The first word: a bit for each stripe that has ever been used.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Used(AtomicU64);

impl Used {
    /// A stripe is about to be counted on.
    pub fn mark(&self, stripe: usize) {
        let bit = 1_u64 << (stripe % STRIPES);
        if self.0.load(Ordering::Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Ordering::Release);
        }
    }

    /// The stripes that have been marked.
    pub fn stripes(&self) -> impl Iterator<Item = usize> + use<> {
        let bits = self.0.load(Ordering::Acquire);
        (0..STRIPES).filter(move |stripe| bits & 1 << stripe != 0)
    }
}

/// Where a lane's cell in a stripe begins, in bytes; none from [`LANES_MAX`] and [`STRIPES`] on.
#[must_use]
pub const fn cell_at(lane: usize, stripe: usize) -> Option<usize> {
    if lane >= LANES_MAX || stripe >= STRIPES {
        return None;
    }
    let place = lane + 1; // the first word is no cell
    let page = place / CELLS_PER_PART * PAGE_BYTES;
    Some(page + stripe * PART_BYTES + place % CELLS_PER_PART * size_of::<u64>())
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Cell>() == 8 && align_of::<Cell>() == 8 && size_of::<Used>() == 8);
    assert!(CELLS_PER_PART == 32 && PART_BYTES.is_multiple_of(64));
    assert!((LANES_MAX + 1).is_multiple_of(CELLS_PER_PART) && BYTES == 512 * 1024);
};

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stripes_share_a_cache_line_and_no_two_cells_a_byte() {
        let mut taken = std::collections::BTreeMap::new();
        for lane in 0..70 {
            for stripe in 0..STRIPES {
                let at = cell_at(lane, stripe).unwrap();
                assert!(at >= size_of::<Used>() && at + size_of::<Cell>() <= BYTES && at.is_multiple_of(8));
                for byte in at..at + size_of::<Cell>() {
                    assert!(taken.insert(byte, stripe).is_none());
                }
            }
        }
        let mut lines = std::collections::BTreeMap::new();
        for (byte, stripe) in taken {
            assert_eq!(*lines.entry(byte / 64).or_insert(stripe), stripe);
        }
    }

    #[test]
    fn a_worker_with_few_breakers_has_one_page_and_the_last_cell_is_the_memorys_end() {
        assert_eq!(cell_at(30, SHARED_STRIPE), Some(PAGE_BYTES - 8));
        assert_eq!(cell_at(31, 0), Some(PAGE_BYTES));
        assert_eq!(cell_at(LANES_MAX - 1, SHARED_STRIPE), Some(BYTES - 8));
        assert_eq!(cell_at(LANES_MAX, 0), None);
        assert_eq!(cell_at(0, STRIPES), None);
    }

    #[test]
    fn only_marked_stripes_are_in_use() {
        let used = Used::default();
        assert_eq!(used.stripes().count(), 0);
        [3, SHARED_STRIPE, 3].into_iter().for_each(|stripe| used.mark(stripe));
        assert_eq!(used.stripes().collect::<Vec<_>>(), [3, SHARED_STRIPE]);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::{Arc, Mutex};

    use super::*;

    /// A thread counts and gives its stripe to another, which counts on; a daemon reads meanwhile.
    #[test]
    fn a_stripe_changes_hands_and_no_count_is_lost() {
        loom::model(|| {
            let (cell, free) = (Arc::new(Cell::default()), Arc::new(Mutex::new(false)));
            let (theirs, gives) = (Arc::clone(&cell), Arc::clone(&free));
            let first = loom::thread::spawn(move || {
                theirs.succeed();
                *gives.lock().unwrap() = true;
            });
            let before = cell.read();
            if *free.lock().unwrap() {
                cell.succeed();
                assert_eq!(cell.read(), 2, "the lock that keeps the free stripes orders the two");
            }
            assert!(before <= cell.read(), "what a reader sees only grows");
            first.join().unwrap();
        });
    }

    /// What a marked stripe holds is found; two threads on the shared one lose nothing.
    #[test]
    fn counts_of_two_threads_on_the_shared_stripe_are_both_found() {
        loom::model(|| {
            let place = Arc::new((Used::default(), Cell::default()));
            let theirs = Arc::clone(&place);
            let count = |(used, cell): &(Used, Cell)| {
                used.mark(SHARED_STRIPE);
                cell.succeed_shared();
            };
            let other = loom::thread::spawn(move || count(&theirs));
            count(&place);
            other.join().unwrap();
            assert_eq!(place.0.stripes().map(|_| place.1.read()).sum::<u64>(), 2);
        });
    }
}
