//! `serve`: the daemon's start and end, as systemd(1) expects them.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::drive::{self, StartError};
use crate::reload;

/// Another daemon has the socket: `EX_TEMPFAIL` of sysexits(3).
const ANOTHER_DAEMON: u8 = 75;
/// The environment is not as configured: `EX_CONFIG` of sysexits(3).
const CONFIG: u8 = 78;

/// A worker takes two descriptors and a shell's soft limit is often 1024: all that the hard limit allows is used. Nothing here
/// uses `select(2)`, which is what the soft limit is kept low for (systemd.exec(5), `LimitNOFILE=`).
fn raise_descriptors() {
    let allowed = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, ..allowed });
    if let Err(error) = raised {
        tracing::debug!(%error, soft = allowed.current, "the limit of open files stays");
    }
}

/// Serves until SIGTERM or SIGINT; at SIGHUP the configuration is read once more.
pub(crate) fn serve(config: Config, read: reload::Read) -> ExitCode {
    start_log(&config);
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(StartError::Runtime).and_then(|runtime| {
        let local = tokio::task::LocalSet::new();
        let done = local.block_on(&runtime, drive::run(config, read));
        drop(local);
        // A name that is being resolved holds a thread longer than whoever stops the daemon wants to wait.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                StartError::Listen(crate::listen::ListenError::Taken { .. }) => ExitCode::from(ANOTHER_DAEMON),
                StartError::Listen(_) => ExitCode::from(CONFIG),
                StartError::Runtime(_) | StartError::Lost => ExitCode::FAILURE,
            }
        }
    }
}

/// Logs to standard error, without times under systemd, whose journal has them.
fn start_log(config: &Config) {
    let filter = EnvFilter::try_from_env("BREAKERD_LOG").unwrap_or_else(|_| EnvFilter::new(config.log.word()));
    let terminal = io::IsTerminal::is_terminal(&io::stderr());
    #[allow(clippy::disallowed_methods, reason = "systemd tells so by the environment, systemd.exec(5)")]
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    let log = log.with_target(false);
    // A second subscriber in one process is a test's; the first one stays.
    let started = if journal { log.without_time().try_init() } else { log.try_init() };
    drop(started);
}

/// Tells systemd (`sd_notify(3)`); nothing where nobody asked to be told.
pub(crate) fn notify(state: &str) {
    #[allow(clippy::disallowed_methods, reason = "the protocol of sd_notify(3) is an environment variable")]
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)?,
            None => std::os::unix::net::SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell systemd {state}");
    }
}
