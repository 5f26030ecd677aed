//! Why a request is not served: a code for programs and a sentence for people.

use std::fmt;

use breakerd_proto::{BadName, Code};

/// A refusal. The caller's or the peer's fault; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what was asked, what is allowed, what to do.
    pub sentence: String,
}

impl Refusal {
    /// A refusal in these words.
    #[must_use]
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

impl From<BadName> for Refusal {
    fn from(bad: BadName) -> Self {
        Self::new(Code::BadName, bad.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refusal {}
