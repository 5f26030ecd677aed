//! A host in its fleet: what its core asks Redis for, and what comes of what Redis says. Redis is a map here, with as much of
//! the scripts' rules as one host meets.

use std::collections::BTreeMap;
use std::time::Duration;

use breakerd_core::fleet::command::APPLY_HEAD_WORDS;
use breakerd_core::fleet::op::OP_WORDS;
use breakerd_core::fleet::position::{Epoch, Position, Tag};
use breakerd_core::fleet::{
    Batch, Command, CommandKind, ConnectionNumber, Datum, Event, Failed, Heard, Keys, Request, Said, Value,
};
use breakerd_core::{Because, ConnectionId, Core, Peer, SavedBreaker, Settings, Snapshot};
use breakerd_proto::message::{self, Action, Hello, Query, Register, Report, View};
use breakerd_proto::{Counts, Link, Mono, Name, Outcome, Override, RejectReason, State, Verdict};

use crate::script::policy;

struct Redis {
    connection: ConnectionNumber,
    up: bool,
    head: Position,
    table: BTreeMap<String, Value>,
    /// The words of each op that it was asked for, without author and reason.
    ops: Vec<String>,
    /// Trips of these are refused.
    refused: Vec<&'static str>,
}

fn text(text: impl ToString) -> Datum {
    Datum::Bytes(text.to_string().into_bytes())
}

fn lost(message: &str) -> Said {
    Said::Lost(Failed { code: "IO".to_owned(), message: message.to_owned() })
}

impl Redis {
    fn new() -> Self {
        let head = Position { epoch: Epoch(0x24), seq: 1_048_577, tag: Tag(7) };
        let (connection, table) = (ConnectionNumber::default(), BTreeMap::new());
        Self { connection, up: true, head, table, ops: Vec::new(), refused: Vec::new() }
    }

    fn answer(&mut self, now: Mono, request: Request) -> Vec<Said> {
        match request {
            Request::Connect(number) => {
                self.connection = number;
                vec![if self.up { Said::Connected } else { lost("connection refused") }]
            }
            Request::Close => Vec::new(),
            Request::Send(id, command) if command.kind == CommandKind::Apply => {
                let mut said = Vec::new();
                let ops = command.words[APPLY_HEAD_WORDS..].chunks(OP_WORDS);
                let results: Vec<_> = ops.map(|op| text(self.judge(now, op, &mut said))).collect();
                let Position { epoch, seq, tag } = self.head;
                let head = [text("OK"), text(epoch), text(seq), text(tag), text(now.0 / 1_000_000)];
                said.push(Said::Reply(id, Ok(Datum::List(head.into_iter().chain(results).collect()))));
                said
            }
            Request::Send(id, command) => vec![Said::Reply(id, Ok(self.read(now, &command)))],
        }
    }

    fn read(&self, now: Mono, command: &Command) -> Datum {
        let (ms, Position { epoch, seq, tag }) = (now.0 / 1_000_000, self.head);
        match command.words[0].as_str() {
            "ROLE" => Datum::List(vec![text("master"), Datum::Int(0)]),
            "TIME" => Datum::List(vec![text(ms / 1000), text(ms % 1000 * 1000)]),
            "HMGET" => Datum::List(vec![text(epoch), text(seq), text(tag)]),
            "HGETALL" => {
                let meta = [("!e", epoch.to_string()), ("!s", seq.to_string()), ("!t", tag.to_string())];
                let rest = [("!f", "0".to_owned()), ("!v", "1".to_owned())];
                let meta = meta.into_iter().chain(rest).map(|(name, value)| [text(name), text(value)]);
                let values = self.table.iter().map(|(name, value)| [text(name), text(value)]);
                Datum::List(meta.chain(values).flatten().collect())
            }
            _ => Datum::Nil,
        }
    }

    /// One op: its result, with the event before it where it changes something.
    fn judge(&mut self, now: Mono, op: &[String], said: &mut Vec<Said>) -> String {
        let (kind, name, ms) = (op[0].as_str(), op[1].as_str(), now.0 / 1_000_000);
        self.ops.push(op[..5].join(" ").trim_end().to_owned());
        let mut value = self.table.get(name).cloned().unwrap_or_default();
        match kind {
            "trip" if !self.refused.contains(&name) => {
                value.state = State::Open;
                value.duration_ms = op[3].parse().unwrap();
                value.until_ms = ms + value.duration_ms;
            }
            "probe" => {
                value.state = State::HalfOpen;
                (value.lease_id, value.holder) = (op[2].clone(), op[3].clone());
                value.lease_until_ms = ms + op[4].parse::<u64>().unwrap();
            }
            "pok" => value = Value { duration_ms: value.duration_ms, ..Value::default() },
            _ => return format!("STALE|{value}"),
        }
        (value.by, value.why) = (op[6].clone(), "told by this host".to_owned());
        said.push(self.change(ms, name, value));
        format!(
            "OK|{}",
            self.table.get(name).cloned().unwrap_or_else(|| Value { version: self.head.seq, ..Value::default() })
        )
    }

    /// A change, as everybody hears of it.
    fn change(&mut self, now_ms: u64, name: &str, mut value: Value) -> Said {
        let (before, tag) = (self.head, Tag(self.head.tag.0 + 1));
        self.head = Position { seq: before.seq + 1, tag, ..before };
        value.version = self.head.seq;
        let changes = vec![(Name::parse(name).unwrap(), value.clone())];
        if value.is_held() {
            self.table.insert(name.to_owned(), value);
        } else {
            self.table.remove(name);
        }
        let batch = Batch { epoch: before.epoch, first: before.seq + 1, tag_before: before.tag, tag, now_ms, changes };
        Said::Push(Event::Batch(batch).to_string().into_bytes())
    }
}

struct Host {
    now: Mono,
    core: Core,
    redis: Redis,
    worker: ConnectionId,
    requests: u32,
}

impl Host {
    /// Not heard of Redis yet.
    fn alone(snapshot: &Snapshot) -> Self {
        let now = Mono::default().after_ms(3_600_000);
        let mut core = Core::new(Settings { default: policy(), host: "web-1".to_owned(), ..Settings::default() }, 1);
        assert_eq!((core.link(), core.link_since()), (Link::Standalone, None));
        core.join(now, Keys::of("demo").unwrap(), "h.1", 1);
        core.handle_snapshot(now, snapshot);
        let service = "api".to_owned();
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            features: 0,
            pid: 7,
            nonce: 1,
            alone_ms: 0,
            alone_calls: 0,
            service,
        };
        let worker = core.handle_connect(now, Peer { uid: 1000, pid: 7 }, &hello).unwrap();
        Self { now, core, redis: Redis::new(), worker, requests: 0 }
    }

    fn joined() -> Self {
        Self::joined_with(&Snapshot::default())
    }

    fn joined_with(snapshot: &Snapshot) -> Self {
        let mut host = Self::alone(snapshot);
        host.pass(500);
        assert_eq!(host.core.link(), Link::Joined);
        host
    }

    fn serve(&mut self) {
        while let Some(request) = self.core.poll_request() {
            let said = self.redis.answer(self.now, request);
            said.into_iter().for_each(|said| self.hear(said));
        }
    }

    fn hear(&mut self, said: Said) {
        self.core.handle_heard(self.now, Heard { connection: self.redis.connection, said });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        self.serve();
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.serve();
        }
        self.now = end;
    }

    fn cut(&mut self) {
        self.redis.up = false;
        self.hear(lost("end of file"));
        self.serve();
    }

    fn lane(&mut self, name: &str) -> u32 {
        let register = Register { request: 0, name: name.to_owned(), policy: None };
        self.core.handle_register(self.now, self.worker, &register).unwrap().lane
    }

    /// None where the fleet is asked first.
    fn ask(&mut self, name: &str) -> Option<Verdict> {
        let lane = self.lane(name);
        self.requests += 1;
        let (request, deadline) = (self.requests, self.now.after_ms(5));
        let query = Query { request, lane, deadline, counts: Counts::default() };
        self.core.handle_query(self.now, self.worker, &query).unwrap()
    }

    fn report(&mut self, name: &str, (generation, permit): (u64, u64), outcome: Outcome) {
        let report =
            Report { lane: self.lane(name), generation, permit, at: self.now, outcome, counts: Counts::default() };
        self.core.handle_report(self.now, self.worker, &report).unwrap();
    }

    /// Three failures; Redis has not been served yet.
    fn trip(&mut self, name: &str) {
        for _ in 0..3 {
            let generation = self.ask(name).unwrap().generation();
            self.report(name, (generation, 0), Outcome::failure("http-500"));
        }
    }

    /// The probe that the fleet has leased to the one who asked last.
    fn probe(&mut self, name: &str) -> (u64, u64) {
        assert_eq!(self.ask(name), None, "the fleet is asked first");
        self.serve();
        let Some((worker, request, verdict)) = self.core.poll_answer() else { panic!("no answer") };
        assert_eq!((worker, request), (self.worker, self.requests));
        let Verdict::Probe { generation, permit } = verdict else { panic!("{verdict:?}") };
        (generation, permit)
    }

    fn view(&self, name: &str) -> View {
        self.core.view(self.now, name).unwrap()
    }

    /// Another host's change comes in.
    fn other(&mut self, name: &str, state: State) {
        let ms = self.now.0 / 1_000_000;
        let (by, why) = ("w[9]@other".to_owned(), "test".to_owned());
        let value = Value { state, duration_ms: 15_000, until_ms: ms + 15_000, by, why, ..Value::default() };
        let said = self.redis.change(ms, name, value);
        self.hear(said);
        self.serve();
    }
}

#[test]
fn how_the_link_stands_and_since_when() {
    let mut host = Host::alone(&Snapshot::default());
    let start = host.now;
    assert_eq!((host.core.link(), host.core.link_since()), (Link::Detached, Some((start, None))));
    host.pass(500);
    let (joined, failure) = host.core.link_since().unwrap();
    assert_eq!((host.core.link(), failure), (Link::Joined, None));
    assert_eq!(host.core.link_counters().connections, 1);
    host.pass(60_000);
    assert_eq!(host.core.link_since(), Some((joined, None)));
    host.cut();
    let cut = host.now;
    assert_eq!((host.core.link(), host.core.link_since()), (Link::Detached, Some((cut, Some("end of file")))));
    host.pass(60_000);
    assert_eq!(host.core.link_since(), Some((cut, Some("connection refused"))));
}

#[test]
fn a_trip_is_told_against_the_fleets_version_and_its_answer_is_taken_once() {
    let mut host = Host::joined();
    host.trip("openai");
    assert!(host.view("openai").host_only, "not told yet");
    host.serve();
    assert_eq!(host.redis.ops, ["trip openai 1048577 1000 0"]);
    let view = host.view("openai");
    assert_eq!((view.state, view.host_only, view.why.as_str()), (State::Open, false, "told by this host"));
    assert_eq!(view.generation, 3, "by the trip and by the fleet's word; the event and the answer say the same");
}

#[test]
fn each_trip_has_its_own_answer() {
    let mut host = Host::joined();
    host.redis.refused = vec!["a"];
    host.trip("a");
    host.trip("b");
    host.serve();
    assert_eq!((host.view("a").state, host.view("a").why.as_str()), (State::Closed, "the fleet has recovered since"));
    assert_eq!((host.view("b").state, host.view("b").host_only), (State::Open, false));
}

#[test]
fn each_probe_has_a_lease_of_its_own() {
    let mut host = Host::joined();
    for name in ["a", "b"] {
        host.trip(name);
        host.pass(1000);
        let probe = host.probe(name);
        host.report(name, probe, Outcome::SUCCESS);
        host.serve();
        assert_eq!(host.view(name).state, State::Closed);
    }
    let told = |kind: &str| host.redis.ops.iter().filter_map(|op| op.strip_prefix(kind)).collect::<Vec<_>>();
    let leases: Vec<_> = told("probe ").iter().map(|probe| probe.split(' ').nth(1).unwrap().to_owned()).collect();
    let [a, b] = &leases[..] else { panic!("{leases:?}") };
    assert!(a.starts_with("h.1.") && b.starts_with("h.1.") && a != b, "{leases:?}");
    assert_eq!(told("probe "), [format!("a {a} h.1 10000"), format!("b {b} h.1 10000")]);
    assert_eq!(told("pok "), [format!("a {a} 1 0"), format!("b {b} 1 0")]);
}

#[test]
fn without_its_fleet_a_host_probes_after_two_seconds() {
    let mut host = Host::joined();
    host.trip("openai");
    host.pass(1000);
    host.cut();
    host.pass(1999);
    let verdict = host.ask("openai");
    assert!(matches!(verdict, Some(Verdict::Reject { reason: RejectReason::Probing, .. })), "{verdict:?}");
    host.pass(1);
    assert!(matches!(host.ask("openai"), Some(Verdict::Probe { .. })));
}

#[test]
fn what_another_host_says_is_taken_in_by_breakers_that_are_used_that_rest_and_that_are_unknown() {
    let mut host = Host::joined();
    host.ask("used");
    host.lane("rests");
    for name in ["used", "rests", "unknown"] {
        host.other(name, State::Open);
        let view = host.view(name);
        assert_eq!((view.state, view.by.as_str()), (State::Open, "w[9]@other"), "{name}");
        host.other(name, State::Closed);
        assert_eq!(host.view(name).state, State::Closed, "{name}");
    }
}

#[test]
fn what_a_host_decided_alone_is_told_when_the_fleet_is_back() {
    let mut host = Host::joined();
    host.cut();
    host.trip("openai");
    host.serve();
    assert_eq!(host.redis.ops, [""; 0]);
    drop(host.redis.change(0, "stripe", Value { state: State::Open, ..Value::default() }));
    host.redis.up = true;
    while host.core.link() != Link::Joined {
        host.pass(10);
    }
    let [told] = &host.redis.ops[..] else { panic!("{:?}", host.redis.ops) };
    assert!(told.starts_with("trip openai 1048578 "), "against what the fleet has come to meanwhile: {told}");
    assert!(!host.view("openai").host_only);
}

fn remembered(name: &str) -> SavedBreaker {
    SavedBreaker {
        name: Name::parse(name).unwrap(),
        generation: 5,
        state: State::Open,
        left: Duration::from_secs(600),
        step: 0,
        age: Duration::from_secs(1),
        because: Because::new("w[1]@web-1", "5 consecutive failures"),
        fleet: true,
        forced: None,
        mode: None,
    }
}

#[test]
fn a_snapshots_memory_of_the_fleet_stands_until_the_fleet_is_heard() {
    let snapshot = Snapshot { breakers: vec![remembered("closed-since"), remembered("open-still")] };
    let mut host = Host::alone(&snapshot);
    let still =
        Value { state: State::Open, duration_ms: 15_000, until_ms: u64::MAX >> 12, version: 9, ..Value::default() };
    host.redis.table.insert("open-still".to_owned(), still);
    let states = |host: &Host| ["closed-since", "open-still"].map(|name| host.view(name).state);
    assert_eq!(states(&host), [State::Open, State::Open]);
    host.pass(500);
    assert_eq!((host.core.link(), states(&host)), (Link::Joined, [State::Closed, State::Open]));
}

#[test]
fn what_was_its_hosts_own_word_stays_whatever_the_fleet_says() {
    let own = SavedBreaker { fleet: false, ..remembered("openai") };
    let host = Host::joined_with(&Snapshot { breakers: vec![own] });
    assert_eq!((host.view("openai").state, host.view("openai").host_only), (State::Open, true));
    // And where there is no fleet any more, so is what the fleet had said.
    let mut alone = Core::new(Settings::default(), 1);
    alone.handle_snapshot(host.now, &Snapshot { breakers: vec![remembered("openai")] });
    assert!(alone.view(host.now, "openai").unwrap().host_only);
}

#[test]
fn an_operators_word_is_the_fleets() {
    let mut host = Host::joined();
    let action = Action::Force { to: Override::ForcedOpen, for_ms: None };
    let command = message::Command { request: 4, name: "openai".to_owned(), action, because: "drill".to_owned() };
    let done = host.core.command(host.now, "root@web-1", &command).unwrap();
    host.serve();
    assert_eq!((done.request, done.fleet), (4, true));
    assert_eq!(host.redis.ops, ["force openai F 0"]);
}
