//! The board: the table as every worker sees it, in memory that only the daemon can write.
//!
//! A header, then a [`Slot`] of one cache line for each breaker, then a [`Text`] for each, which stays untouched (and so
//! takes no memory) while the breaker is closed. A slot begins with its [`Word`]; whoever finds it closed has its answer
//! by one load and one compare. What a rejection needs stands beside it, under the rule of a sequence lock whose number
//! is the word itself: a writer sets *changing*, writes the neighbours, stores the new word; a reader that finds the
//! same word before and after has read what belongs together. (H. Boehm, "Can seqlocks get along with programming
//! language memory models?", MSPC 2012; the reader's fence is its figure 6.) Every change of a neighbour is a new
//! generation, so a word never comes back with other neighbours.
//!
//! A worker trusts the daemon and nobody else here: [`crate::map`] takes only memory that is sealed against resizing.

use crate::limits::{AUTHOR_BYTES_MAX, REASON_BYTES_MAX};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::{Mono, Override, State};

/// `breakerd` as bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"breakerd");
/// The version of this layout.
pub const LAYOUT: u32 = 1;
/// How often a reader tries before it asks the socket.
pub const TRIES_MAX: usize = 5;
/// The thread of a robust futex that is held; the kernel clears it when the thread dies (`get_robust_list(2)`).
pub const HOLDER_MASK: u32 = 0x3fff_ffff;

const INCARNATION_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 24;
const SHOWN_MASK: u64 = 0b111;
const CHANGING: u64 = 1 << 3;
const PERMIT_FREE: u64 = 1 << 4;
const TIMED: u64 = 1 << 5;
const SHADOW: u64 = 1 << 6;
/// What must be as expected for a call to be admitted without another look: all but the generation and the free permit.
const ADMIT_MASK: u64 = SHOWN_MASK | CHANGING | TIMED | SHADOW | (0xffff << INCARNATION_SHIFT);
/// The largest generation that a word can carry; it would take 34 years at a thousand changes a second.
pub const GENERATION_MAX: u64 = (1 << 40) - 1;

/// What a slot shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Shown {
    /// No breaker.
    #[default]
    Empty = 0,
    /// Closed.
    Closed = 1,
    /// Open.
    Open = 2,
    /// Half-open.
    HalfOpen = 3,
    /// Forced open by an operator.
    ForcedOpen = 4,
    /// Forced closed by an operator.
    ForcedClosed = 5,
    /// Admits everything and counts nothing.
    Off = 6,
}

impl Shown {
    /// What is shown of a breaker that is not off.
    #[must_use]
    pub fn of(state: State, forced: Option<Override>) -> Self {
        match (forced, state) {
            (Some(Override::ForcedOpen), _) => Self::ForcedOpen,
            (Some(Override::ForcedClosed), _) => Self::ForcedClosed,
            (None, State::Closed) => Self::Closed,
            (None, State::Open) => Self::Open,
            (None, State::HalfOpen) => Self::HalfOpen,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits & SHOWN_MASK {
            1 => Self::Closed,
            2 => Self::Open,
            3 => Self::HalfOpen,
            4 => Self::ForcedOpen,
            5 => Self::ForcedClosed,
            6 => Self::Off,
            // What a later layout may show is nothing that this one can answer from.
            _ => Self::Empty,
        }
    }

    /// The state and the override, as everything else words them.
    #[must_use]
    pub fn state(self) -> (State, Option<Override>) {
        match self {
            Self::Empty | Self::Closed | Self::Off => (State::Closed, None),
            Self::Open => (State::Open, None),
            Self::HalfOpen => (State::HalfOpen, None),
            Self::ForcedOpen => (State::Open, Some(Override::ForcedOpen)),
            Self::ForcedClosed => (State::Closed, Some(Override::ForcedClosed)),
        }
    }
}

/// A slot's first word: what is shown (3 bits), flags (5), the slot's incarnation (16), the generation (40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(u64);

/// What a word says beside state, incarnation and generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A probe's permit is to be had.
    pub permit_free: bool,
    /// The policy judges slowness: calls are timed.
    pub timed: bool,
    /// It judges in its own books and rejects nobody.
    pub shadow: bool,
}

impl Word {
    /// Puts a word together; a generation beyond [`GENERATION_MAX`] stays there.
    #[must_use]
    pub fn new(shown: Shown, flags: Flags, incarnation: u16, generation: u64) -> Self {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        Self(
            shown as u64
                | flag(flags.permit_free, PERMIT_FREE)
                | flag(flags.timed, TIMED)
                | flag(flags.shadow, SHADOW)
                | u64::from(incarnation) << INCARNATION_SHIFT
                | generation.min(GENERATION_MAX) << GENERATION_SHIFT,
        )
    }

    /// What a worker compares with: closed, untimed, in this incarnation of the slot.
    #[must_use]
    pub fn admitting(incarnation: u16) -> Self {
        Self::new(Shown::Closed, Flags::default(), incarnation, 0)
    }

    /// Whether a call is admitted by this word, where `admitting` was expected.
    #[must_use]
    #[inline]
    pub fn admits(self, admitting: Self) -> bool {
        self.0 & ADMIT_MASK == admitting.0
    }

    /// What is shown.
    #[must_use]
    #[inline]
    pub fn shown(self) -> Shown {
        Shown::from_bits(self.0)
    }

    /// What it says beside.
    #[must_use]
    #[inline]
    pub fn flags(self) -> Flags {
        Flags { permit_free: self.0 & PERMIT_FREE != 0, timed: self.0 & TIMED != 0, shadow: self.0 & SHADOW != 0 }
    }

    /// Which of the slot's tenants it is.
    #[must_use]
    #[inline]
    pub fn incarnation(self) -> u16 {
        u16::try_from(self.0 >> INCARNATION_SHIFT & 0xffff).unwrap_or(u16::MAX)
    }

    /// The breaker's generation.
    #[must_use]
    #[inline]
    pub fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    fn is_changing(self) -> bool {
        self.0 & CHANGING != 0
    }
}

/// What stands before the slots.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`LAYOUT`].
    pub layout: AtomicU32,
    /// How many slots there are, and as many texts.
    pub slots: AtomicU32,
    /// The life of the daemon that writes.
    pub instance: AtomicU64,
    _apart: [AtomicU64; 5],
    /// Held as a robust futex by a thread that lives as long as the daemon; on a line that nobody writes otherwise.
    pub alive: AtomicU32,
    _rest: [AtomicU32; 15],
}

impl Header {
    /// Whether the daemon lives: one load.
    #[must_use]
    #[inline]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed) & HOLDER_MASK != 0
    }
}

/// One breaker's place.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    word: AtomicU64,
    until: AtomicU64,
    since: AtomicU64,
    lengths: AtomicU64,
}

/// Bytes of the author and of the reason.
pub const TEXT_BYTES: usize = AUTHOR_BYTES_MAX + REASON_BYTES_MAX;
const TEXT_WORDS: usize = TEXT_BYTES / 8;

/// Who made a breaker what it is, and why: the author's bytes, then the reason's.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Text([AtomicU64; TEXT_WORDS]);

/// A slot as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The word.
    pub word: Word,
    /// When to ask again; [`Mono::NEVER`] under a force without end.
    pub until: Mono,
    /// Since when it is so.
    pub since: Mono,
    /// Who made it so.
    pub by: String,
    /// Why.
    pub why: String,
}

impl Slot {
    /// The word alone.
    #[must_use]
    #[inline]
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Shows something else. For the board's one writer.
    pub fn show(&self, text: &Text, sight: &Sight) {
        let before = self.word.load(Ordering::Relaxed);
        self.word.store(before | CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        self.until.store(sight.until.0, Ordering::Relaxed);
        self.since.store(sight.since.0, Ordering::Relaxed);
        let (by, why) = (cut(&sight.by, AUTHOR_BYTES_MAX), cut(&sight.why, REASON_BYTES_MAX));
        let lengths = by.len() as u64 | (why.len() as u64) << 32;
        self.lengths.store(lengths, Ordering::Relaxed);
        if lengths != 0 {
            text.write(by, why);
        }
        self.word.store(sight.word.0 & !CHANGING, Ordering::Release);
    }

    /// What stands here and belongs together; none if it changed under every try.
    #[must_use]
    pub fn read(&self, text: &Text) -> Option<Sight> {
        (0..TRIES_MAX).find_map(|_| self.try_read(text))
    }

    /// The word and the deadline, without the text.
    #[must_use]
    pub fn deadline(&self) -> Option<(Word, Mono)> {
        (0..TRIES_MAX).find_map(|_| self.consistently(|| Mono(self.until.load(Ordering::Relaxed))))
    }

    fn try_read(&self, text: &Text) -> Option<Sight> {
        let (word, (until, since, bytes, lengths)) = self.consistently(|| {
            let lengths = self.lengths.load(Ordering::Relaxed);
            let bytes = if lengths == 0 { [0; TEXT_BYTES] } else { text.read() };
            (self.until.load(Ordering::Relaxed), self.since.load(Ordering::Relaxed), bytes, lengths)
        })?;
        let length = |half: u64, most: usize| usize::try_from(half & 0xffff_ffff).unwrap_or(most).min(most);
        let (by, why) = (length(lengths, AUTHOR_BYTES_MAX), length(lengths >> 32, REASON_BYTES_MAX));
        let written = |from: usize, bytes_of: usize| {
            let part = bytes.get(from..from + bytes_of).unwrap_or_default();
            String::from_utf8_lossy(part).into_owned()
        };
        Some(Sight { word, until: Mono(until), since: Mono(since), by: written(0, by), why: written(by, why) })
    }

    /// Reads neighbours between two equal words.
    fn consistently<T>(&self, read: impl FnOnce() -> T) -> Option<(Word, T)> {
        let before = self.word();
        let read = read();
        // The loads above may not sink below the second load of the word.
        fence(Ordering::Acquire);
        let after = Word(self.word.load(Ordering::Relaxed));
        (before == after && !before.is_changing()).then_some((before, read))
    }
}

impl Text {
    fn write(&self, by: &str, why: &str) {
        let mut bytes = by.bytes().chain(why.bytes());
        for word in &self.0 {
            let mut eight = [0; 8];
            eight.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = from);
            word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
        }
    }

    fn read(&self) -> [u8; TEXT_BYTES] {
        let mut bytes = [0; TEXT_BYTES];
        for (eight, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            eight.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        bytes
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    crate::outcome::cut(text, bytes)
}

/// Where the slots begin, in bytes.
pub const SLOTS_AT: usize = 4096;

/// Where the texts begin: the page behind the last slot.
#[must_use]
pub const fn texts_at(slots: usize) -> usize {
    (SLOTS_AT + slots * size_of::<Slot>()).next_multiple_of(4096)
}

/// The size of a board, in bytes.
#[must_use]
pub const fn bytes(slots: usize) -> usize {
    (texts_at(slots) + slots * size_of::<Text>()).next_multiple_of(4096)
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Slot>() == 64 && align_of::<Slot>() == 64, "a slot is a cache line");
    assert!(size_of::<Header>() == 128 && size_of::<Header>() <= SLOTS_AT);
    assert!(std::mem::offset_of!(Header, alive) == 64, "the word of life is on a line of its own");
    assert!(std::mem::offset_of!(Slot, word) == 0 && size_of::<Text>() == TEXT_BYTES && TEXT_BYTES.is_multiple_of(8));
    assert!(INCARNATION_SHIFT + 16 == GENERATION_SHIFT && GENERATION_SHIFT + 40 == 64);
};

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(generation: u64) -> Sight {
        Sight {
            word: Word::new(Shown::Open, Flags { permit_free: true, ..Flags::default() }, 3, generation),
            until: Mono(17),
            since: Mono(4),
            by: "chat-api[4211]@web-1".to_owned(),
            why: "3 consecutive failures, last http-401".to_owned(),
        }
    }

    #[test]
    fn a_slot_reads_as_it_was_shown() {
        let (slot, text) = (Slot::default(), Text::default());
        assert_eq!(slot.read(&text).unwrap().word.shown(), Shown::Empty);
        slot.show(&text, &open(9));
        assert_eq!(slot.read(&text), Some(open(9)));
        assert_eq!(slot.deadline(), Some((open(9).word, Mono(17))));
        let closed = Sight { word: Word::admitting(3), by: String::new(), why: String::new(), ..open(10) };
        slot.show(&text, &closed);
        assert_eq!(slot.read(&text), Some(closed));
    }

    #[test]
    fn only_an_untimed_closed_word_of_the_same_incarnation_admits() {
        let admitting = Word::admitting(7);
        let word = |shown, flags, incarnation| Word::new(shown, flags, incarnation, 12);
        let plain = Flags::default();
        assert!(word(Shown::Closed, plain, 7).admits(admitting));
        assert!(word(Shown::Closed, Flags { permit_free: true, ..plain }, 7).admits(admitting));
        assert!(!word(Shown::Closed, plain, 8).admits(admitting), "another breaker has the slot");
        assert!(!word(Shown::Closed, Flags { timed: true, ..plain }, 7).admits(admitting));
        assert!(!word(Shown::Closed, Flags { shadow: true, ..plain }, 7).admits(admitting));
        for shown in [Shown::Empty, Shown::Open, Shown::HalfOpen, Shown::ForcedOpen, Shown::ForcedClosed, Shown::Off] {
            assert!(!word(shown, plain, 7).admits(admitting), "{shown:?}");
            assert_eq!(word(shown, plain, 7).shown(), shown);
        }
    }

    #[test]
    fn a_word_keeps_its_parts_at_their_limits() {
        let flags = Flags { permit_free: true, timed: true, shadow: true };
        let word = Word::new(Shown::Off, flags, u16::MAX, u64::MAX);
        assert_eq!((word.shown(), word.flags(), word.incarnation()), (Shown::Off, flags, u16::MAX));
        assert_eq!(word.generation(), GENERATION_MAX);
    }

    #[test]
    fn texts_beyond_their_bounds_are_cut() {
        let (slot, text) = (Slot::default(), Text::default());
        let long = Sight { by: "b".repeat(100), why: "w".repeat(300), ..open(1) };
        slot.show(&text, &long);
        let read = slot.read(&text).unwrap();
        assert_eq!((read.by.len(), read.why.len()), (AUTHOR_BYTES_MAX, REASON_BYTES_MAX));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    /// A reader beside a writer that shows two things one after the other: whatever it reads belongs together.
    #[test]
    fn what_a_reader_gets_belongs_together() {
        loom::model(|| {
            let place = Arc::new((Slot::default(), Text::default()));
            let sight = |n: u64| Sight {
                word: Word::new(Shown::Open, Flags::default(), 1, n),
                until: Mono(n),
                since: Mono(n),
                by: String::new(),
                why: String::new(),
            };
            place.0.show(&place.1, &sight(1));
            let written = Arc::clone(&place);
            let writer = loom::thread::spawn(move || written.0.show(&written.1, &sight(2)));
            if let Some((word, until)) = place.0.deadline() {
                assert_eq!(until, Mono(word.generation()));
            }
            writer.join().unwrap();
        });
    }
}
