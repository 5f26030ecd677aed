//! A daemon of one's own: a child process with sockets and snapshot in a new directory, gone when its owner is.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use breakerd_client::{ConnectError, Operator};
use breakerd_proto::Mono;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::failure::Failure;

/// A daemon is ready within milliseconds; a loaded machine may take its time.
const READY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a daemon that starts is asked.
const READY_ASK_EVERY: Duration = Duration::from_millis(5);
/// An orderly end closes its sockets and writes one small file.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// The daemon. Dropped, it is stopped and its directory removed.
pub(super) struct Private {
    directory: TempDir,
    config: PathBuf,
    log: Option<PathBuf>,
    daemon: Child,
    /// Its end has been seen by another `wait`, so its number may be another process's by now.
    reaped: bool,
}

/// What a private daemon is configured by.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// A text, which becomes a file in its directory.
    Text(&'a str),
}

/// Where a private daemon writes its log.
#[derive(Clone, Copy)]
pub(super) enum Log {
    /// To this process's standard error.
    Shared,
    /// To a file in its directory, shown if it does not come up.
    Kept,
}

impl Private {
    /// Starts one with this configuration and waits until it answers.
    pub(super) fn start(source: Source<'_>, log: Log) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("breakerd-").tempdir().map_err(Failure::Directory)?;
        let log = match log {
            Log::Shared => None,
            Log::Kept => Some(directory.path().join("log")),
        };
        let config = match source {
            Source::File(file) => file.to_path_buf(),
            Source::Text(text) => {
                let file = directory.path().join("breakerd.toml");
                std::fs::write(&file, text).map_err(Failure::Directory)?;
                file
            }
        };
        let daemon = spawn(directory.path(), &config, log.as_deref())?;
        let mut private = Self { directory, config, log, daemon, reaped: false };
        private.wait_ready()?;
        Ok(private)
    }

    /// Starts it anew in the same directory, after its end.
    pub(super) fn start_again(&mut self) -> Result<(), Failure> {
        self.daemon = spawn(self.directory.path(), &self.config, self.log.as_deref())?;
        self.reaped = false;
        self.wait_ready()
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("breakerd.sock")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.daemon)
    }

    /// Another `wait` of this process has taken the daemon's end.
    pub(super) fn mark_reaped(&mut self) {
        self.reaped = true;
    }

    /// Kills it without a chance to say good-bye, and takes its end.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let ended = self.daemon.kill().and_then(|()| self.daemon.wait());
        self.reaped = true;
        ended.map(drop).map_err(|error| Failure::System { what: "cannot kill the private daemon", error })
    }

    fn wait_ready(&mut self) -> Result<(), Failure> {
        let deadline = Mono::now().after(READY_WAIT_MAX);
        while Mono::now() < deadline {
            match Operator::connect(&self.socket()) {
                Ok(_) => return Ok(()),
                Err(ConnectError::Absent { .. } | ConnectError::Busy(_) | ConnectError::Ended { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = self.ended_within(READY_ASK_EVERY)? {
                self.reaped = true;
                // Read at once: the file goes with its directory.
                let said = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok());
                return Err(Failure::PrivateEnded { status: status.to_string(), said });
            }
        }
        Err(Failure::PrivateSilent { waited_s: READY_WAIT_MAX.as_secs() })
    }

    /// Waits for the daemon's end, for so long at most.
    fn ended_within(&mut self, most: Duration) -> Result<Option<ExitStatus>, Failure> {
        let system = |error: io::Error| Failure::System { what: "cannot wait for the private daemon", error };
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).map_err(|error| system(error.into()))?;
        let timeout =
            Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.daemon.try_wait().map_err(system),
            Err(error) => Err(system(error.into())),
        }
    }

    /// Stops it in order, by force if it does not obey.
    fn stop(&mut self) {
        if self.reaped {
            return;
        }
        // It may have ended meanwhile; then there is nothing to signal.
        kill_process(self.pid(), Signal::TERM).ok();
        let deadline = Mono::now().after(END_WAIT_MAX);
        while Mono::now() < deadline {
            if !matches!(self.ended_within(deadline.left(Mono::now())), Ok(None)) {
                break;
            }
        }
        // After an orderly end both say so and do nothing.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        self.reaped = true;
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(directory: &Path, config: &Path, log: Option<&Path>) -> Result<Child, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::System { what: "cannot find this program's own file", error })?;
    let mut command = Command::new(&program);
    command
        .arg("serve")
        .arg("--private")
        .arg(directory)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--config")
        .arg(config)
        .env_remove("BREAKERD_SOCKET")
        .env_remove("BREAKERD_CONTROL")
        .env_remove("STATE_DIRECTORY")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .stdin(Stdio::null())
        // A terminal's Ctrl-C must reach the workers first: the daemon ends when they have.
        .process_group(0);
    if let Some(log) = log {
        let file = File::options().create(true).append(true).open(log).map_err(Failure::Directory)?;
        let copy = file.try_clone().map_err(Failure::Directory)?;
        command.stdout(file).stderr(copy);
    }
    command.spawn().map_err(|error| Failure::Start { program: program.into_os_string(), error })
}
