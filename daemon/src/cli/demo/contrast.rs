//! What the same calls would have done with a breaker in each process and no daemon: really run, on a clock of its own.

use std::time::Duration;

use breakerd_core::Solo;
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Mono, Name, Outcome, Verdict};

/// What four separate breakers let through.
pub(super) struct Contrast {
    /// Calls after the first worker's breaker tripped that reached the failing provider.
    pub(super) reached: u32,
    /// Calls that reach it at once when the cooldown is over.
    pub(super) probes: u32,
}

/// `burst` calls of the first worker at once, `calls` by each of `workers`, and one by each after the cooldown.
pub(super) fn separate(workers: u32, burst: u32, calls: u32, name: &Name, policy: &PolicyPatch) -> Contrast {
    let mut breakers: Vec<Solo> = (0..workers).map(|seed| Solo::new(u64::from(seed), Mono(0))).collect();
    let mut now = Mono(0);
    for breaker in &mut breakers {
        breaker.set_policy(now, name, policy);
    }
    if let Some(first) = breakers.first_mut() {
        let admitted: Vec<Verdict> = (0..burst).map(|_| first.query(now, name)).collect();
        for verdict in admitted {
            fail(first, now, name, &verdict);
        }
    }
    let mut reached = 0;
    for _ in 0..calls {
        now = now.after(Duration::from_micros(50));
        for breaker in &mut breakers {
            let verdict = breaker.query(now, name);
            reached += u32::from(fail(breaker, now, name, &verdict));
        }
    }
    let after = now.after_ms(policy.cooldown_first_ms.unwrap_or_default()).after_ms(1);
    let probes = breakers.iter_mut().map(|breaker| breaker.query(after, name));
    let probes = probes.filter(|verdict| !matches!(verdict, Verdict::Reject { .. })).count();
    Contrast { reached, probes: u32::try_from(probes).unwrap_or(u32::MAX) }
}

/// Calls the failing provider if the verdict allows it; true if it did.
fn fail(breaker: &mut Solo, now: Mono, name: &Name, verdict: &Verdict) -> bool {
    let (generation, permit) = match verdict {
        Verdict::Admit { generation } => (*generation, 0),
        Verdict::Probe { generation, permit } => (*generation, *permit),
        Verdict::Reject { .. } => return false,
    };
    breaker.report(now, name, generation, permit, &Outcome::failure("http-401"));
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn three_of_four_still_have_to_learn_it_by_themselves() {
        let policy = PolicyPatch {
            consecutive_failures: Some(3),
            cooldown_first_ms: Some(5000),
            cooldown_jitter: Some(0.0),
            ..PolicyPatch::default()
        };
        let contrast = separate(4, 5, 1000, &Name::parse("openai").unwrap(), &policy);
        assert_eq!((contrast.reached, contrast.probes), (9, 4));
    }
}
