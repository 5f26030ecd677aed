//! A conversation with one daemon over one connection after another: made when needed, remade when lost.
//!
//! Every step is short and never blocks; `now` is handed in.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use breakerd_proto::limits::{FEATURE_BOARD, FIRST_ATTACH_WAIT_MAX};
use breakerd_proto::message::{Action, Observed, Welcome};
use breakerd_proto::{Code, Link as Fleet, Mono, Name, Outcome, Verdict};

use crate::attachment::Attachment;
use crate::connect::connect_now;
use crate::error::{ConnectError, End};
use crate::fallback::Alone;
use crate::health::Full;
use crate::identity;
use crate::known::Known;
use crate::link::{Interest, Link};
use crate::options::Warn;
use crate::patience::{Patience, Pauses};
use crate::session::{Event, Session, Settled};
use crate::up::Up;

/// Which connection admitted a call, in which life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) connection: u64,
    pub(crate) instance: u64,
}

/// A request that was sent, and over which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) connection: u64,
    pub(crate) request: u32,
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question<'a> {
    /// May this worker call? Nothing is granted after the deadline.
    Query(Mono),
    Observe,
    Command(Action, &'a str),
    About,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Verdict(Verdict, Ticket),
    Observed(Box<Observed>),
    Done,
    About,
    Refused(Code, String),
    /// There is a daemon, and it did not answer in time or is not asked for a while.
    Silent,
    /// There is no daemon.
    Absent,
}

/// A question's first step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begun {
    /// It was asked. Until the connection stands for the first time, an answer may take until the instant given.
    Asked(Key, Option<Mono>),
    Silent,
    Absent,
}

/// A socket for a caller's own loop to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The descriptor's number. It is not the caller's to close, and the next connection may have the same.
    pub fd: RawFd,
    /// Which connection it is: a loop that watched another one's descriptor must watch anew.
    pub connection: u64,
    /// Whether to wait for room to write too.
    pub wants_write: bool,
}

/// How it stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// With a daemon, how that stood to its fleet when it last told, and what it had no room for.
    Attached { welcome: Box<Welcome>, fleet: Fleet, full: Option<Full> },
    /// With a daemon that is silent since then.
    Silent(Mono),
    /// Without one since then; why, unless nobody has tried yet.
    Away(Mono, Option<ConnectError>),
}

/// What a connection is made with.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) service: Option<String>,
    pub(crate) warn: Option<Warn>,
    /// Whether to use the daemon's board.
    pub(crate) board: bool,
}

/// All of a conversation but its locks and waits.
pub(crate) struct Dialogue {
    place: Place,
    /// Whose conversation it is.
    owner: Weak<Attachment>,
    alone: Arc<Alone>,
    up: Option<Up>,
    away_since: Mono,
    away_why: Option<ConnectError>,
    /// Whether anyone was told of being away this time.
    warned: bool,
    /// Whether anyone was told that the daemon has no room for a breaker.
    full_warned: bool,
    /// Between attempts to connect.
    pauses: Pauses,
    patience: Patience,
    /// Until when the process's first attach may take; none once it has stood.
    first_until: Option<Mono>,
    stood: bool,
    connections: u64,
    /// Whether a thread waits at the socket for all.
    pub(crate) polling: bool,
    known: BTreeMap<Name, Arc<Known>>,
    /// What came for a question that someone still waits for.
    replies: BTreeMap<Key, Option<Reply>>,
}

impl Dialogue {
    pub(crate) fn new(place: Place, owner: Weak<Attachment>, alone: Arc<Alone>, now: Mono) -> Self {
        Self {
            place,
            owner,
            alone,
            up: None,
            away_since: now,
            away_why: None,
            warned: false,
            full_warned: false,
            pauses: Pauses::default(),
            patience: Patience::default(),
            first_until: None,
            stood: false,
            connections: 0,
            polling: false,
            known: BTreeMap::new(),
            replies: BTreeMap::new(),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        if let (Some(since), Some(_)) = (self.patience.silent_since(), &self.up) {
            return Standing::Silent(since);
        }
        let attached = self.up.as_ref().and_then(|up| Some((up.session.channel.welcome()?.clone(), up)));
        match attached {
            Some((welcome, up)) => {
                Standing::Attached { welcome: Box::new(welcome), fleet: up.fleet, full: up.full.clone() }
            }
            None => Standing::Away(self.away_since, self.away_why.clone()),
        }
    }

    /// The socket while there is one.
    pub(crate) fn socket(&self) -> Option<Socket> {
        let up = self.up.as_ref()?;
        let (fd, wants_write) = (up.link.number()?, up.session.channel.wants_write());
        Some(Socket { fd, connection: up.number, wants_write })
    }

    /// The number of the connection.
    #[cfg(feature = "tokio")]
    pub(crate) fn number(&self) -> Option<u64> {
        self.up.as_ref().map(|up| up.number)
    }

    /// What to wait on while there is a socket.
    pub(crate) fn link(&self) -> Option<(Arc<Link>, Interest)> {
        let up = self.up.as_ref()?;
        Some((Arc::clone(&up.link), Interest { write: up.session.channel.wants_write() }))
    }

    pub(crate) fn begin(&mut self, now: Mono, known: &Arc<Known>, question: Question<'_>) -> Begun {
        // Whoever acts or looks asks whatever the daemon's pace is; only calls must not be slowed again and again.
        let paced = matches!(question, Question::Query(_));
        if paced && self.up.is_some() && !self.patience.asks(now) {
            // Whatever it has said meanwhile may end the silence.
            self.receive(now);
            if let Some(up) = &mut self.up {
                // Who uses the breaker is told all the same, so that the daemon's answer is there by the next call.
                if up.session.channel.has_room() {
                    self.known.entry(known.name.clone()).or_insert_with(|| Arc::clone(known));
                    up.session.declare(&known.name, known.declared.as_ref());
                    self.flush(now);
                }
                return if self.patience.is_gone(now) { Begun::Absent } else { Begun::Silent };
            }
        }
        for _ in 0..2 {
            self.attach(now);
            let Some(up) = &mut self.up else { return Begun::Absent };
            if !up.session.channel.has_room() {
                return self.refuse_to_queue(now);
            }
            if !self.known.contains_key(&known.name) {
                self.known.insert(known.name.clone(), Arc::clone(known));
            }
            let (name, declared) = (&known.name, known.declared.as_ref());
            if known.spot().is_some_and(|spot| spot.is_live() && spot.is_lost()) {
                up.session.declare_again(name, declared);
            }
            let request = match question {
                Question::Query(deadline) => {
                    let deadline = self.first_until.map_or(deadline, |first| deadline.max(first));
                    up.session.query(name, declared, deadline)
                }
                Question::Observe => {
                    up.session.make_good(now, name);
                    up.session.observe(name, declared)
                }
                Question::Command(action, because) => up.session.command(name, declared, action, because),
                Question::About => up.session.about(),
            };
            let key = Key { connection: up.number, request };
            self.replies.insert(key, None);
            self.flush(now);
            if self.up.as_ref().is_some_and(|up| up.number == key.connection) {
                return Begun::Asked(key, self.first_until);
            }
            // The socket was dead: the daemon that may have taken its place is asked instead.
            self.replies.remove(&key);
        }
        Begun::Absent
    }

    /// The socket takes nothing: another question would only wait in a queue behind the others.
    fn refuse_to_queue(&mut self, now: Mono) -> Begun {
        self.flush(now);
        self.patience.missed(now);
        if self.up.is_none() || self.patience.is_gone(now) { Begun::Absent } else { Begun::Silent }
    }

    /// Connects if there is no connection and it is time to try.
    fn attach(&mut self, now: Mono) {
        if self.up.is_some() || !self.pauses.is_over(now) {
            return;
        }
        if !self.stood {
            self.first_until.get_or_insert(now.after(FIRST_ATTACH_WAIT_MAX));
        }
        match connect_now(&self.place.path) {
            Ok(link) => {
                let mut hello = identity::hello(self.place.service.as_deref(), self.alone.told(now));
                hello.features = if self.place.board { FEATURE_BOARD } else { 0 };
                self.connections += 1;
                let (number, session) = (self.connections, Session::new(&hello, now));
                self.up = Some(Up::new(number, link, session));
                self.patience = Patience::default();
            }
            Err(error) => {
                self.away_why = Some(error);
                self.pauses.begin(now);
            }
        }
    }

    fn flush(&mut self, now: Mono) {
        let Some(up) = &mut self.up else { return };
        if let Err(end) = up.link.flush(&mut up.session.channel) {
            up.session.channel.handle_end(end);
        }
        self.drain(now);
    }

    /// Writes what waits, reads what has come.
    pub(crate) fn receive(&mut self, now: Mono) {
        let Some(up) = &mut self.up else { return };
        up.link.fill(&mut up.session.channel);
        self.drain(now);
        self.flush(now);
    }

    fn drain(&mut self, now: Mono) {
        while let Some(up) = &mut self.up {
            match up.session.next_event(now) {
                Ok(None) => return,
                Ok(Some(event)) => self.take_event(now, event),
                Err(end) => self.fall(now, end),
            }
        }
    }

    /// The connection is over: whoever waits is told so.
    pub(crate) fn fall(&mut self, now: Mono, end: End) {
        let Some(up) = self.up.take() else { return };
        let greeted = up.session.channel.welcome().is_some();
        up.retire(self.known.values());
        self.away_why = Some(ConnectError::Ended { path: self.place.path.clone(), end });
        self.patience = Patience::default();
        self.replies.retain(|key, reply| key.connection != up.number || reply.is_some());
        if greeted {
            // It stood, so the next call may look at once for what has taken its place.
            self.away_since = now;
            self.warned = false;
            self.pauses.clear();
        } else {
            self.pauses.begin(now);
        }
    }

    fn take_event(&mut self, now: Mono, event: Event) {
        self.patience.heard();
        let Some(up) = &mut self.up else { return };
        let ticket = Ticket {
            connection: up.number,
            instance: up.session.channel.welcome().map_or(0, |welcome| welcome.instance),
        };
        let known = |name: &Name| self.known.get(name);
        let (request, reply) = match event {
            Event::Welcomed(welcome) => {
                up.fleet = welcome.link;
                if welcome.features & FEATURE_BOARD != 0 {
                    up.share(ticket, Weak::clone(&self.owner));
                }
                (self.stood, self.first_until, self.warned) = (true, None, false);
                self.pauses.clear();
                self.alone.end();
                return;
            }
            Event::Registered(name, registered) => {
                if let Some(known) = known(&name) {
                    known.handle_registered(now, ticket.instance, &registered.policy, &registered.view);
                    up.place(known, &registered);
                }
                return;
            }
            Event::Verdict { request, name, verdict } => {
                let rejected = matches!(verdict, Verdict::Reject { .. });
                let known = known(&name).inspect(|known| match verdict {
                    // While the probe is out here its end is told before the next question.
                    Verdict::Probe { .. } => known.withdraw_spot(),
                    _ => up.heard(known),
                });
                let seen = known.and_then(|known| known.handle_verdict(now, ticket.instance, &verdict));
                let reply = Reply::Verdict(verdict, ticket);
                if rejected && seen.is_some_and(|seen| !seen.told) {
                    let key = Key { connection: ticket.connection, request };
                    let why = up.session.observe(&name, None);
                    up.unexplained.insert(why, (key, reply));
                    return;
                }
                (request, reply)
            }
            Event::Observed { request, name, observed } => {
                up.fleet = observed.link;
                if let Some(known) = known(&name) {
                    up.heard(known);
                    known.handle_observed(now, ticket.instance, &observed);
                }
                match up.unexplained.remove(&request) {
                    Some((key, reply)) => (key.request, reply),
                    None => (request, Reply::Observed(Box::new(observed))),
                }
            }
            Event::Done { request, name, done } => {
                if let Some(known) = known(&name) {
                    known.handle_view(now, ticket.instance, &done.view);
                }
                (request, Reply::Done)
            }
            Event::About { request, daemon } => {
                up.fleet = daemon.link;
                (request, Reply::About)
            }
            Event::Refused { request, code, sentence } => match up.unexplained.remove(&request) {
                Some((key, reply)) => (key.request, reply),
                None => {
                    let what = match code {
                        Code::Quota => Some("calls go unguarded"),
                        Code::QuotaRejects => Some("calls are rejected, as their policy says"),
                        _ => None,
                    };
                    if let Some(what) = what {
                        let calls = up.full.take().map_or(0, |full| full.calls);
                        up.full = Some(Full { calls: calls.saturating_add(1), why: format!("{what}: {sentence}") });
                    }
                    (request, Reply::Refused(code, sentence))
                }
            },
        };
        if let Some(waiting) = self.replies.get_mut(&Key { connection: ticket.connection, request }) {
            *waiting = Some(reply);
            self.patience.answered();
            self.alone.end();
        }
    }

    pub(crate) fn take(&mut self, key: Key) -> Option<Reply> {
        match self.replies.get(&key) {
            None => Some(Reply::Absent),
            Some(None) => None,
            Some(Some(_)) => self.replies.remove(&key).flatten(),
        }
    }

    pub(crate) fn give_up(&mut self, now: Mono, key: Key) -> Reply {
        self.receive(now);
        if let Some(reply) = self.take(key).or_else(|| self.take_unexplained(key)) {
            return reply;
        }
        self.patience.missed(now);
        self.forget(now, key);
        if self.patience.is_gone(now) { Reply::Absent } else { Reply::Silent }
    }

    fn take_unexplained(&mut self, key: Key) -> Option<Reply> {
        let up = self.up.as_mut()?;
        let why = *up.unexplained.iter().find(|(_, (of, _))| *of == key)?.0;
        drop(up.session.forget(why));
        self.replies.remove(&key);
        up.unexplained.remove(&why).map(|(_, reply)| reply)
    }

    pub(crate) fn forget(&mut self, now: Mono, key: Key) {
        if self.take_unexplained(key).is_some() {
            return;
        }
        let came = self.replies.remove(&key).flatten();
        if let Some(up) = self.up.as_mut().filter(|up| up.number == key.connection) {
            match came {
                Some(Reply::Verdict(Verdict::Probe { .. }, _)) => up.session.give_back(key.request),
                _ => {
                    let asked = up.session.forget(key.request);
                    // It may be granted a probe before it is forgotten, and the board then shows that none is free.
                    if let Some(known) = asked.and_then(|name| self.known.get(&name)) {
                        known.withdraw_spot();
                    }
                }
            }
            self.flush(now);
        }
    }

    pub(crate) fn report(&mut self, now: Mono, name: &Name, ticket: Ticket, settled: Settled) {
        let Some(current) = self.ticket() else { return };
        // A probe is known to its own connection only, a generation to one life of the daemon.
        let theirs = if settled.permit == 0 { current.instance == ticket.instance } else { current == ticket };
        if let (true, Some(up)) = (theirs, &mut self.up) {
            // A failure may trip, and a probe decides: the next call is to know, and the board shows it a little later.
            let decides = matches!(settled.outcome, Outcome::Failure(_) | Outcome::Success { slow: true });
            if let Some(known) = self.known.get(name).filter(|_| decides || settled.permit != 0) {
                known.withdraw_spot();
            }
            up.session.report(name, settled);
            self.flush(now);
        }
    }

    /// Whether the daemon has yet to be told something of this breaker.
    pub(crate) fn owes(&self, name: &Name) -> bool {
        self.up.as_ref().is_some_and(|up| up.session.owes(name))
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        let up = self.up.as_ref()?;
        Some(Ticket { connection: up.number, instance: up.session.channel.welcome()?.instance })
    }

    /// What to tell people: once that the daemon's books are full, and once each time that it is gone.
    pub(crate) fn warning(&mut self) -> Option<(Warn, String)> {
        let full = self.up.as_ref().and_then(|up| up.full.as_ref());
        if let Some(full) = full.filter(|_| !self.full_warned) {
            self.full_warned = true;
            return Some((self.place.warn.clone()?, full.to_string()));
        }
        if self.up.is_some() || self.warned {
            return None;
        }
        self.warned = true;
        Some((self.place.warn.clone()?, self.away_why.as_ref()?.to_string()))
    }
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue")
            .field("path", &self.place.path)
            .field("up", &self.up.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
