//! One breaker: what it shows, whom it admits, what reports do to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::clock::ms_up;
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Mode, Mono, Name, Override, RejectReason, State, Verdict, limits};

use crate::account::Charge;
use crate::cell::Cell;
use crate::change::{Because, Change, What};
use crate::cooldown::Backoff;
use crate::fleet::OpKind;
use crate::joint::Joint;
use crate::lane::Lane;
use crate::policy::Policy;
use crate::probe::{Permit, Probes};
use crate::reload::Reruled;
use crate::table::BreakerId;
use crate::window::Window;
use crate::{ConnectionId, WorkerId};

/// What one turn of the core hands to whatever it touches, and collects from it.
pub(crate) struct Turn<'a> {
    pub(crate) now: Mono,
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) host: &'a str,
    pub(crate) forget_after: Duration,
    pub(crate) stand: Stand,
    pub(crate) out: &'a mut Effects,
}

/// How the host stands to its fleet, as far as one breaker must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    /// No fleet.
    #[default]
    Alone,
    /// The fleet answers: it judges.
    Joined,
    /// The fleet has been away too short for probes without its lease.
    JustDetached,
    /// The fleet is away: the host judges.
    Detached,
}

impl Turn<'_> {
    /// Who of this host did something, and why.
    pub(crate) fn because(&self, who: &str, why: &str) -> Because {
        Because::new(&format!("{who}@{}", self.host), why)
    }
}

/// What a turn leaves to be drained.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) changes: VecDeque<Change>,
    pub(crate) answers: VecDeque<(ConnectionId, u32, Verdict)>,
    /// Wishes of the breaker that is being touched.
    pub(crate) wishes: Vec<(OpKind, Because)>,
    /// The probe that the touched breaker has granted to the daemon itself.
    pub(crate) active: Option<u64>,
    /// Such probes of all breakers, not yet handed to the driver.
    pub(crate) actives: VecDeque<(BreakerId, u64)>,
    /// Receipts of things that are held no longer.
    pub(crate) released: Vec<Charge>,
    pub(crate) stale_reports: u64,
    /// What new settings came to, not yet handed to the driver.
    pub(crate) reruled: Option<Reruled>,
    pub(crate) next_permit: u64,
}

/// An operator's word over the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forced {
    pub(crate) to: Override,
    pub(crate) end: Option<Mono>,
    pub(crate) since: Mono,
    pub(crate) because: Because,
}

/// An operator's word on the host's mode, in place of the configuration's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ordered {
    pub(crate) mode: Mode,
    pub(crate) because: Because,
}

/// Who reports.
pub(crate) struct Reporter<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) worker: WorkerId,
    pub(crate) label: &'a str,
    /// The lane memory shows a success of the worker that came after what is told here.
    pub(crate) overtaken: bool,
}

/// Who asks, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) connection: ConnectionId,
    pub(crate) request: u32,
}

/// What a query finds.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The answer.
    Verdict(Verdict),
    /// A probe may go out: [`Breaker::grant`] it.
    ProbeFree,
    /// A probe may go out once the fleet has leased it: [`Breaker::await_lease`].
    LeaseNeeded,
}

/// One breaker of the table.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) name: Name,
    pub(crate) policy: Arc<Policy>,
    /// What the code that uses it said of its policy.
    pub(crate) declared: Option<Arc<PolicyPatch>>,
    pub(crate) generation: u64,
    pub(crate) host: Cell,
    pub(crate) joint: Joint,
    pub(crate) forced: Option<Forced>,
    pub(crate) ordered: Option<Ordered>,
    pub(crate) window: Window,
    pub(crate) backoff: Backoff,
    /// The newest success of any worker of the host.
    pub(crate) succeeded: Mono,
    /// Boxed, since a map has room for eleven where most breakers have one.
    pub(crate) lanes: BTreeMap<WorkerId, Box<Lane>>,
    pub(crate) permits: Vec<Permit>,
    /// No connect of the daemon's own begins before this.
    pub(crate) active_from: Mono,
    pub(crate) asked: Mono,
    pub(crate) failures_total: u64,
}

impl Breaker {
    pub(crate) fn new(name: Name, policy: Arc<Policy>, now: Mono) -> Self {
        Self {
            name,
            policy,
            declared: None,
            generation: 1,
            host: Cell { since: now, ..Cell::default() },
            joint: Joint::default(),
            forced: None,
            ordered: None,
            window: Window::default(),
            backoff: Backoff::default(),
            succeeded: Mono::default(),
            lanes: BTreeMap::new(),
            permits: Vec::new(),
            active_from: now,
            asked: now,
            failures_total: 0,
        }
    }

    /// Whether it acts: by an operator's word, else by its policy.
    pub(crate) fn mode(&self) -> Mode {
        self.ordered.as_ref().map_or(self.policy.mode, |ordered| ordered.mode)
    }

    /// What is shown: an override's state, else the ruling cell's.
    pub(crate) fn state(&self) -> State {
        self.forced.as_ref().map_or(self.ruling().state, |forced| forced.to.state())
    }

    /// The cell that counts: the fleet's unless it is closed, else the host's.
    pub(crate) fn ruling(&self) -> &Cell {
        if self.fleet_rules() { &self.joint.cell } else { &self.host }
    }

    /// A breaker that only watches has its own books, and in them the fleet has no say.
    pub(crate) fn fleet_rules(&self) -> bool {
        self.joint.cell.state != State::Closed && self.mode() == Mode::On
    }

    pub(crate) fn ruling_mut(&mut self) -> &mut Cell {
        if self.fleet_rules() { &mut self.joint.cell } else { &mut self.host }
    }

    /// May a worker call? Changes nothing.
    pub(crate) fn find(&self, now: Mono, stand: Stand) -> Finding {
        let finding = self.find_probe(now, stand);
        let found_probe = matches!(finding, Finding::ProbeFree | Finding::LeaseNeeded);
        if self.is_active() && found_probe { self.refuse(RejectReason::Probing, now) } else { finding }
    }

    /// May the one whose part probes are? Changes nothing.
    pub(crate) fn find_probe(&self, now: Mono, stand: Stand) -> Finding {
        let cell = self.ruling();
        match (&self.forced, cell.state) {
            _ if self.mode() == Mode::Off => self.admit(),
            (Some(forced), _) => Finding::Verdict(self.forced_verdict(forced, now)),
            (None, State::Closed) => self.admit(),
            (None, State::Open) if now < cell.until => self.refuse(RejectReason::Open, now),
            (None, State::Open | State::HalfOpen) => match self.probes(now, stand) {
                Probes::Free => Finding::ProbeFree,
                Probes::ByLease => Finding::LeaseNeeded,
                Probes::Out => self.refuse(RejectReason::Probing, now),
            },
        }
    }

    fn admit(&self) -> Finding {
        Finding::Verdict(Verdict::Admit { generation: self.generation })
    }

    /// A rejection, where the breaker acts.
    fn refuse(&self, reason: RejectReason, now: Mono) -> Finding {
        match self.mode() {
            Mode::On => Finding::Verdict(self.reject(reason, now)),
            Mode::Shadow | Mode::Off => self.admit(),
        }
    }

    fn forced_verdict(&self, forced: &Forced, now: Mono) -> Verdict {
        match forced.to {
            Override::ForcedClosed => Verdict::Admit { generation: self.generation },
            Override::ForcedOpen => self.reject(RejectReason::Forced, now),
        }
    }

    pub(crate) fn reject(&self, reason: RejectReason, now: Mono) -> Verdict {
        let (generation, state, retry_after_ms) = (self.generation, self.state(), self.retry_after_ms(now));
        let least = match reason {
            RejectReason::Open | RejectReason::Forced => 0,
            // The cooldown is over and yet nothing is free: coming back at once would find the same.
            _ => ms_up(limits::PROBING_RETRY_AFTER_MIN),
        };
        let retry_after_ms = retry_after_ms.map(|ms| ms.max(least));
        Verdict::Reject { generation, state, reason, retry_after_ms }
    }

    /// The connection has ended: its probes come back, and its lane goes with the worker's last registration.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, worker: WorkerId) {
        let (gone, stay) =
            std::mem::take(&mut self.permits).into_iter().partition(|p| p.asker.connection == connection);
        self.permits = stay;
        turn.out.released.extend(gone.into_iter().filter_map(|permit: Permit| permit.charge));
        self.stop_waiting(turn, |asker| asker.connection == connection);
        if let Some(lane) = self.lanes.get_mut(&worker) {
            lane.registrations = lane.registrations.saturating_sub(1);
            if lane.registrations == 0 {
                self.lanes.remove(&worker);
            }
        }
    }

    /// An operator's change to closed. What is beneath an override closes; the override stays.
    pub(crate) fn reset(&mut self, turn: &mut Turn<'_>, because: Because) {
        let from = self.state();
        self.backoff.reset();
        self.host.close(turn.now, because.clone());
        self.joint.close(turn.now, because.clone());
        self.wish(turn, OpKind::Reset { expected: None }, because);
        self.change(turn, from, What::Reset);
    }

    /// Lays an override over the state.
    pub(crate) fn force(&mut self, turn: &mut Turn<'_>, to: Override, end: Option<Mono>, because: Because) {
        let from = self.state();
        let duration_ms = end.map(|end| ms_up(end.left(turn.now)));
        self.wish(turn, OpKind::Force { to, duration_ms }, because.clone());
        self.forced = Some(Forced { to, end, since: turn.now, because });
        self.change(turn, from, What::Force);
    }

    /// Takes the override away; what is beneath shows again.
    pub(crate) fn release(&mut self, turn: &mut Turn<'_>, because: Because) {
        let from = self.state();
        if self.forced.take().is_some() {
            self.wish(turn, OpKind::Release { expected: None }, because.clone());
            if self.ruling().state == State::Closed {
                // What is open keeps the words of its trip; what is closed has none that matter more than these.
                self.ruling_mut().because = because;
            }
            self.change(turn, from, What::Release);
        }
    }

    /// When [`Breaker::handle_timeout`] has something to do.
    pub(crate) fn wake(&self, forget_after: Duration) -> Option<Mono> {
        let permit = self.permits.iter().map(|permit| permit.expires).min();
        let end = self.forced.as_ref().and_then(|forced| forced.end);
        let idle = self.idle_at(forget_after);
        let period = self.period_wake();
        let review = self.window.review_at();
        [permit, end, idle, self.lease_wake(), period, self.active_wake(), review].into_iter().flatten().min()
    }

    fn idle_at(&self, forget_after: Duration) -> Option<Mono> {
        // What the fleet holds open the fleet forgets: nobody may close it for others by having no callers of his own.
        let idle = !self.fleet_rules() && self.host.state != State::Closed && self.permits.is_empty();
        idle.then(|| self.host.until.max(self.asked).after(forget_after))
    }

    /// Does what has become due. Calling it early changes nothing.
    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let (due, out) = std::mem::take(&mut self.permits).into_iter().partition(|p| p.expires <= now);
        self.permits = out;
        turn.out.released.extend(due.into_iter().filter_map(|permit: Permit| permit.charge));
        if self.forced.as_ref().is_some_and(|forced| forced.end.is_some_and(|end| end <= now)) {
            self.release(turn, Because::new("breakerd", "its end came"));
        }
        self.tend_lease(turn);
        self.window.review(now, self.lanes.values().any(|lane| lane.in_run()));
        if self.idle_at(turn.forget_after).is_some_and(|at| at <= now) {
            let from = self.state();
            self.host.close(now, Because::new("breakerd", "nobody has asked since its deadline"));
            self.change(turn, from, What::Idle);
        }
        self.end_period(turn);
    }

    /// Every change ends here: a new generation, no evidence, no probes of the old state, one record (I4, I15).
    pub(crate) fn change(&mut self, turn: &mut Turn<'_>, from: State, what: What) {
        self.generation = self.generation.saturating_add(1);
        self.window.clear();
        if self.ruling().state != State::HalfOpen {
            self.recall(turn);
        }
        let fresh = self.state() == State::Closed && !matches!(what, What::Force);
        if fresh {
            self.lanes.values_mut().for_each(|lane| lane.end_run());
        }
        let view = self.view(turn.now);
        turn.out.changes.push_back(Change { name: self.name.clone(), from, view, what, at: turn.now });
    }
}
