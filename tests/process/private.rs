//! `breakerd run`: a command with a daemon of its own, which goes when the command has gone.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use breakerd_client::{Failure, Operator, Options, RejectReason, Source};
use breakerd_tests::daemon::binary;
use breakerd_tests::until;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `breakerd run`, in a directory of its own.
struct Private {
    _dir: TempDir,
    child: Child,
    /// Open for as long as the command is to wait.
    stdin: Option<ChildStdin>,
    socket: PathBuf,
    control: PathBuf,
}

/// Says where the daemon is, waits for the end of its input, and leaves with 7.
const WAITS: &str = r#"echo "$BREAKERD_SOCKET"; echo "$BREAKERD_CONTROL"; read line; exit 7"#;
/// The same, but it waits as a shell can be interrupted in, and ends at TERM with 9. (What a shell puts in the background
/// reads from `/dev/null` unless it is told otherwise.)
const OBEYS: &str =
    r#"trap 'exit 9' TERM; exec 3<&0; echo "$BREAKERD_SOCKET"; echo "$BREAKERD_CONTROL"; cat <&3 & wait; exit 7"#;

impl Private {
    fn start(script: &str, config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("breakerd-test-").tempdir().unwrap();
        std::fs::write(dir.path().join("breakerd.toml"), config).unwrap();
        let mut command = Command::new(binary());
        command.args(["run", "--", "sh", "-c", script]).current_dir(dir.path());
        command.env_remove("BREAKERD_SOCKET").env_remove("BREAKERD_CONTROL");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut path = || PathBuf::from(lines.next().expect("the command says nothing").unwrap());
        let (socket, control) = (path(), path());
        Self { _dir: dir, child, stdin, socket, control }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        until("`breakerd run` has ended", || self.child.try_wait().unwrap())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // A test that failed leaves it running; its daemon ends with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const TWO: &str = "[breaker.default]\ntrip.consecutive_failures = 2\n";

#[test]
fn its_workers_agree_by_its_own_configuration_and_its_code_is_the_commands() {
    let mut private = Private::start(WAITS, TWO);
    let client = || Options::from_env().unwrap().socket(&private.socket).open();
    let (one, other) = (client().breaker("openai").unwrap(), client().breaker("openai").unwrap());
    (0..2).for_each(|_| one.admit().unwrap().fail(Failure::new("http-503")));
    let seen = until("the daemon answers", || Some(one.observe()).filter(|seen| seen.source == Source::Daemon));
    assert_eq!(seen.why, "2 consecutive failures, last http-503");
    let no = until("the other is rejected", || other.admit().err());
    assert_eq!(no.reason, RejectReason::Open);
    let rows = Operator::connect(&private.control).unwrap().list().unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    drop(private.stdin.take());
    assert_eq!(private.ended().code(), Some(7));
    assert!(!private.socket.exists() && !private.socket.parent().unwrap().exists(), "nothing is left behind");
}

#[test]
fn a_signal_is_the_commands_and_the_daemon_ends_after_it() {
    let mut private = Private::start(OBEYS, "");
    private.signal(Signal::TERM);
    assert_eq!(private.ended().code(), Some(9));
    assert!(!private.socket.exists());
}

#[test]
fn a_command_that_dies_by_a_signal_is_told_as_shells_tell_it() {
    let mut private = Private::start("echo a; echo b; kill -KILL $$", "");
    assert_eq!(private.ended().code(), Some(128 + 9));
}

#[test]
fn the_daemon_does_not_outlive_a_killed_run() {
    let mut private = Private::start(WAITS, "");
    let mut operator = Operator::connect(&private.control).unwrap();
    operator.about().unwrap();
    private.signal(Signal::KILL);
    private.ended();
    until("the daemon has ended", || Operator::connect(&private.control).is_err().then_some(()));
    assert!(operator.about().is_err());
}

#[test]
fn a_command_that_cannot_be_started_is_said_and_so_is_a_bad_configuration() {
    let run = |config: &str, program: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("breakerd.toml"), config).unwrap();
        Command::new(binary()).args(["run", "--", program]).current_dir(dir.path()).output().unwrap()
    };
    let output = run("", "no-such-program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no-such-program"), "{said}");
    let output = run("[breaker.default]\ntrip.consecutive_failure = 2\n", "true");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("consecutive_failures"), "it names the nearest key: {said}");
}
