//! What a fork must not share: connections, locks, permits.
//!
//! Each process has a *life*, a number that its forked child does not share. Whatever belongs to a process carries its
//! life and is left alone, never dropped, when the two differ: a lock of the parent's may be held for ever by a thread
//! that the child does not have, and a descriptor's number may mean another file by now.
//!
//! A life is read from a page that the kernel wipes in a child (`MADV_WIPEONFORK`, `madvise(2)`), which catches forks
//! that run no handlers; where there is no such page, a `pthread_atfork(3)` handler wipes a static word. The handler
//! closes the registered descriptors too, so that a child never keeps its parent's connection open.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Descriptors that the handler can close. More may be open; those stay until the child ends or runs another program.
const REGISTERED_MAX: usize = 256;

/// An empty place. A taken one holds the low half of its owner's life, then the descriptor's number.
const FREE: u64 = u64::MAX;

static REGISTERED: [AtomicU64; REGISTERED_MAX] = [const { AtomicU64::new(FREE) }; REGISTERED_MAX];

/// The last life that was given out. A child inherits it and counts on, so it never meets its parent's number.
static LIVES: AtomicU64 = AtomicU64::new(0);

/// Stands in where there is no wiped page.
static WORD: AtomicU64 = AtomicU64::new(0);

/// This process's life: never zero, and another one after a fork.
pub(crate) fn life() -> u64 {
    match word().load(Ordering::Acquire) {
        0 => begin(),
        life => life,
    }
}

/// The word that [`life`] is read from, for whoever keeps the place to look without a call.
pub(crate) fn life_word() -> &'static AtomicU64 {
    word()
}

#[cold]
fn begin() -> u64 {
    let fresh = LIVES.fetch_add(1, Ordering::AcqRel) + 1;
    // Threads of a young process may come here together; the first gives the number.
    let life = match word().compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(first) => first,
    };
    // Where no handler ran, what was inherited is still open.
    close_others(life);
    life
}

fn word() -> &'static AtomicU64 {
    static PAGE: OnceLock<&'static AtomicU64> = OnceLock::new();
    PAGE.get_or_init(|| {
        install_handler();
        wiped_page().unwrap_or(&WORD)
    })
}

/// A page of zeros that is zeros again in a child.
#[allow(unsafe_code)]
fn wiped_page() -> Option<&'static AtomicU64> {
    let bytes = rustix::param::page_size();
    // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that anyone has.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }
        .ok()?;
    // SAFETY: the page was mapped just now with this length, and nobody else has its address.
    if unsafe { madvise(page, bytes, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above; it is not used afterwards.
        unsafe { munmap(page, bytes) }.ok();
        return None;
    }
    // SAFETY: the page is never unmapped, is zeroed, aligned to more than a word, and used only as this atomic.
    Some(unsafe { &*page.cast::<AtomicU64>() })
}

#[allow(unsafe_code)]
fn install_handler() {
    // SAFETY: the handler does only what is safe in a forked child of a process with threads: atomics and close(2).
    // It fails only for want of memory; then the wiped page still tells children apart, and `begin` closes what they
    // inherited at their first use.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

extern "C" fn in_child() {
    WORD.store(0, Ordering::Release);
    // No life has this number, and no other thread is here to register anything.
    close_others(0);
}

/// Closes what was registered in another life than this: by a process that this one was forked from. Running it again
/// does nothing.
#[allow(unsafe_code)]
fn close_others(life: u64) {
    for place in &REGISTERED {
        let held = place.load(Ordering::Acquire);
        if held == FREE || held >> 32 == life & 0xffff_ffff {
            continue;
        }
        let mine = place.compare_exchange(held, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if let (true, Ok(fd)) = (mine, i32::try_from(held & 0xffff_ffff)) {
            // SAFETY: the number was registered by a process that this one was forked from, which took it out before
            // closing it; what owned it there never closes it here, since its life is over.
            unsafe { libc::close(fd) };
        }
    }
}

/// A descriptor that only the process that made it uses and closes.
#[derive(Debug)]
pub(crate) struct Owned {
    fd: Option<OwnedFd>,
    life: u64,
    place: Option<usize>,
}

impl Owned {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let life = life();
        let entry = (life << 32) | u64::from(fd.as_raw_fd().unsigned_abs());
        let free = |place: &AtomicU64| place.compare_exchange(FREE, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        Self { fd: Some(fd), life, place: REGISTERED.iter().position(free) }
    }

    /// The descriptor, unless it is a parent's.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        if self.life != life() {
            return None;
        }
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if self.life != life() {
            // The number means nothing here, or another file.
            std::mem::forget(fd);
            return;
        }
        if let Some(place) = self.place.and_then(|place| REGISTERED.get(place)) {
            place.store(FREE, Ordering::Release);
        }
    }
}

/// A value that only the process that made it touches, its destruction included.
#[derive(Debug)]
pub(crate) struct Native<T> {
    life: u64,
    value: ManuallyDrop<T>,
}

impl<T> Native<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { life: life(), value: ManuallyDrop::new(value) }
    }

    /// The value, unless it is a parent's.
    pub(crate) fn get(&self) -> Option<&T> {
        (self.life == life()).then_some(&*self.value)
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.life == life()
    }
}

impl<T> Drop for Native<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // A thread that this process does not have may have been at work on it when the parent forked: it leaks.
        if self.life == life() {
            // SAFETY: it is dropped here, once, and `self` is not used after its own drop.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, unsafe_code)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Runs in a forked child and tells by its exit code; only what is safe there may be done.
    fn in_forked_child(act: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls `act` and leaves by `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let code = i32::from(!act());
                // SAFETY: ends the child without running the parent's destructors.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: waits for the child made above.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }

    #[test]
    fn a_child_has_another_life_and_its_own_child_a_third() {
        let mine = life();
        assert_eq!(life(), mine);
        assert!(in_forked_child(|| {
            let first = life();
            first != mine && first == life() && in_forked_child(|| ![mine, first].contains(&life()))
        }));
        assert_eq!(life(), mine);
    }

    #[test]
    fn a_childs_copy_is_closed_at_the_fork_and_the_parents_is_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let owned = Owned::new(OwnedFd::from(ours));
        let number = owned.fd().unwrap().as_raw_fd();
        assert!(in_forked_child(|| {
            // SAFETY: asks whether the number is open.
            let closed = unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
            closed && owned.fd().is_none()
        }));
        assert!(owned.fd().is_some());
        drop(owned);
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "the last copy was the parent's");
    }

    #[test]
    fn a_childs_drop_closes_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let owned = Owned::new(OwnedFd::from(ours));
        let number = owned.fd().unwrap().as_raw_fd();
        let mut owned = Some(owned);
        assert!(in_forked_child(|| {
            // Another file takes the number that the handler has freed.
            // SAFETY: duplicates an open descriptor onto a closed number.
            let taken = unsafe { libc::dup2(theirs.as_raw_fd(), number) } == number;
            owned.take();
            // SAFETY: asks whether the number is open.
            taken && unsafe { libc::fcntl(number, libc::F_GETFD) } != -1
        }));
    }
}
