//! The board: what the loop shows, and the thread by whose death workers see ours.

use std::io;
use std::sync::atomic::Ordering;

use breakerd_core::Posted;
use breakerd_proto::board::Header;
use breakerd_proto::map::Board;

/// Makes the board for so many breakers. None, with a line in the log, where the system gives none: then workers ask by
/// messages.
pub(crate) fn raise(slots: u32, instance: u64) -> Option<&'static Board> {
    let made = Board::new(usize::try_from(slots).unwrap_or(usize::MAX), instance).map_err(io::Error::from);
    let raised = made.and_then(|board| {
        // Workers may look at it for as long as the process lives.
        let board: &'static Board = Box::leak(Box::new(board));
        let header = board.header().ok_or(io::ErrorKind::InvalidData)?;
        hold(header)?;
        Ok(board)
    });
    match raised {
        Ok(board) => Some(board),
        Err(error) => {
            tracing::warn!(%error, "no shared memory for the board; workers ask over the socket, which is slower");
            None
        }
    }
}

/// Shows what a slot must show, unless it does.
pub(crate) fn show(board: &Board, posted: &Posted) {
    let Some((slot, text)) = board.slot(posted.place.slot) else { return };
    if slot.word() != posted.sight.word || slot.deadline().is_none_or(|(_, until)| until != posted.sight.until) {
        slot.show(text, &posted.sight);
    }
}

/// The head of a thread's list of robust futexes and its one entry, as the kernel reads them (`get_robust_list(2)`,
/// Documentation/locking/robust-futex-ABI.rst).
#[repr(C)]
struct List {
    first: *const Entry,
    /// From an entry to its futex.
    offset: libc::c_long,
    pending: *const Entry,
    entry: Entry,
}

#[repr(C)]
struct Entry {
    next: *const List,
}

/// Starts the thread that holds the word of life until the process ends, however it ends: the kernel itself then marks
/// the word, also after SIGKILL.
fn hold(header: &'static Header) -> io::Result<()> {
    let (say, hear) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        // The longest-lived thread: it only waits, so nothing in it can end it early.
        if say.send(take(header)).is_ok() {
            loop {
                rustix::event::pause();
            }
        }
    };
    std::thread::Builder::new().name("life".to_owned()).stack_size(64 * 1024).spawn(run)?;
    hear.recv().map_err(|_| io::Error::other("the thread has ended"))?
}

#[allow(unsafe_code)]
fn take(header: &'static Header) -> io::Result<()> {
    let list = Box::leak(Box::new(List {
        first: std::ptr::null(),
        offset: 0,
        pending: std::ptr::null(),
        entry: Entry { next: std::ptr::null() },
    }));
    let head: *mut List = list;
    let word = header.alive.as_ptr().addr().cast_signed();
    list.offset = word.wrapping_sub((&raw const list.entry).addr().cast_signed()) as libc::c_long;
    list.first = &raw const list.entry;
    list.entry.next = head;
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    header.alive.store(thread.cast_unsigned(), Ordering::Release);
    // SAFETY: the head is a whole `robust_list_head` of the size that is said, is never freed or moved, and lists one
    // entry whose futex is in a mapping that is never unmapped. The thread uses no robust mutex of the C library's, whose
    // head this replaces.
    let done = unsafe { libc::syscall(libc::SYS_set_robust_list, head, ROBUST_LIST_HEAD_BYTES) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `sizeof(struct robust_list_head)`: three words.
const ROBUST_LIST_HEAD_BYTES: usize = 3 * size_of::<usize>();
