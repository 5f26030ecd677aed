//! What a client is told at its start: by its code, and by the environment, which wins.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use breakerd_proto::{Fallback, Mode};

use crate::blocking::Client;
use crate::connect::DEFAULT_SOCKET;

/// Who is told, once a cause, of what a program's author or operator should know.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

/// How to make a [`Client`].
#[derive(Clone)]
pub struct Options {
    pub(crate) socket: PathBuf,
    pub(crate) service: Option<String>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) prefix: String,
    pub(crate) mode: Mode,
    pub(crate) warn: Option<Warn>,
    /// Whether to use the daemon's board and lane memory.
    pub(crate) board: bool,
    env: Env,
}

/// What the environment decides; code does not overrule it.
#[derive(Clone, Debug, Default)]
struct Env {
    service: bool,
    fallback: bool,
    prefix: bool,
    mode: bool,
}

/// A variable of the environment that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVariable {
    /// Its name.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl Options {
    /// Everything by default, or as `BREAKERD_SOCKET`, `BREAKERD_SERVICE`, `BREAKERD_FALLBACK`, `BREAKERD_PREFIX`,
    /// `BREAKERD_MODE` and `BREAKERD_BOARD` say. What they say wins over the code, except that a socket named in code is used.
    ///
    /// # Errors
    /// [`BadVariable`].
    pub fn from_env() -> Result<Self, BadVariable> {
        Self::from_variables(&variable)
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, BadVariable> {
        let text = |name| get(name).map(|value| value.to_string_lossy().into_owned());
        let bad = |variable, value, allowed| BadVariable { variable, value, allowed };
        let fallback = match text("BREAKERD_FALLBACK") {
            None => None,
            Some(value) => Some(
                Fallback::parse(&value)
                    .ok_or_else(|| bad("BREAKERD_FALLBACK", value, "`local`, `admit` or `reject`"))?,
            ),
        };
        let mode = match text("BREAKERD_MODE") {
            None => None,
            Some(value) => {
                Some(Mode::parse(&value).ok_or_else(|| bad("BREAKERD_MODE", value, "`on`, `shadow` or `off`"))?)
            }
        };
        let board = match text("BREAKERD_BOARD").as_deref() {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => return Err(bad("BREAKERD_BOARD", other.to_owned(), "`on` or `off`")),
        };
        let (service, prefix) = (text("BREAKERD_SERVICE"), text("BREAKERD_PREFIX"));
        let env = Env {
            service: service.is_some(),
            fallback: fallback.is_some(),
            prefix: prefix.is_some(),
            mode: mode.is_some(),
        };
        let socket = PathBuf::from(get("BREAKERD_SOCKET").unwrap_or_else(|| OsString::from(DEFAULT_SOCKET)));
        let (prefix, mode) = (prefix.unwrap_or_default(), mode.unwrap_or_default());
        Ok(Self { socket, service, fallback, prefix, mode, warn: None, board, env })
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = path.into();
        self
    }

    /// What this worker is called where people see it.
    #[must_use]
    pub fn service(mut self, service: &str) -> Self {
        if !self.env.service {
            self.service = Some(service.to_owned());
        }
        self
    }

    /// Whether to use the daemon's board and lane memory where it offers them; without them every call is a message.
    /// `BREAKERD_BOARD=off` says the same from outside.
    #[must_use]
    pub fn board(mut self, use_it: bool) -> Self {
        self.board &= use_it;
        self
    }

    /// What to do without a daemon, whatever the breakers' policies say.
    #[must_use]
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        if !self.env.fallback {
            self.fallback = Some(fallback);
        }
        self
    }

    /// What stands before every name.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        if !self.env.prefix {
            prefix.clone_into(&mut self.prefix);
        }
        self
    }

    /// Whether this process's breakers act.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        if !self.env.mode {
            self.mode = mode;
        }
        self
    }

    /// Whom to tell of what people should know. Called at most once for each beginning of a time without a daemon and
    /// for each breaker that is declared twice, on the thread that noticed it.
    #[must_use]
    pub fn on_warning(mut self, warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.warn = Some(Arc::new(warn));
        self
    }

    /// The client. Connects at the first call, so it may be made at import time, before a fork, before the daemon.
    #[must_use]
    pub fn open(self) -> Client {
        Client::new(self)
    }
}

/// What `BREAKERD_SOCKET` says, else [`DEFAULT_SOCKET`].
#[must_use]
pub fn socket_path() -> PathBuf {
    variable("BREAKERD_SOCKET").map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}

#[allow(clippy::disallowed_methods, reason = "the client's start is one of the two places that read the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("socket", &self.socket)
            .field("service", &self.service)
            .field("fallback", &self.fallback)
            .field("prefix", &self.prefix)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BadVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}; it may be {}", self.variable, self.value, self.allowed)
    }
}

impl std::error::Error for BadVariable {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(variables: &'static [(&str, &str)]) -> Result<Options, BadVariable> {
        Options::from_variables(&|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_wins_over_the_code() {
        let options = with(&[("BREAKERD_SERVICE", "a"), ("BREAKERD_MODE", "shadow"), ("BREAKERD_FALLBACK", "admit")])
            .unwrap()
            .service("b")
            .mode(Mode::Off)
            .fallback(Fallback::Reject)
            .prefix("p/");
        assert_eq!((options.service.as_deref(), options.mode), (Some("a"), Mode::Shadow));
        assert_eq!((options.fallback, options.prefix.as_str()), (Some(Fallback::Admit), "p/"));
        let options = with(&[]).unwrap().service("b").mode(Mode::Off);
        assert_eq!((options.service.as_deref(), options.mode), (Some("b"), Mode::Off));
        assert_eq!(options.socket, PathBuf::from(DEFAULT_SOCKET));
    }

    #[test]
    fn a_value_that_cannot_be_understood_is_told_with_what_can() {
        assert_eq!(
            with(&[("BREAKERD_MODE", "of")]).unwrap_err().to_string(),
            "BREAKERD_MODE is \"of\"; it may be `on`, `shadow` or `off`"
        );
        assert!(with(&[("BREAKERD_FALLBACK", "allow")]).is_err());
    }
}
