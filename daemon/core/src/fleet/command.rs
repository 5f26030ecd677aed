//! Said the link asks of its carrier, and what the carrier tells it: plain data, so that no test needs a Redis.

use super::op::{OP_WORDS, Op};
use super::position::{Epoch, Tag};

/// Batches that the fleet's log keeps.
pub const LOG_BATCHES: u64 = 4096;
/// The version of the format, as the creator of an epoch writes it.
pub const FORMAT: &str = "1";
/// How many of a script's words are keys.
pub const SCRIPT_KEYS: usize = 3;

/// The number of one command on the link's connections; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The number of one connection; what an earlier one still says is not listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNumber(pub u64);

/// Said the carrier is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Connect, authenticate, speak RESP3, then say [`Heard::Connected`] or [`Heard::Lost`].
    Connect(ConnectionNumber),
    /// Drop the connection, or the attempt at one. Nothing is answered.
    Close,
    /// Send a command; its reply comes as [`Heard::Reply`].
    Send(RequestId, Command),
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// How it is sent.
    pub kind: CommandKind,
    /// Its words. A script's are its [`SCRIPT_KEYS`] keys, then its arguments.
    pub words: Vec<String>,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// As it stands.
    Plain,
    /// As a subscription: the reply is the server's confirmation.
    Subscribe,
    /// As a call of the script that begins an epoch.
    Init,
    /// As a call of the script that applies ops.
    Apply,
}

/// Said the carrier tells of one connection. Pushes that came off the wire before a reply are told before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which connection.
    pub connection: ConnectionNumber,
    /// Said.
    pub said: Said,
}

/// Said the carrier tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Connected and authenticated.
    Connected,
    /// Not connected any more, or never. Told once.
    Lost(Failed),
    /// A command's reply.
    Reply(RequestId, Result<Datum, Failed>),
    /// A message of the fleet's channel.
    Push(Vec<u8>),
    /// Pushes were dropped because too many waited.
    Overflow,
}

/// One value of Redis's protocol, as far as the link's commands meet it. A map is its keys and values in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// A text of either kind.
    Bytes(Vec<u8>),
    /// A list, set or map.
    List(Vec<Datum>),
}

/// An error of the server or of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The server's first word (`READONLY`, `NOPERM`, …), or `IO` where there was no server's word.
    pub code: String,
    /// One short sentence for people, without secrets or control characters.
    pub message: String,
}

impl Datum {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn list(&self) -> Option<&[Datum]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// The names under which a fleet lives in Redis; the braces keep all of them in one slot of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    fleet: String,
}

impl Keys {
    /// The keys of this fleet, `[a-z0-9-]{1,32}`; none if the name breaks that rule.
    #[must_use]
    pub fn of(fleet: &str) -> Option<Self> {
        use breakerd_proto::limits::FLEET_BYTES_MAX;
        let plain = fleet.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        (plain && (1..=FLEET_BYTES_MAX).contains(&fleet.len())).then(|| Self { fleet: fleet.to_owned() })
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> String {
        self.key("ev")
    }

    fn key(&self, what: &str) -> String {
        format!("{{bk1:{}}}{what}", self.fleet)
    }

    fn script(&self) -> Vec<String> {
        vec![self.key("h"), self.key("c"), self.key("l")]
    }

    pub(super) fn subscribe(&self) -> Command {
        Command { kind: CommandKind::Subscribe, words: vec![self.channel()] }
    }

    pub(super) fn role(&self) -> Command {
        plain(["ROLE".to_owned()])
    }

    pub(super) fn time(&self) -> Command {
        plain(["TIME".to_owned()])
    }

    /// Epoch, seq and tag.
    pub(super) fn head(&self) -> Command {
        plain(["HMGET".to_owned(), self.key("h"), "!e".to_owned(), "!s".to_owned(), "!t".to_owned()])
    }

    /// The whole table.
    pub(super) fn table(&self) -> Command {
        plain(["HGETALL".to_owned(), self.key("h")])
    }

    /// The last batch of the log that begins at or before this version.
    pub(super) fn log_before(&self, seq: u64) -> Command {
        let (from, count) = (seq.to_string(), "1".to_owned());
        plain(["XREVRANGE".to_owned(), self.key("l"), from, "-".to_owned(), "COUNT".to_owned(), count])
    }

    /// The batches of the log that begin after this version.
    pub(super) fn log_after(&self, seq: u64) -> Command {
        let (from, count) = (seq.saturating_add(1).to_string(), LOG_BATCHES.to_string());
        plain(["XRANGE".to_owned(), self.key("l"), from, "+".to_owned(), "COUNT".to_owned(), count])
    }

    /// Begin a new epoch unless another host just has.
    pub(super) fn init(&self, old: Option<Epoch>, seq: u64, new: (Epoch, Tag), deadline_ms: u64) -> Command {
        let old = old.map_or_else(String::new, |old| old.to_string());
        let mut words = self.script();
        words.extend([self.channel(), old, seq.to_string(), new.0.to_string(), new.1.to_string()]);
        words.extend([deadline_ms.to_string(), "PUBLISH".to_owned(), FORMAT.to_owned()]);
        Command { kind: CommandKind::Init, words }
    }

    /// Apply ops, all by one call.
    pub(super) fn apply<'a>(
        &self,
        epoch: Epoch,
        tag: Tag,
        deadline_ms: u64,
        ops: impl Iterator<Item = &'a Op>,
    ) -> Command {
        let mut words = self.script();
        words.extend([self.channel(), epoch.to_string(), deadline_ms.to_string(), tag.to_string()]);
        words.extend(["PUBLISH".to_owned(), LOG_BATCHES.to_string()]);
        ops.for_each(|op| words.extend(op.words()));
        Command { kind: CommandKind::Apply, words }
    }
}

/// Words of an apply call before its first op: the keys and six arguments; each op then has [`OP_WORDS`].
pub const APPLY_HEAD_WORDS: usize = SCRIPT_KEYS + 6;
const _: () = assert!(OP_WORDS == 8, "the script reads ops of eight words");

fn plain(words: impl Into<Vec<String>>) -> Command {
    Command { kind: CommandKind::Plain, words: words.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn fleet_names() {
        assert_eq!(Keys::of("demo").unwrap().channel(), "{bk1:demo}ev");
        assert!(Keys::of(&"a".repeat(32)).is_some());
        for bad in ["", "Demo", "a b", "a}b", &"a".repeat(33)] {
            assert_eq!(Keys::of(bad), None, "{bad:?}");
        }
    }
}
