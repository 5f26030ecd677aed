//! Patterns over names, how specific they are, and whether two of them can mean the same name.

use std::fmt;

use breakerd_proto::{Name, limits};

/// A pattern over names: `*` stands for any run of characters, everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Empty, too long, or with a character that no name can have.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() || text.len() > limits::NAME_BYTES_MAX {
            return Err(BadPattern::Length(text.len()));
        }
        match text.chars().find(|c| *c != '*' && !Name::allows(*c)) {
            Some(c) => Err(BadPattern::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == name,
            Some((start, "")) => name.starts_with(start),
            Some(_) => overlap(self.0.as_bytes(), name.as_bytes()),
        }
    }

    /// Whether some name matches both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        overlap(self.0.as_bytes(), other.0.as_bytes())
    }

    /// How specific it is: characters that stand for themselves, then fewer stars, so that a whole name beats all.
    pub(crate) fn rank(&self) -> (usize, std::cmp::Reverse<usize>) {
        let stars = self.0.bytes().filter(|b| *b == b'*').count();
        (self.0.len() - stars, std::cmp::Reverse(stars))
    }
}

/// Whether some name matches both patterns. Names are patterns without stars.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    // `reach[j]`: the read part of `a` and the first `j` bytes of `b` can stand for the same text.
    let mut reach = vec![false; b.len() + 1];
    for (j, slot) in reach.iter_mut().enumerate() {
        *slot = b.iter().take(j).all(|c| *c == b'*');
    }
    for &c in a {
        let mut before = false; // the old value of the place on the left
        let mut left = false; // the new value of the place on the left
        for (j, place) in reach.iter_mut().enumerate() {
            let old = *place;
            let d = j.checked_sub(1).and_then(|j| b.get(j)).copied();
            *place = match (c, d) {
                (b'*', None) => old,
                (_, None) => false,
                // A star stands for nothing, or for one more of what the other says.
                (b'*', Some(_)) | (_, Some(b'*')) => old || left,
                (c, Some(d)) => before && c == d,
            };
            before = old;
            left = *place;
        }
    }
    reach.last().copied().unwrap_or(false)
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPattern {
    /// Empty or too long; here is its length in bytes.
    Length(usize),
    /// A character that neither stands in names nor is `*`.
    Character(char),
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => write!(f, "a pattern has 1 to {} bytes, not {bytes}", limits::NAME_BYTES_MAX),
            Self::Character(c) => write!(f, "a pattern is made of `*` and of what names are made of, not {c:?}"),
        }
    }
}

impl std::error::Error for BadPattern {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_and_overlap() {
        for (pattern, name, expect) in [
            ("*", "a/b", true),
            ("payments/*", "payments/stripe", true),
            ("payments/*", "payments/", true),
            ("payments/*", "payment/x", false),
            ("*/openai/*", "chat/openai/gpt", true),
            ("*/openai/*", "openai/gpt", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("openai", "openai", true),
            ("openai", "openai2", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), expect, "{pattern} ~ {name}");
            assert_eq!(overlap(pattern.as_bytes(), name.as_bytes()), expect, "{pattern} ~ {name}, the long way");
        }
        assert!(overlap(b"a*", b"*a"));
        assert!(!overlap(b"a*", b"b*"));
        assert!(overlap(b"a*c", b"ab*"));
        assert!(!overlap(b"x*c", b"ab*"));
    }

    #[test]
    fn a_pattern_is_as_long_as_a_name_may_be() {
        let whole = "a".repeat(limits::NAME_BYTES_MAX);
        assert_eq!(Pattern::parse(&whole).unwrap().as_str(), whole);
        assert_eq!(Pattern::parse(""), Err(BadPattern::Length(0)));
        assert_eq!(Pattern::parse(&format!("{whole}*")), Err(BadPattern::Length(limits::NAME_BYTES_MAX + 1)));
        assert_eq!(Pattern::parse("a b"), Err(BadPattern::Character(' ')));
    }

    #[test]
    fn what_says_more_of_a_name_is_more_specific() {
        let falling = ["openai", "openai*", "*openai*", "open*", "open**", "*"];
        let ranks = falling.map(|pattern| Pattern::parse(pattern).unwrap().rank());
        assert!(ranks.is_sorted_by(|a, b| a > b), "{ranks:?}");
    }
}
