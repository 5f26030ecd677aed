//! The fleet's probe lease: one host at a time tries a half-open breaker of the fleet's (fleet.md 34, I6).
//!
//! The holder hands out its permits under the lease, counts their outcomes itself and tells the fleet once: `pfail` when
//! they fail, `pok` when enough have succeeded or the last of them is in, `free` when none counted and nobody asks.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Mono, Outcome, RejectReason};

use crate::account::Charge;
use crate::breaker::{Asker, Breaker, Finding, Probes, Reporter, Stand, Turn};
use crate::change::Because;
use crate::fleet::{LEASE_MS, OpKind, OpResult};

/// How often a lease is renewed while its probe is out.
const RENEW_MS: u64 = 3000;
/// How long a lease may wait for somebody to take its probe.
const IDLE_LEASE_MS: u64 = 1000;

/// A query that waits for the fleet's lease, with the receipt for its permit.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) asker: Asker,
    pub(crate) deadline: Mono,
    /// None where the daemon itself waits.
    pub(crate) charge: Option<Charge>,
}

impl Breaker {
    /// Whether a probe may go out under the fleet's rule: by a lease of this host's, which is asked for if there is none.
    pub(crate) fn leased_probes(&self, now: Mono, more: bool) -> Probes {
        if self.joint.waiting.is_some() || self.joint.result.is_some() {
            return Probes::Out;
        }
        if self.joint.lease.is_some() && now < self.joint.lease_until {
            return Probes::of(more);
        }
        if self.joint.foreign_lease(now) { Probes::Out } else { Probes::ByLease }
    }

    /// Keeps a query until the fleet has answered for the lease.
    pub(crate) fn await_lease(&mut self, turn: &mut Turn<'_>, waiting: Waiting, lease_id: String, holder: String) {
        self.joint.waiting = Some(waiting);
        let because = self.joint.cell.because.clone();
        turn.out.wishes.push((OpKind::Probe { lease_id, holder, lease_ms: LEASE_MS }, because));
    }

    /// A probe under the fleet's lease has ended: the host counts, and tells the fleet once.
    pub(crate) fn settle_leased(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, outcome: &Outcome) {
        let Some(lease_id) = self.joint.lease.clone() else { return };
        let told = match outcome {
            Outcome::Ignored | Outcome::Abandoned => {
                self.joint.renew_at = turn.now.after_ms(IDLE_LEASE_MS);
                return;
            }
            Outcome::Success { .. } => {
                let needed = u64::from(self.policy.probe.successes);
                self.joint.cell.successes = self.joint.cell.successes.saturating_add(1);
                let successes = u64::from(self.joint.cell.successes);
                if successes < needed && self.permits_out() > 0 {
                    return;
                }
                let why = format!("{successes} of {needed} probes succeeded");
                let because = Because::new(&format!("{}@{}", from.label, turn.host), &why);
                (OpKind::Pok { lease_id, successes, needed }, because)
            }
            Outcome::Failure(failure) => {
                let (until, because) = self.reopening(turn, from, failure);
                (OpKind::Pfail { lease_id, duration_ms: ms_up(until.left(turn.now)) }, because)
            }
        };
        self.joint.result = Some(told.clone());
        if turn.stand == Stand::Joined {
            turn.out.wishes.push(told);
        }
    }

    pub(crate) fn lease_answered(&mut self, turn: &mut Turn<'_>, lease_id: &str, result: OpResult) {
        self.joint.renew_at = turn.now.after_ms(IDLE_LEASE_MS);
        let Some((lease_id, because)) = self.joint.confirming.take_if(|(confirming, _)| confirming == lease_id) else {
            return self.answer_waiting(turn);
        };
        if result == OpResult::Ok {
            let needed = u64::from(self.policy.probe.successes);
            let told = (OpKind::Pok { lease_id, successes: needed, needed }, because);
            self.joint.result = Some(told.clone());
            turn.out.wishes.push(told);
        }
    }

    /// Whoever waited for the lease gets its answer: the probe if there is one now, else the reason.
    pub(crate) fn answer_waiting(&mut self, turn: &mut Turn<'_>) {
        let Some(Waiting { asker, deadline, charge }) = self.joint.waiting.take() else { return };
        let own = asker == Asker::DAEMON;
        let finding = if own { self.find_probe(turn.now, turn.stand) } else { self.find(turn.now, turn.stand) };
        let verdict = match finding {
            Finding::ProbeFree if turn.now <= deadline => {
                self.joint.renew_at = turn.now.after_ms(RENEW_MS);
                if own {
                    return self.grant_active(turn);
                }
                let verdict = self.grant(turn, asker, charge);
                return turn.out.answers.push_back((asker.connection, asker.request, verdict));
            }
            Finding::Verdict(verdict) => verdict,
            Finding::ProbeFree | Finding::LeaseNeeded => self.reject(RejectReason::NoAnswer, turn.now),
        };
        turn.out.released.extend(charge);
        if !own {
            turn.out.answers.push_back((asker.connection, asker.request, verdict));
        }
    }

    /// When the lease wants something.
    pub(crate) fn lease_wake(&self) -> Option<Mono> {
        let waiting = self.joint.waiting.as_ref().map(|waiting| waiting.deadline.after_ms(1));
        let lease = self.joint.lease.as_ref().filter(|_| self.joint.result.is_none()).map(|_| self.joint.renew_at);
        [waiting, lease].into_iter().flatten().min()
    }

    /// Renews the lease while its probe is out, gives it back when nobody takes it, and answers whoever waited in vain.
    pub(crate) fn tend_lease(&mut self, turn: &mut Turn<'_>) {
        if self.joint.waiting.as_ref().is_some_and(|waiting| waiting.deadline < turn.now) {
            self.answer_waiting(turn);
        }
        let Some(lease_id) = self.joint.lease.clone() else { return };
        if turn.now < self.joint.renew_at || self.joint.result.is_some() {
            return;
        }
        if turn.now >= self.joint.lease_until || turn.stand != Stand::Joined {
            self.joint.lease = None;
        } else if self.permits_out() > 0 {
            self.joint.renew_at = turn.now.after_ms(RENEW_MS);
            turn.out.wishes.push((OpKind::Renew { lease_id, lease_ms: LEASE_MS }, Because::default()));
        } else {
            self.joint.lease = None;
            turn.out.wishes.push((OpKind::Free { lease_id }, Because::default()));
        }
    }

    /// The connection that waits for a lease has gone, or waits no longer.
    pub(crate) fn stop_waiting(&mut self, turn: &mut Turn<'_>, gone: impl Fn(Asker) -> bool) {
        if let Some(waiting) = self.joint.waiting.take_if(|waiting| gone(waiting.asker)) {
            turn.out.released.extend(waiting.charge);
        }
    }
}
