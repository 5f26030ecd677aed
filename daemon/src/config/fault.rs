//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use breakerd_core::{BadPattern, BadPolicy};
use breakerd_proto::limits::FLEET_BYTES_MAX;

use super::duration::BadDuration;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: Arc<Path>,
    /// The line, from 1; zero stands for the file as a whole.
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// One thing that is wrong, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) place: Place,
    /// What.
    pub(crate) problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Everything that is wrong with a configuration, at least one fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    /// The file cannot be read.
    Unreadable(std::io::ErrorKind),
    /// The file is no TOML.
    Syntax(String),
    /// No such key.
    UnknownKey {
        /// The section that it stands in, empty at the top.
        section: String,
        /// The key.
        key: String,
        /// What was meant, most likely.
        nearest: Option<String>,
        /// Every key that the section has.
        known: Vec<&'static str>,
    },
    /// A table that lacks a key.
    MissingKey {
        /// The table, as `trip.failure_rate`.
        table: String,
        /// The key.
        key: &'static str,
        /// A whole table.
        example: &'static str,
    },
    /// A key of the design that this release does not act on.
    NotBuilt {
        /// The key, with its value where only that value is not built.
        key: String,
        /// What to do about it.
        instead: &'static str,
    },
    /// A value of the wrong kind.
    WrongType {
        /// The key.
        key: String,
        /// What it takes.
        takes: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// A word that is none of those allowed.
    WrongWord {
        /// The key.
        key: String,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: Vec<&'static str>,
    },
    /// A number that is no whole number in 0 to 2^32 - 1.
    WrongNumber {
        /// The key.
        key: String,
        /// What was given.
        given: String,
    },
    /// No duration.
    WrongDuration {
        /// The key.
        key: String,
        /// What was given.
        given: String,
        /// What is wrong with it.
        bad: BadDuration,
    },
    /// An empty text or a relative path where neither has a meaning.
    WrongPath {
        /// The key.
        key: String,
        /// What was given.
        given: String,
    },
    /// A path longer than a socket's name may be, 107 bytes.
    SocketPathTooLong {
        /// The key.
        key: String,
        /// How long it is.
        bytes: usize,
    },
    /// `trip.consecutive_failures = 0`.
    NoFailures,
    /// `probe.rate` of no probes.
    NoProbes,
    /// `min_calls` beside `within`.
    MinCallsWithin(&'static str),
    /// A list with two rules over the last calls, or two over a time.
    TwoOfOneSpan {
        /// The key.
        key: &'static str,
        /// What both of them are over.
        over: &'static str,
    },
    /// A quota out of its bounds.
    Quota {
        /// The key.
        key: &'static str,
        /// What was given.
        given: u32,
        /// What is allowed at most; at least it is 1.
        most: u32,
        /// What it is by default.
        default: u32,
    },
    /// A policy value out of its bounds.
    Bounds(BadPolicy),
    /// The first cooldown is longer than the longest.
    FirstOverMax {
        /// The first, as written.
        first: String,
        /// The longest, as written.
        max: String,
    },
    /// `[breaker]` holds keys of its own.
    BareBreaker(String),
    /// The pattern is none.
    Pattern(String, BadPattern),
    /// Another pattern is equally specific and matches common names.
    Tie {
        /// This one.
        pattern: String,
        /// The other.
        other: String,
        /// Where the other stands.
        place: Place,
    },
    /// A key of `[fleet]` without `redis`.
    FleetWithoutRedis(&'static str),
    /// `redis` without `name`.
    FleetWithoutName,
    /// The fleet's name breaks its rule.
    FleetName(String),
    /// A password in the URL.
    PasswordInUrl,
    /// A user in the URL.
    UserInUrl,
    /// TLS, a cluster, or no Redis at all.
    RedisUrl {
        /// The scheme.
        scheme: String,
    },
    /// No host, or a port or database that is no number.
    RedisAddress(String),
    /// No such user on this machine.
    NoUser(String),
    /// No such group on this machine.
    NoGroup {
        /// The key.
        key: String,
        /// The group.
        group: String,
    },
}

impl Problem {
    /// The fault at this place.
    pub(super) fn at(self, place: Place) -> Fault {
        Fault { place, problem: self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => {
                write!(f, "cannot be read: {kind}; give --config FILE, or leave it out to run on the defaults")
            }
            Self::Syntax(message) => write!(f, "{message}"),
            Self::UnknownKey { section, key, nearest, known } => {
                write!(f, "unknown key {key}")?;
                if !section.is_empty() {
                    write!(f, " in [{section}]")?;
                }
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => write!(f, "; known here: {}", known.join(", ")),
                }
            }
            Self::MissingKey { table, key, example } => {
                write!(f, "{table} has no {key}; write it as {table} = {example}")
            }
            Self::NotBuilt { key, instead } => write!(f, "{key} is not built yet in this release; {instead}"),
            Self::WrongType { key, takes, given } => write!(f, "{key} takes {takes}, not {given}"),
            Self::WrongWord { key, given, allowed } => {
                write!(f, "{key} is {given:?}; it may be \"{}\"", allowed.join("\", \""))
            }
            Self::WrongNumber { key, given } => {
                write!(f, "{key} is {given}; it takes a whole number up to {}", u32::MAX)
            }
            Self::WrongDuration { key, given, bad } => write!(f, "{key}: {given:?} {bad}"),
            Self::WrongPath { key, given } => write!(f, "{key} is {given:?}; give an absolute path"),
            Self::SocketPathTooLong { key, bytes } => {
                write!(f, "{key} has {bytes} bytes; the path of a socket has at most 107, choose a shorter one")
            }
            Self::NoFailures => f.write_str("trip.consecutive_failures is 0; give 1 or more, or false for never"),
            Self::NoProbes => f.write_str(
                "probe.rate.of_probes is 0; give 1 or more, or probe.rate = false, so that probe.successes decides",
            ),
            Self::MinCallsWithin(key) => {
                write!(f, "{key} has min_calls beside within, where of_calls is the minimum; leave min_calls out")
            }
            Self::TwoOfOneSpan { key, over } => {
                write!(f, "{key} has two rules over {over}; a list has one over the last calls and one over a time")
            }
            Self::Quota { key, given, most, default } => {
                write!(f, "{key} is {given}; give 1 to {most}, or leave it out for {default}")
            }
            Self::Bounds(bad) => write!(f, "{bad}"),
            Self::FirstOverMax { first, max } => {
                write!(f, "cooldown.first ({first}) is longer than cooldown.max ({max}); raise max or lower first")
            }
            Self::BareBreaker(key) => write!(
                f,
                "{key} stands in [breaker] itself; put it into [breaker.default] or into a section for a pattern, \
                 as [breaker.\"payments/*\"]"
            ),
            Self::Pattern(pattern, bad) => write!(f, "[breaker.{pattern:?}]: {bad}"),
            Self::Tie { pattern, other, place } => write!(
                f,
                "[breaker.{pattern:?}] and [breaker.{other:?}] ({place}) match common names and neither is more \
                 specific; make one of them longer"
            ),
            Self::FleetWithoutRedis(key) => {
                write!(f, "[fleet] has {key} but no redis; add redis = \"redis://HOST:6379/0\" or leave [fleet] out")
            }
            Self::FleetWithoutName => f.write_str(
                "[fleet] has redis but no name; add name = \"prod\", so that another fleet on the same Redis \
                 cannot trip this one's breakers",
            ),
            Self::FleetName(name) => {
                write!(f, "the fleet's name is {name:?}; it takes 1 to {FLEET_BYTES_MAX} of a-z, 0-9 and -")
            }
            Self::PasswordInUrl => f.write_str(
                "the URL holds a password, which would be shown in logs; put it into a file of its own and give \
                 password_file = \"/path\"",
            ),
            Self::UserInUrl => f.write_str("the URL holds a user; give user = \"NAME\" beside it"),
            Self::RedisUrl { scheme } if scheme == "rediss" => {
                f.write_str("rediss:// (TLS) is not built yet in this release; use redis:// over a trusted network")
            }
            Self::RedisUrl { scheme } => write!(
                f,
                "{scheme:?} is no way to a Redis; give \"redis://HOST:PORT/DATABASE\" or \"unix:///path/redis.sock\""
            ),
            Self::RedisAddress(url) => {
                write!(f, "{url:?} is no address of a Redis; give \"redis://HOST:PORT/DATABASE\"")
            }
            Self::NoUser(user) => {
                write!(f, "no user {user:?} in /etc/passwd; check the spelling, or give the number or \"*\"")
            }
            Self::NoGroup { key, group } => write!(
                f,
                "{key}: no group {group:?} in /etc/group; make it (groupadd --system {group}), or give the number"
            ),
        }
    }
}
