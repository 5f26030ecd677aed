//! How long open lasts: the first time, and longer after each failed probe.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
