//! A breaker's name, parsed once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

/// What identifies a breaker: 1 to 128 bytes of `A-Za-z0-9._:/@+-`.
///
/// Cheap to clone. One name, one fate: put into it what fails together, never user input.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no breaker name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadName {
    /// No bytes at all.
    Empty,
    /// More than 128 bytes; here is how many.
    TooLong(usize),
    /// The first character outside the alphabet, and its byte offset.
    Character(char, usize),
}

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// [`BadName`] tells which part of the rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong(text.len()));
        }
        match text.char_indices().find(|(_, c)| !Self::allows(*c)) {
            Some((at, c)) => Err(BadName::Character(c, at)),
            None => Ok(Self(Arc::from(text))),
        }
    }

    /// Whether a name may hold this character.
    #[must_use]
    pub fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '@' | '+' | '-')
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the breaker name is empty")?,
            Self::TooLong(bytes) => write!(f, "the breaker name has {bytes} bytes")?,
            Self::Character(c, at) => write!(f, "the breaker name has {c:?} at byte {at}")?,
        }
        write!(f, "; a name is 1 to {NAME_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : / @ + -")
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_and_the_alphabet() {
        assert!(Name::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert_eq!(Name::parse(&"a".repeat(NAME_BYTES_MAX + 1)), Err(BadName::TooLong(NAME_BYTES_MAX + 1)));
        assert_eq!(Name::parse(""), Err(BadName::Empty));
        assert!(Name::parse("chat/openai:gpt-4o@eu+1_x.y").is_ok());
        for bad in ["!e", "a b", "a\tb", "a\nb", "a|b", "{a}", "a\0", "é"] {
            assert!(matches!(Name::parse(bad), Err(BadName::Character(..))), "{bad:?}");
        }
    }
}
