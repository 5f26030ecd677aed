//! Where a host stands in the fleet's history.

use std::fmt;

use super::value::integer;

/// One life of Redis's data: a random number, 16 hex digits, never derived from time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The random mark of one batch: each event names its own and the one before, so that a forked history shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// The last batch that was applied as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The life of the data.
    pub epoch: Epoch,
    /// The version of the batch's last change.
    pub seq: u64,
    /// The batch's mark.
    pub tag: Tag,
}

impl Epoch {
    /// Parses 16 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex(text, 16).map(Self)
    }
}

impl Tag {
    /// Parses 8 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex(text, 8).and_then(|n| u32::try_from(n).ok()).map(Self)
    }
}

impl Position {
    /// Parses the three fields of the table's head.
    #[must_use]
    pub fn parse(epoch: &str, seq: &str, tag: &str) -> Option<Self> {
        Some(Self { epoch: Epoch::parse(epoch)?, seq: integer(seq)?, tag: Tag::parse(tag)? })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.seq, self.tag)
    }
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}
