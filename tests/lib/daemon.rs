//! A real daemon: its own directory, sockets and state; it goes when its world goes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::raw::Raw;
use crate::wait::{PATIENCE, until};

/// What a test wants of the daemon's configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Failures in a row that trip.
    pub failures: u32,
    /// The first cooldown; it neither grows nor wavers.
    pub cooldown: Duration,
    /// What the host calls itself.
    pub host: &'static str,
    /// Where the fleet meets, and its name.
    pub fleet: Option<(String, String)>,
    /// Accounts that may reset by the worker socket.
    pub may_reset: Vec<String>,
    /// More lines, after all others.
    pub more: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            failures: 3,
            cooldown: Duration::from_secs(60),
            host: "web-1",
            fleet: None,
            may_reset: Vec::new(),
            more: String::new(),
        }
    }
}

impl Setup {
    /// A cooldown that ends soon enough to wait for.
    pub fn short_cooldown() -> Self {
        Self { cooldown: Duration::from_millis(50), ..Self::default() }
    }

    fn toml(&self, dir: &Path) -> String {
        let dir = dir.display();
        let mut text = format!(
            "host = \"{}\"\n[listen]\nsocket = \"{dir}/run/breakerd.sock\"\n\
             control = \"{dir}/control/control.sock\"\n[state]\ndir = \"{dir}/state\"\n",
            self.host
        );
        if let Some((redis, name)) = &self.fleet {
            write!(text, "[fleet]\nredis = \"{redis}\"\nname = \"{name}\"\n").unwrap();
        }
        if !self.may_reset.is_empty() {
            write!(text, "[rights]\nreset = {:?}\n", self.may_reset).unwrap();
        }
        let (failures, ms) = (self.failures, self.cooldown.as_millis());
        write!(
            text,
            "[breaker.default]\ntrip.consecutive_failures = {failures}\n\
             cooldown = {{ first = \"{ms}ms\", factor = 1.0, max = \"{ms}ms\", jitter = 0.0 }}\n{}",
            self.more
        )
        .unwrap();
        text
    }
}

/// The binary under test: `BREAKERD_BIN`, else the one of this build's profile.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    #[allow(clippy::disallowed_methods, reason = "a test binary is an edge")]
    let told = std::env::var_os("BREAKERD_BIN").map(PathBuf::from);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let binary = told.unwrap_or_else(|| workspace().join("target").join(profile).join("breakerd"));
    assert!(binary.is_file(), "{} is missing; build it first: cargo build -p breakerd", binary.display());
    binary
}

/// The optimised binary, for figures.
///
/// # Panics
/// If there is none.
pub fn shipped() -> PathBuf {
    let binary = workspace().join("target/release/breakerd");
    assert!(binary.is_file(), "{} is missing; build it first: cargo build --release", binary.display());
    binary
}

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A running daemon. Dropping it kills the process and removes its directory.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    binary: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Three failures trip, a minute of cooldown, no Redis.
    pub fn start() -> Self {
        Self::with(&Setup::default())
    }

    /// Starts one and waits until it accepts connections.
    pub fn with(setup: &Setup) -> Self {
        let mut daemon = Self::idle(setup);
        daemon.run();
        daemon
    }

    /// The same with the binary that ships, optimised.
    pub fn released() -> Self {
        let mut daemon = Self::idle(&Setup::default());
        daemon.binary = shipped();
        daemon.run();
        daemon
    }

    /// A directory with a configuration and no process yet.
    pub fn idle(setup: &Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("breakerd-test-").tempdir().unwrap();
        for part in ["run", "control", "state"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let daemon = Self { dir, binary: binary(), child: None };
        daemon.write(setup);
        daemon
    }

    /// Writes its configuration; a daemon that runs reads it when it is told to.
    pub fn write(&self, setup: &Setup) {
        fs::write(self.config(), setup.toml(self.dir.path())).unwrap();
    }

    /// Starts the process and waits until it accepts connections.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it already runs");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["serve"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("the daemon accepts connections", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended at its start with {status}:\n{}", self.log());
            }
            UnixStream::connect(self.socket()).ok()?;
            UnixStream::connect(self.control()).ok()
        });
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--config").arg(self.config()).current_dir(self.dir.path());
        command.env_remove("BREAKERD_SOCKET").env_remove("BREAKERD_CONTROL").env("RUST_BACKTRACE", "0");
        // Whoever listens there plays systemd.
        if self.path("notify").exists() {
            command.env("NOTIFY_SOCKET", self.path("notify"));
        }
        command
    }

    /// Runs `serve` once more on the same configuration, to its end.
    pub fn second(&self) -> Output {
        finished(&mut self.command(&["serve"]))
    }

    /// Runs a subcommand against this daemon, to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command.args(args).env("BREAKERD_SOCKET", self.socket()).env("BREAKERD_CONTROL", self.control());
        finished(&mut command)
    }

    /// A path in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("breakerd.toml")
    }

    /// The workers' socket.
    pub fn socket(&self) -> PathBuf {
        self.path("run/breakerd.sock")
    }

    /// The operators' socket.
    pub fn control(&self) -> PathBuf {
        self.path("control/control.sock")
    }

    /// Where it keeps its snapshot.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Its snapshots, without the one that is being written.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state()).expect("there is a state directory");
        let files = entries.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_file());
        files.filter(|path| path.extension().is_none_or(|extension| extension != "new")).collect()
    }

    /// Whether a snapshot speaks of this breaker.
    pub fn has_saved(&self, name: &str) -> bool {
        let named = |bytes: Vec<u8>| bytes.windows(name.len()).any(|part| part == name.as_bytes());
        self.snapshots().iter().any(|path| fs::read(path).is_ok_and(named))
    }

    /// What it has logged so far, over all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it does not run").id()
    }

    /// A new worker, welcomed.
    pub fn worker(&self) -> Raw {
        Raw::hello(&self.socket(), "test")
    }

    /// An operator, welcomed.
    pub fn operator(&self) -> Raw {
        Raw::hello(&self.control(), "operator")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it does not run")), signal).unwrap();
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Kills it as the kernel would and waits for its end.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    /// Tells it to read its configuration anew.
    pub fn hangup(&self) {
        self.signal(Signal::HUP);
    }

    /// Freezes it: its sockets stay and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it does not run");
        until("the daemon has ended", || child.try_wait().unwrap())
    }

    /// A value of `/proc/PID/status` in KiB.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Whether it was still alive does not matter here.
            drop(child.kill());
            drop(child.wait());
        }
        #[allow(clippy::print_stderr, reason = "a failed test's daemon has a word to say")]
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// Runs a command to its end and keeps what it says.
fn finished(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || send.send(child.wait_with_output()));
    receive.recv_timeout(PATIENCE).map(Result::unwrap).unwrap_or_else(|_| {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("{command:?} has not ended after {PATIENCE:?}");
    })
}
