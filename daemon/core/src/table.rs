//! The map from name to breaker, bounded: who is idle, who has been so for the longest, who must go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use breakerd_proto::message::Place;
use breakerd_proto::{Mono, Name};

use crate::WorkerId;
use crate::account::Charge;
use crate::breaker::Breaker;
use crate::policies::Ruled;
use crate::resting::{IDLE_AFTER, Resting};

/// A place in the table and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BreakerId {
    slot: u32,
    incarnation: u32,
}

impl BreakerId {
    /// Its place in the table, which the next tenant may have too.
    #[must_use]
    pub fn slot(self) -> usize {
        usize::try_from(self.slot).unwrap_or(usize::MAX)
    }
}

#[derive(Debug)]
struct Slot {
    incarnation: u32,
    /// The board's own count of tenants and of their policies: a worker that has been told another one registers anew.
    shown: u16,
    /// What stands in `timers` for it; [`Mono::NEVER`] for nothing.
    wake: Mono,
    /// When it was last asked about or reported on.
    used: Mono,
    /// The account that first used the name pays for it.
    charge: Option<Charge>,
    tenant: Tenant,
}

#[derive(Debug)]
enum Tenant {
    Nobody,
    Resting(Resting),
    Awake(Box<Breaker>),
}

const _: () = assert!(size_of::<Slot>() <= 112, "a name's share of the table must stay small");

/// A breaker to look at. One that rests is made whole for the look alone.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    Awake(&'a Breaker),
    Resting(Box<Breaker>),
}

impl Deref for Look<'_> {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        match self {
            Self::Awake(breaker) => breaker,
            Self::Resting(breaker) => breaker,
        }
    }
}

/// All breakers of the host.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    names: BTreeMap<Name, BreakerId>,
    timers: BTreeSet<(Mono, BreakerId)>,
    /// The breakers that each account pays for, by a time at or before their last use: brought up to date when they are
    /// looked at, so that using a breaker costs nothing here.
    by_age: BTreeMap<u32, BTreeSet<(Mono, BreakerId)>>,
    /// No evicted breaker had a greater generation, so that a name's generation never falls (I4).
    evicted: u64,
    /// Slots that may have to show something else; none where there is no board.
    pub(crate) touched: Option<VecDeque<BreakerId>>,
    /// The fleet's newest version: that of every name that the fleet has not spoken of.
    pub(crate) version: u64,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<BreakerId> {
        self.names.get(name).copied()
    }

    fn slot(&self, id: BreakerId) -> Option<&Slot> {
        self.slots.get(usize::try_from(id.slot).ok()?).filter(|slot| slot.incarnation == id.incarnation)
    }

    fn slot_mut(&mut self, id: BreakerId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(id.slot).ok()?).filter(|slot| slot.incarnation == id.incarnation)
    }

    /// The breaker's slot on the board is to be looked at.
    pub(crate) fn touch(&mut self, id: BreakerId) {
        if let Some(touched) = self.touched.as_mut().filter(|touched| touched.back() != Some(&id)) {
            touched.push_back(id);
        }
    }

    /// Where workers find it on the board.
    pub(crate) fn place(&self, id: BreakerId) -> Place {
        Place { slot: id.slot, incarnation: self.slot(id).map_or(0, |slot| slot.shown) }
    }

    /// Its policy is another: workers are to register it anew.
    pub(crate) fn renew(&mut self, id: BreakerId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.shown = slot.shown.wrapping_add(1);
        }
        self.touch(id);
    }

    /// Whether another breaker has the slot by now.
    pub(crate) fn is_taken(&self, id: BreakerId) -> bool {
        let slot = usize::try_from(id.slot).ok().and_then(|slot| self.slots.get(slot));
        slot.is_some_and(|slot| slot.incarnation != id.incarnation && !matches!(slot.tenant, Tenant::Nobody))
    }

    pub(crate) fn holds(&self, id: BreakerId) -> bool {
        self.slot(id).is_some_and(|slot| !matches!(slot.tenant, Tenant::Nobody))
    }

    /// The breaker, to look at.
    pub(crate) fn get(&self, id: BreakerId) -> Option<Look<'_>> {
        let slot = self.slot(id)?;
        match &slot.tenant {
            Tenant::Nobody => None,
            Tenant::Resting(resting) => Some(Look::Resting(Box::new(resting.breaker(slot.used, self.version)))),
            Tenant::Awake(breaker) => Some(Look::Awake(breaker)),
        }
    }

    /// The breaker, to change. One that rests is whole from here on, until [`Table::rest`].
    pub(crate) fn get_mut(&mut self, id: BreakerId) -> Option<&mut Breaker> {
        let version = self.version;
        let slot = self.slots.get_mut(usize::try_from(id.slot).ok()?).filter(|s| s.incarnation == id.incarnation)?;
        if let Tenant::Resting(resting) = &slot.tenant {
            slot.tenant = Tenant::Awake(Box::new(resting.breaker(slot.used, version)));
            if slot.wake == Mono::NEVER {
                slot.wake = slot.used.after(IDLE_AFTER);
                self.timers.insert((slot.wake, id));
            }
        }
        match &mut slot.tenant {
            Tenant::Awake(breaker) => Some(breaker),
            Tenant::Nobody | Tenant::Resting(_) => None,
        }
    }

    /// The breaker, if it is whole.
    pub(crate) fn awake(&self, id: BreakerId) -> Option<&Breaker> {
        match &self.slot(id)?.tenant {
            Tenant::Awake(breaker) => Some(breaker),
            Tenant::Nobody | Tenant::Resting(_) => None,
        }
    }

    /// The breaker, if it is whole, to look at what it brings up to date itself.
    pub(crate) fn awake_mut(&mut self, id: BreakerId) -> Option<&mut Breaker> {
        match &mut self.slot_mut(id)?.tenant {
            Tenant::Awake(breaker) => Some(breaker),
            Tenant::Nobody | Tenant::Resting(_) => None,
        }
    }

    /// The breaker is asked about or reported on: it is not idle.
    pub(crate) fn used(&mut self, now: Mono, id: BreakerId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.used = now;
        }
    }

    pub(crate) fn insert(&mut self, now: Mono, name: &Name, ruled: Ruled, charge: Charge) -> BreakerId {
        let generation = self.evicted.saturating_add(1);
        let uid = charge.uid();
        let tenant = Tenant::Resting(Resting::new(name.clone(), ruled, generation, now));
        let mut slot = Slot { incarnation: 0, shown: 0, wake: Mono::NEVER, used: now, charge: Some(charge), tenant };
        let place = self.free.pop();
        let old = place.and_then(|place| self.slots.get_mut(usize::try_from(place).ok()?));
        let id = match (place, old) {
            (Some(place), Some(old)) => {
                (slot.incarnation, slot.shown) = (old.incarnation.wrapping_add(1), old.shown.wrapping_add(1));
                let id = BreakerId { slot: place, incarnation: slot.incarnation };
                *old = slot;
                id
            }
            _ => {
                self.slots.push(slot);
                BreakerId { slot: u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX), incarnation: 0 }
            }
        };
        self.names.insert(name.clone(), id);
        self.touch(id);
        self.by_age.entry(uid).or_default().insert((now, id));
        id
    }

    /// Takes a connection's registration of the breaker into its books.
    pub(crate) fn enroll(&mut self, id: BreakerId, worker: WorkerId) {
        match self.slot_mut(id).map(|slot| &mut slot.tenant) {
            Some(Tenant::Resting(resting)) => resting.enroll(worker),
            Some(Tenant::Awake(breaker)) => {
                let lane = breaker.lanes.entry(worker).or_default();
                lane.registrations = lane.registrations.saturating_add(1);
            }
            Some(Tenant::Nobody) | None => {}
        }
    }

    /// Strikes a registration of a breaker that rests; false if it does not rest and must be told itself.
    pub(crate) fn leave_resting(&mut self, id: BreakerId, worker: WorkerId) -> bool {
        let Some(Tenant::Resting(resting)) = self.slot_mut(id).map(|slot| &mut slot.tenant) else { return false };
        resting.leave(worker);
        true
    }

    /// The breaker's name and policy.
    pub(crate) fn rule_of(&self, id: BreakerId) -> Option<(Name, Ruled)> {
        match &self.slot(id)?.tenant {
            Tenant::Nobody => None,
            Tenant::Resting(resting) => Some((resting.name.clone(), resting.ruled.clone())),
            Tenant::Awake(breaker) => {
                let (policy, declared) = (Arc::clone(&breaker.policy), breaker.declared.clone());
                Some((breaker.name.clone(), Ruled { policy, declared }))
            }
        }
    }

    /// Gives a breaker its policy where there is nothing to tell: it rests and shows the same mode, or has an equal policy
    /// already and shares it anew. False if it must be told itself.
    pub(crate) fn rule_quietly(&mut self, id: BreakerId, ruled: &Ruled) -> bool {
        match self.slot_mut(id).map(|slot| &mut slot.tenant) {
            Some(Tenant::Resting(resting)) if resting.ruled.policy.mode == ruled.policy.mode => {
                resting.ruled = ruled.clone();
                true
            }
            Some(Tenant::Awake(breaker)) if *breaker.policy == *ruled.policy => {
                (breaker.policy, breaker.declared) = (Arc::clone(&ruled.policy), ruled.declared.clone());
                true
            }
            _ => false,
        }
    }

    /// Lets the breaker rest if this is what its alarm was for and it has nothing to remember. One that has keeps its room
    /// until it is used again.
    pub(crate) fn rest(&mut self, now: Mono, id: BreakerId) {
        let due = |slot: &&mut Slot| slot.wake <= now && slot.wake == slot.used.after(IDLE_AFTER);
        let Some(slot) = self.slot_mut(id).filter(due) else { return };
        if let Tenant::Awake(breaker) = &slot.tenant
            && let Some(resting) = breaker.rest(now.since(slot.used))
        {
            slot.tenant = Tenant::Resting(resting);
        }
        self.set_alarm(id, Mono::NEVER);
    }

    /// Evicts the idle breaker that was left alone for the longest, of this account or of all. Gives back its receipt.
    pub(crate) fn evict(&mut self, now: Mono, uid: Option<u32>) -> Option<Charge> {
        loop {
            let (listed, uid) = match uid {
                Some(uid) => (self.by_age.get(&uid)?.first()?.0, uid),
                None => {
                    let eldest = self.by_age.iter().filter_map(|(uid, list)| Some((list.first()?.0, *uid)));
                    eldest.min()?
                }
            };
            if now.since(listed) < IDLE_AFTER {
                return None;
            }
            let id = self.by_age.get_mut(&uid)?.pop_first()?.1;
            let Some(slot) = self.slot(id) else { continue };
            let idle = match &slot.tenant {
                Tenant::Nobody => continue,
                Tenant::Resting(_) => true,
                Tenant::Awake(breaker) => breaker.is_evictable(),
            };
            // Where something holds it, it is looked at again when it could next be idle.
            let listed = if idle { slot.used } else { now };
            if now.since(listed) >= IDLE_AFTER {
                return self.remove(id);
            }
            self.by_age.entry(uid).or_default().insert((listed, id));
        }
    }

    fn remove(&mut self, id: BreakerId) -> Option<Charge> {
        self.touch(id);
        self.set_alarm(id, Mono::NEVER);
        let slot = self.slot_mut(id)?;
        let (name, generation) = match std::mem::replace(&mut slot.tenant, Tenant::Nobody) {
            Tenant::Nobody => return None,
            Tenant::Resting(resting) => (resting.name, resting.generation),
            Tenant::Awake(breaker) => (breaker.name.clone(), breaker.generation),
        };
        let charge = slot.charge.take();
        self.names.remove(name.as_str());
        self.free.push(id.slot);
        self.evicted = self.evicted.max(generation);
        if let Some(uid) = charge.as_ref().map(Charge::uid)
            && self.by_age.get(&uid).is_some_and(BTreeSet::is_empty)
        {
            self.by_age.remove(&uid);
        }
        charge
    }

    /// So many breakers at most, in the order of their names, from the one after `after`.
    pub(crate) fn ids_after(&self, after: Option<&Name>, most: usize) -> Vec<BreakerId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.names.range::<Name, _>((from, Bound::Unbounded)).map(|(_, id)| *id).take(most).collect()
    }

    /// Every breaker that is whole, in the order of their names.
    pub(crate) fn awake_ids(&self) -> Vec<BreakerId> {
        self.names.values().filter(|id| self.awake(**id).is_some()).copied().collect()
    }

    /// The same, to look at. What rests is closed and nobody's word lies over it.
    pub(crate) fn each_awake(&self) -> impl Iterator<Item = &Breaker> {
        self.names.values().filter_map(|id| self.awake(*id))
    }

    /// Breakers in the order of their names, from the one after `after`.
    pub(crate) fn after<'a>(&'a self, after: &str) -> impl Iterator<Item = Look<'a>> {
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        self.names.range::<str, _>((from, Bound::Unbounded)).filter_map(|(_, id)| self.get(*id))
    }

    /// Sets when the breaker wants [`Breaker::handle_timeout`]. One that wants nothing may come to rest.
    pub(crate) fn set_wake(&mut self, id: BreakerId, wake: Option<Mono>) {
        let rest_at = self.slot(id).map(|slot| slot.used.after(IDLE_AFTER));
        self.set_alarm(id, wake.or(rest_at).unwrap_or(Mono::NEVER));
    }

    fn set_alarm(&mut self, id: BreakerId, wake: Mono) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.wake != wake) else { return };
        let old = std::mem::replace(&mut slot.wake, wake);
        self.timers.remove(&(old, id));
        if wake != Mono::NEVER {
            self.timers.insert((wake, id));
        }
    }

    pub(crate) fn next_wake(&self) -> Option<(Mono, BreakerId)> {
        self.timers.first().copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "table_tests.rs"]
mod tests;
