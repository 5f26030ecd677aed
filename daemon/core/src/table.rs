//! The map from name to breaker, bounded.

use std::collections::{BTreeMap, BTreeSet};

use breakerd_proto::{Mono, Name};

use crate::breaker::Breaker;

/// A place in the table and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BreakerId {
    slot: u32,
    incarnation: u16,
}

impl BreakerId {
    /// The same as the board numbers it.
    pub(crate) fn place(self) -> breakerd_proto::message::Place {
        breakerd_proto::message::Place { slot: self.slot, incarnation: self.incarnation }
    }
}

#[derive(Debug, Default)]
struct Slot {
    incarnation: u16,
    breaker: Option<Breaker>,
    /// What stands in `timers` for it.
    wake: Option<Mono>,
}

/// All breakers of the host.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    names: BTreeMap<Name, BreakerId>,
    timers: BTreeSet<(Mono, BreakerId)>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<BreakerId> {
        self.names.get(name).copied()
    }

    pub(crate) fn get(&self, id: BreakerId) -> Option<&Breaker> {
        self.slot(id)?.breaker.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: BreakerId) -> Option<&mut Breaker> {
        let slot = self.slots.get_mut(usize::try_from(id.slot).ok()?)?;
        if slot.incarnation == id.incarnation { slot.breaker.as_mut() } else { None }
    }

    /// Whether another breaker has the slot by now.
    pub(crate) fn is_taken(&self, id: BreakerId) -> bool {
        let slot = usize::try_from(id.slot).ok().and_then(|slot| self.slots.get(slot));
        slot.is_some_and(|slot| slot.incarnation != id.incarnation && slot.breaker.is_some())
    }

    fn slot(&self, id: BreakerId) -> Option<&Slot> {
        self.slots.get(usize::try_from(id.slot).ok()?).filter(|slot| slot.incarnation == id.incarnation)
    }

    pub(crate) fn insert(&mut self, breaker: Breaker) -> BreakerId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = usize::try_from(place).ok().and_then(|place| self.slots.get_mut(place));
        let incarnation = slot.map_or(0, |slot| {
            slot.incarnation = slot.incarnation.wrapping_add(1);
            slot.incarnation
        });
        let id = BreakerId { slot: place, incarnation };
        self.names.insert(breaker.name.clone(), id);
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| self.slots.get_mut(place)) {
            slot.breaker = Some(breaker);
        }
        id
    }

    pub(crate) fn remove(&mut self, id: BreakerId) -> Option<Breaker> {
        self.set_wake(id, None);
        let slot = usize::try_from(id.slot).ok().and_then(|place| self.slots.get_mut(place));
        let breaker = slot.filter(|slot| slot.incarnation == id.incarnation)?.breaker.take()?;
        self.names.remove(breaker.name.as_str());
        self.free.push(id.slot);
        Some(breaker)
    }

    /// The sixteenth of the idle breakers that nobody has asked about for the longest, at least one if any is idle.
    ///
    /// Many at once, so that a flood of names costs a scan for each sixteenth and not for each name.
    pub(crate) fn stalest(&self) -> Vec<BreakerId> {
        let idle = |id: &&BreakerId| self.get(**id).is_some_and(Breaker::is_idle);
        let mut idle: Vec<BreakerId> = self.names.values().filter(idle).copied().collect();
        idle.sort_by_key(|id| self.get(*id).map(|breaker| breaker.asked));
        idle.truncate(idle.len().div_ceil(16));
        idle
    }

    /// Every breaker, in the order of their names.
    pub(crate) fn ids(&self) -> Vec<BreakerId> {
        self.names.values().copied().collect()
    }

    /// Breakers in the order of their names, from the one after `after`.
    pub(crate) fn after<'a>(&'a self, after: &str) -> impl Iterator<Item = &'a Breaker> {
        use std::ops::Bound;
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        self.names.range::<str, _>((from, Bound::Unbounded)).filter_map(|(_, id)| self.get(*id))
    }

    /// Sets when the breaker wants [`Breaker::handle_timeout`].
    pub(crate) fn set_wake(&mut self, id: BreakerId, wake: Option<Mono>) {
        let slot = usize::try_from(id.slot).ok().and_then(|place| self.slots.get_mut(place));
        let Some(slot) = slot.filter(|slot| slot.incarnation == id.incarnation && slot.wake != wake) else { return };
        if let Some(old) = std::mem::replace(&mut slot.wake, wake) {
            self.timers.remove(&(old, id));
        }
        if let Some(wake) = wake {
            self.timers.insert((wake, id));
        }
    }

    pub(crate) fn next_wake(&self) -> Option<(Mono, BreakerId)> {
        self.timers.first().copied()
    }
}
