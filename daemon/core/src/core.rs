//! A host's whole table, driven from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakerd_proto::message::{Action, Command, Done, Hello, PolicyPatch, Query, Register, Registered, Report};
use breakerd_proto::{Code, Counts, Mono, Name, Outcome, RejectReason, Verdict, limits, outcome};

use crate::account::{Accounts, Held};
use crate::breaker::{Asker, Breaker, Effects, Finding, Reporter, Turn};
use crate::change::{Because, Change};
use crate::joined::Fleet;
use crate::joint::Waiting;
use crate::judge::untold;
use crate::policy::check_patch;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::table::{BreakerId, Table};
use crate::worker::{Connection, ConnectionId, Identity, Registration, Worker, WorkerId, label};

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
    rng: fastrand::Rng,
    accounts: Accounts,
    pub(crate) table: Table,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    identities: BTreeMap<Identity, WorkerId>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_number: u64,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) out: Effects,
}

/// The account that names belong to which no worker brought: a snapshot's, the fleet's, an operator's.
const NOBODY: u32 = u32::MAX;

impl Core {
    /// An empty table. The seed decides all jitter and nothing else.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            accounts: Accounts::default(),
            table: Table::default(),
            workers: BTreeMap::new(),
            identities: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_number: 0,
            fleet: None,
            out: Effects::default(),
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
        self.connections
            .insert(id, Connection { worker, uid: peer.uid, charge, lanes: Vec::new(), granted: Vec::new() });
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

    /// A connection declares a breaker that it will use. The same name again gets the same lane.
    ///
    /// # Errors
    /// A bad name, a policy out of its bounds, a quota.
    pub fn handle_register(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        register: &Register,
    ) -> Result<Registered, Refusal> {
        let name = Name::parse(&register.name)?;
        if let Some(patch) = &register.policy {
            check_patch(patch).map_err(|bad| Refusal::new(Code::BadArgument, format!("policy of {name}: {bad}")))?;
        }
        let (uid, worker, lanes) = match self.connections.get(&connection) {
            Some(known) => (known.uid, known.worker, known.lanes.len()),
            None => return Err(no_connection()),
        };
        let most = self.settings.quotas.lanes_per_connection;
        if lanes >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(Refusal::new(Code::Quota, format!("one connection may use {most} breakers")));
        }
        let id = self.ensure(now, uid, &name, register.policy.as_deref())?;
        let lane = self.enroll(connection, worker, id, &name);
        let breaker = self.table.get(id).ok_or_else(no_connection)?;
        let (policy, view) = (Box::new(breaker.policy.to_patch()), breaker.view(now));
        Ok(Registered { request: register.request, lane, policy, view })
    }

    /// The connection's lane number for the breaker, made if it has none.
    fn enroll(&mut self, connection: ConnectionId, worker: WorkerId, id: BreakerId, name: &Name) -> u32 {
        let Some(known) = self.connections.get_mut(&connection) else { return u32::MAX };
        if let Some(lane) = known.lanes.iter().position(|lane| lane.name == *name && lane.breaker == id) {
            return u32::try_from(lane).unwrap_or(u32::MAX);
        }
        known.lanes.push(Registration { breaker: id, name: name.clone(), told: Counts::default() });
        let lane = u32::try_from(known.lanes.len() - 1).unwrap_or(u32::MAX);
        if let Some(breaker) = self.table.get_mut(id) {
            let lane = breaker.lanes.entry(worker).or_default();
            lane.registrations = lane.registrations.saturating_add(1);
        }
        lane
    }

    /// The breaker of this name, made if there is none; at the bound the stalest idle ones are evicted.
    pub(crate) fn ensure(
        &mut self,
        now: Mono,
        uid: u32,
        name: &Name,
        declared: Option<&PolicyPatch>,
    ) -> Result<BreakerId, Refusal> {
        if let Some(id) = self.table.find(name.as_str()) {
            return Ok(id);
        }
        let quotas = self.settings.quotas;
        if self.table.len() >= usize::try_from(quotas.names).unwrap_or(usize::MAX) {
            self.evict();
        }
        if self.table.len() >= usize::try_from(quotas.names).unwrap_or(usize::MAX) {
            return Err(Refusal::new(Code::Quota, format!("all {} names are in use", quotas.names)));
        }
        let most = if uid == NOBODY { quotas.names } else { quotas.names_per_account };
        let charge = self.accounts.charge(uid, Held::Name, most).ok_or_else(|| {
            Refusal::new(Code::Quota, format!("user {uid} already brought {most} names, which is all it may bring"))
        })?;
        let policy = Arc::new(self.settings.policy(name.as_str(), declared));
        let mut breaker = Breaker::new(name.clone(), policy, charge, now);
        breaker.joint.version = self.fleet_version();
        Ok(self.table.insert(breaker))
    }

    fn evict(&mut self) {
        for id in self.table.stalest() {
            if let Some(breaker) = self.table.remove(id) {
                breaker.into_charges().for_each(|charge| self.accounts.release(charge));
            }
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

    /// A call has ended.
    ///
    /// # Errors
    /// An unknown lane.
    pub fn handle_report(&mut self, now: Mono, connection: ConnectionId, report: &Report) -> Result<(), Refusal> {
        let id = self.lane(now, connection, report.lane)?;
        let worker = self.make_good(now, connection, report.lane, report.counts, Some(report));
        let Some(worker) = worker else { return Ok(()) };
        let label = self.workers.get(&worker).map(|worker| worker.label.clone()).unwrap_or_default();
        self.touch(now, id, |breaker, turn| {
            let from = Reporter { connection, worker, label: &label };
            breaker.settle(turn, &from, (report.generation, report.permit), report.at, &bounded(&report.outcome));
        });
        Ok(())
    }

    /// Books what the counts show and no report told. A count that goes back is a peer's lie or a restart; it becomes the
    /// new baseline and tells nothing.
    fn make_good(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        lane: u32,
        counts: Counts,
        report: Option<&Report>,
    ) -> Option<WorkerId> {
        let known = self.connections.get_mut(&connection)?;
        let worker = known.worker;
        let registration = known.lanes.get_mut(usize::try_from(lane).ok()?)?;
        let told = std::mem::replace(&mut registration.told, counts);
        let id = registration.breaker;
        let missed = untold(told, counts, report.map(|report| &report.outcome));
        if missed != Counts::default() {
            let generation = report.map(|report| report.generation);
            self.touch(now, id, |breaker, _| {
                let generation = generation.unwrap_or(breaker.generation);
                breaker.missed(now, worker, missed, generation);
            });
        }
        Some(worker)
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
                breaker.await_lease(turn, Waiting { asker, deadline: query.deadline, charge }, lease_id, holder);
                return None;
            }
            Some(breaker.grant(turn, asker, charge))
        });
        let table = &self.table;
        if let Some(known) = self.connections.get_mut(&connection) {
            let out = |(request, id): &(u32, BreakerId)| table.get(*id).is_some_and(|b| b.holds(connection, *request));
            known.granted.retain(out);
            known.granted.push((query.request, id));
        }
        verdict.ok_or_else(no_connection)
    }

    /// The breaker behind a lane. One that was evicted comes back under the same lane.
    pub(crate) fn lane(&mut self, now: Mono, connection: ConnectionId, lane: u32) -> Result<BreakerId, Refusal> {
        let place = usize::try_from(lane).unwrap_or(usize::MAX);
        let known = self.connections.get(&connection).ok_or_else(no_connection)?;
        let registration = known.lanes.get(place).ok_or_else(|| {
            Refusal::new(Code::UnknownLane, format!("lane {lane} was never registered on this connection"))
        })?;
        let id = registration.breaker;
        if self.table.get(id).is_some() {
            return Ok(id);
        }
        let (uid, worker, name) = (known.uid, known.worker, registration.name.clone());
        let id = self.ensure(now, uid, &name, None)?;
        if let Some(breaker) = self.table.get_mut(id) {
            let lane = breaker.lanes.entry(worker).or_default();
            lane.registrations = lane.registrations.saturating_add(1);
        }
        if let Some(registration) = self.connections.get_mut(&connection).and_then(|known| known.lanes.get_mut(place)) {
            registration.breaker = id;
        }
        Ok(id)
    }

    /// Does what has become due. Calling it early changes nothing.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.handle_link_timeout(now);
        while let Some((_, id)) = self.table.next_wake().filter(|(at, _)| *at <= now) {
            self.touch(now, id, Breaker::handle_timeout);
        }
    }

    /// An operator, or a worker with the right, asks for something. Whether it may is the driver's to know.
    ///
    /// # Errors
    /// A bad name, an argument out of bounds, a breaker that nobody knows.
    pub fn command(&mut self, now: Mono, author: &str, command: &Command) -> Result<Done, Refusal> {
        let name = Name::parse(&command.name)?;
        let id = match command.action {
            // A force is prepared before an outage as often as in one, so the name need not be in use yet.
            Action::Force { .. } => self.ensure(now, NOBODY, &name, None)?,
            Action::Reset | Action::Release => self.known(&name)?,
        };
        let because = Because::new(author, &printable(&command.because));
        self.touch(now, id, |breaker, turn| match command.action {
            Action::Reset => breaker.reset(turn, because),
            Action::Force { to, for_ms } => {
                let end = for_ms.map(|ms| turn.now.after_ms(ms));
                breaker.force(turn, to, end, because);
            }
            Action::Release => breaker.release(turn, because),
        });
        let view = self.table.get(id).map(|breaker| breaker.view(now)).ok_or_else(no_connection)?;
        let fleet = self.link() == breakerd_proto::Link::Joined;
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
        [table, self.link_timeout()].into_iter().flatten().min()
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
        self.propose_wishes(now, id);
        Some(result)
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(crate) fn each_connection(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }

    pub(crate) fn nobody() -> u32 {
        NOBODY
    }
}

fn no_connection() -> Refusal {
    Refusal::new(Code::Protocol, "the connection has not said hello")
}

/// A failure's texts within their bounds and printable, whatever the worker sent.
fn bounded(outcome: &Outcome) -> Outcome {
    let Outcome::Failure(failure) = outcome else { return outcome.clone() };
    let mut bounded = failure.clone();
    bounded.kind = printable(outcome::cut(&failure.kind, limits::FAILURE_KIND_BYTES_MAX));
    bounded.detail = printable(outcome::cut(&failure.detail, limits::FAILURE_DETAIL_BYTES_MAX));
    Outcome::Failure(bounded)
}

/// Control characters would reach logs and terminals; they become spaces.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
