//! A connection that stands, or is about to, with what it shares with the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakerd_proto::Link as Fleet;
use breakerd_proto::message::Registered;

use crate::board::Memory;
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
    pub(crate) fleet: Fleet,
    /// What it had no room for.
    pub(crate) full: Option<Full>,
    /// Rejections that wait for their reason, by the request that asks for it: a verdict does not tell why.
    pub(crate) unexplained: BTreeMap<u32, (Key, Reply)>,
    /// Breakers whose calls go by messages until the daemon has been told what it is owed.
    owing: Vec<Arc<Known>>,
}

impl Up {
    pub(crate) fn new(number: u64, link: Link, session: Session) -> Self {
        Self {
            number,
            link: Arc::new(link),
            session,
            memory: None,
            fleet: Fleet::Standalone,
            full: None,
            unexplained: BTreeMap::new(),
            owing: Vec::new(),
        }
    }

    /// Takes up the memory that came with the welcome. Without it the socket serves.
    pub(crate) fn share(&mut self, ticket: Ticket) {
        let Some([board, lanes]) = self.link.take_memory() else { return };
        // In another time namespace the board's deadlines are on another clock.
        if !self.session.has_daemons_clock() {
            return;
        }
        if let Ok(memory) = Memory::map(&board, &lanes, ticket) {
            self.session.share(memory);
            self.memory = Some(memory);
        }
    }

    /// The daemon has told where a breaker stands on its board.
    pub(crate) fn place(&self, known: &Known, registered: &Registered) {
        let place = self.memory.zip(registered.place);
        if let Some(spot) = place.and_then(|(memory, place)| memory.spot(place, registered.lane)) {
            known.set_spot(Some(spot));
        }
    }

    /// The socket has not taken all that the daemon is to know of this breaker, and a call that only looks at the board
    /// would tell it no sooner: the next ones go by messages.
    pub(crate) fn withdraw(&mut self, known: &Arc<Known>) {
        if self.session.owes(&known.name) && known.withdraw_spot() {
            self.owing.push(Arc::clone(known));
        }
    }

    /// Breakers of which all is told are looked at on the board again.
    pub(crate) fn restore(&mut self) {
        if !self.owing.is_empty() {
            let session = &self.session;
            let told = self.owing.extract_if(.., |known| !session.owes(&known.name));
            told.for_each(|known| known.restore_spot());
        }
    }

    /// The connection is over: what the board showed last is kept by those who know the breakers.
    pub(crate) fn retire<'a>(&self, mut all: impl Iterator<Item = &'a Arc<Known>>) {
        if let Some(memory) = self.memory {
            all.by_ref().for_each(|known| known.leave(memory));
            memory.retire();
        }
    }
}
