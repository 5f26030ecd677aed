//! What a breaker has to do with the fleet: the fleet cell, the probe lease, what waits to be told.
//!
//! A local trip opens the host cell at once and is proposed; when the fleet cell opens, the host cell ends. While the
//! fleet is away its cell is kept as last known, and what the host then decides over it is proposed on its return.

use std::time::Duration;

use breakerd_proto::clock::ms_up;
use breakerd_proto::message::View;
use breakerd_proto::{Mode, Mono, State};

use crate::breaker::{Breaker, Forced, Stand, Turn};
use crate::cell::Cell;
use crate::change::{Because, What};
use crate::fleet::{LEASE_MS, OpKind, OpResult, Seen, Value};
use crate::joined::Life;
use crate::lease::Waiting;
use crate::tally::Tally;

/// Evidence younger than this still counts after the fleet has changed its mind meanwhile.
const FRESH_MS: u64 = 10_000;
/// When a probe's result is told again that the link did not take.
const RETRY_MS: u64 = 1000;

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
    pub(crate) holder: String,
    pub(crate) renew_at: Mono,
    /// The query that waits for the fleet's lease.
    pub(crate) waiting: Option<Waiting>,
    /// The host cell's trip is the fleet's business: made at this version.
    pub(crate) trip: Option<u64>,
    /// The host recovered the fleet cell by itself, at this version.
    recovered: Option<u64>,
    /// The lease under which that recovery is being told, and its words.
    pub(crate) confirming: Option<(String, Because)>,
    /// An operator's wish that the fleet has not answered.
    command: Option<(OpKind, Because)>,
    /// A probe's result that the fleet has not answered.
    pub(crate) result: Option<(OpKind, Because)>,
    /// The link did not take that result; it is told again.
    pub(crate) untold: bool,
    /// Probes that this host has counted in this half-open and not told the fleet.
    pub(crate) counted: Tally,
    /// When this host next asks itself whether the fleet's half-open has lasted too long.
    pub(crate) due: Mono,
}

/// What a fleet's value says of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// It is not closed, or nothing has ended by it.
    None,
    /// Probes have closed it, after a cooldown of this step.
    Recovery(u32),
    /// An operator has.
    Reset,
}

impl Closing {
    /// A value that probes have closed keeps the length and step of its last cooldown; one that an operator has closed has
    /// neither; one that only a refusal showed has no author, and what the host saw before tells.
    fn of(value: &Value, old: &Cell, forced: Option<&Forced>, life: Life) -> Self {
        if value.state != State::Closed {
            return Self::None;
        }
        if value.duration_ms > 0 {
            return Self::Recovery(value.step);
        }
        if value.by.is_empty() {
            return if old.state == State::Closed { Self::None } else { Self::Recovery(old.step) };
        }
        let overridden = value.forced != forced.map(|forced| forced.to);
        if overridden || life != Life::Same { Self::None } else { Self::Reset }
    }
}

impl Joint {
    /// Whether another host's lease holds.
    pub(crate) fn foreign_lease(&self, now: Mono) -> bool {
        now < self.foreign_until()
    }

    /// The end of another host's lease, if there is one.
    pub(crate) fn foreign_until(&self) -> Mono {
        let foreign = self.cell.state == State::HalfOpen && self.lease.is_none() && !self.holder.is_empty();
        if foreign { self.lease_until } else { Mono::default() }
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
            untold: _, // says something of `result` alone
            counted,
            due: _,
        } = self;
        let told = trip.is_none() && recovered.is_none() && command.is_none() && result.is_none();
        let told = told && *counted == Tally::default();
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

    /// The host's own recovery of the fleet cell; told when the fleet is back.
    pub(crate) fn recover_alone(&mut self, now: Mono, because: Because) {
        self.recovered = Some(self.version);
        self.cell.close(now, because);
    }
}

impl Breaker {
    /// The host's trip concerns the fleet, unless the breaker only watches.
    pub(crate) fn propose_trip(&mut self, turn: &mut Turn<'_>) {
        if self.mode() != Mode::On {
            return;
        }
        self.joint.trip = Some(self.joint.version);
        if turn.stand == Stand::Joined {
            self.wish_trip(turn, self.joint.version);
        }
    }

    fn wish_trip(&self, turn: &mut Turn<'_>, expected: u64) {
        let duration_ms = ms_up(self.host.until.left(turn.now));
        let kind = OpKind::Trip { expected, duration_ms, step: self.host.step };
        turn.out.wishes.push((kind, self.host.because.clone()));
    }

    /// An operator's wish: told now, or kept until the fleet is back.
    pub(crate) fn wish(&mut self, turn: &mut Turn<'_>, kind: OpKind, because: Because) {
        match turn.stand {
            Stand::Alone => {}
            Stand::Joined => turn.out.wishes.push((kind, because)),
            Stand::JustDetached | Stand::Detached => self.joint.command = Some((kind, because)),
        }
    }

    /// The fleet's newer value.
    pub(crate) fn take_in(&mut self, turn: &mut Turn<'_>, seen: &Seen, own: &str, life: Life) {
        let value = &seen.value;
        if value.version <= self.joint.version && life == Life::Same {
            return;
        }
        let (from, before, ruled) = (self.state(), self.view(turn.now), self.fleet_rules());
        let because = Because::new(&value.by, &value.why);
        let closing = Closing::of(value, &self.joint.cell, self.forced.as_ref(), life);
        self.joint.version = value.version;
        self.take_cell(turn, seen, own);
        let ours = self.joint.lease.is_some();
        self.joint.recovered = None;
        if !ours {
            self.joint.result = None;
        }
        if !ours && (ruled || self.fleet_rules()) {
            self.recall(turn);
        }
        if self.fleet_rules() {
            // When the fleet cell opens, the host cell ends.
            self.joint.trip = None;
            self.host = Cell { since: turn.now, ..Cell::default() };
        }
        self.forced = value.forced.map(|to| Forced { to, end: seen.forced_until, since: turn.now, because });
        self.take_closing(turn, closing, ruled);
        self.shown_anew(turn, (from, &before), matches!(closing, Closing::Reset));
    }

    /// The fleet cell as the value has it, and whose its lease is.
    fn take_cell(&mut self, turn: &Turn<'_>, seen: &Seen, own: &str) {
        let (value, old) = (&seen.value, &self.joint.cell);
        let same = value.state == old.state;
        // Whoever comes to an open fleet late was not there when it opened; the deadline and the length tell.
        let began = seen.until.before(Duration::from_millis(value.duration_ms)).min(turn.now);
        let opened = match value.state {
            State::Closed => old.opened,
            _ if old.state != State::Closed && (same || value.state == State::HalfOpen) => old.opened,
            State::Open | State::HalfOpen => began,
        };
        let cell = Cell {
            state: value.state,
            until: seen.until,
            step: value.step,
            tally: Tally { successes: u32::try_from(value.successes).unwrap_or(u32::MAX), ..Tally::default() },
            since: if same { old.since } else { turn.now },
            opened,
            because: Because::new(&value.by, &value.why),
        };
        self.joint.cell = cell;
        let held = self.joint.lease.take();
        let ours = value.holder == own && !value.lease_id.is_empty();
        self.joint.holder.clone_from(&value.holder);
        self.joint.lease_until = seen.lease_until;
        self.joint.lease = ours.then(|| value.lease_id.clone());
        if !same {
            self.joint.counted = Tally::default();
        }
        // A half-open whose period has passed while nobody held its lease is the next holder's to try, for a period more.
        let late = ours && held.is_none() && turn.now >= self.period_ends();
        if !same || late {
            self.joint.due = turn.now.after(self.policy.probe.period);
        }
    }

    /// What a closed value means for what the host has by itself.
    fn take_closing(&mut self, turn: &Turn<'_>, closing: Closing, ruled: bool) {
        let because = &self.joint.cell.because;
        match closing {
            Closing::None => return,
            Closing::Recovery(step) => self.backoff.recover(step, turn.now),
            Closing::Reset => {
                self.backoff.reset();
                // A trip that waits to be told is judged when the fleet is back: its evidence may be newer than this.
                if turn.stand == Stand::Joined || self.joint.trip.is_none() {
                    self.joint.trip = None;
                    self.host.close(turn.now, because.clone());
                }
            }
        }
        if ruled && self.host.state == State::Closed {
            self.host.close(turn.now, because.clone());
        }
    }

    /// One record if anything that people see is otherwise now.
    fn shown_anew(&mut self, turn: &mut Turn<'_>, (from, before): (State, &View), reset: bool) {
        let view = self.view(turn.now);
        if (before.state, before.forced, &before.by, &before.why) == (view.state, view.forced, &view.by, &view.why) {
            if self.mode() == Mode::On {
                self.generation = self.generation.saturating_add(1);
            }
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
            _ if reset => What::Reset,
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
        let open = self.joint.cell.state != State::Closed;
        if life == Life::New && self.fleet_rules() {
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
            let because = Because::new("fleet", "closed while this host was away");
            if self.fleet_rules() {
                self.host.close(turn.now, because.clone());
            }
            self.joint.cell.close(turn.now, because);
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
            self.joint.untold = false;
            turn.out.wishes.push(result);
        }
        self.propose_again(turn);
        if self.joint.recovered == Some(self.joint.version) && self.joint.result.is_none() {
            let (lease_id, holder) = (lease_id.to_owned(), own.to_owned());
            let because = self.joint.cell.because.clone();
            self.joint.confirming = Some((lease_id.clone(), because.clone()));
            turn.out.wishes.push((OpKind::Probe { lease_id, holder, lease_ms: LEASE_MS }, because));
        }
    }

    /// A trip that the fleet has not heard of: against the version that it was made at, or, where the fleet has moved on
    /// since, against the new one if the evidence is fresh. Older evidence was overruled.
    fn propose_again(&mut self, turn: &mut Turn<'_>) {
        let Some(base) = self.joint.trip.filter(|_| self.mode() == Mode::On) else { return };
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

    /// The link did not take a wish, or cannot say what became of it.
    pub(crate) fn unanswered(&mut self, turn: &mut Turn<'_>, kind: &OpKind) {
        match kind {
            OpKind::Probe { .. } => self.answer_waiting(turn),
            OpKind::Pok { .. } | OpKind::Pfail { .. } => {
                self.joint.untold = self.joint.result.is_some();
                self.joint.renew_at = turn.now.after_ms(RETRY_MS);
            }
            _ => {}
        }
    }

    /// The fleet has judged a wish; its value has been taken in.
    pub(crate) fn answered(&mut self, turn: &mut Turn<'_>, kind: &OpKind, result: OpResult) {
        match kind {
            OpKind::Trip { .. } if result == OpResult::Stale && !self.fleet_rules() => self.trip_refused(turn),
            OpKind::Probe { lease_id, .. } => self.lease_answered(turn, lease_id, result),
            OpKind::Pok { .. } | OpKind::Pfail { .. } => {
                self.joint.result = None;
                if result != OpResult::Ok {
                    // Whatever overtook it, the lease is this host's no longer.
                    self.joint.lease = None;
                }
            }
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "joint_tests.rs"]
mod tests;
