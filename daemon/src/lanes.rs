//! Reading what workers count in memory, before anything is judged or shown by it.

use std::rc::Rc;

use breakerd_core::{BreakerId, ConnectionId, Found};
use breakerd_proto::Mono;
use breakerd_proto::map::Lanes;
use breakerd_proto::message::{Report, ToDaemon};

use crate::connection::Number;
use crate::drive::Drive;

/// One lane of one connection, and what was found in it so far.
struct Reader {
    breaker: BreakerId,
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
    fn at(&mut self, breaker: BreakerId) -> Option<&mut Vec<Reader>> {
        self.0.get_mut(breaker.slot())
    }

    /// A connection has registered a breaker in this lane.
    pub(crate) fn enroll(&mut self, breaker: BreakerId, (connection, lane): (ConnectionId, u32), memory: &Rc<Lanes>) {
        if self.0.len() <= breaker.slot() {
            self.0.resize_with(breaker.slot() + 1, Vec::new);
        }
        self.keep(breaker);
        let Some(readers) = self.at(breaker) else { return };
        if readers.iter().any(|reader| (reader.connection, reader.lane) == (connection, lane)) {
            return;
        }
        let seen = usize::try_from(lane).map_or(0, |lane| memory.read(lane));
        readers.push(Reader { breaker, connection, lane, memory: Rc::clone(memory), seen });
    }

    /// What stands there from here on is this breaker's.
    pub(crate) fn keep(&mut self, breaker: BreakerId) {
        if let Some(readers) = self.at(breaker).filter(|readers| !readers.is_empty()) {
            readers.retain(|reader| reader.breaker == breaker);
        }
    }

    /// A connection has ended, which used the breaker: what it counted since it was last read.
    fn strike(&mut self, breaker: BreakerId, connection: ConnectionId) -> Vec<Found> {
        let Some(readers) = self.at(breaker) else { return Vec::new() };
        let (gone, stay): (Vec<Reader>, Vec<Reader>) =
            std::mem::take(readers).into_iter().partition(|reader| reader.connection == connection);
        *readers = stay;
        gone.into_iter().filter_map(|mut reader| reader.read()).collect()
    }

    /// What the lanes of this breaker count more than when they were last read.
    fn read(&mut self, breaker: BreakerId) -> Vec<Found> {
        let readers = self.at(breaker).into_iter().flatten().filter(|reader| reader.breaker == breaker);
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
    /// A connection has registered a breaker: what it counts there is read from here on.
    pub(crate) fn enroll(&mut self, number: Number, id: ConnectionId, lane: u32) {
        let memory = self.peers.get(&number).and_then(|peer| peer.lanes.as_ref());
        if let (Some(memory), Some(breaker)) = (memory, self.core.breaker_at(id, lane)) {
            self.readers.enroll(breaker, (id, lane), memory);
        }
    }

    /// Reads the counts that the message depends on.
    pub(crate) fn read_lanes_for(&mut self, now: Mono, id: ConnectionId, message: &ToDaemon) {
        let Some(breaker) = self.core.wants_reading(now, id, message) else { return };
        let stamp = if let ToDaemon::Report(Report { at, .. }) = message { Some(*at) } else { None };
        self.read_lanes_at(now, breaker, stamp);
    }

    /// Reads what a breaker's workers count, before a message that is stamped so, or because the breaker has changed: what
    /// they counted until now was of what it was.
    pub(crate) fn read_lanes_at(&mut self, now: Mono, breaker: BreakerId, stamp: Option<Mono>) {
        for found in self.readers.read(breaker) {
            self.core.handle_found(now, found, stamp);
        }
    }

    /// Reads everything that a connection counts, which is about to go, and reads it no more.
    pub(crate) fn read_lanes_of(&mut self, now: Mono, number: Number) {
        let Some(peer) = self.peers.get(&number).filter(|peer| peer.lanes.is_some()) else { return };
        let Some(id) = peer.id else { return };
        for breaker in self.core.breakers_of(id) {
            for found in self.readers.strike(breaker, id) {
                self.core.handle_found(now, found, None);
            }
        }
    }
}
