//! The two scripts on a real Redis, driven by the very words that the daemon sends.

mod judge;
mod limits;

use breakerd_core::Because;
use breakerd_core::fleet::{Event, Op, OpKind, OpResult, Position, Value};
use breakerd_proto::Name;
use breakerd_tests::Redis;
use breakerd_tests::redis::{Reply, Session};

const APPLY: &str = include_str!("../../daemon/src/fleet/apply.lua");
const INIT: &str = include_str!("../../daemon/src/fleet/init.lua");
const TABLE: &str = "{bk1:demo}h";
const CLOSED: &str = "{bk1:demo}c";
const LOG: &str = "{bk1:demo}l";
const CHANNEL: &str = "{bk1:demo}ev";
/// The author and the reason of every op here.
const BY: &str = "chat-api[4211]@web-1";
const WHY: &str = "3 consecutive failures, last http-401";
/// The epoch that [`Fleet::begun`] begins.
const EPOCH: &str = "00000000000000aa";

/// A fleet's data in a Redis of its own.
struct Fleet {
    redis: Redis,
    session: Session,
    tags: u32,
}

/// What a script answered.
#[derive(Debug)]
struct Answer {
    code: String,
    head: Option<Position>,
    now_ms: u64,
    results: Vec<(OpResult, Option<Value>)>,
}

impl Fleet {
    /// One without an epoch.
    fn empty() -> Self {
        let redis = Redis::start();
        let session = redis.session();
        Self { redis, session, tags: 0 }
    }

    /// One whose epoch has begun.
    fn begun() -> Self {
        let mut fleet = Self::empty();
        assert_eq!(fleet.init("", 0, EPOCH).code, "OK");
        fleet
    }

    fn init(&mut self, old: &str, seq: u64, new: &str) -> Answer {
        let tag = self.tag();
        let seq = seq.to_string();
        let arguments = [CHANNEL, old, &seq, new, &tag, "0", "PUBLISH", "1"].map(str::to_owned);
        self.call(INIT, &arguments)
    }

    fn apply(&mut self, ops: &[Op]) -> Answer {
        self.apply_as(EPOCH, "0", ops.iter().flat_map(Op::words).collect())
    }

    fn apply_as(&mut self, epoch: &str, deadline: &str, ops: Vec<String>) -> Answer {
        let tag = self.tag();
        let mut arguments = [CHANNEL, epoch, deadline, &tag, "PUBLISH", "4096"].map(str::to_owned).to_vec();
        arguments.extend(ops);
        self.call(APPLY, &arguments)
    }

    /// One op, which must be judged.
    fn one(&mut self, name: &str, kind: OpKind) -> (OpResult, Value) {
        let answer = self.apply(&[op(name, kind)]);
        assert_eq!(answer.code, "OK");
        let [(result, value)] = <[_; 1]>::try_from(answer.results).unwrap();
        (result, value.unwrap())
    }

    fn call(&mut self, script: &str, arguments: &[String]) -> Answer {
        match self.try_call(script, arguments) {
            Reply::Many(words) => Answer::read(words),
            other => panic!("{other:?}"),
        }
    }

    fn try_call(&mut self, script: &str, arguments: &[String]) -> Reply {
        let mut command = vec!["EVAL", script, "3", TABLE, CLOSED, LOG];
        command.extend(arguments.iter().map(String::as_str));
        self.session.ask(&command)
    }

    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("{:08x}", self.tags)
    }

    fn ask(&mut self, command: &[&str]) -> Reply {
        self.session.ask(command)
    }

    fn stored(&mut self, name: &str) -> Option<Value> {
        match self.ask(&["HGET", TABLE, name]) {
            Reply::Text(text) => Some(Value::parse(&text).unwrap()),
            _ => None,
        }
    }

    /// Epoch, seq and tag, as they stand.
    fn head(&mut self) -> Option<Position> {
        let Reply::Many(words) = self.ask(&["HMGET", TABLE, "!e", "!s", "!t"]) else { panic!("no list") };
        position(&words)
    }

    fn subscriber(&self) -> Session {
        let mut session = self.redis.session();
        session.ask(&["SUBSCRIBE", CHANNEL]);
        session
    }
}

impl Answer {
    fn read(words: Vec<Reply>) -> Self {
        let head = position(&words[1..4]);
        let mut words = words.into_iter().map(Reply::text);
        let code = words.next().unwrap();
        let now_ms = words.nth(3).unwrap().parse().unwrap();
        Self { code, head, now_ms, results: words.map(|word| OpResult::parse(&word).unwrap()).collect() }
    }

    fn words(&self) -> Vec<OpResult> {
        self.results.iter().map(|(result, _)| *result).collect()
    }
}

fn position(words: &[Reply]) -> Option<Position> {
    let texts: Vec<String> = words
        .iter()
        .filter_map(|word| match word {
            Reply::Text(text) => Some(text.clone()),
            _ => None,
        })
        .collect();
    let [epoch, seq, tag] = texts.as_slice() else { return None };
    Position::parse(epoch, seq, tag)
}

/// The next message of the channel.
fn message(subscriber: &mut Session) -> String {
    let Reply::Many(message) = subscriber.read() else { panic!("no message") };
    message.into_iter().next_back().unwrap().text()
}

fn event(text: &str) -> Event {
    Event::parse(text.as_bytes()).unwrap()
}

fn op(name: &str, kind: OpKind) -> Op {
    Op { name: Name::parse(name).unwrap(), because: Because::new(BY, WHY), kind }
}

fn trip(expected: u64, duration_ms: u64) -> OpKind {
    OpKind::Trip { expected, duration_ms, step: 0 }
}

/// A trip whose evidence is newer than anything.
fn trip_now(duration_ms: u64) -> OpKind {
    trip(1 << 50, duration_ms)
}

fn probe(lease_id: &str, lease_ms: u64) -> OpKind {
    OpKind::Probe { lease_id: lease_id.to_owned(), holder: "web-1.0a1b2c3d".to_owned(), lease_ms }
}

fn pok(lease_id: &str, successes: u64, needed: u64) -> OpKind {
    OpKind::Pok { lease_id: lease_id.to_owned(), successes, needed }
}

fn pfail(lease_id: &str, duration_ms: u64) -> OpKind {
    OpKind::Pfail { lease_id: lease_id.to_owned(), duration_ms }
}
