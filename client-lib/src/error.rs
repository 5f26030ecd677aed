//! What can go wrong between a client and its daemon, each with its remedy.
//!
//! None of these ever comes out of a guarded call: there the fallback answers, and [`crate::Client::health`] tells.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use breakerd_core::BadPolicy;
use breakerd_proto::{BadName, Code, Kind, Name, WireError};
use rustix::io::Errno;

use crate::permit::Rejected;

/// Why there is no conversation with a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No file, or a file that nobody listens on.
    Absent {
        /// Where it was looked for.
        path: PathBuf,
        /// The file stands there all the same: a daemon that was killed left it.
        stale: bool,
    },
    /// This process may not connect.
    Forbidden(Box<Forbidden>),
    /// The path cannot be a socket's: longer than 107 bytes, or with a zero byte (`unix(7)`).
    BadPath(PathBuf),
    /// Who listens is neither root, nor this account, nor the owner of the socket's file.
    Impostor {
        /// Where.
        path: PathBuf,
        /// The account that listens.
        uid: u32,
        /// The owner of the file.
        owner: u32,
    },
    /// The daemon has more connections waiting than its queue holds.
    Busy(PathBuf),
    /// The daemon took the connection and did not answer in time.
    Silent {
        /// Where.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The conversation ended.
    Ended {
        /// Where.
        path: PathBuf,
        /// Why.
        end: End,
    },
    /// The system refused for another reason.
    System {
        /// Where.
        path: PathBuf,
        /// What it said.
        errno: Errno,
    },
}

/// What is known of a socket that this process may not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The socket.
    pub path: PathBuf,
    /// The file or directory that shuts this process out.
    pub at: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Its group, by name where `/etc/group` knows it.
    pub group: String,
    /// Who asks: the effective user id.
    pub uid: u32,
    /// And its groups.
    pub gids: Vec<u32>,
}

/// Why a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The daemon said so.
    Bye {
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    },
    /// The daemon closed the connection without a word: it was stopped or killed.
    Closed,
    /// The daemon sent what is no message.
    Wire(WireError),
    /// The daemon sent this where only `Welcome` may stand.
    Unexpected(Kind),
    /// The system broke the connection.
    System(Errno),
    /// The process has forked: the connection is its parent's.
    Forked,
}

/// Why an operator's request was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorError {
    /// The daemon refused it.
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    },
    /// The conversation is over.
    Lost(ConnectError),
}

/// Why a reset did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetError {
    /// The account lacks the right; the sentence names right, setting and account.
    Denied {
        /// For people.
        sentence: String,
    },
    /// The daemon refused for another reason.
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    },
    /// The daemon did not answer in time; whether it has reset is unknown.
    NoAnswer {
        /// How long was waited.
        waited: Duration,
    },
}

/// Why a guarded call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// It was not made.
    Rejected(Rejected),
    /// It was made and failed; your own error, untouched.
    Failed(E),
}

/// Why a breaker cannot be had: always the caller's fault.
#[derive(Clone, Debug, PartialEq)]
pub enum BadBreaker {
    /// The name breaks the rule; the text is given with the process's prefix.
    Name(String, BadName),
    /// The policy in code is out of its bounds.
    Policy(Name, BadPolicy),
}

/// Why none of several breakers gave a result.
#[derive(Clone, Debug, PartialEq)]
pub enum FirstError<E> {
    /// A name breaks the rule.
    Bad(BadBreaker),
    /// None admits, in the order of the names.
    Rejected(Vec<Rejected>),
    /// The first that admitted failed; your own error, untouched.
    Failed(Name, E),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { path, stale } => {
                write!(f, "no daemon at {}", path.display())?;
                if *stale {
                    f.write_str(" (the socket file is there, but nobody listens on it)")?;
                }
                f.write_str("; start it with `systemctl start breakerd` or `breakerd run -- CMD`")
            }
            Self::Forbidden(no) => no.fmt(f),
            Self::BadPath(path) => write!(
                f,
                "{} cannot be a socket's path: it may have 1 to 107 bytes and no zero byte; set BREAKERD_SOCKET",
                path.display()
            ),
            Self::Impostor { path, uid, owner } => write!(
                f,
                "user {uid} listens on {}, which belongs to user {owner}; a daemon runs as root, as this user or as the \
                 owner of its socket; look who it is with `ss -xlp`",
                path.display()
            ),
            Self::Busy(path) => {
                write!(f, "the daemon at {} has too many connections waiting; see `breakerd workers`", path.display())
            }
            Self::Silent { path, waited } => write!(
                f,
                "the daemon at {} did not answer within {} ms; see `systemctl status breakerd`",
                path.display(),
                waited.as_millis()
            ),
            Self::Ended { path, end } => write!(f, "the daemon at {} {end}", path.display()),
            Self::System { path, errno } => write!(f, "cannot connect to {}: {errno}", path.display()),
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} (groups ", self.uid)?;
        for (i, gid) in self.gids.iter().enumerate() {
            write!(f, "{}{gid}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, ") may not use {}: ", self.path.display())?;
        if self.at != self.path {
            write!(f, "its directory {} ", self.at.display())?;
        } else {
            f.write_str("it ")?;
        }
        write!(
            f,
            "has mode {:04o}, owner {}, group {}; add `SupplementaryGroups={}` to the service's unit, or the user to that \
             group, and restart it",
            self.mode, self.owner, self.group, self.group
        )
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bye { sentence, .. } => write!(f, "ended the connection: {sentence}"),
            Self::Closed => f.write_str("closed the connection; it was stopped or has died"),
            Self::Wire(error) => write!(f, "does not speak this protocol: {error}"),
            Self::Unexpected(kind) => write!(f, "does not speak this protocol: a {kind:?} came before any Welcome"),
            Self::System(errno) => write!(f, "is out of reach: {errno}"),
            Self::Forked => f.write_str("belongs to the process that this one was forked from; connect anew"),
        }
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { sentence, .. } => f.write_str(sentence),
            Self::Lost(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ResetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied { sentence } | Self::Refused { sentence, .. } => f.write_str(sentence),
            Self::NoAnswer { waited } => write!(
                f,
                "the daemon did not answer within {} ms, so whether it has reset is unknown; see `breakerd status`",
                waited.as_millis()
            ),
        }
    }
}

impl fmt::Display for BadBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text, bad) => write!(f, "{text:?} cannot name a breaker: {bad}"),
            Self::Policy(name, bad) => write!(f, "the policy of breaker {name} cannot be used: {bad}"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(no) => no.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FirstError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(bad) => bad.fmt(f),
            Self::Rejected(all) if all.is_empty() => f.write_str("no breaker was named"),
            Self::Rejected(all) => {
                f.write_str("no breaker admits the call")?;
                all.iter().try_for_each(|no| write!(f, "; {no}"))
            }
            Self::Failed(name, error) => write!(f, "{name}: {error}"),
        }
    }
}

impl<E> FirstError<E> {
    /// When the first of those that reject may admit; none if another thing went wrong or all are forced without end.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(all) => all.iter().filter_map(|no| no.retry_after).min(),
            Self::Bad(_) | Self::Failed(..) => None,
        }
    }
}

impl std::error::Error for BadBreaker {}
impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(no) => Some(no),
            Self::Failed(error) => Some(error),
        }
    }
}
impl<E: std::error::Error> std::error::Error for FirstError<E> {}
impl std::error::Error for ConnectError {}
impl std::error::Error for OperatorError {}
impl std::error::Error for ResetError {}

impl From<ConnectError> for OperatorError {
    fn from(error: ConnectError) -> Self {
        Self::Lost(error)
    }
}
