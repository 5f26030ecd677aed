//! Shared memory: a board and a lane memory as descriptors and as mappings. The crate's only `unsafe`.
//!
//! Every mapping here is of a memfd that is sealed against resizing (`fcntl(2)`, file sealing) before anybody else has
//! it, so no access behind its bounds check can meet a page that is gone (`SIGBUS`). The board is sealed against future
//! writable mappings too, once its one writer has mapped it. What is mapped is made of atomics only, so whatever another
//! process does to it is a race that the language allows.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::board::{self, Header, LAYOUT, MAGIC, SLOTS_AT, Slot, Text};
use crate::lane::{self, Cell, Used};

/// Most slots that a board may have.
pub const SLOTS_MAX: usize = 1 << 20;

/// Why memory that a daemon has passed is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMemory {
    /// The system refuses.
    System(Errno),
    /// It is not sealed against shrinking: its pages could go away.
    Unsealed,
    /// It is not a board, not of this layout, or not as long as it says.
    Layout,
}

impl From<Errno> for BadMemory {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl std::fmt::Display for BadMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(errno) => write!(f, "the system refuses to map it: {errno}"),
            Self::Unsealed => f.write_str("it is not sealed against shrinking"),
            Self::Layout => f.write_str("it is not of the layout that this build knows"),
        }
    }
}

impl std::error::Error for BadMemory {}

/// A shared mapping of a sealed memfd. Unmapped when dropped.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    bytes: usize,
    _shared: PhantomData<*const u8>,
}

// SAFETY: a mapping belongs to the process and not to a thread; everything in it is reached as atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn new(fd: BorrowedFd<'_>, bytes: usize, protection: ProtFlags) -> Result<Self, Errno> {
        // SAFETY: the kernel chooses a free address, so nothing of this program is replaced; the file is sealed against
        // shrinking by every caller, so its pages stay.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, bytes, _shared: PhantomData })
    }

    /// What stands so many bytes from the start.
    fn at<T: Shared>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.bytes || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the bounds and the alignment were checked (a mapping begins at a page), the pages stay while `self`
        // does, and any bytes are a valid `T`, which is made of atomics.
        Some(unsafe { self.start.add(offset).cast::<T>().as_ref() })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and what was borrowed from it has ended.
        unsafe { munmap(self.start.as_ptr().cast(), self.bytes) }.ok();
    }
}

/// Types that any bytes of shared memory are a valid value of.
///
/// # Safety
/// Of a fixed layout, made of integer atomics only.
unsafe trait Shared {}

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Header {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Slot {}
// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Text {}
// SAFETY: `repr(transparent)`, one atomic.
unsafe impl Shared for Cell {}
// SAFETY: `repr(transparent)`, one atomic.
unsafe impl Shared for Used {}

fn sealed_memory(name: &str, bytes: usize, seals: SealFlags) -> Result<OwnedFd, Errno> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, bytes as u64)?;
    fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// The board as its daemon has it.
#[derive(Debug)]
pub struct Board {
    map: Map,
    fd: OwnedFd,
    slots: usize,
}

impl Board {
    /// Makes an empty board and seals it: from here on nobody can map it writable.
    ///
    /// # Errors
    /// What the system refuses: a kernel without memfd or, before 5.1, without `F_SEAL_FUTURE_WRITE`.
    pub fn new(slots: usize, instance: u64) -> Result<Self, Errno> {
        let slots = slots.min(SLOTS_MAX);
        let fd = sealed_memory("breakerd-board", board::bytes(slots), SealFlags::SHRINK | SealFlags::GROW)?;
        let map = Map::new(fd.as_fd(), board::bytes(slots), ProtFlags::READ | ProtFlags::WRITE)?;
        fcntl_add_seals(&fd, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        let board = Self { map, fd, slots };
        if let Some(header) = board.map.at::<Header>(0) {
            header.magic.store(MAGIC, Ordering::Relaxed);
            header.layout.store(LAYOUT, Ordering::Relaxed);
            header.slots.store(u32::try_from(slots).unwrap_or(u32::MAX), Ordering::Relaxed);
            header.instance.store(instance, Ordering::Release);
        }
        Ok(board)
    }

    /// What stands before the slots.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.map.at(0)
    }

    /// A slot and its text.
    #[must_use]
    pub fn slot(&self, number: u32) -> Option<(&Slot, &Text)> {
        slot_of(&self.map, self.slots, number)
    }

    /// The descriptor to pass.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn slot_of(map: &Map, slots: usize, number: u32) -> Option<(&Slot, &Text)> {
    let number = usize::try_from(number).ok().filter(|number| *number < slots)?;
    let slot = map.at(SLOTS_AT + number * size_of::<Slot>())?;
    let text = map.at(board::texts_at(slots) + number * size_of::<Text>())?;
    Some((slot, text))
}

/// A board as a worker has it: to read.
#[derive(Debug)]
pub struct BoardView {
    map: Map,
    slots: usize,
}

impl BoardView {
    /// Maps what a daemon has passed.
    ///
    /// # Errors
    /// [`BadMemory`].
    pub fn new(fd: BorrowedFd<'_>, instance: u64) -> Result<Self, BadMemory> {
        let bytes = sealed_bytes(fd)?;
        if bytes < SLOTS_AT || bytes > board::bytes(SLOTS_MAX) {
            return Err(BadMemory::Layout);
        }
        let map = Map::new(fd, bytes, ProtFlags::READ)?;
        let header = map.at::<Header>(0).ok_or(BadMemory::Layout)?;
        let slots = usize::try_from(header.slots.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        let known = header.magic.load(Ordering::Relaxed) == MAGIC
            && header.layout.load(Ordering::Relaxed) == LAYOUT
            && header.instance.load(Ordering::Relaxed) == instance;
        if !known || slots > SLOTS_MAX || bytes < board::bytes(slots) {
            return Err(BadMemory::Layout);
        }
        Ok(Self { map, slots })
    }

    /// What stands before the slots.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.map.at(0)
    }

    /// A slot and its text.
    #[must_use]
    pub fn slot(&self, number: u32) -> Option<(&Slot, &Text)> {
        slot_of(&self.map, self.slots, number)
    }

    /// Lets the daemon's memory go and keeps the addresses: whoever still looks there finds an empty board of a dead
    /// daemon, for as long as the process lives.
    pub fn retire(&self) {
        retire(&self.map, ProtFlags::READ);
    }
}

/// A worker's counts, as both sides map them.
#[derive(Debug)]
pub struct Lanes {
    map: Map,
}

impl Lanes {
    /// Makes the memory for one worker, with the descriptor to pass.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new() -> Result<(Self, OwnedFd), Errno> {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let fd = sealed_memory("breakerd-lanes", lane::BYTES, seals)?;
        let map = Map::new(fd.as_fd(), lane::BYTES, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok((Self { map }, fd))
    }

    /// Maps what a daemon has passed.
    ///
    /// # Errors
    /// [`BadMemory`].
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, BadMemory> {
        if sealed_bytes(fd)? < lane::BYTES {
            return Err(BadMemory::Layout);
        }
        Ok(Self { map: Map::new(fd, lane::BYTES, ProtFlags::READ | ProtFlags::WRITE)? })
    }

    /// A lane's cell in a stripe.
    #[must_use]
    #[inline]
    pub fn cell(&self, lane: usize, stripe: usize) -> Option<&Cell> {
        self.map.at(lane::cell_at(lane, stripe)?)
    }

    /// Which stripes are in use.
    #[must_use]
    pub fn used(&self) -> Option<&Used> {
        self.map.at(0)
    }

    /// The successes of a lane, over all stripes in use.
    #[must_use]
    pub fn read(&self, lane: usize) -> u64 {
        let stripes = self.used().into_iter().flat_map(Used::stripes);
        let cells = stripes.filter_map(|stripe| self.cell(lane, stripe));
        cells.fold(0, |sum: u64, cell| sum.saturating_add(cell.read()))
    }

    /// As [`BoardView::retire`]: what is still counted there reaches nobody.
    pub fn retire(&self) {
        retire(&self.map, ProtFlags::READ | ProtFlags::WRITE);
    }
}

fn sealed_bytes(fd: BorrowedFd<'_>) -> Result<usize, BadMemory> {
    if !fcntl_get_seals(fd)?.contains(SealFlags::SHRINK) {
        return Err(BadMemory::Unsealed);
    }
    usize::try_from(fstat(fd)?.st_size).map_err(|_| BadMemory::Layout)
}

/// Puts empty memory of this process alone in a mapping's place.
fn retire(map: &Map, protection: ProtFlags) {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: the range is exactly a mapping of ours, whose readers expect any value of atomics at any time; the kernel
    // replaces it at once, so no address of it is ever without memory.
    unsafe { mmap_anonymous(map.start.as_ptr().cast(), map.bytes, protection, flags) }.ok();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Mono;
    use crate::board::{Flags, Shown, Sight, Word};

    fn sight() -> Sight {
        let word = Word::new(Shown::Open, Flags::default(), 1, 2);
        Sight { word, until: Mono(5), since: Mono(1), by: "b".to_owned(), why: "w".to_owned() }
    }

    #[test]
    fn a_worker_reads_what_the_daemon_shows_and_can_write_nothing() {
        let board = Board::new(100, 42).unwrap();
        let view = BoardView::new(board.fd(), 42).unwrap();
        let (slot, text) = board.slot(99).unwrap();
        slot.show(text, &sight());
        let (slot, text) = view.slot(99).unwrap();
        assert_eq!(slot.read(text), Some(sight()));
        assert!(view.slot(100).is_none() && board.slot(u32::MAX).is_none());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        assert_eq!(Map::new(board.fd(), 4096, protection).unwrap_err(), Errno::PERM);
        assert_eq!(ftruncate(board.fd(), 0), Err(Errno::PERM));
    }

    #[test]
    fn a_retired_board_is_empty_and_dead_and_the_daemon_notices_nothing() {
        let board = Board::new(10, 42).unwrap();
        board.header().unwrap().alive.store(77, Ordering::Relaxed);
        let (slot, text) = board.slot(3).unwrap();
        slot.show(text, &sight());
        let view = BoardView::new(board.fd(), 42).unwrap();
        assert!(view.header().unwrap().is_alive());
        view.retire();
        assert!(!view.header().unwrap().is_alive());
        let (seen, text) = view.slot(3).unwrap();
        assert_eq!(seen.read(text).unwrap().word.shown(), Shown::Empty);
        assert_eq!(slot.word(), sight().word);
    }

    #[test]
    fn what_is_no_board_is_not_taken() {
        let board = Board::new(10, 42).unwrap();
        assert_eq!(BoardView::new(board.fd(), 43).unwrap_err(), BadMemory::Layout, "another daemon's");
        let (_, lanes) = Lanes::new().unwrap();
        assert_eq!(BoardView::new(lanes.as_fd(), 42).unwrap_err(), BadMemory::Layout);
        assert_eq!(Lanes::open(board.fd()).unwrap_err(), BadMemory::Layout);
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&open, 1 << 20).unwrap();
        assert_eq!(Lanes::open(open.as_fd()).unwrap_err(), BadMemory::Unsealed);
        let empty = sealed_memory("empty", 0, SealFlags::SHRINK).unwrap();
        assert_eq!(BoardView::new(empty.as_fd(), 42).unwrap_err(), BadMemory::Layout);
        let lies = Board::new(10, 42).unwrap();
        lies.header().unwrap().slots.store(1_000_000, Ordering::Relaxed);
        assert_eq!(BoardView::new(lies.fd(), 42).unwrap_err(), BadMemory::Layout);
    }

    #[test]
    fn counts_cross_over_and_resizing_is_refused() {
        let (daemon, fd) = Lanes::new().unwrap();
        let worker = Lanes::open(fd.as_fd()).unwrap();
        let count = |stripe| {
            worker.used().unwrap().mark(stripe);
            worker.cell(12, stripe).unwrap().succeed();
        };
        count(0);
        count(lane::SHARED_STRIPE);
        assert_eq!((daemon.read(12), daemon.read(11), daemon.read(usize::MAX)), (2, 0, 0));
        assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
        worker.retire();
        count(0);
        assert_eq!(daemon.read(12), 2);
    }
}
