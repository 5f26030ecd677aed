//! The daemon's board and this worker's lane memory: a check without a message, a success without one.
//!
//! What a connection's `Welcome` brought is kept for as long as the process lives, because a call may be reading it at
//! any moment without a lock: when the connection is over the mappings are replaced by empty memory
//! ([`BoardView::retire`]), in which every breaker is absent and the daemon dead, so that whoever still looks asks anew.
//! What stays is the address range and some bytes for each breaker, for each life of a daemon that the process has met.

use std::cell::{Cell as Local, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use breakerd_proto::board::{Header, Shown, Sight, Slot, Text, Word};
use breakerd_proto::lane::{Cell, SHARED_STRIPE, STRIPES};
use breakerd_proto::map::{BadMemory, BoardView, Lanes};
use breakerd_proto::message::Place;
use breakerd_proto::{Mono, Name, RejectReason, Verdict};

use crate::attachment::Attachment;
use crate::dialogue::Ticket;
use crate::fork;
use crate::session::Settled;

/// What one connection shares with the daemon.
#[derive(Debug)]
pub(crate) struct Memory {
    board: BoardView,
    lanes: Lanes,
    /// The connection that it came with.
    pub(crate) ticket: Ticket,
    /// Over which is told what is no success.
    owner: Weak<Attachment>,
    /// The process that mapped it.
    life: u64,
    /// Stripes that no thread has.
    free: Mutex<Vec<u8>>,
}

/// One breaker's places: its slot on the board, its cells in the lane memory.
#[derive(Debug)]
pub(crate) struct Spot {
    memory: &'static Memory,
    header: &'static Header,
    slot: &'static Slot,
    text: &'static Text,
    /// The word's expected part while calls are admitted.
    admitting: Word,
    life: u64,
    life_word: &'static AtomicU64,
    /// One for each stripe.
    cells: [&'static Cell; STRIPES],
}

/// What the board says of a call.
#[derive(Debug)]
pub(crate) enum Says {
    /// The answer, and whether the policy judges slowness.
    Verdict(Verdict, bool),
    /// Only the daemon can tell.
    Ask,
}

impl Memory {
    /// Maps what came with `Welcome`.
    ///
    /// # Errors
    /// [`BadMemory`]: then the socket alone serves.
    pub(crate) fn map(
        [board, lanes]: &[OwnedFd; 2],
        ticket: Ticket,
        owner: Weak<Attachment>,
    ) -> Result<&'static Self, BadMemory> {
        let memory = Self {
            board: BoardView::new(board.as_fd(), ticket.instance)?,
            lanes: Lanes::open(lanes.as_fd())?,
            ticket,
            owner,
            life: fork::life(),
            free: Mutex::new((0..u8::try_from(SHARED_STRIPE).unwrap_or(0)).rev().collect()),
        };
        Ok(Box::leak(Box::new(memory)))
    }

    /// A breaker's places; none where the daemon numbers what this build cannot hold.
    pub(crate) fn spot(&'static self, place: Place, lane: u32) -> Option<&'static Spot> {
        let lane = usize::try_from(lane).ok()?;
        let (slot, text) = self.board.slot(place.slot)?;
        let first = self.lanes.cell(lane, 0)?;
        let mut cells = [first; STRIPES];
        for (stripe, cell) in cells.iter_mut().enumerate() {
            *cell = self.lanes.cell(lane, stripe)?;
        }
        let admitting = Word::admitting(place.incarnation);
        let header = self.board.header()?;
        let (life, life_word) = (self.life, fork::life_word());
        let spot = Spot { memory: self, header, slot, text, admitting, life, life_word, cells };
        Some(Box::leak(Box::new(spot)))
    }

    /// The connection is over: nothing here is true any more.
    pub(crate) fn retire(&self) {
        self.board.retire();
        self.lanes.retire();
    }

    /// The successes that this worker has counted of a breaker.
    pub(crate) fn read(&self, lane: u32) -> u64 {
        usize::try_from(lane).map(|lane| self.lanes.read(lane)).unwrap_or_default()
    }

    /// Counts a success that was admitted by a message. False if the lane has no cell here.
    pub(crate) fn succeed(&self, lane: u32) -> bool {
        let cell = usize::try_from(lane).ok().and_then(|lane| self.lanes.cell(lane, SHARED_STRIPE));
        let Some((cell, used)) = cell.zip(self.lanes.used()) else { return false };
        used.mark(SHARED_STRIPE);
        cell.succeed_shared();
        true
    }

    /// A stripe for the calling thread, for as long as it lives.
    fn take_stripe(&'static self) -> u8 {
        let stripe = self.take_free_stripe();
        if let Some(used) = self.lanes.used() {
            used.mark(stripe.into());
        }
        stripe
    }

    #[cold]
    fn take_free_stripe(&'static self) -> u8 {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let shared = u8::try_from(SHARED_STRIPE).unwrap_or(u8::MAX);
        let Some(stripe) = free else { return shared };
        // A thread that is ending can keep none.
        let kept = OWNED.try_with(|owned| owned.0.borrow_mut().push((self, stripe))).is_ok();
        if kept {
            return stripe;
        }
        self.give_back(stripe);
        shared
    }

    fn give_back(&self, stripe: u8) {
        // The lock of a parent process may be held for ever by a thread that this one does not have.
        if self.life == fork::life() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(stripe);
        }
    }
}

/// The stripes that a thread has; its end gives them back.
#[derive(Debug, Default)]
struct Owned(RefCell<Vec<(&'static Memory, u8)>>);

impl Drop for Owned {
    fn drop(&mut self) {
        LAST.set((std::ptr::null(), 0));
        for (memory, stripe) in self.0.take() {
            memory.give_back(stripe);
        }
    }
}

thread_local! {
    static OWNED: Owned = const { Owned(RefCell::new(Vec::new())) };
    /// The memory that the thread counted in last, and its stripe there.
    static LAST: Local<(*const Memory, u8)> = const { Local::new((std::ptr::null(), 0)) };
}

impl Spot {
    /// Whether a call is admitted, by the generation that it returns: one look at the daemon's life, one at the slot.
    #[inline]
    pub(crate) fn admits(&self) -> Option<u64> {
        let word = self.slot.word();
        let admits = word.admits(self.admitting) && self.header.is_alive() && self.is_ours();
        admits.then(|| word.generation())
    }

    /// Whether this process mapped it, and not one that it was forked from.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.life_word.load(Ordering::Acquire) == self.life
    }

    /// Whether it is the calling process's, of a daemon that lives.
    pub(crate) fn is_live(&self) -> bool {
        self.is_ours() && self.header.is_alive()
    }

    /// The connection whose memory it is in.
    pub(crate) fn ticket(&self) -> Ticket {
        self.memory.ticket
    }

    /// Tells how a call went that was admitted here. Never waits.
    pub(crate) fn report(&self, now: Mono, name: &Name, settled: Settled) {
        if let Some(owner) = self.memory.owner.upgrade() {
            owner.report(now, name, self.memory.ticket, settled);
        }
    }

    /// Whether its connection has yet to tell the daemon something of this breaker; also where another thread is at it.
    pub(crate) fn is_owed(&self, name: &Name) -> bool {
        self.memory.owner.upgrade().is_some_and(|owner| owner.owes(name))
    }

    /// Whether it is of this memory.
    pub(crate) fn is_of(&self, memory: &Memory) -> bool {
        std::ptr::eq(self.memory, memory)
    }

    /// Whether another breaker has the slot, or none.
    pub(crate) fn is_lost(&self) -> bool {
        let word = self.slot.word();
        word.shown() == Shown::Empty || word.incarnation() != self.admitting.incarnation()
    }

    /// May this worker call?
    pub(crate) fn says(&self, now: Mono) -> Says {
        let Some((word, until)) = self.slot.deadline().filter(|_| self.is_live() && !self.is_lost()) else {
            return Says::Ask;
        };
        let (generation, timed) = (word.generation(), word.flags().timed);
        let admit = || Says::Verdict(Verdict::Admit { generation }, timed);
        let reject = |reason, after: Option<u64>| {
            let state = word.shown().state().0;
            Says::Verdict(Verdict::Reject { generation, state, reason, retry_after_ms: after }, timed)
        };
        let left = || Some(breakerd_proto::clock::ms_up(until.left(now)));
        match word.shown() {
            Shown::Empty => Says::Ask,
            Shown::Closed | Shown::ForcedClosed | Shown::Off => admit(),
            Shown::ForcedOpen if until == Mono::NEVER => reject(RejectReason::Forced, None),
            Shown::ForcedOpen if now < until => reject(RejectReason::Forced, left()),
            _ if word.flags().shadow => admit(),
            Shown::Open if now < until => reject(RejectReason::Open, left()),
            Shown::HalfOpen if !word.flags().permit_free && now < until => {
                let wait = breakerd_proto::limits::PROBING_RETRY_AFTER_MIN;
                reject(RejectReason::Probing, Some(breakerd_proto::clock::ms_up(wait)))
            }
            Shown::Open | Shown::HalfOpen | Shown::ForcedOpen => Says::Ask,
        }
    }

    /// All that the board says of it.
    pub(crate) fn sight(&self) -> Option<Sight> {
        if self.is_lost() {
            return None;
        }
        self.slot.read(self.text)
    }

    /// Counts a success that was not slow.
    #[inline]
    pub(crate) fn succeed(&self) {
        let (memory, stripe) = LAST.get();
        let stripe = if std::ptr::eq(memory, self.memory) { stripe } else { self.find_stripe() };
        match self.cells.get(usize::from(stripe)) {
            Some(cell) if usize::from(stripe) != SHARED_STRIPE => cell.succeed(),
            Some(cell) => cell.succeed_shared(),
            None => {}
        }
    }

    #[cold]
    fn find_stripe(&self) -> u8 {
        let had = OWNED.try_with(|owned| {
            let owned = owned.0.borrow();
            owned.iter().find(|(memory, _)| self.is_of(memory)).map(|(_, stripe)| *stripe)
        });
        let stripe = had.ok().flatten().unwrap_or_else(|| self.memory.take_stripe());
        LAST.set((std::ptr::from_ref(self.memory), stripe));
        stripe
    }
}
