//! What stands on the board: the picture of each breaker that was touched, as its slot must show it.

use breakerd_proto::board::{Flags, Shown, Sight, Word};
use breakerd_proto::message::Place;
use breakerd_proto::{Counts, Mode, Mono, State};

use crate::ConnectionId;
use crate::breaker::{Breaker, Probes, Stand};
use crate::core::Core;
use crate::table::BreakerId;

/// A slot and what it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Which slot and tenant.
    pub place: Place,
    /// What it shows; an empty word where the breaker is gone.
    pub sight: Sight,
}

impl Core {
    /// There is a board: from here on `poll_posted` is to be drained.
    pub fn post_all(&mut self) {
        self.out.touched = Some(self.table.ids().into());
    }

    /// The next slot whose breaker was touched since it was last asked for, possibly to the same effect.
    pub fn poll_posted(&mut self, now: Mono) -> Option<Posted> {
        let id = self.out.touched.as_mut()?.pop_front()?;
        let stand = self.stand(now);
        let place = id.place();
        let sight = match self.table.get(id) {
            Some(breaker) => breaker.sight(now, stand, place.incarnation),
            // A successor posts itself; this must not wipe it off.
            None if self.table.is_taken(id) => return self.poll_posted(now),
            None => Sight {
                word: Word::default(),
                until: Mono::default(),
                since: now,
                by: String::new(),
                why: String::new(),
            },
        };
        Some(Posted { place, sight })
    }

    /// Where a connection's lane stands on the board.
    #[must_use]
    pub fn place(&self, connection: ConnectionId, lane: u32) -> Option<Place> {
        let registration = self.connection(connection)?.lanes.get(usize::try_from(lane).ok()?)?;
        self.table.get(registration.breaker).map(|_| registration.breaker.place())
    }

    /// The lanes through which connections use the breaker of this lane, this one among them.
    #[must_use]
    pub fn lanes_beside(&self, connection: ConnectionId, lane: u32) -> Vec<(ConnectionId, u32)> {
        let of = |known: &crate::worker::Connection| -> Option<BreakerId> {
            Some(known.lanes.get(usize::try_from(lane).ok()?)?.breaker)
        };
        let Some(id) = self.connection(connection).and_then(of) else { return Vec::new() };
        self.lanes_of(id)
    }

    /// The lanes through which connections use the breaker of this name.
    #[must_use]
    pub fn lanes_named(&self, name: &str) -> Vec<(ConnectionId, u32)> {
        self.table.find(name).map(|id| self.lanes_of(id)).unwrap_or_default()
    }

    fn lanes_of(&self, id: BreakerId) -> Vec<(ConnectionId, u32)> {
        let lane = |known: &crate::worker::Connection| known.lanes.iter().position(|lane| lane.breaker == id);
        self.each_connection()
            .filter_map(|(connection, known)| Some((connection, u32::try_from(lane(known)?).ok()?)))
            .collect()
    }

    /// How many lanes a connection has.
    #[must_use]
    pub fn lanes(&self, connection: ConnectionId) -> u32 {
        self.connection(connection).map_or(0, |known| u32::try_from(known.lanes.len()).unwrap_or(u32::MAX))
    }

    /// A lane's counts were read in its memory.
    pub fn handle_counts(&mut self, now: Mono, connection: ConnectionId, lane: u32, counts: Counts) {
        self.make_good(now, connection, lane, counts, None);
    }
}

impl Breaker {
    /// What its slot shows.
    fn sight(&self, now: Mono, stand: Stand, incarnation: u16) -> Sight {
        let (state, forced) = (self.state(), self.forced.as_ref());
        let shown = match self.policy.mode {
            Mode::Off if forced.is_none() => Shown::Off,
            _ => Shown::of(state, forced.map(|forced| forced.to)),
        };
        let flags = Flags {
            permit_free: state == State::HalfOpen && self.probes(now, stand) != Probes::Out,
            timed: self.policy.slow_after.is_some(),
            shadow: self.policy.mode == Mode::Shadow,
        };
        let until = match (forced, state) {
            (Some(forced), _) => forced.end.unwrap_or(Mono::NEVER),
            (None, State::Closed) => Mono::default(),
            (None, State::Open) => self.ruling().until,
            (None, State::HalfOpen) => self.undecided_until(now),
        };
        let (since, because) = match forced {
            Some(forced) => (forced.since, &forced.because),
            None => (self.ruling().since, &self.ruling().because),
        };
        // What is closed has nothing to explain, and its text then takes no memory.
        let told = shown != Shown::Closed && shown != Shown::Off;
        let text = |text: &String| if told { text.clone() } else { String::new() };
        Sight {
            word: Word::new(shown, flags, incarnation, self.generation),
            until,
            since,
            by: text(&because.by),
            why: text(&because.why),
        }
    }

    /// When asking again may find a probe free that is out now.
    fn undecided_until(&self, now: Mono) -> Mono {
        if self.joint.foreign_lease(now) {
            return self.joint.lease_until;
        }
        self.permits.iter().map(|permit| permit.expires).min().unwrap_or(now)
    }
}
