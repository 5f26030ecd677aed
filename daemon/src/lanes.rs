//! Reading what workers count in memory, before anything is judged or shown by it.

use std::rc::Rc;

use breakerd_core::{ConnectionId, Found};
use breakerd_proto::Mono;
use breakerd_proto::map::Lanes;
use breakerd_proto::message::{Place, Registered, Report, ToDaemon};

use crate::connection::Number;
use crate::drive::Drive;

/// One lane of one connection, and what was found in it so far.
struct Reader {
    incarnation: u16,
    connection: ConnectionId,
    lane: u32,
    memory: Rc<Lanes>,
    seen: u64,
}

/// The lanes of every breaker, by its slot. A trip looks at all of one breaker's, so these stand together, and a lane in
/// which nothing has changed costs no more than to look at it.
#[derive(Default)]
pub(crate) struct Readers(Vec<Vec<Reader>>);

impl Readers {
    fn at(&mut self, place: Place) -> Option<&mut Vec<Reader>> {
        self.0.get_mut(usize::try_from(place.slot).ok()?)
    }

    /// A connection has registered a breaker.
    pub(crate) fn enroll(&mut self, connection: ConnectionId, registered: &Registered, memory: &Rc<Lanes>) {
        let (Some(place), lane) = (registered.place, registered.lane) else { return };
        let Ok(slot) = usize::try_from(place.slot) else { return };
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, Vec::new);
        }
        self.keep(place);
        let Some(readers) = self.0.get_mut(slot) else { return };
        if readers.iter().any(|reader| (reader.connection, reader.lane) == (connection, lane)) {
            return;
        }
        let seen = usize::try_from(lane).map_or(0, |lane| memory.read(lane));
        let memory = Rc::clone(memory);
        readers.push(Reader { incarnation: place.incarnation, connection, lane, memory, seen });
    }

    /// What stands there from here on is this tenant's.
    pub(crate) fn keep(&mut self, place: Place) {
        if let Some(readers) = self.at(place).filter(|readers| !readers.is_empty()) {
            readers.retain(|reader| reader.incarnation == place.incarnation);
        }
    }

    /// A connection has ended, which used the breaker at this place.
    pub(crate) fn strike(&mut self, place: Place, connection: ConnectionId) {
        if let Some(readers) = self.at(place) {
            readers.retain(|reader| reader.connection != connection);
            if readers.is_empty() {
                *readers = Vec::new();
            }
        }
    }

    /// What the lanes of this breaker count more than when they were last read.
    fn read(&mut self, place: Place) -> Vec<Found> {
        let readers = self.at(place).into_iter().flatten().filter(|reader| reader.incarnation == place.incarnation);
        readers.filter_map(Reader::read).collect()
    }
}

impl Reader {
    /// A figure that goes back is the worker's own mischief; it becomes the baseline and tells nothing.
    fn read(&mut self) -> Option<Found> {
        let read = self.memory.read(usize::try_from(self.lane).ok()?);
        let successes = read.saturating_sub(std::mem::replace(&mut self.seen, read));
        (successes > 0).then_some(Found { connection: self.connection, lane: self.lane, successes })
    }
}

impl Drive {
    /// Reads the counts that the message depends on. Those of the connection itself come with the message.
    pub(crate) fn read_lanes_for(&mut self, now: Mono, id: ConnectionId, message: &ToDaemon) {
        let Some(place) = self.core.wants_reading(now, id, message) else { return };
        let stamp = if let ToDaemon::Report(Report { at, .. }) = message { Some(*at) } else { None };
        for found in self.readers.read(place) {
            self.core.handle_found(now, found, stamp);
        }
    }

    /// Reads what a breaker's workers count: it has changed, and what they counted until now was of what it was.
    pub(crate) fn read_lanes_at(&mut self, now: Mono, place: Place) {
        for found in self.readers.read(place) {
            self.core.handle_found(now, found, None);
        }
    }

    /// Reads everything that a connection counts, which is about to go, and reads it no more.
    pub(crate) fn read_lanes_of(&mut self, now: Mono, number: Number) {
        let Some(peer) = self.peers.get(&number).filter(|peer| peer.lanes.is_some()) else { return };
        let Some(id) = peer.id else { return };
        for place in self.core.places_of(id) {
            self.read_lanes_at(now, place);
            self.readers.strike(place, id);
        }
    }
}
