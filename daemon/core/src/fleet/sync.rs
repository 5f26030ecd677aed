//! How a host finds back into the fleet's history, and how it follows it.
//!
//! The head first (43 bytes), then the log if our last batch is still in it, else the whole table. Events that come
//! meanwhile wait, and are then chained on.

use std::collections::VecDeque;
use std::time::Duration;

use breakerd_proto::{Mono, Name};

use super::command::{Command, Datum, FORMAT, RequestId};
use super::event::{Batch, Event};
use super::fact::{Fact, Seen};
use super::link::{LinkMachine, Phase, Purpose, SILENCE_MAX, failed};
use super::position::{Epoch, Position, Tag};
use super::value::Value;
use super::writes::deadline_ms;

/// After so many rounds the connection is given up.
const ROUNDS_MAX: u32 = 6;
/// How long a read that may be large may take.
const LARGE_READ_MAX: Duration = Duration::from_secs(5);
/// Hosts that find no epoch wait up to this, in ms, so that one of them begins it and the others find it.
const INIT_SPREAD_MS: u64 = 200;
/// What Redis sends in a millisecond when hosts read whole tables, and what one breaker in it weighs, in bytes.
const TABLE_BYTES_PER_MS: u64 = 400_000;
const BREAKER_BYTES: u64 = 90;
/// Tables that together weigh less than this are read at once.
const TABLE_BYTES_FREE: u64 = 1_000_000;
const TABLE_SPREAD_MAX_MS: u64 = 2000;
/// Hosts that read at the same time, while nobody counts them.
const HOSTS: u64 = 1;
/// How long a broken chain is not believed after one that proved false: a forger costs us one read a second.
const DISBELIEF: Duration = Duration::from_secs(1);
/// Epochs that we left and whose late events we know.
const LEFT_EPOCHS_MAX: usize = 8;
/// Events that may wait, and their bytes.
const INBOX_MAX: usize = 4096;
const INBOX_BYTES_MAX: usize = 16 << 20;

/// A sync under way.
#[derive(Debug)]
pub(super) struct Sync {
    round: u32,
    step: Step,
    /// The request whose reply it waits for.
    request: Option<RequestId>,
    /// A broken chain began it, and nothing else was wrong so far.
    by_chain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Head,
    InitAt(Mono),
    Init,
    LogBefore,
    LogAfter,
    TableAt(Mono),
    Table,
}

/// What is remembered from sync to sync.
#[derive(Debug, Default)]
pub(super) struct Memory {
    left_epochs: VecDeque<Epoch>,
    disbelieve_until: Mono,
    /// This host began the epoch that it is about to read.
    rotated: bool,
}

/// Events that came during a sync.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    events: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Inbox {
    /// False if it has no room, which leaves it as it was.
    pub(super) fn push(&mut self, event: Vec<u8>) -> bool {
        let bytes = self.bytes.saturating_add(event.len());
        let room = self.events.len() < INBOX_MAX && bytes <= INBOX_BYTES_MAX;
        if room {
            self.bytes = bytes;
            self.events.push_back(event);
        }
        room
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let event = self.events.pop_front()?;
        self.bytes = self.bytes.saturating_sub(event.len());
        Some(event)
    }

    fn put_back(&mut self, event: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(event.len());
        self.events.push_front(event);
    }
}

impl Sync {
    /// When it goes on by itself.
    pub(super) fn due(&self) -> Option<Mono> {
        match self.step {
            Step::InitAt(at) | Step::TableAt(at) => Some(at),
            _ => None,
        }
    }
}

/// How an event stands to our position.
enum Chained {
    /// Applied, or of no further interest.
    Taken,
    /// Something before it is missing, or history has forked.
    Broken,
}

impl LinkMachine {
    pub(super) fn begin_sync(&mut self, now: Mono, by_chain: bool) {
        self.enter_sync(now, Sync { round: 1, step: Step::Head, request: None, by_chain });
        self.ask(now, Step::Head, self.keys.head(), SILENCE_MAX);
    }

    /// Begins again from the head, unless that was done too often.
    pub(super) fn next_round(&mut self, now: Mono) {
        let Phase::Syncing(sync) = &mut self.phase else { return };
        sync.round += 1;
        sync.by_chain = false;
        if sync.round > ROUNDS_MAX {
            return self.go_down(now, failed("UNSETTLED", "six reads in a row were overtaken"), true);
        }
        self.ask(now, Step::Head, self.keys.head(), SILENCE_MAX);
    }

    fn ask(&mut self, now: Mono, step: Step, command: Command, most: Duration) {
        let id = self.send(now, Purpose::Sync, command, most);
        if let Phase::Syncing(sync) = &mut self.phase {
            sync.step = step;
            sync.request = Some(id);
        }
    }

    fn pause(&mut self, step: Step) {
        if let Phase::Syncing(sync) = &mut self.phase {
            sync.step = step;
            sync.request = None;
        }
    }

    /// A pause of the sync may have ended.
    pub(super) fn sync_due(&mut self, now: Mono) {
        let Phase::Syncing(sync) = &self.phase else { return };
        match sync.step {
            Step::InitAt(at) if now >= at => self.rotate(now),
            Step::TableAt(at) if now >= at => self.ask(now, Step::Table, self.keys.table(), LARGE_READ_MAX),
            _ => {}
        }
    }

    pub(super) fn sync_answered(&mut self, now: Mono, id: RequestId, reply: &Datum) {
        let Phase::Syncing(sync) = &self.phase else { return };
        if sync.request != Some(id) {
            return;
        }
        match sync.step {
            Step::Head => self.head_came(now, reply),
            Step::Init => self.init_answered(now, reply),
            Step::LogBefore => self.log_before_came(now, reply),
            Step::LogAfter => self.log_after_came(now, reply),
            Step::Table => self.table_came(now, reply),
            Step::InitAt(_) | Step::TableAt(_) => {}
        }
    }

    fn head_came(&mut self, now: Mono, reply: &Datum) {
        let Some(head) = head(reply) else {
            let wait_ms = self.rng.u64(0..=INIT_SPREAD_MS);
            return self.pause(Step::InitAt(now.after_ms(wait_ms)));
        };
        match self.position {
            Some(mine) if mine.epoch == head.epoch => {
                let contradicts = self.answered.is_some_and(|known| known.seq >= head.seq && known != head);
                if contradicts || (head.seq <= mine.seq && head != mine) {
                    self.forked(now);
                } else if head == mine {
                    self.nothing_missed(now);
                } else {
                    self.ask(now, Step::LogBefore, self.keys.log_before(mine.seq), LARGE_READ_MAX);
                }
            }
            _ => self.read_table(now),
        }
    }

    /// What broke the chain was published before our read of the head, so a head that has not moved shows it false.
    fn nothing_missed(&mut self, now: Mono) {
        if let Phase::Syncing(Sync { by_chain: true, .. }) = self.phase {
            self.sync_memory.disbelieve_until = now.after(DISBELIEF);
        }
        self.catch_up(now);
    }

    fn forked(&mut self, now: Mono) {
        self.counters.forks += 1;
        self.rotate(now);
    }

    /// Begins a new epoch, unless another host was first.
    fn rotate(&mut self, now: Mono) {
        let old = self.position.map(|mine| mine.epoch);
        let seq = self.position.map_or(0, |mine| mine.seq);
        let new = (Epoch(self.rng.u64(..)), Tag(self.rng.u32(..)));
        let command = self.keys.init(old, seq, new, deadline_ms(&self.time, now));
        self.ask(now, Step::Init, command, SILENCE_MAX);
    }

    fn init_answered(&mut self, now: Mono, reply: &Datum) {
        let code = reply.list().and_then(|list| list.first()).and_then(Datum::text);
        if code == Some("OK") {
            self.counters.rotations += 1;
            self.sync_memory.rotated = true;
        }
        self.next_round(now);
    }

    fn log_before_came(&mut self, now: Mono, reply: &Datum) {
        let Some(mine) = self.position else { return self.read_table(now) };
        let last = log_events(reply).and_then(|mut events| events.pop());
        let ends_at = last.and_then(|event| match event {
            Event::Batch(batch) => Some(batch.position()),
            Event::Epoch(new) => Some(new.position),
            Event::Suspicion(_) => None,
        });
        match ends_at {
            Some(end) if end == mine => {
                self.ask(now, Step::LogAfter, self.keys.log_after(mine.seq), LARGE_READ_MAX);
            }
            Some(end) if end.epoch == mine.epoch && end.seq == mine.seq => self.forked(now),
            _ => self.read_table(now),
        }
    }

    fn log_after_came(&mut self, now: Mono, reply: &Datum) {
        let Some(events) = log_events(reply) else { return self.read_table(now) };
        self.counters.log_reads += 1;
        for event in events {
            match (event, self.position) {
                (Event::Batch(batch), _) if self.contradicts_answer(&batch) => return self.forked(now),
                (Event::Batch(batch), Some(mine)) if follows(&batch, mine) => self.apply_batch(now, batch),
                _ => return self.read_table(now),
            }
        }
        self.catch_up(now);
    }

    /// Waits for this host's turn, then reads everything.
    fn read_table(&mut self, now: Mono) {
        let first = self.position.is_none() || std::mem::take(&mut self.sync_memory.rotated);
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        let bytes = held.saturating_mul(BREAKER_BYTES).saturating_mul(HOSTS);
        let spread_ms = match first || bytes < TABLE_BYTES_FREE {
            true => 0,
            false => (bytes / TABLE_BYTES_PER_MS).min(TABLE_SPREAD_MAX_MS),
        };
        match self.rng.u64(0..=spread_ms) {
            0 => self.ask(now, Step::Table, self.keys.table(), LARGE_READ_MAX),
            wait_ms => self.pause(Step::TableAt(now.after_ms(wait_ms))),
        }
    }

    fn table_came(&mut self, now: Mono, reply: &Datum) {
        let mut table = Table::read(reply);
        self.counters.bad_events += table.bad;
        if table.format.as_deref().is_some_and(|format| format != FORMAT) {
            return self.go_down(now, failed("FORMAT", "the fleet's table is of another format"), true);
        }
        // The table vanished after we read its head.
        let Some(head) = table.head() else { return self.next_round(now) };
        let new_epoch = self.position.is_none_or(|mine| mine.epoch != head.epoch);
        if !new_epoch && self.is_behind_us(head, &table) {
            return self.forked(now);
        }
        if let Some(left) = self.position.filter(|_| new_epoch) {
            self.sync_memory.leave(left.epoch);
        }
        self.counters.full_reads += 1;
        self.facts.push_back(Fact::TableBegins { new_epoch });
        self.held.clear();
        for (name, value) in std::mem::take(&mut table.values) {
            self.tell(now, name, value);
        }
        self.facts.push_back(Fact::TableEnds { version: head.seq });
        self.position = Some(head);
        self.answered = None;
        self.catch_up(now);
    }

    fn is_behind_us(&self, head: Position, table: &Table) -> bool {
        let older = |(name, value): &(Name, Value)| self.held.get(name).is_some_and(|mine| value.version < *mine);
        head.seq < self.known_seq() || table.values.iter().any(older)
    }

    /// Chains on what waits, then goes live.
    fn catch_up(&mut self, now: Mono) {
        while let Some(event) = self.inbox.pop() {
            if let Chained::Broken = self.chain(now, &event) {
                self.inbox.put_back(event);
                return self.next_round(now);
            }
        }
        self.go_live(now);
    }

    /// An event while live.
    pub(super) fn event_came(&mut self, now: Mono, event: Vec<u8>) {
        if let Chained::Broken = self.chain(now, &event) {
            self.begin_sync(now, true);
            if !self.inbox.push(event) {
                self.handle_overflow(now);
            }
        }
    }

    fn chain(&mut self, now: Mono, event: &[u8]) -> Chained {
        let Some(mine) = self.position else { return Chained::Broken };
        let (epoch, last, tag) = match Event::parse(event) {
            Ok(Event::Batch(batch)) if follows(&batch, mine) && !self.contradicts_answer(&batch) => {
                self.time.sample(now, batch.now_ms);
                self.apply_batch(now, batch);
                return Chained::Taken;
            }
            Ok(Event::Batch(batch)) => (batch.epoch, batch.last(), Some(batch.tag)),
            Ok(Event::Epoch(new)) => (new.position.epoch, new.position.seq, None),
            Ok(Event::Suspicion(_)) => return Chained::Taken,
            Err(_) => {
                self.counters.bad_events += 1;
                self.poll_soon(now);
                return Chained::Taken;
            }
        };
        let forked = last == mine.seq && tag.is_some_and(|tag| tag != mine.tag);
        let past = epoch == mine.epoch && last <= mine.seq && !forked;
        if past || self.sync_memory.left_epochs.contains(&epoch) {
            self.counters.stale_events += 1;
            return Chained::Taken;
        }
        self.counters.gaps += 1;
        if now < self.sync_memory.disbelieve_until {
            self.poll_soon(now);
            return Chained::Taken;
        }
        Chained::Broken
    }

    /// The version that the server is known to have had.
    pub(super) fn known_seq(&self) -> u64 {
        let seq = |position: Option<Position>| position.map_or(0, |position| position.seq);
        seq(self.position).max(seq(self.answered))
    }

    /// Whether a batch has what an answer told under another mark.
    fn contradicts_answer(&self, batch: &Batch) -> bool {
        self.answered.is_some_and(|known| batch.last() >= known.seq && batch.position() != known)
    }

    /// Applies a batch that follows our position, as a whole.
    fn apply_batch(&mut self, now: Mono, batch: Batch) {
        self.position = Some(batch.position());
        self.answered = self.answered.filter(|known| known.seq > batch.last());
        for (name, value) in batch.changes {
            self.tell(now, name, value);
        }
    }

    /// Tells the table a value, and the ops that wait.
    fn tell(&mut self, now: Mono, name: Name, value: Value) {
        self.overtake(now, &name, &value);
        self.hold(&name, &value);
        let seen = self.seen(now, name, value);
        self.facts.push_back(Fact::Value(seen));
    }

    /// Keeps account of what stands in the fleet's table.
    pub(super) fn hold(&mut self, name: &Name, value: &Value) {
        if value.is_held() {
            self.held.insert(name.clone(), value.version);
        } else {
            self.held.remove(name);
        }
    }

    /// A value with its times on this host's clock.
    pub(super) fn seen(&self, now: Mono, name: Name, value: Value) -> Seen {
        let until = self.time.until(now, &value);
        let lease_until = self.time.lease_until(now, &value);
        let forced_until = self.time.forced_until(now, &value);
        Seen { name, value, until, lease_until, forced_until }
    }
}

impl Memory {
    fn leave(&mut self, epoch: Epoch) {
        if self.left_epochs.len() == LEFT_EPOCHS_MAX {
            self.left_epochs.pop_front();
        }
        self.left_epochs.push_back(epoch);
    }
}

fn follows(batch: &Batch, mine: Position) -> bool {
    batch.epoch == mine.epoch && batch.first == mine.seq.saturating_add(1) && batch.tag_before == mine.tag
}

/// The head of the fleet's table; none if there is none, or it cannot be read.
pub(super) fn head(reply: &Datum) -> Option<Position> {
    let mut texts = reply.list()?.iter().map(Datum::text);
    Position::parse(texts.next()??, texts.next()??, texts.next()??)
}

/// The events of the log in the reply's order: `[[id, [field, event]], …]`. None if one cannot be read.
fn log_events(reply: &Datum) -> Option<Vec<Event>> {
    let event = |entry: &Datum| match entry.list()?.get(1)?.list()?.get(1)? {
        Datum::Bytes(bytes) => Event::parse(bytes).ok(),
        _ => None,
    };
    reply.list()?.iter().map(event).collect()
}

/// A whole table as it was read.
#[derive(Default)]
struct Table {
    epoch: Option<String>,
    seq: Option<String>,
    tag: Option<String>,
    format: Option<String>,
    values: Vec<(Name, Value)>,
    bad: u64,
}

impl Table {
    fn read(reply: &Datum) -> Self {
        let mut table = Self::default();
        let mut texts = reply.list().unwrap_or_default().iter().map(Datum::text);
        while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
            match (field, value) {
                (Some(field), Some(value)) => table.take(field, value),
                _ => table.bad += 1,
            }
        }
        table
    }

    fn take(&mut self, field: &str, text: &str) {
        match field {
            "!e" => self.epoch = Some(text.to_owned()),
            "!s" => self.seq = Some(text.to_owned()),
            "!t" => self.tag = Some(text.to_owned()),
            "!v" => self.format = Some(text.to_owned()),
            meta if meta.starts_with('!') => {}
            name => match (Name::parse(name), Value::parse(text)) {
                (Ok(name), Ok(value)) => self.values.push((name, value)),
                _ => self.bad += 1,
            },
        }
    }

    fn head(&self) -> Option<Position> {
        Position::parse(self.epoch.as_deref()?, self.seq.as_deref()?, self.tag.as_deref()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "sync_tests.rs"]
mod tests;
