//! What happened to a breaker, for the board, the log, metrics and watchers.

use breakerd_proto::message::View;
use breakerd_proto::{Mono, Name, State};

/// What caused a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Closed to open, by policy.
    Trip,
    /// Half-open to open, by a failed probe.
    Reopen,
    /// Half-open to closed, by enough successful probes.
    Recover,
    /// An operator's change to closed.
    Reset,
    /// An operator's override.
    Force,
    /// The end of an override: by an operator, or by its own end.
    Release,
    /// Open to half-open: the first probe is out.
    Probe,
    /// The fleet's word replaced the host's.
    Fleet,
    /// A later deadline for an open breaker.
    Extend,
    /// Open for long with nobody asking; closed and forgotten.
    Idle,
    /// The settings or an operator give it another mode.
    Mode,
}

impl What {
    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Reopen => "reopen",
            Self::Recover => "recover",
            Self::Reset => "reset",
            Self::Force => "force",
            Self::Release => "release",
            Self::Probe => "probe",
            Self::Fleet => "fleet",
            Self::Extend => "extend",
            Self::Idle => "idle",
            Self::Mode => "mode",
        }
    }
}

/// One change of one breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which breaker.
    pub name: Name,
    /// What was shown before.
    pub from: State,
    /// What is shown, with author and reason.
    pub view: View,
    /// What caused it.
    pub what: What,
    /// When.
    pub at: Mono,
}

/// Who did something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Because {
    /// `chat-api[4211]@web-1`, or `root@web-1` for a command.
    pub by: String,
    /// `3 consecutive failures, last http-401`.
    pub why: String,
}

impl Because {
    /// Cuts both to what the wire and the fleet carry.
    #[must_use]
    pub fn new(by: &str, why: &str) -> Self {
        use breakerd_proto::limits::{AUTHOR_BYTES_MAX, REASON_BYTES_MAX};
        use breakerd_proto::outcome::cut;
        Self { by: cut(by, AUTHOR_BYTES_MAX).to_owned(), why: cut(why, REASON_BYTES_MAX).to_owned() }
    }
}
