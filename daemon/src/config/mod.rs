//! The configuration: TOML files to one checked [`Config`], or every fault with its file, line and remedy.

mod accounts;
mod breaker;
mod duration;
mod explain;
mod fault;
#[cfg(test)]
mod policy_tests;
mod quotas;
mod read;
mod rules;
mod section;
mod settings;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use breakerd_core::Settings;

pub(crate) use accounts::{Group, user_name};
pub(crate) use duration::{parse as parse_duration, written as written_duration};
pub(crate) use explain::{Explained, explain};
pub(crate) use fault::{Faults, Place};
pub(crate) use words::Word;

use breaker::Layer;
use fault::Problem;

/// The file that is read when none is named; files in `conf.d` beside it lie over it, in the order of their names.
pub(crate) const FILE: &str = "/etc/breakerd/breakerd.toml";
/// Where workers connect unless the configuration says otherwise.
pub(crate) const SOCKET: &str = "/run/breakerd/breakerd.sock";
/// Where operators connect unless the configuration says otherwise.
pub(crate) const CONTROL: &str = "/run/breakerd-control/control.sock";
/// Where the snapshot lies unless systemd or the configuration says otherwise.
const STATE: &str = "/var/lib/breakerd";

/// Everything that the daemon is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it listens.
    pub(crate) listen: Listen,
    /// How it meets other hosts; none: standalone.
    pub(crate) fleet: Option<Fleet>,
    /// Who may do more than observe and report.
    pub(crate) rights: Rights,
    /// The directory of the snapshot.
    pub(crate) state: PathBuf,
    /// What is logged.
    pub(crate) log: Level,
    /// What the core is told: policies, quotas, and the host's name.
    pub(crate) breakers: Settings,
    /// The files that were read, for a line in the log and for `check`.
    pub(crate) files: Vec<PathBuf>,
    layers: Vec<Layer>,
    quota_places: BTreeMap<&'static str, Place>,
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// The socket of the workers.
    pub(crate) socket: PathBuf,
    /// The group that may connect to it; none: the daemon's own.
    pub(crate) group: Option<Group>,
    /// The socket of the operators.
    pub(crate) control: PathBuf,
}

/// `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// `redis://HOST:PORT/DATABASE` or `unix:///PATH`, without user and password.
    pub(crate) redis: String,
    /// The fleet's name: 1 to 32 of `a-z0-9-`.
    pub(crate) name: String,
    /// The account in Redis; none: `default`.
    pub(crate) user: Option<String>,
    /// The file that holds the password.
    pub(crate) password_file: Option<PathBuf>,
}

impl Fleet {
    /// Reads the password, without the line's end that an editor leaves; read anew for each connection, so that a
    /// password can be changed under a running daemon.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn password(&self) -> io::Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// `[rights]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Whose workers may reset a breaker over the workers' socket.
    pub(crate) reset: Vec<Account>,
    /// The group that may use the control socket, beside root and the daemon's own user.
    pub(crate) operators: Option<Group>,
}

/// Who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// `"*"`: whoever may connect.
    Anyone,
    /// One user.
    User(u32),
}

impl Rights {
    /// Whether a worker of this user may reset a breaker.
    pub(crate) fn may_reset(&self, uid: u32) -> bool {
        self.reset.iter().any(|account| matches!(account, Account::Anyone) || *account == Account::User(uid))
    }
}

/// `log.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// Only what fails.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And every change of a breaker.
    #[default]
    Info,
    /// And every connection.
    Debug,
    /// And every message.
    Trace,
}

impl Level {
    /// The word in the file, which a filter of `tracing-subscriber` reads too.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Every quota, its value and who says so.
pub(crate) fn explain_quotas(config: &Config) -> Vec<Explained> {
    quotas::explain(config.breakers.quotas, &config.quota_places)
}

/// Reads the configuration: the named file alone, or [`FILE`] and its `conf.d`, each of which may be absent.
///
/// # Errors
/// All faults of all files.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, Faults> {
    let (files, mut faults) = match named {
        Some(file) => (vec![file.to_path_buf()], Vec::new()),
        None => found(Path::new(FILE)),
    };
    let mut draft = read::Draft::default();
    for file in files {
        let whole = Place { file: file.as_path().into(), line: 0 };
        match std::fs::read_to_string(&file) {
            Ok(text) => draft.read(&whole.file, &text, &mut faults),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => faults.push(Problem::Unreadable(error.kind()).at(whole)),
        }
        draft.files.push(file);
    }
    finished(draft, faults)
}

fn finished(draft: read::Draft, mut faults: Vec<fault::Fault>) -> Result<Config, Faults> {
    let config = draft.finish(&mut faults);
    if faults.is_empty() {
        return Ok(config);
    }
    // In the order in which an editor shows them.
    faults.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
    Err(Faults(faults))
}

/// Reads one text as if it were a file alone.
#[cfg(test)]
fn load_text(file: &str, text: &str) -> Result<Config, Faults> {
    let mut draft = read::Draft::default();
    let mut faults = Vec::new();
    draft.read(&Path::new(file).into(), text, &mut faults);
    finished(draft, faults)
}

/// The default file and the `conf.d` beside it.
fn found(file: &Path) -> (Vec<PathBuf>, Vec<fault::Fault>) {
    let mut files = vec![file.to_path_buf()];
    let directory = file.with_file_name("conf.d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (files, Vec::new()),
        Err(error) => {
            let place = Place { file: directory.as_path().into(), line: 0 };
            return (files, vec![Problem::Unreadable(error.kind()).at(place)]);
        }
    };
    let mut more: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    more.sort();
    files.append(&mut more);
    (files, Vec::new())
}

/// The default directory of the snapshot: what systemd's `StateDirectory=` made, else [`STATE`].
#[allow(clippy::disallowed_methods, reason = "the environment is read here and in cli, nowhere deeper")]
fn default_state() -> PathBuf {
    // systemd separates several directories by colons; the first is ours.
    let given = env::var("STATE_DIRECTORY").ok();
    let first = given.as_deref().and_then(|list| list.split(':').next()).filter(|path| !path.is_empty());
    PathBuf::from(first.unwrap_or(STATE))
}

/// The machine's name as the fleet shows it, without its domain.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match name.split('.').next() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => "localhost".to_owned(),
    }
}
