//! A worker's conversation with a daemon, without a socket and without a clock.
//!
//! Holds the lanes of one connection with their counts, and the requests that wait for an answer. Whatever is asked
//! before `Welcome`, or of a breaker that has no lane yet, waits here and goes out as soon as it can, in order.

use std::collections::{BTreeMap, VecDeque};

use breakerd_proto::limits::REASON_BYTES_MAX;
use breakerd_proto::message::{
    About, Action, Command, Daemon, Done, Forget, Hello, Observe, Observed, PolicyPatch, Query, Register, Registered,
    Report, Welcome,
};
use breakerd_proto::{Code, Counts, Mono, Name, Outcome, ToClient, ToDaemon, Verdict, outcome};

use crate::board::Memory;
use crate::channel::Channel;
use crate::error::End;

/// Requests without an answer beyond which forgotten ones are not kept: some of them never get one.
const PENDING_MAX: usize = 1024;

/// One life of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) channel: Channel,
    lanes: BTreeMap<Name, Lane>,
    /// Where successes are counted in place of messages.
    memory: Option<&'static Memory>,
    pending: BTreeMap<u32, Pending>,
    /// Messages that wait for `Welcome`.
    held: Vec<ToDaemon>,
    /// Events that came of one message and are not yet given out.
    told: VecDeque<Event>,
    greeted: Mono,
    skew: Skew,
}

/// One breaker on this connection.
#[derive(Debug, Default)]
struct Lane {
    number: Option<u32>,
    /// The daemon goes by other settings since it told the policy: it is asked for it with the next question.
    outdated: bool,
    /// Requests that wait for the number.
    waiting: Vec<u32>,
    counts: Counts,
    /// The count in memory when the run of untold failures was last looked at.
    run_at: u64,
}

impl Lane {
    /// A success that was counted in memory has ended the run of untold failures.
    fn end_untold_run(&mut self, memory: Option<&Memory>, number: u32) {
        let read = memory.map_or(0, |memory| memory.read(number));
        if std::mem::replace(&mut self.run_at, read) != read {
            self.counts.untold.run = 0;
        }
    }

    /// What the connection has seen of the breaker, by messages and in memory, for a message that goes out.
    fn tell(&mut self, memory: Option<&Memory>, number: u32) -> Counts {
        self.end_untold_run(memory, number);
        let told = self.counts.tell();
        Counts { successes: told.successes.saturating_add(self.run_at), ..told }
    }
}

/// A request that has no answer yet.
#[derive(Clone, Debug)]
enum Pending {
    Register(Name),
    Query { name: Name, deadline: Mono },
    Observe(Name),
    Command(Name),
    About,
}

/// How a call went.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) generation: u64,
    pub(crate) permit: u64,
    pub(crate) at: Mono,
    pub(crate) outcome: Outcome,
}

/// What the daemon has told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Welcomed(Welcome),
    Registered(Name, Registered),
    Verdict { request: u32, name: Name, verdict: Verdict },
    Observed { request: u32, name: Name, observed: Observed },
    Done { request: u32, name: Name, done: Done },
    About { request: u32, daemon: Daemon },
    Refused { request: u32, code: Code, sentence: String },
}

impl Session {
    pub(crate) fn new(hello: &Hello, now: Mono) -> Self {
        Self {
            channel: Channel::new(hello),
            lanes: BTreeMap::new(),
            memory: None,
            pending: BTreeMap::new(),
            held: Vec::new(),
            told: VecDeque::new(),
            greeted: now,
            skew: Skew::default(),
        }
    }

    /// May this worker call? Declares the breaker first if this connection does not know it.
    pub(crate) fn query(&mut self, name: &Name, policy: Option<&PolicyPatch>, deadline: Mono) -> u32 {
        self.of_lane(name, policy, Pending::Query { name: name.clone(), deadline })
    }

    /// What does this worker see?
    pub(crate) fn observe(&mut self, name: &Name, policy: Option<&PolicyPatch>) -> u32 {
        self.of_lane(name, policy, Pending::Observe(name.clone()))
    }

    /// Changes a breaker, which is declared first so that the daemon knows it. A long reason is cut.
    pub(crate) fn command(&mut self, name: &Name, policy: Option<&PolicyPatch>, action: Action, because: &str) -> u32 {
        self.declare(name, policy);
        let request = self.channel.next_request();
        self.pending.insert(request, Pending::Command(name.clone()));
        let because = outcome::cut(because, REASON_BYTES_MAX).to_owned();
        self.send(Command { request, name: name.as_str().to_owned(), action, because }.into());
        request
    }

    /// What is this daemon?
    pub(crate) fn about(&mut self) -> u32 {
        let request = self.channel.next_request();
        self.pending.insert(request, Pending::About);
        self.send(About { request }.into());
        request
    }

    /// Tells how a call went. Where the socket has no room it is only counted, and the next message makes it good; the end
    /// of a probe is always told, or the probe would be out until its lease ends.
    pub(crate) fn report(&mut self, name: &Name, settled: Settled) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let Some(number) = lane.number else { return };
        let Settled { generation, permit, at, outcome } = settled;
        let evidence = matches!(outcome, Outcome::Success { .. } | Outcome::Failure(_));
        let in_memory = match (&outcome, self.memory) {
            // A slow one may trip, so the daemon must hear of it.
            (Outcome::Success { slow: false }, Some(memory)) => memory.succeed(number),
            _ => false,
        };
        let told = permit != 0 || evidence && !in_memory && self.channel.has_room();
        if !in_memory {
            lane.end_untold_run(self.memory, number);
            lane.counts.count(generation, &outcome, told);
        }
        if told {
            let counts = lane.tell(self.memory, number);
            let at = self.skew.theirs(at);
            self.channel.queue(&Report { lane: number, generation, permit, at, outcome, counts }.into());
        }
    }

    /// Tells the failures that the socket did not take when they were, for whoever is about to look.
    pub(crate) fn make_good(&mut self, now: Mono, name: &Name) {
        let at = self.skew.theirs(now);
        let Some(lane) = self.lanes.get_mut(name).filter(|lane| lane.counts.owes()) else { return };
        let Some(number) = lane.number else { return };
        let generation = lane.counts.untold.generation;
        let (outcome, counts) = (Outcome::Ignored, lane.tell(self.memory, number));
        self.channel.queue(&Report { lane: number, generation, permit: 0, at, outcome, counts }.into());
    }

    /// Whether the daemon has yet to be told something of this breaker that the socket has not taken.
    pub(crate) fn owes(&self, name: &Name) -> bool {
        let untold = self.lanes.get(name).is_some_and(|lane| lane.counts.owes());
        untold || self.channel.wants_write()
    }

    /// Whether this process and the daemon read the same clock.
    pub(crate) fn has_daemons_clock(&self) -> bool {
        self.skew == Skew::default()
    }

    /// The daemon shares memory: from here on successes are counted there.
    pub(crate) fn share(&mut self, memory: &'static Memory) {
        self.memory = Some(memory);
    }

    /// The board shows that the breaker has lost its slot: it is declared again.
    pub(crate) fn declare_again(&mut self, name: &Name, policy: Option<&PolicyPatch>) {
        let asked = |pending: &Pending| matches!(pending, Pending::Register(of) if of == name);
        if !self.pending.values().any(asked) {
            self.register(name, policy);
        }
    }

    /// The asker waits no longer: what it is granted goes back. An answer that comes late still tells what the breaker is.
    /// Gives the breaker that a call was asked for.
    pub(crate) fn forget(&mut self, request: u32) -> Option<Name> {
        let (name, query) = match self.pending.get(&request) {
            Some(Pending::Query { name, .. }) => (name.clone(), true),
            Some(Pending::Observe(name)) => (name.clone(), false),
            Some(Pending::Register(_) | Pending::Command(_) | Pending::About) | None => return None,
        };
        let unsent = self.lanes.get_mut(&name).is_some_and(|lane| {
            let before = lane.waiting.len();
            lane.waiting.retain(|waiting| *waiting != request);
            lane.waiting.len() < before
        });
        if unsent || self.pending.len() > PENDING_MAX {
            self.pending.remove(&request);
        }
        if query && !unsent {
            self.give_back(request);
        }
        query.then_some(name)
    }

    /// What this request was granted is not wanted after all.
    pub(crate) fn give_back(&mut self, request: u32) {
        self.channel.queue(&Forget { request }.into());
    }

    /// What the daemon has told next, from the bytes that the channel was fed.
    ///
    /// # Errors
    /// How the conversation ended, again and again.
    pub(crate) fn next_event(&mut self, now: Mono) -> Result<Option<Event>, End> {
        if let Some(event) = self.told.pop_front() {
            return Ok(Some(event));
        }
        while let Some(message) = self.channel.next_message()? {
            if let Some(event) = self.take(message, now) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn take(&mut self, message: ToClient, now: Mono) -> Option<Event> {
        match message {
            ToClient::Welcome(welcome) => Some(self.begin(welcome, now)),
            ToClient::Registered(registered) => self.enroll(registered),
            ToClient::Answer(answer) => match self.pending.remove(&answer.request)? {
                Pending::Query { name, .. } => {
                    Some(Event::Verdict { request: answer.request, name, verdict: answer.verdict })
                }
                _ => None,
            },
            ToClient::Observed(observed) => match self.pending.remove(&observed.request)? {
                Pending::Observe(name) => Some(Event::Observed { request: observed.request, name, observed }),
                _ => None,
            },
            ToClient::Done(done) => match self.pending.remove(&done.request)? {
                Pending::Command(name) => Some(Event::Done { request: done.request, name, done }),
                _ => None,
            },
            ToClient::Daemon(daemon) => {
                self.pending.remove(&daemon.request)?;
                Some(Event::About { request: daemon.request, daemon })
            }
            ToClient::Refused(no) => match self.pending.remove(&no.request)? {
                Pending::Register(name) => self.unregistered(&name, no.code, &no.sentence),
                _ => Some(Event::Refused { request: no.request, code: no.code, sentence: no.sentence }),
            },
            ToClient::Reloaded(_) => {
                self.lanes.values_mut().for_each(|lane| lane.outdated = true);
                None
            }
            // Only watchers and operators ask for the rest.
            _ => None,
        }
    }

    fn begin(&mut self, welcome: Welcome, now: Mono) -> Event {
        self.skew = Skew::between(self.greeted, welcome.now, now);
        for message in std::mem::take(&mut self.held) {
            self.channel.queue(&message);
        }
        Event::Welcomed(welcome)
    }

    fn enroll(&mut self, registered: Registered) -> Option<Event> {
        let Pending::Register(name) = self.pending.remove(&registered.request)? else { return None };
        let lane = self.lanes.get_mut(&name)?;
        lane.number = Some(registered.lane);
        for request in std::mem::take(&mut lane.waiting) {
            self.send_of_lane(registered.lane, request);
        }
        Some(Event::Registered(name, registered))
    }

    /// The daemon does not take the breaker: whoever waits for it is told so, and the next asker tries again.
    fn unregistered(&mut self, name: &Name, code: Code, sentence: &str) -> Option<Event> {
        let lane = self.lanes.remove(name)?;
        for request in lane.waiting {
            self.pending.remove(&request);
            self.told.push_back(Event::Refused { request, code, sentence: sentence.to_owned() });
        }
        self.told.pop_front()
    }

    fn of_lane(&mut self, name: &Name, policy: Option<&PolicyPatch>, pending: Pending) -> u32 {
        self.declare(name, policy);
        let request = self.channel.next_request();
        self.pending.insert(request, pending);
        let lane = self.lanes.entry(name.clone()).or_default();
        match lane.number {
            Some(number) => self.send_of_lane(number, request),
            None => lane.waiting.push(request),
        }
        request
    }

    fn send_of_lane(&mut self, lane: u32, request: u32) {
        let message = match self.pending.get(&request) {
            Some(Pending::Query { name, deadline }) => {
                let memory = self.memory;
                let counts = self.lanes.get_mut(name).map(|known| known.tell(memory, lane)).unwrap_or_default();
                Query { request, lane, deadline: self.skew.theirs(*deadline), counts }.into()
            }
            Some(Pending::Observe(_)) => Observe { request, lane }.into(),
            _ => return,
        };
        self.channel.queue(&message);
    }

    /// Tells the daemon that this connection uses the breaker, if it does not know it, or its policy may be another.
    pub(crate) fn declare(&mut self, name: &Name, policy: Option<&PolicyPatch>) {
        let fresh = !self.lanes.contains_key(name);
        let lane = self.lanes.entry(name.clone()).or_default();
        if std::mem::take(&mut lane.outdated) || fresh {
            self.register(name, policy);
        }
    }

    fn register(&mut self, name: &Name, policy: Option<&PolicyPatch>) {
        let request = self.channel.next_request();
        self.pending.insert(request, Pending::Register(name.clone()));
        self.send(Register { request, name: name.as_str().to_owned(), policy: policy.cloned().map(Box::new) }.into());
    }

    fn send(&mut self, message: ToDaemon) {
        match self.channel.welcome() {
            Some(_) => self.channel.queue(&message),
            None => self.held.push(message),
        }
    }
}

/// How far the daemon's clock is from ours: nothing, unless it runs in another time namespace (`time_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Skew {
    ahead: u64,
    behind: u64,
}

impl Skew {
    /// The daemon read its clock after our hello and before we saw its answer. A reading between the two is the same
    /// clock's; another is off by about its distance from the later.
    fn between(greeted: Mono, theirs: Mono, now: Mono) -> Self {
        if greeted <= theirs && theirs <= now {
            return Self::default();
        }
        Self { ahead: theirs.0.saturating_sub(now.0), behind: now.0.saturating_sub(theirs.0) }
    }

    fn theirs(self, ours: Mono) -> Mono {
        Mono(ours.0.saturating_add(self.ahead).saturating_sub(self.behind))
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
