//! The server of the tests: the scripts' outer rules, with ops just deep enough to make versions move.

use std::collections::BTreeMap;

use breakerd_proto::{Name, State};

use super::super::*;

#[derive(Clone)]
pub(super) struct Server {
    pub(super) now_ms: u64,
    head: Option<Position>,
    values: BTreeMap<String, Value>,
    log: Vec<(u64, String)>,
    tags: u32,
    /// The error that each script call gets.
    pub(super) refusal: Option<&'static str>,
    pub(super) role: &'static str,
    /// Script calls whose ops were executed.
    pub(super) applied: u64,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            now_ms: 1_732_469_613_123,
            head: None,
            values: BTreeMap::new(),
            log: Vec::new(),
            tags: 0x1000,
            refusal: None,
            role: "master",
            applied: 0,
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.head
    }

    pub(super) fn values(&self) -> BTreeMap<Name, Value> {
        self.values.iter().map(|(name, value)| (Name::parse(name).unwrap(), value.clone())).collect()
    }

    /// Puts old data back. Tags are random, so none comes twice.
    pub(super) fn restore(&mut self, old: Self) {
        *self = Self { now_ms: self.now_ms, tags: self.tags, ..old };
    }

    pub(super) fn flush(&mut self) {
        self.head = None;
        self.values.clear();
        self.log.clear();
    }

    pub(super) fn trim_log(&mut self) {
        self.log.clear();
    }

    /// Changes as another host makes them, `openai O, stripe C`, by one batch. Returns its event.
    pub(super) fn change(&mut self, line: &str) -> Vec<u8> {
        let changes = line.split(", ").map(|change| {
            let (name, state) = change.split_once(' ').unwrap();
            let state = match state {
                "O" => State::Open,
                "H" => State::HalfOpen,
                _ => State::Closed,
            };
            let (duration_ms, until_ms) = (15_000, self.now_ms + 15_000);
            let value = Value { state, duration_ms, until_ms, by: "w[9]@other".to_owned(), ..Value::default() };
            (name.to_owned(), value)
        });
        let changes = changes.collect();
        self.tags += 1;
        let tag = Tag(self.tags);
        self.write(changes, tag)
    }

    fn write(&mut self, changes: Vec<(String, Value)>, tag: Tag) -> Vec<u8> {
        let before = self.head.expect("an epoch");
        let mut lines = Vec::new();
        for (version, (name, value)) in (before.seq + 1..).zip(changes) {
            let value = Value { version, ..value };
            lines.push((Name::parse(&name).unwrap(), value.clone()));
            if value.is_held() {
                self.values.insert(name, value);
            } else {
                self.values.remove(&name);
            }
        }
        let batch = Batch {
            epoch: before.epoch,
            first: before.seq + 1,
            tag_before: before.tag,
            tag,
            now_ms: self.now_ms,
            changes: lines,
        };
        self.head = Some(batch.position());
        let event = Event::Batch(batch).to_string();
        self.log.push((before.seq + 1, event.clone()));
        event.into_bytes()
    }

    pub(super) fn execute(&mut self, command: &Command) -> (Result<Datum, Failed>, Vec<Vec<u8>>) {
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        match command.kind {
            CommandKind::Subscribe => (Ok(Datum::Nil), Vec::new()),
            CommandKind::Plain => (Ok(self.read(&words)), Vec::new()),
            CommandKind::Init | CommandKind::Apply => match self.refusal {
                Some(code) => (Err(Failed { code: code.to_owned(), message: "refused".to_owned() }), Vec::new()),
                None if command.kind == CommandKind::Init => self.init(&words),
                None => self.apply(&words),
            },
        }
    }

    fn read(&self, words: &[&str]) -> Datum {
        let entry = |(first, event): &(u64, String)| {
            Datum::List(vec![bytes(&format!("{first}-0")), Datum::List(vec![bytes("e"), bytes(event)])])
        };
        match words[0] {
            "ROLE" => Datum::List(vec![bytes(self.role), Datum::Int(0)]),
            "TIME" => Datum::List(vec![
                bytes(&(self.now_ms / 1000).to_string()),
                bytes(&(self.now_ms % 1000 * 1000).to_string()),
            ]),
            "HMGET" => match self.head {
                Some(head) => Datum::List(self.head_words(head).iter().map(|word| bytes(word)).collect()),
                None => Datum::List(vec![Datum::Nil, Datum::Nil, Datum::Nil]),
            },
            "HGETALL" => Datum::List(self.table().iter().map(|word| bytes(word)).collect()),
            "XREVRANGE" => {
                let from: u64 = words[2].parse().unwrap();
                let last = self.log.iter().rev().find(|(first, _)| *first <= from);
                Datum::List(last.map(entry).into_iter().collect())
            }
            "XRANGE" => {
                let from: u64 = words[2].parse().unwrap();
                Datum::List(self.log.iter().filter(|(first, _)| *first >= from).map(entry).collect())
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn head_words(&self, head: Position) -> [String; 3] {
        [head.epoch.to_string(), head.seq.to_string(), head.tag.to_string()]
    }

    fn table(&self) -> Vec<String> {
        let Some(head) = self.head else { return Vec::new() };
        let [epoch, seq, tag] = self.head_words(head);
        let meta = [("!e", epoch), ("!s", seq), ("!t", tag), ("!f", "0".to_owned()), ("!v", "1".to_owned())];
        let values = self.values.iter().map(|(name, value)| [name.clone(), value.to_string()]);
        meta.into_iter().map(|(name, value)| [name.to_owned(), value]).chain(values).flatten().collect()
    }

    fn reply(&self, code: &str, results: Vec<String>) -> Result<Datum, Failed> {
        let head = self.head.map_or_else(Default::default, |head| self.head_words(head));
        let words = [code.to_owned()].into_iter().chain(head).chain([self.now_ms.to_string()]).chain(results);
        Ok(Datum::List(words.map(|word| bytes(&word)).collect()))
    }

    fn init(&mut self, words: &[&str]) -> (Result<Datum, Failed>, Vec<Vec<u8>>) {
        let [old, seq, epoch, tag, deadline] = words[4..9] else { panic!("init has {} words", words.len()) };
        assert!(deadline.parse::<u64>().unwrap() > 0, "each write has a deadline");
        if self.head.is_some_and(|head| head.epoch.to_string() != old) {
            return (self.reply("EPOCH", Vec::new()), Vec::new());
        }
        let seq = self.head.map_or(0, |head| head.seq).max(seq.parse().unwrap()) + (1 << 20);
        self.head = Position::parse(epoch, &seq.to_string(), tag);
        self.log.clear();
        let old = if old.is_empty() { "-" } else { old };
        let event = format!("E1 {epoch} {seq} {tag} {} {old}", self.now_ms);
        self.log.push((seq, event.clone()));
        (self.reply("OK", Vec::new()), vec![event.into_bytes()])
    }

    fn apply(&mut self, words: &[&str]) -> (Result<Datum, Failed>, Vec<Vec<u8>>) {
        let [epoch, deadline, tag] = words[4..7] else { panic!("apply has {} words", words.len()) };
        let Some(head) = self.head else { return (self.reply("NOEPOCH", Vec::new()), Vec::new()) };
        if head.epoch.to_string() != epoch {
            return (self.reply("EPOCH", Vec::new()), Vec::new());
        }
        if self.now_ms > deadline.parse().unwrap() {
            return (self.reply("EXPIRED", Vec::new()), Vec::new());
        }
        self.applied += 1;
        let (mut results, mut changes) = (Vec::new(), Vec::new());
        for op in words[command::APPLY_HEAD_WORDS..].chunks(op::OP_WORDS) {
            let (kind, name, expected) = (op[0], op[1], op[2]);
            let stored = self.values.get(name).cloned().unwrap_or_default();
            let state = match kind {
                "trip" if stored.state == State::Closed && expected.parse::<u64>().unwrap() >= stored.version => {
                    State::Open
                }
                "reset" => State::Closed,
                _ => {
                    results.push(format!("STALE|{stored}"));
                    continue;
                }
            };
            let version = head.seq + 1 + u64::try_from(changes.len()).unwrap();
            let value =
                Value { version, state, duration_ms: 15_000, until_ms: self.now_ms + 15_000, ..Value::default() };
            results.push(format!("OK|{value}"));
            changes.push((name.to_owned(), value));
        }
        if changes.is_empty() {
            return (self.reply("OK", results), Vec::new());
        }
        let event = self.write(changes, Tag::parse(tag).unwrap());
        (self.reply("OK", results), vec![event])
    }
}

fn bytes(text: &str) -> Datum {
    Datum::Bytes(text.as_bytes().to_vec())
}
