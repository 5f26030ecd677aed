//! Reading what workers count, before anything is judged or shown by it.

use breakerd_core::ConnectionId;
use breakerd_proto::message::{Report, ToDaemon};
use breakerd_proto::{Mono, Name, Outcome};

use crate::connection::Number;
use crate::drive::Drive;

impl Drive {
    /// Reads the counts that the message depends on.
    pub(crate) fn read_lanes_for(&mut self, now: Mono, id: ConnectionId, message: &ToDaemon) {
        let lanes = match message {
            ToDaemon::Report(Report { lane, outcome: Outcome::Failure(_), .. }) => self.core.lanes_beside(id, *lane),
            ToDaemon::Describe(describe) => {
                Name::parse(&describe.name).map(|name| self.core.lanes_named(&name)).unwrap_or_default()
            }
            _ => return,
        };
        for (connection, lane) in lanes {
            self.read_lane(now, connection, lane);
        }
    }

    /// Reads everything that a connection counts, which is about to go.
    pub(crate) fn read_lanes_of(&mut self, now: Mono, number: Number) {
        let Some(id) = self.peers.get(&number).filter(|peer| peer.lanes.is_some()).and_then(|peer| peer.id) else {
            return;
        };
        for lane in 0..self.core.lanes(id) {
            self.read_lane(now, id, lane);
        }
    }

    fn read_lane(&mut self, now: Mono, connection: ConnectionId, lane: u32) {
        let memory = self.numbers.get(&connection).and_then(|number| self.peers.get(number)?.lanes.as_ref());
        let (Some(memory), Ok(place)) = (memory, usize::try_from(lane)) else { return };
        let read = memory.read(place);
        self.core.handle_reading(now, connection, lane, read);
    }
}
