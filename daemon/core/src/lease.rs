//! The fleet's probe lease: one host at a time tries a half-open breaker of the fleet's (fleet.md 34, I6).
//!
//! The holder hands out its permits under the lease, counts their outcomes itself and tells the fleet once: `pfail` when
//! they fail, `pok` when enough have succeeded or the last of them is in, `free` when none counted and nobody asks.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Mono, Outcome, RejectReason};

use crate::account::Charge;
use crate::breaker::{Asker, Breaker, Finding, Reporter, Stand, Turn};
use crate::change::{Because, What};
use crate::fleet::{LEASE_MS, OpKind, OpResult};
use crate::probe::Probes;
use crate::tally::{Judgement, Tally};

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
        if self.joint.lease.is_none() {
            return;
        }
        self.joint.counted.count(outcome, turn.now);
        if self.permits_out() == 0 {
            self.joint.renew_at = turn.now.after_ms(IDLE_LEASE_MS);
        }
        let (tally, probe) = (self.tally(), &self.policy.probe);
        match tally.judge(probe) {
            Judgement::Undecided if self.permits_out() == 0 => self.tell_some(turn, from.label),
            Judgement::Undecided => {}
            Judgement::Recover => {
                let because = turn.because(from.label, &tally.recovery(probe));
                self.tell_recovery(turn, because);
            }
            Judgement::Reopen => {
                let because = turn.because(from.label, &tally.reopening(probe, outcome));
                self.tell_reopening(turn, because);
            }
        }
    }

    /// The last probe of this lease is in and more must succeed: the fleet adds up, whoever makes them. A rate is decided
    /// by one host, since what the fleet keeps has no place for failures.
    fn tell_some(&mut self, turn: &mut Turn<'_>, label: &str) {
        let Some(lease_id) = self.joint.lease.clone() else { return };
        let successes = self.joint.counted.successes;
        if successes == 0 || self.policy.probe.rate.is_some() || turn.stand != Stand::Joined {
            return;
        }
        let because = turn.because(label, &self.tally().recovery(&self.policy.probe));
        self.joint.counted = Tally::default();
        let needed = u64::from(self.policy.probe.successes);
        self.tell(turn, OpKind::Pok { lease_id, successes: successes.into(), needed }, because);
    }

    /// While the fleet is away the host goes by its own word, and the lease's result waits for the fleet's return.
    fn tell_recovery(&mut self, turn: &mut Turn<'_>, because: Because) {
        let Some(lease_id) = self.joint.lease.clone() else { return };
        let successes = std::mem::take(&mut self.joint.counted).successes.into();
        // Decided here, by all that were made: whatever count the fleet has, it is enough.
        self.tell(turn, OpKind::Pok { lease_id, successes, needed: 0 }, because.clone());
        if turn.stand != Stand::Joined {
            self.recover_alone(turn, because);
        }
    }

    fn tell_reopening(&mut self, turn: &mut Turn<'_>, because: Because) {
        let Some(lease_id) = self.joint.lease.clone() else { return };
        let (until, step) = self.reopening(turn);
        self.joint.counted = Tally::default();
        let duration_ms = ms_up(until.left(turn.now));
        self.tell(turn, OpKind::Pfail { lease_id, duration_ms }, because.clone());
        if turn.stand != Stand::Joined {
            let from = self.state();
            self.joint.cell.open(turn.now, until, step, because);
            self.change(turn, from, What::Reopen);
        }
    }

    fn tell(&mut self, turn: &mut Turn<'_>, kind: OpKind, because: Because) {
        self.joint.result = Some((kind.clone(), because.clone()));
        self.joint.untold = false;
        if turn.stand == Stand::Joined {
            turn.out.wishes.push((kind, because));
        }
    }

    /// Half-open has lasted too long: its lease's holder says so.
    pub(crate) fn reopen_leased(&mut self, turn: &mut Turn<'_>) {
        if self.joint.lease.is_some() && self.joint.result.is_none() {
            let because = self.undecided(turn);
            self.tell_reopening(turn, because);
        }
    }

    pub(crate) fn lease_answered(&mut self, turn: &mut Turn<'_>, lease_id: &str, result: OpResult) {
        self.joint.renew_at = turn.now.after_ms(IDLE_LEASE_MS);
        let Some((lease_id, because)) = self.joint.confirming.take_if(|(confirming, _)| confirming == lease_id) else {
            return self.answer_waiting(turn);
        };
        if result == OpResult::Ok {
            self.tell(turn, OpKind::Pok { lease_id, successes: 0, needed: 0 }, because);
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
        let quiet = self.joint.result.is_some() && !self.joint.untold;
        let lease = self.joint.lease.as_ref().filter(|_| !quiet).map(|_| self.joint.renew_at);
        [waiting, lease].into_iter().flatten().min()
    }

    /// Renews the lease while its probe is out, gives it back when nobody takes it, and answers whoever waited in vain.
    pub(crate) fn tend_lease(&mut self, turn: &mut Turn<'_>) {
        if self.joint.waiting.as_ref().is_some_and(|waiting| waiting.deadline < turn.now) {
            self.answer_waiting(turn);
        }
        let Some(lease_id) = self.joint.lease.clone() else { return };
        if turn.now < self.joint.renew_at {
            return;
        }
        if let Some(result) = &self.joint.result {
            if std::mem::take(&mut self.joint.untold) && turn.stand == Stand::Joined {
                turn.out.wishes.push(result.clone());
            }
            return;
        }
        let idle = self.permits_out() == 0;
        if turn.now >= self.joint.lease_until || turn.stand != Stand::Joined {
            self.joint.lease = None;
        } else if !idle {
            self.joint.renew_at = turn.now.after_ms(RENEW_MS);
            turn.out.wishes.push((OpKind::Renew { lease_id, lease_ms: LEASE_MS }, Because::default()));
        } else if self.forced.is_some() {
            // The fleet hears no result while an override lies over the state.
            self.joint.lease = None;
        } else if self.joint.counted.successes > 0 && self.policy.probe.rate.is_none() {
            self.tell_some(turn, "breakerd");
        } else if turn.now >= self.period_ends() {
            self.reopen_leased(turn);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "lease_tests.rs"]
mod tests;
