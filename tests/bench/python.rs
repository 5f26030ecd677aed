//! The same calls from Python: `python.py` measures, in the tests' venv, an entry whenever it is told to.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use breakerd_tests::Daemon;
use breakerd_tests::daemon::workspace;

use crate::harness::{Bench, Entry, progress};
use crate::world;

pub(crate) fn calls(bench: &mut Bench) {
    let interpreter = workspace().join("tests/.venv/bin/python");
    if !interpreter.exists() {
        progress("py_*: not measured, there is no tests/.venv; tests/run bench makes it");
        return;
    }
    let daemon = world::daemon();
    let python = RefCell::new(Python::start(&interpreter, &daemon));
    let ids = python.borrow_mut().ids();
    let of = |id: &'static str| Entry::one(id, "ns", || python.borrow_mut().measure(id));
    bench.measure(ids.into_iter().map(of).collect());
}

/// A Python process that measures.
struct Python {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Python {
    fn start(interpreter: &std::path::Path, daemon: &Daemon) -> Self {
        let mut command = Command::new(interpreter);
        command.arg(workspace().join("tests/bench/python.py")).env("BREAKERD_SOCKET", daemon.socket());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, hear) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, tell, hear }
    }

    /// What it can measure: its first line.
    fn ids(&mut self) -> Vec<&'static str> {
        let ids = self.line();
        // For as long as the program runs.
        ids.split_whitespace().map(|id| &*id.to_owned().leak()).collect()
    }

    /// Nanoseconds.
    fn measure(&mut self, id: &str) -> f64 {
        writeln!(self.tell, "{id}").unwrap();
        self.line().trim().parse().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "python.py has ended");
        line
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Its own words stand on stderr if it failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
