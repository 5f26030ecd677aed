//! The last calls: a ring of bits.

/// What a trip rule holds against calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They failed.
    Failed,
    /// They succeeded, slower than the policy's bound.
    Slow,
}

/// The last calls in the order in which they became known, two bits for each.
///
/// Exact: a rule over the last N calls sees those N and no other, whenever they were. Only a change of the breaker empties
/// it; time does not. The bits are counted where a rule is judged, so there is no running sum that could go astray.
#[derive(Debug, Default)]
pub(super) struct Calls {
    words: Box<[Word]>,
    capacity: u32,
    /// Where the next call goes.
    next: u32,
    len: u32,
}

/// Sixty-four calls.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    failed: u64,
    slow: u64,
}

const BITS: u32 = u64::BITS;

impl Calls {
    /// Room for so many calls.
    fn new(capacity: u32) -> Self {
        let words = usize::try_from(capacity.div_ceil(BITS)).unwrap_or_default();
        Self { words: vec![Word::default(); words].into(), capacity, next: 0, len: 0 }
    }

    /// Makes it hold so many calls; the newest of those that it has stay.
    pub(super) fn fit(&mut self, capacity: u32) {
        if capacity == self.capacity {
            return;
        }
        let old = std::mem::replace(self, Self::new(capacity));
        let kept = old.len.min(capacity);
        for back in (1..=kept).rev() {
            let (word, mask) = old.place(old.back(back));
            let has = |bits: u64| bits & mask != 0;
            let fault = match old.words.get(word) {
                Some(word) if has(word.failed) => Some(Fault::Failed),
                Some(word) if has(word.slow) => Some(Fault::Slow),
                _ => None,
            };
            self.push(fault);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls that it holds.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// One more call; the oldest makes room.
    pub(super) fn push(&mut self, fault: Option<Fault>) {
        let (word, mask) = self.place(self.next);
        let Some(word) = self.words.get_mut(word) else { return };
        let put = |bits: &mut u64, is: bool| if is { *bits |= mask } else { *bits &= !mask };
        put(&mut word.failed, fault == Some(Fault::Failed));
        put(&mut word.slow, fault == Some(Fault::Slow));
        self.next = if self.next + 1 < self.capacity { self.next + 1 } else { 0 };
        self.len = self.len.saturating_add(1).min(self.capacity);
    }

    /// So many more calls of one kind. More than it holds fill it.
    pub(super) fn push_many(&mut self, fault: Option<Fault>, calls: u64) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX).min(self.capacity);
        (0..calls).for_each(|_| self.push(fault));
    }

    /// How many of the last `of` calls have this fault. `of` is at most [`Calls::len`].
    pub(super) fn count(&self, fault: Fault, of: u32) -> u32 {
        let start = self.back(of.min(self.len));
        if of == 0 {
            0
        } else if start < self.next {
            self.ones(fault, start, self.next)
        } else {
            self.ones(fault, start, self.capacity) + self.ones(fault, 0, self.next)
        }
    }

    /// Bits from `start` to before `end`.
    fn ones(&self, fault: Fault, start: u32, end: u32) -> u32 {
        let (first, last) = (start / BITS, end.div_ceil(BITS));
        let words = (first..last).filter_map(|at| Some((at, self.words.get(usize::try_from(at).ok()?)?)));
        let count = |(at, word): (u32, &Word)| {
            let bits = match fault {
                Fault::Failed => word.failed,
                Fault::Slow => word.slow,
            };
            let from = u64::MAX << start.saturating_sub(at * BITS);
            let to = u64::MAX >> (BITS - (end - at * BITS).min(BITS));
            (bits & from & to).count_ones()
        };
        words.map(count).sum()
    }

    /// The place of the call that came so many calls ago, 1 for the newest.
    fn back(&self, calls: u32) -> u32 {
        if calls <= self.next { self.next - calls } else { self.capacity - (calls - self.next) }
    }

    fn place(&self, at: u32) -> (usize, u64) {
        (usize::try_from(at / BITS).unwrap_or(usize::MAX), 1 << (at % BITS))
    }
}
