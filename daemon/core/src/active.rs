//! The active probe: the daemon's own connect in place of a user's call.
//!
//! With `probe.connect` set, workers are rejected (`probing`) from the end of the cooldown until the breaker has closed,
//! and the core asks the driver for a connect instead. It is a probe like any other: it has a permit and, in a fleet, the
//! lease, so that one host connects and the others wait for what it finds.
//!
//! The driver drains [`Core::poll_active`] after [`Core::poll_answer`], connects beside the loop, and tells the end by
//! [`Core::handle_active`], at the latest at [`ActiveProbe::deadline`]. What it never tells comes back by itself then.

use std::time::Duration;

use breakerd_proto::{Failure, Mode, Mono, Name, Outcome, State};

use crate::WorkerId;
use crate::breaker::{Asker, Breaker, Finding, Reporter, Turn};
use crate::core::Core;
use crate::lease::Waiting;
use crate::report::bounded;
use crate::table::BreakerId;
use crate::worker::ConnectionId;

/// How long the daemon may keep a probe of its own, whatever `probe.max` gives a worker: a connect is short.
const ACTIVE_MAX: Duration = Duration::from_secs(10);
/// The least time between two connects of one breaker, so that none that fails at once becomes a storm.
const ACTIVE_PACE: Duration = Duration::from_secs(1);
/// The daemon among the askers. No connection has this number.
const DAEMON: ConnectionId = ConnectionId(0);

/// A connect that the driver must make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveProbe {
    /// The breaker.
    pub name: Name,
    /// `HOST:PORT`, as the policy has it.
    pub target: String,
    /// By when the driver must have told the end. Later is too late: the permit has come back.
    pub deadline: Mono,
    /// What [`Core::handle_active`] takes.
    pub permit: ActivePermit,
}

/// Which connect is meant. Settled once; a second time changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivePermit {
    breaker: BreakerId,
    permit: u64,
}

impl Asker {
    /// The daemon itself.
    pub(crate) const DAEMON: Self = Self { connection: DAEMON, request: 0 };
}

impl Core {
    /// The next connect that the driver must make: `probe.connect` is set, and the cooldown is over.
    pub fn poll_active(&mut self) -> Option<ActiveProbe> {
        while let Some((id, permit)) = self.out.actives.pop_front() {
            let active = self.table.get(id).and_then(|breaker| breaker.active_probe(id, permit));
            if active.is_some() {
                return active;
            }
        }
        None
    }

    /// A connect has ended: it was accepted, or failed by this kind.
    pub fn handle_active(&mut self, now: Mono, permit: ActivePermit, result: Result<(), Failure>) {
        let ActivePermit { breaker, permit } = permit;
        let outcome = result.map_or_else(Outcome::Failure, |()| Outcome::SUCCESS);
        self.touch(now, breaker, |breaker, turn| {
            let from = Reporter { connection: DAEMON, worker: WorkerId(0), label: "breakerd", overtaken: false };
            breaker.settle_probe(turn, &from, permit, &bounded(&outcome));
        });
    }

    /// Takes a probe for the daemon, or asks the fleet for the lease, where one is due.
    pub(crate) fn tend_active(&mut self, now: Mono, id: BreakerId) {
        if self.table.get(id).and_then(|breaker| breaker.active_wake()).is_none_or(|at| at > now) {
            return;
        }
        let (lease_id, holder) = self.next_lease();
        self.touch(now, id, |breaker, turn| breaker.try_active(turn, lease_id, holder));
    }
}

impl Breaker {
    /// Whether the daemon probes, and no worker.
    pub(crate) fn is_active(&self) -> bool {
        self.policy.probe.connect.is_some()
    }

    /// When the daemon wants its next probe.
    pub(crate) fn active_wake(&self) -> Option<Mono> {
        let cell = self.ruling();
        let due = self.is_active()
            && self.forced.is_none()
            && self.mode() != Mode::Off
            && cell.state != State::Closed
            && self.joint.waiting.is_none()
            && !self.permits.iter().any(|permit| permit.asker == Asker::DAEMON);
        due.then(|| cell.until.max(self.active_from).max(self.joint.foreign_until()))
    }

    /// Takes a probe for the daemon if there is one, or asks the fleet for the lease.
    pub(crate) fn try_active(&mut self, turn: &mut Turn<'_>, lease_id: String, holder: String) {
        self.active_from = turn.now.after(ACTIVE_PACE);
        match self.find_probe(turn.now, turn.stand) {
            Finding::ProbeFree => self.grant_active(turn),
            Finding::LeaseNeeded => {
                let waiting = Waiting { asker: Asker::DAEMON, deadline: turn.now.after(ACTIVE_MAX), charge: None };
                self.await_lease(turn, waiting, lease_id, holder);
            }
            Finding::Verdict(_) => {}
        }
    }

    /// Lets the daemon's own probe out.
    pub(crate) fn grant_active(&mut self, turn: &mut Turn<'_>) {
        self.grant(turn, Asker::DAEMON, None);
        turn.out.active = self.permits.last().map(|permit| permit.id);
    }

    /// What this asker's permit may last.
    pub(crate) fn permit_lasts(&self, asker: Asker) -> Duration {
        if asker == Asker::DAEMON { ACTIVE_MAX } else { self.policy.probe.max }
    }

    fn active_probe(&self, breaker: BreakerId, id: u64) -> Option<ActiveProbe> {
        let permit = self.permits.iter().find(|permit| permit.id == id)?;
        let target = self.policy.probe.connect.clone()?;
        let name = self.name.clone();
        Some(ActiveProbe { name, target, deadline: permit.expires, permit: ActivePermit { breaker, permit: id } })
    }
}
