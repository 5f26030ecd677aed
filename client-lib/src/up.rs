//! A connection that stands, or is about to, with what it shares with the daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use breakerd_proto::message::Registered;
use breakerd_proto::{Link as Fleet, Name};

use crate::attachment::Attachment;
use crate::board::{Memory, Spot};
use crate::dialogue::{Key, Reply, Ticket};
use crate::health::Full;
use crate::known::Known;
use crate::link::Link;
use crate::session::Session;

pub(crate) struct Up {
    pub(crate) number: u64,
    pub(crate) link: Arc<Link>,
    pub(crate) session: Session,
    memory: Option<&'static Memory>,
    /// Where the breakers stand there that it has registered.
    spots: BTreeMap<Name, &'static Spot>,
    pub(crate) fleet: Fleet,
    /// What it had no room for.
    pub(crate) full: Option<Full>,
    /// Rejections that wait for their reason, by the request that asks for it: a verdict does not tell why.
    pub(crate) unexplained: BTreeMap<u32, (Key, Reply)>,
}

impl Up {
    pub(crate) fn new(number: u64, link: Link, session: Session) -> Self {
        Self {
            number,
            link: Arc::new(link),
            session,
            memory: None,
            spots: BTreeMap::new(),
            fleet: Fleet::Standalone,
            full: None,
            unexplained: BTreeMap::new(),
        }
    }

    /// Takes up the memory that came with the welcome. Without it the socket serves.
    pub(crate) fn share(&mut self, ticket: Ticket, owner: Weak<Attachment>) {
        let Some(fds) = self.link.take_memory() else { return };
        // In another time namespace the board's deadlines are on another clock.
        if !self.session.has_daemons_clock() {
            return;
        }
        if let Ok(memory) = Memory::map(&fds, ticket, owner) {
            self.session.share(memory);
            self.memory = Some(memory);
        }
    }

    /// The daemon has told where a breaker stands on its board.
    pub(crate) fn place(&mut self, known: &Known, registered: &Registered) {
        let place = self.memory.zip(registered.place);
        if let Some(spot) = place.and_then(|(memory, place)| memory.spot(place, registered.lane)) {
            self.spots.insert(known.name.clone(), spot);
            known.set_spot(Some(spot));
        }
    }

    /// The daemon has answered on this breaker, and so has read what was told before the question: calls look at the board
    /// again, unless the socket has yet to take something. Should the connection be over whose word was taken of where the
    /// breaker stands, it is known here too.
    pub(crate) fn heard(&self, known: &Known) {
        let owes = match known.withdrawn() {
            Some(spot) if self.memory.is_some_and(|memory| spot.is_of(memory)) => self.session.owes(&known.name),
            Some(spot) => spot.is_owed(&known.name),
            None => false,
        };
        if !owes {
            known.restore_spot();
        }
        if let Some(spot) = self.spots.get(&known.name) {
            known.offer_spot(spot);
        }
    }

    /// The connection is over: what the board showed last is kept by those who know the breakers.
    pub(crate) fn retire<'a>(&self, all: impl Iterator<Item = &'a Arc<Known>>) {
        if let Some(memory) = self.memory {
            all.for_each(|known| known.leave(memory));
            memory.retire();
        }
    }
}
