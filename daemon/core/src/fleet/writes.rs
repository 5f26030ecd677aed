//! What this host wants of the fleet: ops are batched, paced, and never sent twice.

use std::collections::{BTreeMap, VecDeque};

use breakerd_proto::{Mono, Name};

use super::command::{Datum, Failed, RequestId};
use super::fact::{Fact, LinkState};
use super::link::{LinkMachine, Phase, Purpose};
use super::op::{Op, OpResult, Token};
use super::position::{Position, Tag};
use super::redis_time::RedisTime;
use super::value::Value;

/// How long a script call may take before its outcome is unknown.
const RESPONSE_TIME_MS: u64 = 1000;
/// What a write's deadline adds to that, for the error of our estimate of Redis's clock.
const DEADLINE_SLACK_MS: u64 = 200;
/// Ops of one call.
const BATCH_MAX: usize = 64;
/// Ops that may wait.
const PENDING_MAX: usize = 1024;
/// Calls a second, on average, and at once.
const CALLS_PER_SECOND: u64 = 20;
const CALLS_AT_ONCE: u64 = 20;
const CALL_NS: u64 = 1_000_000_000 / CALLS_PER_SECOND;
/// How long nothing is written after Redis refused to (no memory, too few replicas).
const REFUSAL_PAUSE_MS: u64 = 1000;

/// Why an op was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The link is down or connecting: this host decides alone.
    Down,
    /// Too many ops wait.
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Writes {
    pending: VecDeque<(Token, Op)>,
    under_way: Option<Call>,
    /// The time up to which calls are paid for; each call costs [`CALL_NS`] of it.
    paid_until: Mono,
    paused_until: Mono,
    /// Nothing is sent before a poll is answered.
    held: bool,
}

#[derive(Debug)]
struct Call {
    id: RequestId,
    sent: Mono,
    ops: Vec<(Token, Name)>,
}

impl Writes {
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    pub(super) fn released(&mut self) {
        self.held = false;
    }

    /// When a call that waits may be sent; none if nothing waits, or what it waits for is no time.
    pub(super) fn due(&self) -> Option<Mono> {
        if self.pending.is_empty() || self.under_way.is_some() || self.held {
            return None;
        }
        Some(self.paused_until.max(Mono(self.paid_until.0.saturating_sub(CALL_NS * (CALLS_AT_ONCE - 1)))))
    }

    fn pay(&mut self, now: Mono) {
        self.paid_until = Mono(self.paid_until.0.max(now.0).saturating_add(CALL_NS));
    }
}

/// The time of Redis's clock after which a call that is sent now must not be executed, in ms: one that waits in a stopped
/// server would else be executed long after its sender gave it up. 1, which is always past, before Redis told its time.
pub(super) fn deadline_ms(time: &RedisTime, now: Mono) -> u64 {
    time.redis_now(now).map_or(1, |redis_ms| redis_ms.saturating_add(RESPONSE_TIME_MS + DEADLINE_SLACK_MS))
}

/// The position that a reply tells.
fn head_of(words: &[Option<&str>]) -> Option<Position> {
    let mut words = words.iter().copied();
    Position::parse(words.next()??, words.next()??, words.next()??)
}

impl LinkMachine {
    /// Asks the fleet for a change. The answer comes as [`Fact::Answered`], [`Fact::Refused`] or [`Fact::Unknown`] with
    /// this token, once. Ops on one breaker are sent in the order in which they were proposed.
    ///
    /// # Errors
    /// [`NotTaken`] if nothing can come of it now; then no answer comes.
    pub fn propose(&mut self, now: Mono, token: Token, op: Op) -> Result<(), NotTaken> {
        match self.state() {
            LinkState::Down | LinkState::Connecting => return Err(NotTaken::Down),
            LinkState::Syncing | LinkState::Live => {}
        }
        if self.writes.pending.len() >= PENDING_MAX {
            return Err(NotTaken::Full);
        }
        self.writes.pending.push_back((token, op));
        self.pump(now);
        Ok(())
    }

    /// Sends the next call if one may be sent.
    pub(super) fn pump(&mut self, now: Mono) {
        if !matches!(self.phase, Phase::Live) || self.writes.due().is_none_or(|due| now < due) {
            return;
        }
        let Some(position) = self.position() else { return };
        let batch = self.next_batch();
        let tag = Tag(self.rng.u32(..));
        let deadline = deadline_ms(&self.time, now);
        let command = self.keys.apply(position.epoch, tag, deadline, batch.iter().map(|(_, op)| op));
        self.counters.calls += 1;
        self.counters.ops += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        self.writes.pay(now);
        let id = self.send(now, Purpose::Apply, command, std::time::Duration::from_millis(RESPONSE_TIME_MS));
        self.writes.under_way =
            Some(Call { id, sent: now, ops: batch.into_iter().map(|(token, op)| (token, op.name)).collect() });
    }

    /// In a storm names go in random order, so that not every host sends the same ones first; the ops of one name keep
    /// theirs.
    fn next_batch(&mut self) -> Vec<(Token, Op)> {
        if self.writes.pending.len() > BATCH_MAX {
            let mut places: BTreeMap<Name, u64> = BTreeMap::new();
            for (_, op) in &self.writes.pending {
                places.entry(op.name.clone()).or_insert_with(|| self.rng.u64(..));
            }
            self.writes.pending.make_contiguous().sort_by_key(|(_, op)| places.get(&op.name).copied());
        }
        let count = self.writes.pending.len().min(BATCH_MAX);
        self.writes.pending.drain(..count).collect()
    }

    /// A value came: what it overtakes of the ops that wait need not be sent.
    pub(super) fn overtake(&mut self, now: Mono, name: &Name, value: &Value) {
        let mut overtaken = Vec::new();
        self.writes.pending.retain(|(token, op)| {
            let result = if op.name == *name { op.overtaken_by(value) } else { None };
            overtaken.extend(result.map(|result| (*token, result)));
            result.is_none()
        });
        for (token, result) in overtaken {
            self.counters.overtaken += 1;
            let seen = Some(self.seen(now, name.clone(), value.clone()));
            self.facts.push_back(Fact::Answered { token, sent: now, result, seen });
        }
    }

    pub(super) fn apply_answered(&mut self, now: Mono, id: RequestId, reply: Result<Datum, Failed>) {
        let Some(call) = self.writes.under_way.take_if(|call| call.id == id) else { return };
        let reply = match reply {
            Ok(reply) => reply,
            Err(failed) => return self.apply_failed(now, call, failed),
        };
        let words: Vec<Option<&str>> = reply.list().unwrap_or_default().iter().map(Datum::text).collect();
        let (Some(Some(code)), Some(head), Some(results)) = (words.first(), words.get(1..5), words.get(5..)) else {
            self.unknown(call);
            return self.begin_sync_if_live(now);
        };
        if let Some(redis_ms) = head.last().copied().flatten().and_then(super::value::integer) {
            self.time.sample(now, redis_ms);
        }
        match *code {
            "OK" => self.call_answered(now, call, head_of(head), results),
            "EXPIRED" => {
                self.refuse(call);
                self.pump(now);
            }
            "EPOCH" | "NOEPOCH" => {
                self.refuse(call);
                self.begin_sync_if_live(now);
            }
            _ => {
                self.unknown(call);
                self.begin_sync_if_live(now);
            }
        }
    }

    /// A call was judged. Its own event may come just after its reply (from Redis 7.2 on, else just before it), so a head ahead of us by more
    /// than the call's own changes means that something is lost. What was judged in another epoch than ours says nothing
    /// any more.
    fn call_answered(&mut self, now: Mono, call: Call, head: Option<Position>, results: &[Option<&str>]) {
        if head.map(|head| head.epoch) != self.position().map(|mine| mine.epoch) {
            return self.unknown(call);
        }
        let accepted = results.iter().flatten().filter(|result| result.starts_with("OK|")).count();
        let accepted = u64::try_from(accepted).unwrap_or(u64::MAX);
        let mine = self.position();
        let ahead = head.filter(|head| mine.is_some_and(|mine| mine.epoch == head.epoch && mine.seq < head.seq));
        self.answered = ahead.or(self.answered);
        let mut results = results.iter().copied();
        for (token, name) in call.ops {
            self.op_answered(now, token, call.sent, name, results.next().flatten());
        }
        let lost = ahead.is_some_and(|head| mine.is_some_and(|mine| head.seq.saturating_sub(accepted) > mine.seq));
        if lost {
            self.begin_sync_if_live(now);
        } else {
            self.pump(now);
        }
    }

    fn op_answered(&mut self, now: Mono, token: Token, sent: Mono, name: Name, result: Option<&str>) {
        let Some((result, value)) = result.and_then(OpResult::parse) else {
            self.counters.unknown += 1;
            self.facts.push_back(Fact::Unknown { token, sent });
            return;
        };
        // What is not above our position was here already, by its event or by a read, and may have changed since.
        if let Some(value) = value.as_ref().filter(|value| self.position().is_some_and(|mine| value.version > mine.seq))
        {
            self.hold(&name, value);
        }
        let seen = value.map(|value| self.seen(now, name, value));
        self.facts.push_back(Fact::Answered { token, sent, result, seen });
    }

    /// The server answered a call with an error. Some of these say that nothing was written; after any other the script
    /// may have stopped half-way (a channel that we may not publish to), and the table must be read again.
    fn apply_failed(&mut self, now: Mono, call: Call, failure: Failed) {
        self.writes.paused_until = now.after_ms(REFUSAL_PAUSE_MS);
        match failure.code.as_str() {
            "OOM" | "NOREPLICAS" | "MISCONF" => self.refuse(call),
            "READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH" | "NOPERM" | "BUSY" => {
                self.refuse(call);
                self.go_down(now, failure, true);
            }
            _ => {
                self.unknown(call);
                self.begin_sync_if_live(now);
            }
        }
    }

    /// No reply came in time. It may come yet, but the reads of the sync that begins here are answered after it.
    pub(super) fn apply_unanswered(&mut self, now: Mono, id: RequestId) {
        if let Some(call) = self.writes.under_way.take_if(|call| call.id == id) {
            self.unknown(call);
            self.begin_sync_if_live(now);
        }
    }

    /// The link goes down: what was sent is unknown, what was not is refused.
    pub(super) fn refuse_all(&mut self) {
        if let Some(call) = self.writes.under_way.take() {
            self.unknown(call);
        }
        for (token, _) in std::mem::take(&mut self.writes.pending) {
            self.facts.push_back(Fact::Refused { token });
        }
    }

    fn refuse(&mut self, call: Call) {
        self.facts.extend(call.ops.into_iter().map(|(token, _)| Fact::Refused { token }));
    }

    fn unknown(&mut self, call: Call) {
        let sent = call.sent;
        self.counters.unknown += u64::try_from(call.ops.len()).unwrap_or(u64::MAX);
        self.facts.extend(call.ops.into_iter().map(|(token, _)| Fact::Unknown { token, sent }));
    }

    fn begin_sync_if_live(&mut self, now: Mono) {
        if matches!(self.phase, Phase::Live) {
            self.begin_sync(now, false);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use breakerd_proto::State;

    use super::super::{Epoch, Keys};
    use super::*;

    fn now() -> Mono {
        Mono::default().after_ms(1_000_000)
    }

    /// A link at version 5.
    fn link() -> LinkMachine {
        let mut link = LinkMachine::new(Keys::of("demo").unwrap(), fastrand::Rng::with_seed(1), now());
        link.position = Some(Position { epoch: Epoch(1), seq: 5, tag: Tag(50) });
        link
    }

    #[test]
    fn a_result_that_cannot_be_read_is_unknown() {
        for result in [None, Some("what|?")] {
            let mut link = link();
            link.op_answered(now(), Token(3), now(), Name::parse("openai").unwrap(), result);
            assert_eq!(link.poll_fact(), Some(Fact::Unknown { token: Token(3), sent: now() }));
            assert_eq!(link.counters().unknown, 1);
        }
    }

    #[test]
    fn only_an_answer_ahead_of_us_says_what_the_table_holds() {
        for (version, held) in [(4, 0), (5, 0), (6, 1)] {
            let mut link = link();
            let value = Value { version, state: State::Open, ..Value::default() };
            link.op_answered(now(), Token(3), now(), Name::parse("openai").unwrap(), Some(&format!("OK|{value}")));
            assert_eq!(link.held(), held, "version {version}");
        }
    }
}
