//! What the fleet's channel and log carry.
//!
//! - `B1 epoch first n prevtag tag now`, then n lines `NAME TAB value`: one batch of changes;
//! - `E1 epoch seq tag now oldepoch`: a new life of the data (`-` if there was none before);
//! - `V1 epoch now NAME window`: hosts with traffic on a breaker are asked for their vote.

use std::fmt;

use breakerd_proto::Name;

use super::position::{Epoch, Position, Tag};
use super::value::{Value, integer};

/// Longest event, in bytes; longer ones are not looked at.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Most changes in one batch.
pub const BATCH_OPS_MAX: usize = 128;

/// One message of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Changes.
    Batch(Batch),
    /// The data's life began anew.
    Epoch(NewEpoch),
    /// A call for votes.
    Suspicion(Suspicion),
}

/// Changes that one script call made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The life of the data.
    pub epoch: Epoch,
    /// The first change's version; the others count on from it.
    pub first: u64,
    /// The mark of the batch before.
    pub tag_before: Tag,
    /// This batch's mark.
    pub tag: Tag,
    /// Redis's time at the call, in ms.
    pub now_ms: u64,
    /// The changes in order, at least one; a name may stand twice, the last wins.
    pub changes: Vec<(Name, Value)>,
}

/// The data's life began anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEpoch {
    /// Where it begins.
    pub position: Position,
    /// Redis's time at the call, in ms.
    pub now_ms: u64,
    /// The life before, if there was one.
    pub old: Option<Epoch>,
}

/// A call for votes on one breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The life of the data.
    pub epoch: Epoch,
    /// Redis's time at the call, in ms.
    pub now_ms: u64,
    /// Which breaker.
    pub name: Name,
    /// How long votes count, in ms.
    pub window_ms: u64,
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEvent {
    /// More than [`EVENT_BYTES_MAX`] bytes.
    TooLong,
    /// No UTF-8.
    NotText,
    /// The first word is none that this version knows.
    UnknownKind,
    /// The first line breaks its rule.
    Header,
    /// This line, counted from 1 after the first, breaks its rule.
    Line(usize),
}

impl fmt::Display for BadEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "an event has more than {EVENT_BYTES_MAX} bytes"),
            Self::NotText => f.write_str("an event is no text"),
            Self::UnknownKind => f.write_str("an event begins with an unknown word"),
            Self::Header => f.write_str("the first line of an event breaks its rule"),
            Self::Line(number) => write!(f, "change {number} of an event breaks its rule"),
        }
    }
}

impl std::error::Error for BadEvent {}

impl Event {
    /// Parses one message.
    ///
    /// # Errors
    /// [`BadEvent`] tells what is wrong; such a message is counted and ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadEvent> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(BadEvent::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BadEvent::NotText)?;
        let (header, lines) = match text.split_once('\n') {
            Some((header, lines)) => (header, Some(lines)),
            None => (text, None),
        };
        let mut words = header.split(' ');
        match (words.next(), lines) {
            (Some("B1"), Some(lines)) => batch(words, lines).map(Self::Batch),
            (Some("E1"), None) => new_epoch(words).map(Self::Epoch).ok_or(BadEvent::Header),
            (Some("V1"), None) => suspicion(words).map(Self::Suspicion).ok_or(BadEvent::Header),
            (Some("B1" | "E1" | "V1"), _) => Err(BadEvent::Header),
            _ => Err(BadEvent::UnknownKind),
        }
    }
}

impl Batch {
    /// The last change's version.
    #[must_use]
    pub fn last(&self) -> u64 {
        let more = u64::try_from(self.changes.len()).unwrap_or(u64::MAX).saturating_sub(1);
        self.first.saturating_add(more)
    }

    /// Where a host stands that has applied it.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.last(), tag: self.tag }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(Batch { epoch, first, tag_before, tag, now_ms, changes }) => {
                write!(f, "B1 {epoch} {first} {} {tag_before} {tag} {now_ms}", changes.len())?;
                changes.iter().try_for_each(|(name, value)| write!(f, "\n{name}\t{value}"))
            }
            Self::Epoch(NewEpoch { position: Position { epoch, seq, tag }, now_ms, old }) => {
                write!(f, "E1 {epoch} {seq} {tag} {now_ms} ")?;
                match old {
                    Some(old) => write!(f, "{old}"),
                    None => f.write_str("-"),
                }
            }
            Self::Suspicion(Suspicion { epoch, now_ms, name, window_ms }) => {
                write!(f, "V1 {epoch} {now_ms} {name} {window_ms}")
            }
        }
    }
}

/// A batch's changes must be as many as the header says and carry its versions in order.
fn batch<'a>(words: impl Iterator<Item = &'a str>, lines: &str) -> Result<Batch, BadEvent> {
    let (mut batch, count) = batch_header(words).ok_or(BadEvent::Header)?;
    for (number, line) in (1usize..).zip(lines.split('\n')) {
        if number > count {
            return Err(BadEvent::Line(number));
        }
        let version = batch.first.saturating_add(u64::try_from(number).unwrap_or(u64::MAX)).saturating_sub(1);
        let change = change(line).filter(|(_, value)| value.version == version);
        batch.changes.push(change.ok_or(BadEvent::Line(number))?);
    }
    if batch.changes.len() == count { Ok(batch) } else { Err(BadEvent::Header) }
}

fn batch_header<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(Batch, usize)> {
    let epoch = Epoch::parse(words.next()?)?;
    let first = integer(words.next()?)?;
    let count = integer(words.next()?).and_then(|n| usize::try_from(n).ok())?;
    let tag_before = Tag::parse(words.next()?)?;
    let tag = Tag::parse(words.next()?)?;
    let now_ms = integer(words.next()?)?;
    let plain = words.next().is_none() && (1..=BATCH_OPS_MAX).contains(&count) && first > 0;
    plain.then(|| (Batch { epoch, first, tag_before, tag, now_ms, changes: Vec::new() }, count))
}

fn change(line: &str) -> Option<(Name, Value)> {
    let (name, value) = line.split_once('\t')?;
    Some((Name::parse(name).ok()?, Value::parse(value).ok()?))
}

fn new_epoch<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<NewEpoch> {
    let position = Position::parse(words.next()?, words.next()?, words.next()?)?;
    let now_ms = integer(words.next()?)?;
    let old = match words.next()? {
        "-" => None,
        old => Some(Epoch::parse(old)?),
    };
    words.next().is_none().then_some(NewEpoch { position, now_ms, old })
}

fn suspicion<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Suspicion> {
    let epoch = Epoch::parse(words.next()?)?;
    let now_ms = integer(words.next()?)?;
    let name = Name::parse(words.next()?).ok()?;
    let window_ms = integer(words.next()?)?;
    words.next().is_none().then_some(Suspicion { epoch, now_ms, name, window_ms })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::super::value::tests::any_value;
    use super::*;

    const HEADER: &str = "B1 00000000000000aa 8 2 00000001 00000002 1732469613123";
    const OPEN: &str = "O|15000|1732469628123|||0|0|0|0|-|0|chat-api[4211]@web-1|3 consecutive failures, last http-401";
    const CLOSED: &str = "C|0|0|||0|0|0|0|-|0|root@web-2|fixed";

    #[test]
    fn a_batch_is_read() {
        let text = format!("{HEADER}\nopenai\t8|{OPEN}\nopenai\t9|{CLOSED}");
        let Ok(Event::Batch(batch)) = Event::parse(text.as_bytes()) else { panic!("no batch") };
        assert_eq!((batch.first, batch.last(), batch.tag_before, batch.tag), (8, 9, Tag(1), Tag(2)));
        assert_eq!(batch.changes[0].0.as_str(), "openai");
        assert_eq!(Event::Batch(batch).to_string(), text);
    }

    #[test]
    fn a_new_epoch_is_read_with_and_without_an_old_one() {
        for old in ["-", "00000000000000aa"] {
            let text = format!("E1 00000000000000bb 1048576 00000003 1732469613123 {old}");
            let Ok(Event::Epoch(new)) = Event::parse(text.as_bytes()) else { panic!("no epoch") };
            assert_eq!(new.position.seq, 1 << 20);
            assert_eq!(Event::Epoch(new).to_string(), text);
        }
    }

    #[test]
    fn a_call_for_votes_is_read() {
        let text = "V1 00000000000000aa 1732469613123 openai 10000";
        let name = Name::parse("openai").unwrap();
        let suspicion = Suspicion { epoch: Epoch(0xaa), now_ms: 1_732_469_613_123, name, window_ms: 10_000 };
        assert_eq!(Event::parse(text.as_bytes()), Ok(Event::Suspicion(suspicion)));
    }

    #[test]
    fn what_breaks_a_rule_is_no_event() {
        let rows = [
            ("".to_owned(), BadEvent::UnknownKind),
            ("B2 x".to_owned(), BadEvent::UnknownKind),
            (HEADER.to_owned(), BadEvent::Header),
            (format!("{HEADER} more\nopenai\t8|{OPEN}\nopenai\t9|{CLOSED}"), BadEvent::Header),
            (format!("{HEADER}\nopenai\t8|{OPEN}"), BadEvent::Header),
            (format!("{HEADER}\nopenai\t8|{OPEN}\nopenai\t8|{CLOSED}"), BadEvent::Line(2)),
            (format!("{HEADER}\nop enai\t8|{OPEN}\nopenai\t9|{CLOSED}"), BadEvent::Line(1)),
            (format!("{HEADER}\nopenai\t8|{OPEN}\nopenai\t9|{CLOSED}\n"), BadEvent::Line(3)),
            ("E1 00000000000000bb 1 00000003 1".to_owned(), BadEvent::Header),
            ("E1 00000000000000BB 1 00000003 1 -".to_owned(), BadEvent::Header),
            (format!("B1 00000000000000aa 0 1 00000001 00000002 7\nopenai\t0|{OPEN}"), BadEvent::Header),
            ("V1 00000000000000aa 7 op enai 100".to_owned(), BadEvent::Header),
        ];
        for (text, bad) in rows {
            assert_eq!(Event::parse(text.as_bytes()), Err(bad), "{text:?}");
        }
        assert_eq!(Event::parse(&vec![b'B'; EVENT_BYTES_MAX]), Err(BadEvent::UnknownKind));
        assert_eq!(Event::parse(&vec![b'B'; EVENT_BYTES_MAX + 1]), Err(BadEvent::TooLong));
        assert_eq!(Event::parse(&[b'B', 0xff]), Err(BadEvent::NotText));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            first in 1..=super::super::value::INTEGER_MAX - 8,
            values in prop::collection::vec(("[A-Za-z0-9._:/@+-]{1,128}", any_value()), 1..8),
            (epoch, tag_before, tag, now_ms) in (any::<u64>(), any::<u32>(), any::<u32>(), 0..=1u64 << 53),
        ) {
            let changes = (first..).zip(values).map(|(version, (name, value))| {
                (Name::parse(&name).unwrap(), Value { version, ..value })
            });
            let batch = Batch {
                epoch: Epoch(epoch),
                first,
                tag_before: Tag(tag_before),
                tag: Tag(tag),
                now_ms,
                changes: changes.collect(),
            };
            let event = Event::Batch(batch);
            prop_assert_eq!(Event::parse(event.to_string().as_bytes()), Ok(event));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Event::parse(&bytes));
        }

        #[test]
        fn no_mangled_event_panics(at in 0usize..200, byte in any::<u8>(), cut in 0usize..300) {
            let mut bytes = format!("{HEADER}\nopenai\t8|{OPEN}\nopenai\t9|{CLOSED}").into_bytes();
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Ok(event) = Event::parse(&bytes) {
                prop_assert_eq!(Event::parse(event.to_string().as_bytes()), Ok(event));
            }
        }
    }
}
