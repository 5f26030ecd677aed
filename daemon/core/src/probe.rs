//! Trips, and the probes that lead back: who may try, what the tries come to, and how long they may take.

use std::time::Duration;

use breakerd_proto::{Mono, Outcome, State, Verdict};

use crate::ConnectionId;
use crate::account::Charge;
use crate::breaker::{Asker, Breaker, Reporter, Stand, Turn};
use crate::change::{Because, What};
use crate::fleet::LEASE_MS;
use crate::tally::{Judgement, Tally};

/// A probe that is out.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) id: u64,
    pub(crate) asker: Asker,
    pub(crate) expires: Mono,
    /// The asker's receipt; the daemon itself needs none.
    pub(crate) charge: Option<Charge>,
}

/// Whether a probe may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probes {
    Free,
    ByLease,
    Out,
}

impl Probes {
    pub(crate) fn of(more: bool) -> Self {
        if more { Self::Free } else { Self::Out }
    }
}

impl Breaker {
    /// Closed to open, by evidence: the host's own cell at once, and the fleet's business unless something on the host
    /// contradicts it (I9). `wish` is until when the provider wishes to be left alone.
    pub(crate) fn trip(&mut self, turn: &mut Turn<'_>, wish: Option<Mono>, contradicted: bool, because: Because) {
        let step = self.backoff.step(turn.now, self.policy.cooldown.forget);
        let until = self.cooldown_ends(turn, step, wish.unwrap_or_default());
        let before = self.state();
        self.host.open(turn.now, until, step, because);
        if !contradicted {
            self.propose_trip(turn);
        }
        self.change(turn, before, What::Trip);
    }

    /// The end of a cooldown that begins now: the policy's, or the provider's wish if that is later.
    fn cooldown_ends(&self, turn: &mut Turn<'_>, step: u32, wish: Mono) -> Mono {
        turn.now.after(self.policy.cooldown.lasts(step, turn.rng)).max(wish)
    }

    /// What the probes of this half-open have come to, the fleet's and those that it has not been told of.
    pub(crate) fn tally(&self) -> Tally {
        let tally = self.ruling().tally;
        if self.fleet_rules() { tally.and(self.joint.counted) } else { tally }
    }

    /// Whether half-open has room for another probe.
    pub(crate) fn has_room(&self) -> bool {
        // The end of a cooldown begins the count anew.
        let tally = if self.ruling().state == State::HalfOpen { self.tally() } else { Tally::default() };
        tally.has_room(&self.policy.probe, self.permits_out())
    }

    /// Whether a probe may go out, the cooldown being over.
    pub(crate) fn probes(&self, now: Mono, stand: Stand) -> Probes {
        let more = self.has_room();
        match stand {
            _ if !self.fleet_rules() => Probes::of(more),
            Stand::Joined => self.leased_probes(now, more),
            // Somebody's lease may still hold, and nobody can be asked.
            _ if self.joint.foreign_lease(now) => Probes::Out,
            Stand::Detached | Stand::Alone => Probes::of(more),
            Stand::JustDetached => Probes::Out,
        }
    }

    /// Lets a probe out. Only after [`Finding::ProbeFree`] at the same `now`.
    pub(crate) fn grant(&mut self, turn: &mut Turn<'_>, asker: Asker, charge: Option<Charge>) -> Verdict {
        if self.ruling().state == State::Open {
            let from = self.state();
            self.ruling_mut().probe(turn.now);
            self.joint.due = turn.now.after(self.policy.probe.period);
            self.change(turn, from, What::Probe);
        }
        turn.out.next_permit = turn.out.next_permit.wrapping_add(1).max(1);
        let id = turn.out.next_permit;
        self.permits.push(Permit { id, asker, expires: turn.now.after(self.permit_lasts(asker)), charge });
        Verdict::Probe { generation: self.generation, permit: id }
    }

    /// Takes the permit back that this request was granted.
    pub(crate) fn take_back(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, request: u32) {
        self.stop_waiting(turn, |asker| asker == Asker { connection, request });
        if let Some(held) = self.permits.iter().position(|p| p.asker == Asker { connection, request }) {
            turn.out.released.extend(self.permits.swap_remove(held).charge);
        }
    }

    /// Whether this request waits for a probe, or the one that it was granted is still out.
    pub(crate) fn holds(&self, connection: ConnectionId, request: u32) -> bool {
        let asker = Asker { connection, request };
        let waits = self.joint.waiting.as_ref().is_some_and(|waiting| waiting.asker == asker);
        waits || self.permits.iter().any(|p| p.asker == asker)
    }

    /// The probes that the connection has out.
    pub(crate) fn held_by(&self, connection: ConnectionId) -> usize {
        self.permits.iter().filter(|p| p.asker.connection == connection).count()
    }

    /// The probes that are out count no more.
    pub(crate) fn recall(&mut self, turn: &mut Turn<'_>) {
        turn.out.released.extend(self.permits.drain(..).filter_map(|permit| permit.charge));
    }

    pub(crate) fn permits_out(&self) -> u32 {
        u32::try_from(self.permits.len()).unwrap_or(u32::MAX)
    }

    /// A probe has ended, or what claims to be one.
    pub(crate) fn settle_probe(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, permit: u64, outcome: &Outcome) {
        let held = self.permits.iter().position(|p| p.id == permit && p.asker.connection == from.connection);
        let Some(held) = held else {
            turn.out.stale_reports = turn.out.stale_reports.saturating_add(1);
            return;
        };
        turn.out.released.extend(self.permits.swap_remove(held).charge);
        if self.forced.is_some() {
            return;
        }
        if let (Outcome::Failure(_), Some(lane)) = (outcome, self.lanes.get_mut(&from.worker)) {
            lane.failures = lane.failures.saturating_add(1);
        }
        if self.fleet_rules() && (turn.stand == Stand::Joined || self.joint.lease.is_some()) {
            self.settle_leased(turn, from, outcome);
        } else if self.ruling_mut().tally.count(outcome, turn.now) {
            self.decide(turn, from, outcome);
        }
    }

    /// Judges the probes of a cell that is the host's to decide.
    fn decide(&mut self, turn: &mut Turn<'_>, from: &Reporter<'_>, last: &Outcome) {
        let tally = self.ruling().tally;
        match tally.judge(&self.policy.probe) {
            Judgement::Undecided => {}
            Judgement::Recover => {
                let because = turn.because(from.label, &tally.recovery(&self.policy.probe));
                self.recover_alone(turn, because);
            }
            Judgement::Reopen => {
                let because = turn.because(from.label, &tally.reopening(&self.policy.probe, last));
                // An open host gathers no other evidence than its probes: where nothing has spoken against it since it
                // opened, a failed one says that the trouble is not this host's alone.
                let alone = self.succeeded >= self.host.opened;
                self.reopen_alone(turn, because);
                if !self.fleet_rules() && !alone {
                    self.propose_trip(turn);
                }
            }
        }
    }

    /// Half-open to closed, by the host's own word.
    pub(crate) fn recover_alone(&mut self, turn: &mut Turn<'_>, because: Because) {
        let before = self.state();
        self.backoff.recover(self.ruling().step, turn.now);
        if self.fleet_rules() {
            self.joint.recover_alone(turn.now, because);
        } else {
            self.joint.trip = None;
            self.host.close(turn.now, because);
        }
        self.change(turn, before, What::Recover);
    }

    /// Half-open to open, by the host's own word.
    pub(crate) fn reopen_alone(&mut self, turn: &mut Turn<'_>, because: Because) {
        let before = self.state();
        let (until, step) = self.reopening(turn);
        self.ruling_mut().open(turn.now, until, step, because);
        self.change(turn, before, What::Reopen);
    }

    /// Until when open again, and at which step.
    pub(crate) fn reopening(&self, turn: &mut Turn<'_>) -> (Mono, u32) {
        let step = self.ruling().step.saturating_add(1);
        (self.cooldown_ends(turn, step, self.tally().wish), step)
    }

    /// When half-open has lasted for too long.
    pub(crate) fn period_wake(&self) -> Option<Mono> {
        let half_open = self.ruling().state == State::HalfOpen && self.forced.is_none();
        half_open.then(|| if self.fleet_rules() { self.joint.due } else { self.period_ends() })
    }

    /// When this half-open has lasted for its whole period, by this host's clock.
    pub(crate) fn period_ends(&self) -> Mono {
        self.ruling().since.after(self.policy.probe.period)
    }

    /// Half-open has lasted too long undecided: it reopens, so that nothing sticks (I3). Under the fleet only the lease's
    /// holder may say so.
    pub(crate) fn end_period(&mut self, turn: &mut Turn<'_>) {
        if self.period_wake().is_none_or(|at| at > turn.now) {
            return;
        }
        if !self.fleet_rules() || turn.stand == Stand::Detached {
            let because = self.undecided(turn);
            return self.reopen_alone(turn, because);
        }
        // Whatever comes of it, the alarm must go on.
        self.joint.due = turn.now.after_ms(LEASE_MS);
        if turn.stand == Stand::Joined {
            self.reopen_leased(turn);
        }
    }

    pub(crate) fn undecided(&self, turn: &Turn<'_>) -> Because {
        let lasted = turn.now.since(self.ruling().since);
        turn.because("breakerd", &format!("half-open for {} without a decision", span(lasted)))
    }
}

/// A while in its largest unit, cut: `10 min`.
fn span(lasted: Duration) -> String {
    match lasted.as_secs() {
        0 => format!("{} ms", lasted.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
