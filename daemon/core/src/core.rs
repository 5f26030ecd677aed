//! A host's whole table, driven from outside.

use std::collections::BTreeMap;

use breakerd_proto::message::{Action, Command, Done, Hello, Query};
use breakerd_proto::{Code, Mono, Name, RejectReason, Verdict};

use crate::account::{Accounts, Held};
use crate::breaker::{Asker, Breaker, Effects, Finding, Turn};
use crate::change::{Because, Change};
use crate::joined::Fleet;
use crate::lease::Waiting;
use crate::policies::Policies;
use crate::refusal::Refusal;
use crate::reload::{NAMES_A_TURN, Sweep};
use crate::settings::Settings;
use crate::table::{BreakerId, Table};
use crate::worker::{Connection, ConnectionId, Identity, Worker, WorkerId, label};

/// What the kernel says of a connection's other end (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user id, as this side sees it.
    pub uid: u32,
    /// Its pid, 0 if it is in a pid namespace that this side cannot see.
    pub pid: u32,
}

/// The table, its workers and their accounts. See the crate's page for the kinds of methods.
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
    rng: fastrand::Rng,
    pub(crate) accounts: Accounts,
    pub(crate) table: Table,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    identities: BTreeMap<Identity, WorkerId>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    next_number: u64,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) out: Effects,
    /// New settings that not every breaker has heard of.
    pub(crate) sweep: Option<Sweep>,
    /// How often no quota had room for a name.
    pub(crate) over_quota: u64,
}

/// The account that names belong to which no worker brought: a snapshot's, the fleet's, an operator's.
pub(crate) const NOBODY: u32 = u32::MAX;

impl Core {
    /// An empty table. The seed decides all jitter and nothing else.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            policies: Policies::default(),
            rng: fastrand::Rng::with_seed(seed),
            accounts: Accounts::default(),
            table: Table::default(),
            workers: BTreeMap::new(),
            identities: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_number: 0,
            fleet: None,
            out: Effects::default(),
            sweep: None,
            over_quota: 0,
        }
    }

    /// A peer has said hello.
    ///
    /// # Errors
    /// [`Code::Quota`] if its account has all the connections that it may have.
    pub fn handle_connect(&mut self, now: Mono, peer: Peer, hello: &Hello) -> Result<ConnectionId, Refusal> {
        let quotas = self.settings.quotas;
        let refusal = |most: u32| {
            let sentence = format!("user {} already has {most} connections, which is all it may have", peer.uid);
            Refusal::new(Code::Quota, sentence)
        };
        if u32::try_from(self.connections.len()).unwrap_or(u32::MAX) >= quotas.connections {
            return Err(Refusal::new(Code::Quota, format!("{} connections are all there may be", quotas.connections)));
        }
        let most = quotas.connections_per_account;
        let charge = self.accounts.charge(peer.uid, Held::Connection, most).ok_or_else(|| refusal(most))?;
        let worker = self.enlist(now, peer, hello);
        let id = ConnectionId(self.number());
        self.connections.insert(id, Connection::new(worker, peer.uid, charge));
        Ok(id)
    }

    /// The worker that this connection belongs to, made if this is its first.
    fn enlist(&mut self, now: Mono, peer: Peer, hello: &Hello) -> WorkerId {
        let pid = if peer.pid == 0 { hello.pid } else { peer.pid };
        let identity = Identity { uid: peer.uid, pid, nonce: hello.nonce };
        let number = self.number();
        let id = *self.identities.entry(identity).or_insert(WorkerId(number));
        let fresh = || Worker { identity, label: label(&peer, hello), since: now, connections: 0 };
        let worker = self.workers.entry(id).or_insert_with(fresh);
        worker.connections = worker.connections.saturating_add(1);
        id
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The connection has ended, or its worker has: its probes come back at once.
    pub fn handle_gone(&mut self, now: Mono, connection: ConnectionId) {
        let Some(gone) = self.connections.remove(&connection) else { return };
        self.accounts.release(gone.charge);
        for registration in gone.lanes {
            if self.table.leave_resting(registration.breaker, gone.worker) {
                continue;
            }
            self.touch(now, registration.breaker, |breaker, turn| breaker.leave(turn, connection, gone.worker));
        }
        let Some(worker) = self.workers.get_mut(&gone.worker) else { return };
        worker.connections = worker.connections.saturating_sub(1);
        if worker.connections == 0 {
            let identity = worker.identity;
            self.workers.remove(&gone.worker);
            self.identities.remove(&identity);
        }
    }

    /// May this worker call? `None` if the fleet must be asked first: then the answer comes by `poll_answer`.
    ///
    /// # Errors
    /// An unknown lane.
    pub fn handle_query(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        query: &Query,
    ) -> Result<Option<Verdict>, Refusal> {
        let id = self.lane(now, connection, query.lane)?;
        self.make_good(now, connection, query.lane, query.counts, None);
        let stand = self.stand(now);
        self.table.used(now, id);
        let Some(breaker) = self.table.get_mut(id) else { return Err(no_connection()) };
        breaker.asked = now;
        match breaker.find(now, stand) {
            Finding::Verdict(verdict) => Ok(Some(verdict)),
            // A request carries its deadline and nothing is granted after it.
            _ if query.deadline < now => Ok(Some(breaker.reject(RejectReason::NoAnswer, now))),
            Finding::ProbeFree => self.grant(now, connection, id, query, false),
            Finding::LeaseNeeded => self.grant(now, connection, id, query, true),
        }
    }

    /// The asker waits no longer for this request: what it was granted goes back.
    pub fn handle_forget(&mut self, now: Mono, connection: ConnectionId, request: u32) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let Some(at) = known.granted.iter().position(|(granted, _)| *granted == request) else { return };
        let (_, id) = known.granted.swap_remove(at);
        self.touch(now, id, |breaker, turn| breaker.take_back(turn, connection, request));
    }

    fn grant(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        id: BreakerId,
        query: &Query,
        by_lease: bool,
    ) -> Result<Option<Verdict>, Refusal> {
        let known = self.connections.get(&connection).ok_or_else(no_connection)?;
        let most = self.settings.quotas.permits_per_account;
        let Some(charge) = self.accounts.charge(known.uid, Held::Permit, most) else {
            let breaker = self.table.get(id).ok_or_else(no_connection)?;
            return Ok(Some(breaker.reject(RejectReason::Quota, now)));
        };
        let asker = Asker { connection, request: query.request };
        let (lease_id, holder) = self.next_lease();
        let verdict = self.touch(now, id, |breaker, turn| {
            if by_lease {
                let waiting = Waiting { asker, deadline: query.deadline, charge: Some(charge) };
                breaker.await_lease(turn, waiting, lease_id, holder);
                return None;
            }
            Some(breaker.grant(turn, asker, Some(charge)))
        });
        let table = &self.table;
        if let Some(known) = self.connections.get_mut(&connection) {
            let out = |(request, id): &(u32, BreakerId)| table.get(*id).is_some_and(|b| b.holds(connection, *request));
            known.granted.retain(out);
            known.granted.push((query.request, id));
        }
        verdict.ok_or_else(no_connection)
    }

    /// Does what has become due, for so many names at most that no turn of the loop is long; [`Core::poll_timeout`] is past
    /// while there is more. Calling it early changes nothing.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.handle_link_timeout(now);
        self.sweep(now);
        for _ in 0..NAMES_A_TURN {
            let Some((_, id)) = self.table.next_wake().filter(|(at, _)| *at <= now) else { return };
            self.touch(now, id, Breaker::handle_timeout);
            self.tend_active(now, id);
            self.table.rest(now, id);
        }
    }

    /// An operator, or a worker with the right, asks for something. Whether it may is the driver's to know.
    ///
    /// # Errors
    /// A bad name, an argument out of bounds, a breaker that nobody knows.
    pub fn command(&mut self, now: Mono, author: &str, command: &Command) -> Result<Done, Refusal> {
        let name = Name::parse(&command.name)?;
        let id = match command.action {
            // A force or a mode is prepared before an outage as often as in one, so the name need not be in use yet.
            Action::Force { .. } | Action::Mode { to: Some(_) } => self.ensure(now, NOBODY, &name, None)?,
            Action::Reset | Action::Release | Action::Mode { to: None } => self.known(&name)?,
        };
        let because = Because::new(author, &printable(&command.because));
        self.touch(now, id, |breaker, turn| match command.action {
            Action::Reset => breaker.reset(turn, because),
            Action::Force { to, for_ms } => {
                let end = for_ms.map(|ms| turn.now.after_ms(ms));
                breaker.force(turn, to, end, because);
            }
            Action::Release => breaker.release(turn, because),
            Action::Mode { to } => breaker.order(turn, to, because),
        });
        let view = self.table.get(id).map(|breaker| breaker.view(now)).ok_or_else(no_connection)?;
        let host_only = matches!(command.action, Action::Mode { .. });
        if host_only {
            self.table.renew(id); // workers are told the mode with the policy
        }
        let fleet = !host_only && self.link() == breakerd_proto::Link::Joined;
        Ok(Done { request: command.request, view, fleet })
    }

    pub(crate) fn known(&self, name: &Name) -> Result<BreakerId, Refusal> {
        let unknown = || {
            let sentence =
                format!("no breaker {:?} in use here; `breakerd status` lists those that are", name.as_str());
            Refusal::new(Code::UnknownBreaker, sentence)
        };
        self.table.find(name.as_str()).ok_or_else(unknown)
    }

    /// The next change, for board, log, snapshot and watchers.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.out.changes.pop_front()
    }

    /// The next answer to a query that had to wait: the connection, its request, the verdict.
    pub fn poll_answer(&mut self) -> Option<(ConnectionId, u32, Verdict)> {
        self.out.answers.pop_front()
    }

    /// When to call [`Core::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        let table = self.table.next_wake().map(|(at, _)| at);
        [table, self.link_timeout(), self.sweep_timeout()].into_iter().flatten().min()
    }

    /// Whether no account holds anything but names, which stay until they are forgotten. For tests (I10).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.connections.is_empty()
            && self.workers.is_empty()
            && self.identities.is_empty()
            && self.accounts.holds_only(Held::Name)
    }

    /// Every touch of a breaker goes through here, so that its timer and its receipts are never forgotten.
    pub(crate) fn touch<R>(
        &mut self,
        now: Mono,
        id: BreakerId,
        act: impl FnOnce(&mut Breaker, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let stand = self.stand(now);
        let breaker = self.table.get_mut(id)?;
        let forget_after = self.settings.forget_after;
        let (host, rng, out) = (&self.settings.host, &mut self.rng, &mut self.out);
        let result = act(breaker, &mut Turn { now, rng, host, forget_after, stand, out });
        let wake = breaker.wake(forget_after);
        self.table.set_wake(id, wake);
        for charge in self.out.released.drain(..) {
            self.accounts.release(charge);
        }
        self.out.actives.extend(self.out.active.take().map(|permit| (id, permit)));
        self.propose_wishes(now, id);
        self.table.touch(id);
        Some(result)
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(crate) fn each_connection(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "turn_tests.rs"]
mod tests;

pub(crate) fn no_connection() -> Refusal {
    Refusal::new(Code::Protocol, "the connection has not said hello")
}

/// Control characters would reach logs and terminals; they become spaces.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
