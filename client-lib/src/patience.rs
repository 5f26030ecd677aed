//! When to ask a daemon that was slow, and when to look again for one that was absent.

use std::time::Duration;

use breakerd_proto::Mono;

/// The first pause after a miss or a failed connection.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A daemon that was silent for so long is taken for absent.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Pauses that double from [`PAUSE_FIRST`] to [`PAUSE_MAX`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pauses {
    until: Mono,
    next: Duration,
}

impl Pauses {
    /// Whether the pause is over.
    pub(crate) fn is_over(&self, now: Mono) -> bool {
        self.until <= now
    }

    /// How long the pause still lasts.
    pub(crate) fn left(&self, now: Mono) -> Duration {
        self.until.left(now)
    }

    /// It went wrong: pause. What went wrong at the same time for another thread counts once.
    pub(crate) fn begin(&mut self, now: Mono) {
        if self.is_over(now) {
            let pause = self.next.clamp(PAUSE_FIRST, PAUSE_MAX);
            self.until = now.after(pause);
            self.next = pause.saturating_mul(2);
        }
    }

    /// It went well.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A daemon that is slow is not absent: it is asked less often, and given up only after a long silence.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    pauses: Pauses,
    silent_since: Option<Mono>,
}

impl Patience {
    /// Whether to ask.
    pub(crate) fn asks(&self, now: Mono) -> bool {
        self.pauses.is_over(now)
    }

    /// Whether it has been silent for so long that the fallback takes over.
    pub(crate) fn is_gone(&self, now: Mono) -> bool {
        self.silent_since.is_some_and(|since| now.since(since) >= SILENT_MAX)
    }

    /// Since when nothing has come, if something was missed.
    pub(crate) fn silent_since(&self) -> Option<Mono> {
        self.silent_since
    }

    /// An answer did not come in time.
    pub(crate) fn missed(&mut self, now: Mono) {
        self.silent_since.get_or_insert(now);
        self.pauses.begin(now);
    }

    /// Something came, late perhaps: it lives, but whoever answers late is not asked more often for it.
    pub(crate) fn heard(&mut self) {
        self.silent_since = None;
    }

    /// An answer came in time.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_seconds_and_start_anew_after_a_success() {
        let (mut pauses, mut now) = (Pauses::default(), Mono(0));
        for expect_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert!(pauses.is_over(now));
            pauses.begin(now);
            pauses.begin(now);
            assert!(!pauses.is_over(Mono(now.after_ms(expect_ms).0 - 1)));
            now = now.after_ms(expect_ms);
        }
        pauses.clear();
        pauses.begin(now);
        assert!(pauses.is_over(now.after_ms(100)));
    }

    #[test]
    fn ten_seconds_of_silence_and_no_less_are_absence() {
        let mut patience = Patience::default();
        assert!(patience.asks(Mono(0)) && !patience.is_gone(Mono(0)));
        patience.missed(Mono(5));
        patience.missed(Mono(5).after_ms(4000));
        assert!(!patience.is_gone(Mono(4).after_ms(10_000)));
        assert!(patience.is_gone(Mono(5).after_ms(10_000)));
        patience.heard();
        assert!(!patience.is_gone(Mono(5).after_ms(20_000)));
        assert!(!patience.asks(Mono(5).after_ms(4001)), "it answers late, so it is asked no more often");
        patience.answered();
        assert!(patience.asks(Mono(5).after_ms(4001)));
    }
}
