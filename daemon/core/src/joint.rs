//! What a breaker has to do with the fleet: the fleet cell, the probe lease, what waits to be told.
//!
//! A local trip opens the host cell at once and is proposed; when the fleet cell opens, the host cell ends. While the
//! fleet is away its cell is kept as last known, and what the host then decides over it is proposed on its return.

use breakerd_proto::clock::ms_up;
use breakerd_proto::{Mono, Outcome, State};

use crate::account::Charge;
use crate::breaker::{Asker, Breaker, Forced, Probes, Reporter, Stand, Turn};
use crate::cell::Cell;
use crate::change::{Because, What};
use crate::fleet::{LEASE_MS, OpKind, OpResult, Seen};
use crate::joined::Life;

/// How often a lease is renewed while its probe is out.
const RENEW_MS: u64 = 3000;
/// How long a lease may wait for somebody to take its probe.
const IDLE_LEASE_MS: u64 = 1000;
/// Evidence younger than this still counts after the fleet has changed its mind meanwhile.
const FRESH_MS: u64 = 10_000;

/// The fleet's part of a breaker.
#[derive(Debug, Default)]
pub(crate) struct Joint {
    /// The fleet's number of the change that `cell` shows.
    pub(crate) version: u64,
    pub(crate) cell: Cell,
    /// The lease that this host holds.
    pub(crate) lease: Option<String>,
    /// The end of whoever's lease there is.
    pub(crate) lease_until: Mono,
    holder: String,
    renew_at: Mono,
    /// The query that waits for the fleet's lease.
    pub(crate) waiting: Option<Waiting>,
    /// The host cell's trip is the fleet's business: made at this version.
    trip: Option<u64>,
    /// The host recovered the fleet cell by itself, at this version.
    recovered: Option<u64>,
    /// The lease under which that recovery is being told, and its words.
    confirming: Option<(String, Because)>,
    /// An operator's wish that the fleet has not answered.
    command: Option<(OpKind, Because)>,
    /// A probe's result that the fleet has not answered.
    result: Option<(OpKind, Because)>,
}

/// A query that waits for the fleet's lease, with the receipt for its permit.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) asker: Asker,
    pub(crate) deadline: Mono,
    pub(crate) charge: Charge,
}

impl Joint {
    /// Whether another host's lease holds.
    pub(crate) fn foreign_lease(&self, now: Mono) -> bool {
        self.cell.state == State::HalfOpen && self.lease.is_none() && !self.holder.is_empty() && now < self.lease_until
    }

    /// Whether nothing waits for the fleet and nothing is to be told to it.
    pub(crate) fn owes_nothing(&self) -> bool {
        let Self {
            version: _,
            cell: _,
            lease,
            lease_until: _,
            holder: _,
            renew_at: _,
            waiting,
            trip,
            recovered,
            confirming,
            command,
            result,
        } = self;
        let told = trip.is_none() && recovered.is_none() && command.is_none() && result.is_none();
        told && lease.is_none() && waiting.is_none() && confirming.is_none()
    }

    /// Whether the fleet has never spoken of the breaker, nor the host to the fleet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.owes_nothing() && self.cell == Cell::default()
    }

    /// The host's own change to closed, until the fleet says otherwise.
    pub(crate) fn close(&mut self, now: Mono, because: Because) {
        self.cell.close(now, because);
        self.lease = None;
        self.trip = None;
        self.recovered = None;
        self.result = None;
    }
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

    /// The host's trip concerns the fleet.
    pub(crate) fn propose_trip(&mut self, turn: &mut Turn<'_>) {
        self.joint.trip = Some(self.joint.version);
        if turn.stand == Stand::Joined {
            self.wish_trip(turn, self.joint.version);
        }
    }

    fn wish_trip(&self, turn: &mut Turn<'_>, expected: u64) {
        let duration_ms = ms_up(self.host.until.left(turn.now));
        turn.out.wishes.push((OpKind::Trip { expected, duration_ms }, self.host.because.clone()));
    }

    /// An operator's wish: told now, or kept until the fleet is back.
    pub(crate) fn wish(&mut self, turn: &mut Turn<'_>, kind: OpKind, because: Because) {
        match turn.stand {
            Stand::Alone => {}
            Stand::Joined => turn.out.wishes.push((kind, because)),
            Stand::JustDetached | Stand::Detached => self.joint.command = Some((kind, because)),
        }
    }

    /// Enough probes of the host's own have succeeded.
    pub(crate) fn recover_alone(&mut self, now: Mono, because: Because) {
        if self.fleet_rules() {
            self.joint.recovered = Some(self.joint.version);
            self.joint.cell.close(now, because);
        } else {
            self.joint.trip = None;
            self.host.close(now, because);
        }
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

    /// The fleet's newer value.
    pub(crate) fn take_in(&mut self, turn: &mut Turn<'_>, seen: &Seen, own: &str, life: Life) {
        let value = &seen.value;
        if value.version <= self.joint.version && life == Life::Same {
            return;
        }
        let (from, before) = (self.state(), self.view(turn.now));
        let because = Because::new(&value.by, &value.why);
        let since = if value.state == self.joint.cell.state { self.joint.cell.since } else { turn.now };
        self.joint.version = value.version;
        self.joint.cell = Cell {
            state: value.state,
            until: seen.until,
            step: value.step,
            successes: u32::try_from(value.successes).unwrap_or(u32::MAX),
            since,
            because: because.clone(),
        };
        self.joint.holder.clone_from(&value.holder);
        self.joint.lease_until = seen.lease_until;
        let ours = value.holder == own && !value.lease_id.is_empty();
        self.joint.lease = ours.then(|| value.lease_id.clone());
        self.joint.recovered = None;
        if !ours {
            self.joint.result = None;
            self.recall(turn);
        }
        if value.state != State::Closed {
            // When the fleet cell opens, the host cell ends.
            self.joint.trip = None;
            self.host = Cell { since: turn.now, ..Cell::default() };
        }
        self.forced = value.forced.map(|to| Forced { to, end: seen.forced_until, since: turn.now, because });
        self.shown_anew(turn, from, &before);
    }

    /// One record if anything that people see is otherwise now.
    fn shown_anew(&mut self, turn: &mut Turn<'_>, from: State, before: &breakerd_proto::message::View) {
        let view = self.view(turn.now);
        if (before.state, before.forced, &before.by, &before.why) == (view.state, view.forced, &view.by, &view.why) {
            self.generation = self.generation.saturating_add(1);
            return;
        }
        let what = match (from, view.state) {
            _ if before.forced != view.forced => {
                if view.forced.is_some() {
                    What::Force
                } else {
                    What::Release
                }
            }
            (State::Closed, State::Open) => What::Trip,
            (State::HalfOpen, State::Open) => What::Reopen,
            (State::Open, State::HalfOpen) => What::Probe,
            (State::HalfOpen, State::Closed) => What::Recover,
            _ => What::Fleet,
        };
        self.change(turn, from, what);
    }

    /// A full read did not name it: closed and not forced with this version. In a new life of the data, what was open
    /// before stays open on this host and is proposed again.
    pub(crate) fn absent(&mut self, turn: &mut Turn<'_>, version: u64, life: Life) {
        if self.joint.version > version && life == Life::Same {
            return;
        }
        let (from, before) = (self.state(), self.view(turn.now));
        let open = self.fleet_rules();
        if life == Life::New && open {
            self.host = std::mem::take(&mut self.joint.cell);
            self.host.state = State::Open;
            self.joint.trip = Some(version);
        } else if life == Life::New && self.forced.is_some() {
            let kept = self.forced.as_ref().map(|forced| {
                let duration_ms = forced.end.map(|end| ms_up(end.left(turn.now)));
                (OpKind::Force { to: forced.to, duration_ms }, forced.because.clone())
            });
            self.joint.command = kept;
        } else if life != Life::New && (open || self.joint.command.is_none() && self.forced.is_some()) {
            self.joint.cell.close(turn.now, Because::new("fleet", "closed while this host was away"));
            self.forced = None;
        }
        if self.joint.trip.is_some_and(|base| base < version) && self.host.state != State::Closed {
            self.trip_overtaken(turn, version);
        }
        self.joint.version = version;
        self.joint.lease = None;
        if (before.state, before.forced) != (self.state(), self.forced.as_ref().map(|forced| forced.to)) {
            self.change(turn, from, What::Fleet);
        }
    }

    /// The fleet's log no longer reaches back to the trip: whether it was overruled cannot be known. Fresh evidence stands
    /// against the new version; older evidence keeps its own host open, and tells nobody.
    fn trip_overtaken(&mut self, turn: &Turn<'_>, version: u64) {
        let stands = self.joint.version == 0 || self.trip_is_fresh(turn.now);
        self.joint.trip = stands.then_some(version);
    }

    /// The link is live again: what the host decided alone is proposed.
    pub(crate) fn reconcile(&mut self, turn: &mut Turn<'_>, lease_id: &str, own: &str) {
        if let Some(command) = self.joint.command.take() {
            turn.out.wishes.push(command);
        }
        if let Some(result) = self.joint.result.clone() {
            turn.out.wishes.push(result);
        }
        self.propose_again(turn);
        if self.joint.recovered == Some(self.joint.version) {
            let (lease_id, holder) = (lease_id.to_owned(), own.to_owned());
            let because = self.joint.cell.because.clone();
            self.joint.confirming = Some((lease_id.clone(), because.clone()));
            turn.out.wishes.push((OpKind::Probe { lease_id, holder, lease_ms: LEASE_MS }, because));
        }
    }

    /// A trip that the fleet has not heard of: against the version that it was made at, or, where the fleet has moved on
    /// since, against the new one if the evidence is fresh. Older evidence was overruled.
    fn propose_again(&mut self, turn: &mut Turn<'_>) {
        let Some(base) = self.joint.trip else { return };
        if self.host.state == State::Closed || turn.now >= self.host.until {
            return;
        }
        if base == self.joint.version || self.trip_is_fresh(turn.now) {
            self.joint.trip = Some(self.joint.version);
            self.wish_trip(turn, self.joint.version);
        } else {
            self.trip_refused(turn);
        }
    }

    fn trip_is_fresh(&self, now: Mono) -> bool {
        now <= self.host.since.after_ms(FRESH_MS)
    }

    /// The fleet has judged a wish; its value has been taken in.
    pub(crate) fn answered(&mut self, turn: &mut Turn<'_>, kind: &OpKind, result: OpResult) {
        match kind {
            OpKind::Trip { .. } if result == OpResult::Stale && !self.fleet_rules() => self.trip_refused(turn),
            OpKind::Probe { lease_id, .. } => self.lease_answered(turn, lease_id, result),
            OpKind::Pok { .. } | OpKind::Pfail { .. } => self.joint.result = None,
            _ => {}
        }
    }

    /// Refused with a closed value: the evidence was older than a recovery.
    fn trip_refused(&mut self, turn: &mut Turn<'_>) {
        if self.joint.trip.take().is_some() && self.host.state != State::Closed {
            let from = self.state();
            self.host.close(turn.now, Because::new("fleet", "the fleet has recovered since"));
            self.change(turn, from, What::Fleet);
        }
    }

    fn lease_answered(&mut self, turn: &mut Turn<'_>, lease_id: &str, result: OpResult) {
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
        let free = matches!(self.find(turn.now, turn.stand), crate::breaker::Finding::ProbeFree);
        if free && turn.now <= deadline {
            let verdict = self.grant(turn, asker, charge);
            self.joint.renew_at = turn.now.after_ms(RENEW_MS);
            turn.out.answers.push_back((asker.connection, asker.request, verdict));
            return;
        }
        turn.out.released.push(charge);
        let verdict = match self.find(turn.now, turn.stand) {
            crate::breaker::Finding::Verdict(verdict) => verdict,
            _ => self.reject(breakerd_proto::RejectReason::NoAnswer, turn.now),
        };
        turn.out.answers.push_back((asker.connection, asker.request, verdict));
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
            turn.out.released.push(waiting.charge);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "joint_tests.rs"]
mod tests;
