//! Why a command ends with another code than 0, and what it says.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use breakerd_client::{ConnectError, OperatorError};
use breakerd_proto::Code;

use crate::config::Faults;

/// A question whose answer is "no".
pub(super) const NO: u8 = 1;
/// The arguments are wrong; clap's own code.
pub(super) const USAGE: u8 = 2;
/// `EX_UNAVAILABLE` of sysexits(3): no daemon, or none that could answer.
const UNAVAILABLE: u8 = 69;
/// `EX_NOPERM`.
const NO_RIGHT: u8 = 77;
/// `EX_CONFIG`.
const CONFIG: u8 = 78;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration is wrong.
    Config(Faults),
    /// There is no conversation with a daemon.
    Connect(ConnectError),
    /// The daemon refused.
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    },
    /// Nobody reads the output any more.
    NobodyReads,
    /// The output cannot be written.
    Output(io::Error),
    /// A directory for the private daemon cannot be made.
    Directory(io::Error),
    /// A process cannot be started.
    Start {
        /// Which.
        program: OsString,
        /// Why.
        error: io::Error,
    },
    /// The system refused something that a private daemon or the demo needs.
    System {
        /// What.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The private daemon ended before it was ready.
    PrivateEnded {
        /// How.
        status: String,
        /// What it said, if its log was kept.
        said: Option<String>,
    },
    /// The private daemon is not ready after a long while.
    PrivateSilent {
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// The demo cannot go on.
    Demo(super::demo::Stuck),
}

impl Failure {
    /// What to say; nothing where nobody listens.
    pub(super) fn complaint(&self) -> Option<String> {
        Some(match self {
            Self::Config(faults) => format!("the configuration is wrong:\n{faults}"),
            Self::Connect(error) => error.to_string(),
            Self::Refused { sentence, .. } => sentence.clone(),
            Self::NobodyReads => return None,
            Self::Output(error) => format!("the output cannot be written: {error}"),
            Self::Directory(error) => {
                format!("no directory for the private daemon: {error}; set TMPDIR to one that can be written")
            }
            Self::Start { program, error } => {
                format!("cannot start {}: {error}; check the name and PATH", program.to_string_lossy())
            }
            Self::System { what, error } => format!("{what}: {error}"),
            Self::PrivateEnded { status, said: None } => {
                format!("the private daemon ended ({status}) before it was ready; it says why above")
            }
            Self::PrivateEnded { status, said: Some(said) } => {
                format!("the private daemon ended ({status}) before it was ready; it said:\n{}", said.trim_end())
            }
            Self::PrivateSilent { waited_s } => {
                format!(
                    "the private daemon was not ready after {waited_s} s; run `breakerd serve` by itself to see why"
                )
            }
            Self::Demo(stuck) => stuck.to_string(),
        })
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => CONFIG,
            Self::Connect(ConnectError::Forbidden(_)) => NO_RIGHT,
            Self::Refused { code: Code::Denied, .. } => NO_RIGHT,
            Self::Refused { code: Code::BadName | Code::BadArgument | Code::UnknownBreaker, .. } => USAGE,
            // As env(1) and shells have it.
            Self::Start { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Start { .. } => 126,
            Self::NobodyReads => 0,
            Self::Connect(_) | Self::Refused { .. } | Self::PrivateEnded { .. } | Self::PrivateSilent { .. } => {
                UNAVAILABLE
            }
            Self::Output(_) | Self::Directory(_) | Self::System { .. } | Self::Demo(_) => NO,
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Refused { code, sentence } => Self::Refused { code, sentence },
            OperatorError::Lost(error) => Self::Connect(error),
        }
    }
}

impl From<super::demo::Stuck> for Failure {
    fn from(stuck: super::demo::Stuck) -> Self {
        Self::Demo(stuck)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones() {
        let refused = |code| Failure::Refused { code, sentence: String::new() };
        let absent = ConnectError::Absent { path: std::path::PathBuf::from("/x"), stale: false };
        for (failure, code) in [
            (Failure::Config(Faults(Vec::new())), 78),
            (Failure::Connect(absent), 69),
            (refused(Code::Denied), 77),
            (refused(Code::UnknownBreaker), 2),
            (refused(Code::Stopping), 69),
            (Failure::NobodyReads, 0),
        ] {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }
}
