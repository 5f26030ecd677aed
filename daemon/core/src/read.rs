//! What the core shows: getters for status, description, workers.

use breakerd_proto::message::{
    Asked, BreakerRow, Description, LaneRow, Observed, Page, PolicyPatch, View, WorkerRow, WorkersPage,
};
use breakerd_proto::{Mono, Name, Verdict, clock, limits};

use crate::breaker::Finding;
use crate::core::Core;
use crate::refusal::Refusal;
use crate::table::Look;
use crate::worker::{ConnectionId, WorkerId};

impl Core {
    /// What the connection's worker sees of a registered breaker.
    ///
    /// # Errors
    /// An unknown lane.
    pub fn observe(&mut self, now: Mono, id: ConnectionId, request: u32, lane: u32) -> Result<Observed, Refusal> {
        let breaker = self.lane(now, id, lane)?;
        let worker = self.connection(id).map(|connection| connection.worker);
        let breaker = self.table.get(breaker);
        let lane = breaker.as_ref().zip(worker).and_then(|(breaker, worker)| breaker.lanes.get(&worker));
        Ok(Observed {
            request,
            view: breaker.as_ref().map_or_else(closed_view, |breaker| breaker.view(now)),
            failures: lane.map_or(0, |lane| lane.failures),
            last_failure: lane.and_then(|lane| lane.last_failure(now)),
            link: self.link(),
        })
    }

    /// What a query of this name would be answered. Takes no probe and makes no breaker.
    ///
    /// # Errors
    /// A bad name.
    pub fn ask(&self, now: Mono, request: u32, name: &str) -> Result<Asked, Refusal> {
        let name = Name::parse(name)?;
        let Some(breaker) = self.table.find(name.as_str()).and_then(|id| self.table.get(id)) else {
            let mode = self.settings.policy(name.as_str(), None).mode;
            let view = View { mode, ..closed_view() };
            return Ok(Asked { request, verdict: Verdict::Admit { generation: 0 }, view });
        };
        let verdict = match breaker.find(now, self.stand(now)) {
            Finding::Verdict(verdict) => verdict,
            Finding::ProbeFree | Finding::LeaseNeeded => Verdict::Probe { generation: breaker.generation, permit: 0 },
        };
        Ok(Asked { request, verdict, view: breaker.view(now) })
    }

    /// The breaker of this name.
    ///
    /// # Errors
    /// A bad name, a breaker that nobody uses.
    pub fn view(&self, now: Mono, name: &str) -> Result<View, Refusal> {
        Ok(self.breaker(name)?.view(now))
    }

    /// Breakers in the order of their names, from the one after `after`.
    #[must_use]
    pub fn page(&self, now: Mono, request: u32, after: &str) -> Page {
        let mut rest = self.table.after(after);
        let rows: Vec<BreakerRow> = rest.by_ref().take(limits::PAGE_ROWS_MAX).map(|b| b.row(now)).collect();
        Page { request, rows, more: rest.next().is_some() }
    }

    /// One breaker with its lanes, from the worker after `after`.
    ///
    /// # Errors
    /// A bad name, a breaker that nobody uses.
    pub fn describe(&self, now: Mono, request: u32, name: &str, after: u64) -> Result<Description, Refusal> {
        let breaker = self.breaker(name)?;
        let label = |worker: &WorkerId| self.workers.get(worker).map_or("?", |worker| worker.label.as_str());
        let mut rest = breaker.lanes.keys().filter(|worker| worker.0 > after);
        let lanes: Vec<LaneRow> = rest
            .by_ref()
            .take(limits::PAGE_ROWS_MAX)
            .filter_map(|worker| breaker.lane_row(*worker, label(worker), now))
            .collect();
        let more = rest.next().is_some();
        Ok(Description { request, row: breaker.row(now), policy: Box::new(breaker.policy_in_force()), lanes, more })
    }

    /// Workers in the order of their numbers, from the one after `after`.
    #[must_use]
    pub fn workers(&self, now: Mono, request: u32, after: u64) -> WorkersPage {
        let mut rest = self.workers.keys().filter(|id| id.0 > after).copied();
        let page: Vec<WorkerId> = rest.by_ref().take(limits::PAGE_ROWS_MAX).collect();
        let rows = page.into_iter().filter_map(|id| self.worker_row(now, id)).collect();
        WorkersPage { request, rows, more: rest.next().is_some() }
    }

    fn worker_row(&self, now: Mono, id: WorkerId) -> Option<WorkerRow> {
        let worker = self.workers.get(&id)?;
        let (mut breakers, mut permits) = (0_usize, 0_usize);
        for (connection, known) in self.each_connection().filter(|(_, known)| known.worker == id) {
            breakers = breakers.max(known.lanes.len());
            let held = |lane: &crate::worker::Registration| {
                self.table.awake(lane.breaker).map(|breaker| breaker.held_by(connection))
            };
            permits += known.lanes.iter().filter_map(held).sum::<usize>();
        }
        Some(WorkerRow {
            worker: id.0,
            label: worker.label.clone(),
            uid: worker.identity.uid,
            age_ms: clock::ms_up(now.since(worker.since)),
            connections: worker.connections,
            breakers: u32::try_from(breakers).unwrap_or(u32::MAX),
            permits_out: u32::try_from(permits).unwrap_or(u32::MAX),
        })
    }

    /// The policy in force for this name, whether it is in use or not.
    #[must_use]
    pub fn policy(&self, name: &str) -> PolicyPatch {
        self.settings.policy(name, None).to_patch()
    }

    /// How many workers are connected and how many breakers are in the table.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.workers.len(), self.table.len())
    }

    /// The worker behind a connection: its number and its label.
    #[must_use]
    pub fn worker_of(&self, id: ConnectionId) -> Option<(WorkerId, &str)> {
        let worker = self.connection(id)?.worker;
        self.workers.get(&worker).map(|known| (worker, known.label.as_str()))
    }

    /// How often no quota had room for a name: each time at least one call was admitted unguarded, or rejected where the
    /// name's policy says so.
    #[must_use]
    pub fn over_quota(&self) -> u64 {
        self.over_quota
    }

    /// Reports from an older generation that changed nothing.
    #[must_use]
    pub fn stale_reports(&self) -> u64 {
        self.out.stale_reports
    }

    fn breaker(&self, name: &str) -> Result<Look<'_>, Refusal> {
        let name = Name::parse(name)?;
        let id = self.known(&name)?;
        self.table.get(id).ok_or_else(|| Refusal::new(breakerd_proto::Code::UnknownBreaker, "the breaker is gone"))
    }
}

/// The view of a breaker that nobody uses.
pub(crate) fn closed_view() -> View {
    View {
        state: breakerd_proto::State::Closed,
        forced: None,
        mode: breakerd_proto::Mode::On,
        mode_by: String::new(),
        mode_why: String::new(),
        generation: 0,
        retry_after_ms: Some(0),
        age_ms: 0,
        by: String::new(),
        why: String::new(),
        host_only: false,
    }
}
