//! The link to Redis as a state machine: down, connecting, syncing, live.
//!
//! One connection carries subscription, polls, reads and writes, so that what was published before a reply was made is
//! here before the reply: then a poll that is ahead of us means that something is lost, without any grace.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use breakerd_proto::{Mono, Name};

use super::command::{Command, ConnectionNumber, Datum, Failed, Heard, Keys, Request, RequestId, Said};
use super::fact::{Counters, Fact, LinkState};
use super::position::Position;
use super::redis_time::RedisTime;
use super::sync::{Inbox, Sync};
use super::writes::Writes;

/// The whole way from a connect to the subscription's confirmation.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// A poll that takes longer than this twice in a row ends the connection.
const POLL_SLOW: Duration = Duration::from_secs(1);
/// A poll that takes longer than this ends the connection at once; so does any short command.
pub(super) const SILENCE_MAX: Duration = Duration::from_millis(2200);
/// The time from one poll to the next, in ms, and how far it may stray to either side.
const POLL_EVERY_MS: u64 = 1000;
const POLL_STRAY_MS: u64 = 200;
/// Each so many polls Redis's time is asked for too: a quiet fleet tells it by no event.
const POLLS_PER_TIME: u64 = 30;
/// A wake-up later than this means that the host or the daemon stood still: nothing is written before a poll.
const STANDSTILL: Duration = Duration::from_secs(2);

const BACKOFF_FIRST_MS: u64 = 20;
const BACKOFF_MAX_MS: u64 = 400;
const BACKOFF_LATER_MAX_MS: u64 = 2000;
const BACKOFF_REFUSED_MAX_MS: u64 = 5000;
const BACKOFF_LATER: Duration = Duration::from_secs(60);

/// The link's behaviour: what the carrier hears goes in by `handle_*`, ops by [`LinkMachine::propose`]; what is to be
/// done comes out by `poll_*`, to be drained after each call.
#[derive(Debug)]
pub struct LinkMachine {
    pub(super) keys: Keys,
    pub(super) rng: fastrand::Rng,
    pub(super) phase: Phase,
    state: LinkState,
    connection: ConnectionNumber,
    pub(super) position: Option<Position>,
    /// Where the server stood when it answered our last call, while its event is still to come.
    pub(super) answered: Option<Position>,
    /// The versions of what stands in the fleet's table, as far as told to ours.
    pub(super) held: BTreeMap<Name, u64>,
    pub(super) time: RedisTime,
    pub(super) waiting: BTreeMap<RequestId, Waiting>,
    next_request: u64,
    pub(super) inbox: Inbox,
    pub(super) sync_memory: super::sync::Memory,
    poll: Poll,
    backoff: Backoff,
    pub(super) writes: Writes,
    requests: VecDeque<Request>,
    pub(super) facts: VecDeque<Fact>,
    pub(super) counters: Counters,
    last_failure: Option<Failed>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Down { again: Mono },
    Connecting { deadline: Mono },
    Syncing(Sync),
    Live,
}

/// A command whose reply is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    purpose: Purpose,
    sent: Mono,
    deadline: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Subscribe,
    Role,
    Time,
    Poll,
    Sync,
    Apply,
}

#[derive(Debug, Default)]
struct Poll {
    next: Mono,
    /// With the version that the server had at least when it was asked.
    under_way: Option<(RequestId, u64)>,
    last_sent: Mono,
    slow: u32,
    sent: u64,
}

#[derive(Debug, Default)]
struct Backoff {
    bound_ms: u64,
    since: Option<Mono>,
}

impl LinkMachine {
    /// A link that connects at the first [`LinkMachine::handle_timeout`].
    #[must_use]
    pub fn new(keys: Keys, rng: fastrand::Rng, now: Mono) -> Self {
        Self {
            keys,
            rng,
            phase: Phase::Down { again: now },
            state: LinkState::Down,
            connection: ConnectionNumber::default(),
            position: None,
            answered: None,
            held: BTreeMap::new(),
            time: RedisTime::default(),
            waiting: BTreeMap::new(),
            next_request: 0,
            inbox: Inbox::default(),
            sync_memory: super::sync::Memory::default(),
            poll: Poll::default(),
            backoff: Backoff { bound_ms: 0, since: Some(now) },
            writes: Writes::default(),
            requests: VecDeque::new(),
            facts: VecDeque::new(),
            counters: Counters::default(),
            last_failure: None,
        }
    }

    /// How the link stands.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// The last batch that was applied as a whole; none before the first sync.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What the link has met.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Since when it is not live; none while it is.
    #[must_use]
    pub fn not_live_since(&self) -> Option<Mono> {
        self.backoff.since
    }

    /// Why it went down last; none if it never did.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failed> {
        self.last_failure.as_ref()
    }

    /// Breakers in the fleet's table: what is not closed, or is forced.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Dispatches what the carrier heard; what an earlier connection still says is dropped.
    pub fn handle_heard(&mut self, now: Mono, heard: Heard) {
        if heard.connection != self.connection {
            return;
        }
        match heard.said {
            Said::Connected => self.handle_connected(now),
            Said::Lost(failed) => self.handle_lost(now, failed),
            Said::Reply(id, reply) => self.handle_reply(now, id, reply),
            Said::Push(event) => self.handle_push(now, event),
            Said::Overflow => self.handle_overflow(now),
        }
    }

    /// The carrier is connected: subscribe, then read what was missed.
    pub fn handle_connected(&mut self, now: Mono) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.counters.connections += 1;
        self.time = RedisTime::default();
        let greeting = [
            (Purpose::Subscribe, self.keys.subscribe()),
            (Purpose::Role, self.keys.role()),
            (Purpose::Time, self.keys.time()),
        ];
        for (purpose, command) in greeting {
            self.send(now, purpose, command, SILENCE_MAX);
        }
        self.begin_sync(now, false);
    }

    /// The carrier has no connection any more, or got none.
    pub fn handle_lost(&mut self, now: Mono, failed: Failed) {
        self.go_down(now, failed, false);
    }

    /// A command was answered.
    pub fn handle_reply(&mut self, now: Mono, id: RequestId, reply: Result<Datum, Failed>) {
        let Some(waiting) = self.waiting.remove(&id) else {
            self.counters.late_replies += 1;
            return;
        };
        if waiting.purpose == Purpose::Apply {
            self.apply_answered(now, id, reply);
            return;
        }
        let reply = match reply {
            Ok(reply) => reply,
            // A server that hides its role can still refuse our first write.
            Err(failed) if waiting.purpose == Purpose::Role && failed.code == "NOPERM" => return,
            Err(failed) => return self.go_down(now, failed, true),
        };
        match waiting.purpose {
            Purpose::Subscribe => self.tell_state(LinkState::Syncing),
            Purpose::Role => self.role_answered(now, &reply),
            Purpose::Time => self.time_answered(now, &reply),
            Purpose::Poll => self.poll_answered(now, id, waiting.sent, &reply),
            Purpose::Sync => self.sync_answered(now, id, &reply),
            Purpose::Apply => {}
        }
    }

    /// A message of the fleet's channel.
    pub fn handle_push(&mut self, now: Mono, event: Vec<u8>) {
        match self.phase {
            Phase::Live => self.event_came(now, event),
            Phase::Syncing(_) => {
                if !self.inbox.push(event) {
                    self.handle_overflow(now);
                }
            }
            Phase::Down { .. } | Phase::Connecting { .. } => {}
        }
    }

    /// Events were dropped because too many waited: nothing that waits is worth having now.
    pub fn handle_overflow(&mut self, now: Mono) {
        self.counters.overflows += 1;
        self.inbox.clear();
        match self.phase {
            Phase::Live => self.begin_sync(now, false),
            Phase::Syncing(_) => self.next_round(now),
            Phase::Down { .. } | Phase::Connecting { .. } => {}
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Mono) {
        let late = self.poll_timeout().is_some_and(|due| now.since(due) > STANDSTILL);
        if late {
            self.wake_late(now);
        }
        self.expire(now);
        match &self.phase {
            Phase::Down { again } if now >= *again => self.connect(now),
            Phase::Connecting { deadline } if now >= *deadline => {
                self.go_down(now, silent("no connection within 2 s"), true);
            }
            Phase::Syncing(_) => self.sync_due(now),
            Phase::Live => {
                if self.poll.under_way.is_none() && now >= self.poll.next {
                    self.send_poll(now);
                }
                self.pump(now);
            }
            Phase::Down { .. } | Phase::Connecting { .. } => {}
        }
    }

    /// The next thing for the carrier.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// The next thing for the table.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// When [`LinkMachine::handle_timeout`] is next due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        let replies = self.waiting.values().map(|w| w.deadline).min();
        let own = match &self.phase {
            Phase::Down { again } => Some(*again),
            Phase::Connecting { deadline } => Some(*deadline),
            Phase::Syncing(sync) => sync.due(),
            Phase::Live => {
                let poll = self.poll.under_way.is_none().then_some(self.poll.next);
                earlier(poll, self.writes.due())
            }
        };
        earlier(replies, own)
    }

    fn connect(&mut self, now: Mono) {
        self.connection = ConnectionNumber(self.connection.0 + 1);
        self.phase = Phase::Connecting { deadline: now.after(CONNECT_TIME_MAX) };
        self.requests.push_back(Request::Connect(self.connection));
        self.tell_state(LinkState::Connecting);
    }

    /// Ends the connection, whatever its phase, and sets the next attempt.
    pub(super) fn go_down(&mut self, now: Mono, failed: Failed, close: bool) {
        if matches!(self.phase, Phase::Down { .. }) {
            return;
        }
        self.counters.losses += 1;
        if close {
            self.requests.push_back(Request::Close);
        }
        self.waiting.clear();
        self.inbox.clear();
        self.poll.under_way = None;
        self.poll.slow = 0;
        self.refuse_all();
        let refused = matches!(failed.code.as_str(), "NOAUTH" | "WRONGPASS" | "NOPERM" | "FORMAT");
        let wait_ms = self.backoff.next(now, refused, &mut self.rng);
        self.phase = Phase::Down { again: now.after_ms(wait_ms) };
        self.last_failure = Some(failed);
        self.tell_state(LinkState::Down);
    }

    /// The table agrees with the fleet's.
    pub(super) fn go_live(&mut self, now: Mono) {
        self.phase = Phase::Live;
        self.backoff = Backoff::default();
        self.poll.next = now.after_ms(self.poll_interval_ms());
        self.tell_state(LinkState::Live);
        self.writes.released();
        self.pump(now);
    }

    /// Leaves live or connecting for syncing.
    pub(super) fn enter_sync(&mut self, now: Mono, sync: Sync) {
        if self.state == LinkState::Live {
            self.tell_state(LinkState::Syncing);
        }
        self.backoff.since.get_or_insert(now);
        if let Some((id, _)) = self.poll.under_way.take() {
            self.waiting.remove(&id);
        }
        self.phase = Phase::Syncing(sync);
    }

    fn tell_state(&mut self, state: LinkState) {
        if self.state != state {
            self.state = state;
            self.facts.push_back(Fact::State(state));
        }
    }

    pub(super) fn send(&mut self, now: Mono, purpose: Purpose, command: Command, most: Duration) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.waiting.insert(id, Waiting { purpose, sent: now, deadline: now.after(most) });
        self.requests.push_back(Request::Send(id, command));
        id
    }

    /// What has waited for longer than it may.
    fn expire(&mut self, now: Mono) {
        while let Some((id, waiting)) = self.first_overdue(now) {
            self.waiting.remove(&id);
            match waiting.purpose {
                Purpose::Apply => self.apply_unanswered(now, id),
                _ => self.go_down(now, silent("no reply in time"), true),
            }
        }
    }

    fn first_overdue(&self, now: Mono) -> Option<(RequestId, Waiting)> {
        self.waiting.iter().find(|(_, waiting)| now >= waiting.deadline).map(|(id, waiting)| (*id, *waiting))
    }

    /// The host or the daemon stood still. Replies may have come meanwhile, so each gets a while more; nothing is
    /// written before a poll that was sent after this has been answered.
    fn wake_late(&mut self, now: Mono) {
        let while_more = now.after(POLL_SLOW);
        for waiting in self.waiting.values_mut() {
            waiting.deadline = waiting.deadline.max(while_more);
        }
        if let Phase::Connecting { deadline } = &mut self.phase {
            *deadline = (*deadline).max(while_more);
        }
        if matches!(self.phase, Phase::Live) {
            if let Some((id, _)) = self.poll.under_way.take() {
                self.waiting.remove(&id);
            }
            self.writes.hold();
            self.poll.next = now;
        }
    }

    fn poll_interval_ms(&mut self) -> u64 {
        self.rng.u64(POLL_EVERY_MS - POLL_STRAY_MS..=POLL_EVERY_MS + POLL_STRAY_MS)
    }

    /// Brings the next poll forward, to a second after the last: what bad messages cost is bounded so.
    pub(super) fn poll_soon(&mut self, now: Mono) {
        let soonest = self.poll.last_sent.after_ms(POLL_EVERY_MS).max(now);
        self.poll.next = self.poll.next.min(soonest);
    }

    fn send_poll(&mut self, now: Mono) {
        let Some(position) = self.position else { return };
        let id = self.send(now, Purpose::Poll, self.keys.head(), SILENCE_MAX);
        self.poll.under_way = Some((id, self.known_seq().max(position.seq)));
        self.poll.last_sent = now;
        self.poll.next = now.after_ms(self.poll_interval_ms());
        self.poll.sent += 1;
        if self.poll.sent.is_multiple_of(POLLS_PER_TIME) {
            self.send(now, Purpose::Time, self.keys.time(), SILENCE_MAX);
        }
    }

    /// The events published before the reply are applied by now, so a head ahead of us is a loss. A head behind us is
    /// one only if it is behind where we stood when we asked: since then we may have moved.
    fn poll_answered(&mut self, now: Mono, id: RequestId, sent: Mono, reply: &Datum) {
        let Some((_, at_least)) = self.poll.under_way.take_if(|(polled, _)| *polled == id) else { return };
        self.poll.slow = if now.since(sent) > POLL_SLOW { self.poll.slow + 1 } else { 0 };
        if self.poll.slow >= 2 {
            return self.go_down(now, failed("SLOW", "two polls in a row took longer than 1 s"), true);
        }
        let agrees = match (super::sync::head(reply), self.position) {
            (Some(head), Some(mine)) => {
                let known = head.epoch == mine.epoch && head.seq <= mine.seq && head.seq >= at_least;
                known && (head.seq != mine.seq || head.tag == mine.tag)
            }
            _ => false,
        };
        if agrees {
            self.writes.released();
            self.pump(now);
        } else {
            self.begin_sync(now, false);
        }
    }

    fn role_answered(&mut self, now: Mono, reply: &Datum) {
        let role = reply.list().and_then(|list| list.first()).and_then(Datum::text);
        if role != Some("master") {
            self.go_down(now, failed("READONLY", "the server is no master"), true);
        }
    }

    fn time_answered(&mut self, now: Mono, reply: &Datum) {
        let mut numbers = reply.list().unwrap_or_default().iter().map(|d| d.text().and_then(|t| t.parse::<u64>().ok()));
        if let (Some(Some(seconds)), Some(Some(micros))) = (numbers.next(), numbers.next()) {
            self.time.sample(now, seconds.saturating_mul(1000).saturating_add(micros / 1000));
        }
    }
}

impl Backoff {
    /// How long to wait before the next attempt, in ms.
    fn next(&mut self, now: Mono, refused: bool, rng: &mut fastrand::Rng) -> u64 {
        let since = *self.since.get_or_insert(now);
        let most = match refused {
            true => BACKOFF_REFUSED_MAX_MS,
            false if now.since(since) >= BACKOFF_LATER => BACKOFF_LATER_MAX_MS,
            false => BACKOFF_MAX_MS,
        };
        self.bound_ms = self.bound_ms.saturating_mul(2).clamp(BACKOFF_FIRST_MS, most);
        rng.u64(0..=self.bound_ms)
    }
}

pub(super) fn failed(code: &str, message: &str) -> Failed {
    Failed { code: code.to_owned(), message: message.to_owned() }
}

fn silent(message: &str) -> Failed {
    failed("SILENT", message)
}

pub(super) fn earlier(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "link_tests.rs"]
mod tests;
