//! The core's side of the fleet: facts into breakers, wishes into ops.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use breakerd_proto::{Link, Mono, Name};

use crate::breaker::Stand;
use crate::core::{Core, NOBODY};
use crate::fleet::{Counters, Fact, Heard, Keys, LinkMachine, LinkState, Op, OpKind, Request, Seen, Token};
use crate::table::BreakerId;

/// So long after the link was lost a host leads no probes by itself: another host's lease may still hold.
const PROBES_ALONE_AFTER: Duration = Duration::from_secs(2);

/// Which life of the fleet's data a reading belongs to, as this host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The one that the table already follows: versions compare.
    Same,
    /// The first that this life of the daemon meets: what the table has is only a snapshot's memory.
    First,
    /// Another than before: the data was lost, and this host knows what it held.
    New,
}

/// The host's part in a fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    link: LinkMachine,
    /// This life of the daemon, as leases name it.
    own: String,
    live: bool,
    since: Mono,
    tokens: BTreeMap<Token, (BreakerId, OpKind)>,
    next_token: u64,
    next_lease: u64,
    /// The names of a full read that is under way.
    reading: Option<(BTreeSet<Name>, Life)>,
    synced: bool,
}

impl Core {
    /// Makes the host part of a fleet. Before the first connection.
    ///
    /// `own` names this life of the daemon among all hosts, in at most 64 characters of a breaker's name.
    pub fn join(&mut self, now: Mono, keys: Keys, own: &str, seed: u64) {
        let link = LinkMachine::new(keys, fastrand::Rng::with_seed(seed), now);
        self.fleet = Some(Fleet {
            link,
            own: own.to_owned(),
            live: false,
            since: now,
            tokens: BTreeMap::new(),
            next_token: 0,
            next_lease: 0,
            reading: None,
            synced: false,
        });
    }

    /// The carrier has something to tell.
    pub fn handle_heard(&mut self, now: Mono, heard: Heard) {
        if let Some(fleet) = &mut self.fleet {
            fleet.link.handle_heard(now, heard);
        }
        self.take_facts(now);
    }

    /// What the carrier must now do, in this order.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.fleet.as_mut().and_then(|fleet| fleet.link.poll_request())
    }

    /// How the host stands to its fleet.
    #[must_use]
    pub fn link(&self) -> Link {
        match &self.fleet {
            None => Link::Standalone,
            Some(fleet) if fleet.live => Link::Joined,
            Some(_) => Link::Detached,
        }
    }

    /// Since when the link is as it is, and what failed last.
    #[must_use]
    pub fn link_since(&self) -> Option<(Mono, Option<&str>)> {
        let fleet = self.fleet.as_ref()?;
        Some((fleet.since, fleet.link.last_failure().map(|failed| failed.message.as_str())))
    }

    /// What the link has met.
    #[must_use]
    pub fn link_counters(&self) -> Counters {
        self.fleet.as_ref().map(|fleet| fleet.link.counters()).unwrap_or_default()
    }

    pub(crate) fn stand(&self, now: Mono) -> Stand {
        match &self.fleet {
            None => Stand::Alone,
            Some(fleet) if fleet.live => Stand::Joined,
            Some(fleet) if now.since(fleet.since) < PROBES_ALONE_AFTER => Stand::JustDetached,
            Some(_) => Stand::Detached,
        }
    }

    /// The version that a name has which the fleet never spoke of.
    fn fleet_version(&self) -> u64 {
        self.fleet.as_ref().and_then(|fleet| fleet.link.position()).map_or(0, |position| position.seq)
    }

    /// A lease id that nobody has used, and this host's name beside it.
    pub(crate) fn next_lease(&mut self) -> (String, String) {
        let Some(fleet) = &mut self.fleet else { return (String::new(), String::new()) };
        fleet.next_lease += 1;
        let id = format!("{}.{}", fleet.own, fleet.next_lease);
        (id, fleet.own.clone())
    }

    pub(crate) fn link_timeout(&self) -> Option<Mono> {
        self.fleet.as_ref().and_then(|fleet| fleet.link.poll_timeout())
    }

    pub(crate) fn handle_link_timeout(&mut self, now: Mono) {
        if let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.link.poll_timeout().is_some_and(|at| at <= now)) {
            fleet.link.handle_timeout(now);
            self.take_facts(now);
        }
    }

    /// Hands the wishes of the breaker that was just touched to the link.
    pub(crate) fn propose_wishes(&mut self, now: Mono, id: BreakerId) {
        if self.out.wishes.is_empty() {
            return;
        }
        let wishes = std::mem::take(&mut self.out.wishes);
        let name = self.table.get(id).map(|breaker| breaker.name.clone());
        let (Some(fleet), Some(name)) = (&mut self.fleet, name) else { return };
        let mut refused = Vec::new();
        for (kind, because) in wishes {
            fleet.next_token += 1;
            let token = Token(fleet.next_token);
            let op = Op { name: name.clone(), because, kind: kind.clone() };
            match fleet.link.propose(now, token, op) {
                Ok(()) => drop(fleet.tokens.insert(token, (id, kind))),
                Err(_) => refused.push(kind),
            }
        }
        for kind in refused {
            self.touch(now, id, |breaker, turn| breaker.unanswered(turn, &kind));
        }
    }

    fn take_facts(&mut self, now: Mono) {
        self.table.version = self.fleet_version();
        while let Some(fact) = self.fleet.as_mut().and_then(|fleet| fleet.link.poll_fact()) {
            self.take_fact(now, fact);
        }
    }

    fn take_fact(&mut self, now: Mono, fact: Fact) {
        match fact {
            Fact::State(state) => self.link_stands(now, state),
            Fact::Value(seen) => self.value_seen(now, &seen),
            Fact::TableBegins { new_epoch } => {
                if let Some(fleet) = &mut self.fleet {
                    let life = match (new_epoch, fleet.synced) {
                        (false, _) => Life::Same,
                        (true, false) => Life::First,
                        (true, true) => Life::New,
                    };
                    fleet.reading = Some((BTreeSet::new(), life));
                }
            }
            Fact::TableEnds { version } => self.table_read(now, version),
            Fact::Answered { token, result, seen, .. } => {
                let wish = self.fleet.as_mut().and_then(|fleet| fleet.tokens.remove(&token));
                if let Some(seen) = seen {
                    self.value_seen(now, &seen);
                }
                if let Some((id, kind)) = wish {
                    self.touch(now, id, |breaker, turn| breaker.answered(turn, &kind, result));
                }
            }
            Fact::Refused { token } | Fact::Unknown { token, .. } => {
                let wish = self.fleet.as_mut().and_then(|fleet| fleet.tokens.remove(&token));
                if let Some((id, kind)) = wish {
                    self.touch(now, id, |breaker, turn| breaker.unanswered(turn, &kind));
                }
            }
        }
    }

    fn link_stands(&mut self, now: Mono, state: LinkState) {
        let Some(fleet) = &mut self.fleet else { return };
        let live = state == LinkState::Live;
        if live != fleet.live {
            (fleet.live, fleet.since) = (live, now);
        }
        if !live {
            return;
        }
        let own = fleet.own.clone();
        for id in self.table.awake_ids() {
            let (lease_id, _) = self.next_lease();
            self.touch(now, id, |breaker, turn| breaker.reconcile(turn, &lease_id, &own));
        }
    }

    fn value_seen(&mut self, now: Mono, seen: &Seen) {
        let Some(fleet) = &mut self.fleet else { return };
        let own = fleet.own.clone();
        let life = match &mut fleet.reading {
            Some((names, life)) => {
                names.insert(seen.name.clone());
                *life
            }
            None => Life::Same,
        };
        // Only a full table keeps a fleet's value out; its workers are then admitted unguarded and told so.
        let Ok(id) = self.ensure(now, NOBODY, &seen.name, None) else { return };
        // One that was made or rested until now is at the fleet's newest version and has seen nothing of it.
        let rested = self.table.awake(id).is_none();
        if let Some(breaker) = self.table.get_mut(id).filter(|_| rested && life == Life::Same) {
            breaker.joint.version = 0;
        }
        self.touch(now, id, |breaker, turn| breaker.take_in(turn, seen, &own, life));
    }

    fn table_read(&mut self, now: Mono, version: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.synced = true;
        let Some((names, life)) = fleet.reading.take() else { return };
        for id in self.table.awake_ids() {
            if self.table.awake(id).is_some_and(|breaker| names.contains(breaker.name.as_str())) {
                continue;
            }
            self.touch(now, id, |breaker, turn| breaker.absent(turn, version, life));
        }
    }
}
