//! A breaker's state and what lies over it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The words of a value that people write in files, in the environment and in code, and read wherever it is shown.
macro_rules! words {
    ($name:ident: $($variant:ident = $word:literal),+) => {
        impl $name {
            /// Every value, in the order in which complaints list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that every file, log line, metric, table and API uses.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value of this word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }
    };
}

words!(Mode: On = "on", Shadow = "shadow", Off = "off");
words!(Fallback: Local = "local", Admit = "admit", Reject = "reject");
words!(AuthErrors: Ignored = "ignored", Failure = "failure");
words!(OnQuota: Admit = "admit", Reject = "reject");

/// What a breaker is. Nothing else is a state: a force is an [`Override`] over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Calls are admitted.
    #[default]
    Closed,
    /// Calls are rejected until the cooldown ends.
    Open,
    /// A few probes are out; everything else is rejected.
    HalfOpen,
}

impl State {
    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// An operator's word that lies over the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Override {
    /// Every call is rejected.
    ForcedOpen,
    /// Every call is admitted.
    ForcedClosed,
}

impl Override {
    /// The state that a force shows.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            Self::ForcedOpen => State::Open,
            Self::ForcedClosed => State::Closed,
        }
    }

    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ForcedOpen => "forced-open",
            Self::ForcedClosed => "forced-closed",
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whether a breaker acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Judges and rejects.
    #[default]
    On,
    /// Judges in its own books and rejects nobody, save by an operator's force.
    Shadow,
    /// Admits everything and counts nothing.
    Off,
}

/// How the daemon stands to its fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Link {
    /// No Redis is configured: the host stands alone by choice.
    #[default]
    Standalone,
    /// Redis answers and the table agrees with it.
    Joined,
    /// Redis is configured and does not answer.
    Detached,
}

impl Link {
    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Joined => "joined",
            Self::Detached => "detached",
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What an answer counts as that refuses the caller's credentials (401 and 403).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuthErrors {
    /// No evidence: one tenant's bad key must not shut a provider for all.
    #[default]
    Ignored,
    /// A failure, for where one key serves all.
    Failure,
}

/// What becomes of a call on a name that no quota has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnQuota {
    /// It is admitted unguarded (I7).
    #[default]
    Admit,
    /// It is rejected.
    Reject,
}

/// What a client does without a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fallback {
    /// The process runs the same breaker on its own calls.
    #[default]
    Local,
    /// Everything is admitted.
    Admit,
    /// Everything is rejected.
    Reject,
}
