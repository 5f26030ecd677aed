//! The calls of the last while: a ring of buckets.

use breakerd_proto::Mono;

/// Buckets of a ring: what is left out between two edges is less than a twentieth of the time.
const BUCKETS: usize = 20;

/// Calls by what became of them. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// All of them.
    pub(super) calls: u64,
    /// Those that failed.
    pub(super) failed: u64,
    /// Those that succeeded slowly.
    pub(super) slow: u64,
}

/// The calls of the last `within_ms`, in twenty buckets.
///
/// Time is cut at whole multiples of a twentieth of it, wherever the first call was. A bucket holds the calls stamped after
/// its lower edge and up to its upper one, so at an edge the ring holds exactly the calls of the time that ends there: not
/// the one stamped that long ago, and each later one. Between two edges the newest bucket is not full yet, and the ring
/// holds the calls of up to a twentieth less. It never holds an older call than it says.
///
/// A call counts at its stamp, not when it became known. One that is older than the ring by then counts nowhere.
#[derive(Debug)]
pub(super) struct Ring {
    within_ms: u64,
    /// The number of the newest bucket; the others are those before it.
    newest: u64,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u32,
    failed: u32,
    slow: u32,
}

impl Ring {
    pub(super) fn new(within_ms: u64, now: Mono) -> Self {
        let mut ring = Self { within_ms, newest: 0, buckets: [Bucket::default(); BUCKETS] };
        ring.newest = ring.number(now);
        ring
    }

    pub(super) fn within_ms(&self) -> u64 {
        self.within_ms
    }

    /// The number of the bucket that this stamp falls into.
    fn number(&self, at: Mono) -> u64 {
        let width = self.within_ms.saturating_mul(1_000_000) / BUCKETS as u64;
        at.0.div_ceil(width.max(1))
    }

    fn bucket(&mut self, number: u64) -> Option<&mut Bucket> {
        let place = usize::try_from(number % BUCKETS as u64).ok()?;
        self.buckets.get_mut(place)
    }

    /// Lets go of what is too old. A jump of any length costs no more than a ring's length.
    pub(super) fn advance(&mut self, now: Mono) {
        let to = self.number(now);
        let passed = to.saturating_sub(self.newest).min(BUCKETS as u64);
        for number in (0..passed).map(|back| to - back) {
            if let Some(bucket) = self.bucket(number) {
                *bucket = Bucket::default();
            }
        }
        self.newest = self.newest.max(to);
    }

    /// Counts calls at their stamp.
    pub(super) fn add(&mut self, at: Mono, more: Tally) {
        self.advance(at);
        self.add_to(self.number(at), more);
    }

    fn add_to(&mut self, number: u64, more: Tally) {
        if self.newest - number >= BUCKETS as u64 {
            return;
        }
        let Some(bucket) = self.bucket(number) else { return };
        let add = |sum: &mut u32, more: u64| *sum = sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        add(&mut bucket.calls, more.calls);
        add(&mut bucket.failed, more.failed);
        add(&mut bucket.slow, more.slow);
    }

    /// Counts calls that were somewhere between the two times as if they had come evenly.
    pub(super) fn spread(&mut self, (from, to): (Mono, Mono), more: Tally) {
        self.advance(to);
        let (first, last) = (self.number(from.min(to)), self.number(to));
        let buckets = last - first + 1;
        // So many of `sum` are in the buckets before this one; rounding each sum and not each bucket loses none.
        let before = |sum: u64, bucket: u64| {
            let part = u128::from(sum) * u128::from(bucket - first) / u128::from(buckets);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let of = |sum: u64, bucket: u64| before(sum, bucket + 1) - before(sum, bucket);
        for bucket in first.max((last + 1).saturating_sub(BUCKETS as u64))..=last {
            let Tally { calls, failed, slow } = more;
            let part = Tally { calls: of(calls, bucket), failed: of(failed, bucket), slow: of(slow, bucket) };
            self.add_to(bucket, part);
        }
    }

    /// All that it holds, as of when it last advanced.
    pub(super) fn sum(&self) -> Tally {
        self.buckets.iter().fold(Tally::default(), |sum, bucket| Tally {
            calls: sum.calls + u64::from(bucket.calls),
            failed: sum.failed + u64::from(bucket.failed),
            slow: sum.slow + u64::from(bucket.slow),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sum() == Tally::default()
    }
}
