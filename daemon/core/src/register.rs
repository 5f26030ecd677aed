//! Names: who registers them, who pays for them, and what becomes of one that nobody has room for.

use breakerd_proto::message::{PolicyPatch, Register, Registered};
use breakerd_proto::{Code, Mono, Name, OnQuota};

use crate::account::Held;
use crate::core::{Core, NOBODY, no_connection};
use crate::policies::Ruled;
use crate::policy::check_patch;
use crate::refusal::Refusal;
use crate::table::BreakerId;
use crate::worker::{ConnectionId, Registration};

impl Core {
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
            check_declared(&name, patch)?;
        }
        let known = self.connections.get(&connection).ok_or_else(no_connection)?;
        let lane = match known.lane_of(&name) {
            Some(lane) => lane,
            None => self.enroll(now, connection, &name, register.policy.as_deref())?,
        };
        let id = self.lane(now, connection, lane)?;
        let breaker = self.table.get(id).ok_or_else(no_connection)?;
        let (policy, view) = (Box::new(breaker.policy_in_force()), breaker.view(now));
        Ok(Registered { request: register.request, lane, place: Some(self.table.place(id)), policy, view })
    }

    /// A lane for a name that the connection has not registered: its number.
    fn enroll(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        name: &Name,
        declared: Option<&PolicyPatch>,
    ) -> Result<u32, Refusal> {
        let known = self.connections.get(&connection).ok_or_else(no_connection)?;
        let (uid, most) = (known.uid, self.settings.quotas.lanes_per_connection);
        if known.lanes.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            let full = format!("one connection may use {most} breakers");
            return Err(self.no_room(name, declared, full));
        }
        let id = self.ensure(now, uid, name, declared)?;
        let declared = self.ruled(name, declared).declared;
        let known = self.connections.get_mut(&connection).ok_or_else(no_connection)?;
        let worker = known.worker;
        let lane = known.add_lane(Registration::new(id, name.clone(), declared, now));
        self.table.enroll(id, worker);
        Ok(lane)
    }

    /// The breaker behind a lane. One that was evicted comes back under the same lane, as a breaker that has seen nothing
    /// yet: what was admitted before is of an older generation.
    pub(crate) fn lane(&mut self, now: Mono, connection: ConnectionId, lane: u32) -> Result<BreakerId, Refusal> {
        let known = self.connections.get(&connection).ok_or_else(no_connection)?;
        let registration = known.lane(lane).ok_or_else(|| {
            Refusal::new(Code::UnknownLane, format!("lane {lane} was never registered on this connection"))
        })?;
        if self.table.holds(registration.breaker) {
            return Ok(registration.breaker);
        }
        let (uid, worker) = (known.uid, known.worker);
        let (name, declared) = (registration.name.clone(), registration.declared.clone());
        let id = self.ensure(now, uid, &name, declared.as_deref())?;
        self.table.enroll(id, worker);
        let known = self.connections.get_mut(&connection);
        if let Some(registration) = known.and_then(|known| known.lane_mut(lane)) {
            registration.breaker = id;
        }
        Ok(id)
    }

    /// The breaker of this name, made if there is none.
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
        let most = if uid == NOBODY { quotas.names } else { quotas.names_per_account };
        self.make_room(now, uid, most).map_err(|full| self.no_room(name, declared, full))?;
        let charge = self.accounts.charge(uid, Held::Name, most).ok_or_else(no_connection)?;
        let ruled = self.ruled(name, declared);
        Ok(self.table.insert(now, name, ruled, charge))
    }

    /// Makes room for one more name of this account: its own idle breakers go where its quota is full, anybody's where
    /// the table is.
    fn make_room(&mut self, now: Mono, uid: u32, most: u32) -> Result<(), String> {
        while self.accounts.holds(uid, Held::Name) >= most {
            let charge = self.table.evict(now, Some(uid));
            self.accounts.release(charge.ok_or_else(|| {
                format!("user {uid} has {most} names in use, which is all that it may have, and none is idle")
            })?);
        }
        let names = self.settings.quotas.names;
        while self.table.len() >= usize::try_from(names).unwrap_or(usize::MAX) {
            let charge = self.table.evict(now, None);
            self.accounts.release(charge.ok_or_else(|| format!("all {names} names are in use and none is idle"))?);
        }
        Ok(())
    }

    /// No room for a name: its calls are admitted unguarded, or rejected where its policy says so.
    fn no_room(&mut self, name: &Name, declared: Option<&PolicyPatch>, full: String) -> Refusal {
        self.over_quota = self.over_quota.saturating_add(1);
        let code = match self.ruled(name, declared).policy.on_quota {
            OnQuota::Admit => Code::Quota,
            OnQuota::Reject => Code::QuotaRejects,
        };
        Refusal::new(code, full)
    }

    pub(crate) fn ruled(&mut self, name: &Name, declared: Option<&PolicyPatch>) -> Ruled {
        self.policies.of(&self.settings, name.as_str(), declared)
    }
}

/// What code may say of a policy: everything within its bounds but where the daemon itself connects.
fn check_declared(name: &Name, patch: &PolicyPatch) -> Result<(), Refusal> {
    let refusal = |why: &str| Refusal::new(Code::BadArgument, format!("policy of {name}: {why}"));
    if patch.probe_connect.is_some() {
        return Err(refusal(
            "probe.connect is the daemon's own connection; only its configuration may say where to, under \
             [breaker.\"NAME\"]",
        ));
    }
    check_patch(patch).map_err(|bad| refusal(&bad.to_string()))
}
