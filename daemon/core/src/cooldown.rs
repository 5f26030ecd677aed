//! How long open lasts: the first time, and longer after each failed probe.

use std::time::Duration;

use breakerd_proto::Mono;

/// Backoff with jitter. `first · factor^step`, at most `max`, spread by `jitter` to both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cooldown {
    /// The cooldown of a trip.
    pub first: Duration,
    /// By what each reopening multiplies it, at least 1.
    pub factor: f64,
    /// The longest, jitter aside.
    pub max: Duration,
    /// The part that chance may add or take, 0 to 0.5.
    pub jitter: f64,
    /// A trip so soon after a recovery goes on with the backoff where it was.
    pub forget: Duration,
}

impl Default for Cooldown {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(15),
            factor: 2.0,
            max: Duration::from_secs(120),
            jitter: 0.1,
            forget: Duration::from_secs(60),
        }
    }
}

impl Cooldown {
    /// The cooldown after `step` reopenings.
    #[must_use]
    pub fn lasts(&self, step: u32, rng: &mut fastrand::Rng) -> Duration {
        let exponent = i32::try_from(step.min(1000)).unwrap_or(1000);
        let grown = self.first.as_secs_f64() * self.factor.powi(exponent);
        let capped = grown.min(self.max.as_secs_f64()).max(0.0);
        let spread = 1.0 + self.jitter * (2.0 * rng.f64() - 1.0);
        Duration::try_from_secs_f64(capped * spread).unwrap_or(self.max)
    }
}

/// The backoff after a recovery: a dependency that soon fails again has not recovered, and goes on where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    recovered: Option<(u32, Mono)>,
}

impl Backoff {
    /// Probes have closed it, after a cooldown of this step.
    pub(crate) fn recover(&mut self, step: u32, now: Mono) {
        self.recovered = Some((step, now));
    }

    /// An operator has closed it.
    pub(crate) fn reset(&mut self) {
        self.recovered = None;
    }

    /// The step that a trip begins with: the next one within `forget` of the recovery, else the first.
    pub(crate) fn step(&self, now: Mono, forget: Duration) -> u32 {
        match self.recovered {
            Some((step, at)) if now < at.after(forget) => step.saturating_add(1),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_within_the_quiet_time_goes_on_and_a_later_one_begins_anew() {
        let (at, minute) = (Mono::default().after_ms(1000), Duration::from_secs(60));
        let mut backoff = Backoff::default();
        assert_eq!(backoff.step(at, minute), 0, "it has never tripped");
        backoff.recover(3, at);
        assert_eq!(backoff.step(at.after_ms(59_999), minute), 4);
        assert_eq!(backoff.step(at.after_ms(60_000), minute), 0);
        assert_eq!(backoff.step(at, Duration::ZERO), 0, "no time at all is never");
        backoff.recover(u32::MAX, at);
        assert_eq!(backoff.step(at, minute), u32::MAX, "steps saturate");
        backoff.reset();
        assert_eq!(backoff.step(at, minute), 0);
    }

    #[test]
    fn doubles_to_the_maximum() {
        let cooldown = Cooldown { jitter: 0.0, ..Cooldown::default() };
        let mut rng = fastrand::Rng::with_seed(1);
        let seconds: Vec<u64> = (0..6).map(|step| cooldown.lasts(step, &mut rng).as_secs()).collect();
        assert_eq!(seconds, [15, 30, 60, 120, 120, 120]);
        assert_eq!(cooldown.lasts(u32::MAX, &mut rng).as_secs(), 120, "a huge step saturates");
    }

    #[test]
    fn jitter_stays_within_its_part() {
        let cooldown = Cooldown { jitter: 0.5, ..Cooldown::default() };
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let lasts = cooldown.lasts(0, &mut rng);
            assert!(lasts >= Duration::from_millis(7500) && lasts <= Duration::from_millis(22500), "{lasts:?}");
        }
    }
}
