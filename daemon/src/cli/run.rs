//! `run`: a command with a daemon of its own.
//!
//! Good as a container's first process too: signals are passed on, orphans are reaped, the exit code is the command's.

use std::future::poll_fn;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::task::Poll;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{self, SignalKind};

use super::args::{Global, RunArgs};
use super::failure::Failure;
use super::printer::complain;
use super::private::{Log, Private, Source};
use crate::config;

/// What is passed on to the command.
const PASSED: [Signal; 6] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

pub(super) fn run(global: &Global, run: &RunArgs) -> Result<ExitCode, Failure> {
    let config = global.config.clone().unwrap_or_else(own_config);
    // Here the complaint comes once and with its exit code, before anything is started.
    config::load(Some(&config))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::System { what: "cannot make an event loop", error })?;
    runtime.block_on(supervise(&config, run))
}

/// `./breakerd.toml`, else nothing at all: a private daemon does not take the machine's configuration.
fn own_config() -> PathBuf {
    let own = Path::new("breakerd.toml");
    if own.exists() { own.to_path_buf() } else { PathBuf::from("/dev/null") }
}

async fn supervise(config: &Path, run: &RunArgs) -> Result<ExitCode, Failure> {
    // Signals are caught before there is a child, so that none ends this process and leaves a child behind.
    let mut signals = Signals::catch()?;
    set_child_subreaper(Some(getpid()))
        .map_err(|error| Failure::System { what: "cannot take in orphans", error: error.into() })?;
    let mut private = Private::start(Source::File(config), Log::Shared)?;
    let child = start(run, &private)?;
    loop {
        while let Some((pid, status)) = reap() {
            if pid == child {
                return Ok(code_of(status));
            }
            if pid == private.pid() {
                private.mark_reaped();
                complain("the private daemon ended; the command goes on with each process's own fallback");
            }
        }
        let signal = signals.next().await;
        if signal != Signal::CHILD && !terminal_has_sent(signal) {
            // It may have ended a moment ago; then there is nothing to signal.
            kill_process(child, signal).ok();
        }
    }
}

fn start(run: &RunArgs, private: &Private) -> Result<Pid, Failure> {
    let mut words = run.command.iter();
    let program = words.next().cloned().unwrap_or_default();
    let child = Command::new(&program)
        .args(words)
        .env("BREAKERD_SOCKET", private.socket())
        .env("BREAKERD_CONTROL", private.control())
        .spawn()
        .map_err(|error| Failure::Start { program, error })?;
    // Its end is taken by `reap`, together with the ends of the orphans.
    Ok(Pid::from_child(&child))
}

/// A child that has ended, or an orphan that was handed to this process.
fn reap() -> Option<(Pid, WaitStatus)> {
    wait(WaitOptions::NOHANG).ok().flatten()
}

/// As shells have it: the code, or 128 and the signal's number.
fn code_of(status: WaitStatus) -> ExitCode {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Ctrl-C and Ctrl-\ go from the terminal to the whole foreground group, the command in it. Passed on they would come
/// twice, and many servers take the second for "at once".
fn terminal_has_sent(signal: Signal) -> bool {
    (signal == Signal::INT || signal == Signal::QUIT) && std::io::stdin().is_terminal()
}

struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    fn catch() -> Result<Self, Failure> {
        let mut streams = Vec::new();
        for signal in PASSED.into_iter().chain([Signal::CHILD]) {
            let stream = unix::signal(SignalKind::from_raw(signal.as_raw()))
                .map_err(|error| Failure::System { what: "cannot catch signals", error })?;
            streams.push((signal, stream));
        }
        Ok(Self { streams })
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}
