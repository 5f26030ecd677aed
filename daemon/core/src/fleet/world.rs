//! A small world for the link: one server that answers its commands, a wire that can lose and hold, a clock in hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod faults;
mod server;

use std::collections::{BTreeMap, VecDeque};

use breakerd_proto::{Mono, Name};

use self::server::Server;
use super::*;
use crate::change::Because;

/// A link, its server, and the table that its facts make.
struct World {
    now: Mono,
    link: LinkMachine,
    server: Server,
    connection: Option<ConnectionNumber>,
    refuses: bool,
    /// Replies are made but not delivered.
    held_back: Option<VecDeque<Heard>>,
    /// The fleet cells, closed ones too, as the facts made them.
    cells: BTreeMap<Name, Value>,
    /// The version of a cell that no fact has named.
    floor: u64,
    /// The cells that a full read under way has named.
    named: Option<BTreeMap<Name, Value>>,
    facts: Vec<Fact>,
    sent: Vec<Command>,
    connects: Vec<Mono>,
}

impl World {
    /// A link that has not been woken yet.
    fn new(seed: u64) -> Self {
        let now = Mono::default().after_ms(1_000_000);
        let keys = Keys::of("demo").unwrap();
        Self {
            now,
            link: LinkMachine::new(keys, fastrand::Rng::with_seed(seed), now),
            server: Server::new(),
            connection: None,
            refuses: false,
            held_back: None,
            cells: BTreeMap::new(),
            floor: 0,
            named: None,
            facts: Vec::new(),
            sent: Vec::new(),
            connects: Vec::new(),
        }
    }

    /// A link that is live on an empty fleet.
    fn live(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.pass(500);
        assert_eq!(world.link.state(), LinkState::Live);
        world
    }

    /// Lets time pass, waking the link when it wants to be.
    fn pass(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        self.settle();
        while let Some(due) = self.link.poll_timeout().filter(|due| *due <= end) {
            self.move_to(due.max(self.now));
            self.link.handle_timeout(self.now);
            self.settle();
        }
        self.move_to(end);
    }

    /// Time passes without the link being woken: the host was suspended.
    fn stand_still(&mut self, ms: u64) {
        self.move_to(self.now.after_ms(ms));
    }

    fn move_to(&mut self, at: Mono) {
        self.server.now_ms += u64::try_from(at.since(self.now).as_millis()).unwrap();
        // What is lost to whole milliseconds is the wire's delay.
        self.now = at;
    }

    /// Carries requests and replies until nothing moves.
    fn settle(&mut self) {
        loop {
            self.take_facts();
            let Some(request) = self.link.poll_request() else { return };
            match request {
                Request::Connect(number) => self.connect(number),
                Request::Close => self.connection = None,
                Request::Send(id, command) => self.execute(id, command),
            }
        }
    }

    fn connect(&mut self, number: ConnectionNumber) {
        self.connects.push(self.now);
        if self.refuses {
            let failed = Failed { code: "IO".to_owned(), message: "connection refused".to_owned() };
            self.hear(number, Said::Lost(failed));
        } else {
            self.connection = Some(number);
            self.hear(number, Said::Connected);
        }
    }

    fn execute(&mut self, id: RequestId, command: Command) {
        self.sent.push(command.clone());
        let Some(number) = self.connection else { return };
        let (reply, events) = self.server.execute(&command);
        for event in events {
            self.deliver(number, Said::Push(event));
        }
        self.deliver(number, Said::Reply(id, reply));
    }

    fn deliver(&mut self, number: ConnectionNumber, said: Said) {
        match &mut self.held_back {
            Some(held) => held.push_back(Heard { connection: number, said }),
            None => self.hear(number, said),
        }
    }

    fn hear(&mut self, connection: ConnectionNumber, said: Said) {
        self.link.handle_heard(self.now, Heard { connection, said });
        self.take_facts();
    }

    /// Delivers what was held back, in its order, and what it leads to behind it.
    fn let_go(&mut self) {
        while let Some(heard) = self.held_back.as_mut().and_then(VecDeque::pop_front) {
            self.link.handle_heard(self.now, heard);
            self.settle();
        }
        self.held_back = None;
    }

    /// Another host's change, heard by this one.
    fn other(&mut self, line: &str) {
        let event = self.server.change(line);
        self.say(event);
    }

    fn say(&mut self, event: Vec<u8>) {
        let number = self.connection.expect("connected");
        self.deliver(number, Said::Push(event));
        self.settle();
    }

    /// An event that came off the wire before the replies that are held back were passed on.
    fn say_ahead(&mut self, event: Vec<u8>) {
        let number = self.connection.expect("connected");
        self.hear(number, Said::Push(event));
        self.settle();
    }

    fn cut(&mut self) {
        let number = self.connection.take().expect("connected");
        let failed = Failed { code: "IO".to_owned(), message: "end of file".to_owned() };
        self.hear(number, Said::Lost(failed));
        self.settle();
    }

    fn propose(&mut self, token: u64, name: &str, kind: OpKind) {
        let op = Op { name: Name::parse(name).unwrap(), because: Because::new("w[1]@h", "test"), kind };
        self.link.propose(self.now, Token(token), op).unwrap();
        self.settle();
    }

    fn take_facts(&mut self) {
        while let Some(fact) = self.link.poll_fact() {
            match &fact {
                Fact::Value(seen) => self.take(seen),
                Fact::TableBegins { .. } => (self.named, self.floor) = (Some(BTreeMap::new()), 0),
                Fact::TableEnds { version } => {
                    self.cells = self.named.take().expect("begun");
                    self.floor = *version;
                }
                Fact::Answered { seen: Some(seen), .. } if self.named.is_none() => self.take(seen),
                _ => {}
            }
            self.facts.push(fact);
        }
    }

    /// What a table does with a value; versions never go back.
    fn take(&mut self, seen: &Seen) {
        let cells = self.named.as_mut().unwrap_or(&mut self.cells);
        let known = cells.get(&seen.name).map_or(self.floor, |known| known.version);
        if seen.value.version >= known {
            cells.insert(seen.name.clone(), seen.value.clone());
        }
    }

    fn table(&self) -> BTreeMap<Name, Value> {
        self.cells
            .iter()
            .filter(|(_, value)| value.is_held())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The link is live, and agrees with the server in every value and in its position.
    fn assert_agrees(&self) {
        assert_eq!(self.link.state(), LinkState::Live, "{:?}", self.link.last_failure());
        assert_eq!(self.table(), self.server.values());
        assert_eq!(self.link.position(), Some(self.server.position().unwrap()));
        assert_eq!(self.link.held(), self.table().len());
    }

    fn outcome(&self, token: u64) -> &Fact {
        let of = |fact: &&Fact| match fact {
            Fact::Answered { token: t, .. } | Fact::Refused { token: t } | Fact::Unknown { token: t, .. } => {
                *t == Token(token)
            }
            _ => false,
        };
        let mut outcomes = self.facts.iter().filter(of);
        let outcome = outcomes.next().expect("an outcome");
        assert!(outcomes.next().is_none(), "an op has one outcome");
        outcome
    }

    fn result(&self, token: u64) -> OpResult {
        match self.outcome(token) {
            Fact::Answered { result, .. } => *result,
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, is: impl Fn(&Command) -> bool) -> usize {
        self.sent.iter().filter(|command| is(command)).count()
    }

    fn applies(&self) -> Vec<usize> {
        let ops = |command: &Command| (command.words.len() - command::APPLY_HEAD_WORDS) / op::OP_WORDS;
        self.sent.iter().filter(|command| command.kind == CommandKind::Apply).map(ops).collect()
    }
}

fn trip(expected: u64) -> OpKind {
    OpKind::Trip { expected, duration_ms: 15_000, step: 0 }
}
