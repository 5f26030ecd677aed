//! How a client stands to its daemon, for people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use breakerd_proto::{Fallback, Link};

use crate::error::ConnectError;

/// How a client stands to its daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// A daemon judges.
    Attached {
        /// The daemon's release.
        release: String,
        /// How it stands to its fleet.
        link: Link,
        /// The fleet's name, empty when standalone.
        fleet: String,
        /// Where it listens.
        path: PathBuf,
        /// What it has no room for, if anything.
        full: Option<Full>,
    },
    /// There is a daemon, and it does not answer. For ten seconds what was last seen stands, then the fallback answers.
    Silent {
        /// Since when.
        since: Duration,
        /// Where it listens.
        path: PathBuf,
    },
    /// There is none: the fallback answers.
    Alone {
        /// Since when.
        since: Duration,
        /// Where it was looked for.
        path: PathBuf,
        /// Why there is none and what to do about it.
        why: Option<ConnectError>,
        /// What the process was told to do, unless the breakers' policies say.
        fallback: Fallback,
    },
    /// The process is told to guard nothing.
    Off,
}

/// Calls that the daemon does not judge, since a quota is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// How many, over this connection.
    pub calls: u64,
    /// What becomes of them, and which quota it is.
    pub why: String,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Health {
    /// Whether a daemon judges, and is joined to its fleet.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        matches!(self, Self::Attached { link: Link::Joined, .. })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { release, link, fleet, full, .. } => {
                write!(f, "daemon {release}, {link}")?;
                if *link != Link::Standalone {
                    write!(f, " {fleet:?}")?;
                }
                full.iter().try_for_each(|full| write!(f, "; {full}"))
            }
            Self::Silent { since, path } => {
                write!(f, "the daemon at {} is silent since {:.1} s", path.display(), since.as_secs_f64())
            }
            Self::Alone { path, why: None | Some(ConnectError::Absent { .. }), fallback, .. } => {
                write!(f, "no daemon at {}, {}", path.display(), fallback.word())
            }
            Self::Alone { why: Some(why), fallback, .. } => write!(f, "{}; {why}", fallback.word()),
            Self::Off => f.write_str("off"),
        }
    }
}
