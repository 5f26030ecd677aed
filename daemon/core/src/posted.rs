//! What stands on the board: the picture of each breaker that was touched, as its slot must show it.

use breakerd_proto::board::{Flags, Shown, Sight, Word};
use breakerd_proto::message::Place;
use breakerd_proto::{Mode, Mono, State};

use crate::breaker::{Breaker, Stand};
use crate::core::Core;
use crate::probe::Probes;
use crate::table::BreakerId;

/// A slot and what it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Which breaker.
    pub breaker: BreakerId,
    /// Its slot, and which of the slot's tenants and policies it is.
    pub place: Place,
    /// What it shows; an empty word where the breaker is gone.
    pub sight: Sight,
}

impl Core {
    /// There is a board: from here on `poll_posted` is to be drained.
    pub fn post_all(&mut self) {
        self.table.touched = Some(self.table.ids_after(None, usize::MAX).into());
    }

    /// The next slot whose breaker was touched since it was last asked for, possibly to the same effect.
    pub fn poll_posted(&mut self, now: Mono) -> Option<Posted> {
        let id = self.table.touched.as_mut()?.pop_front()?;
        let stand = self.stand(now);
        let place = self.table.place(id);
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
        Some(Posted { breaker: id, place, sight })
    }
}

impl Breaker {
    /// What its slot shows.
    fn sight(&self, now: Mono, stand: Stand, incarnation: u16) -> Sight {
        let (state, forced) = (self.state(), self.forced.as_ref());
        let shown = match self.mode() {
            Mode::Off if forced.is_none() => Shown::Off,
            _ => Shown::of(state, forced.map(|forced| forced.to)),
        };
        let flags = Flags {
            permit_free: state == State::HalfOpen && !self.is_active() && self.probes(now, stand) != Probes::Out,
            timed: self.policy.slow_after.is_some(),
            shadow: self.mode() == Mode::Shadow,
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
