//! What the demo and its workers say to each other over the workers' standard input and output: JSON, one line each.

use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The breaker of the demo.
pub(super) const BREAKER: &str = "openai";

/// What the workers call themselves.
pub(super) const SERVICE: &str = "chat-api";

/// What a worker is to do. Each order gets one reply; [`Order::AwaitOpen`] gets two.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// What does the worker see?
    Look,
    /// So many calls in flight at once, all admitted before any of them ends.
    Burst {
        /// How many.
        calls: u32,
    },
    /// Look without a pause until the breaker is open.
    AwaitOpen,
    /// So many calls, one after another.
    Calls {
        /// How many.
        calls: u32,
    },
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To [`Order::Look`].
    Sight(Sight),
    /// To [`Order::Burst`].
    Burst {
        /// Calls that the provider answered with a failure.
        failed: u32,
        /// When each failure began to be reported, on the machine's clock, in nanoseconds, in their order.
        reported_ns: Vec<u64>,
    },
    /// To [`Order::AwaitOpen`], at once.
    Watching,
    /// To [`Order::AwaitOpen`], when it is open: the machine's clock in nanoseconds. None if it stayed closed for long.
    Seen(Option<u64>),
    /// To [`Order::Calls`].
    Tally(Tally),
}

/// A worker's own view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sight {
    /// The state's word.
    pub(super) state: String,
    /// This worker's failures.
    pub(super) failures: u64,
}

/// How calls went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Let through; the provider answered well.
    pub(super) succeeded: u32,
    /// Let through; the provider failed.
    pub(super) failed: u32,
    /// Told to wait.
    pub(super) rejected: u32,
    /// Why the last of them was told to wait.
    pub(super) reason: String,
    /// For how long, in milliseconds.
    pub(super) retry_after_ms: u64,
    /// All calls together, in nanoseconds.
    pub(super) total_ns: u64,
    /// The longest call that was told to wait, in nanoseconds.
    pub(super) longest_ns: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.total_ns += other.total_ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        if other.rejected > 0 {
            self.reason.clone_from(&other.reason);
            self.retry_after_ms = other.retry_after_ms;
        }
    }

    pub(super) fn calls(&self) -> u32 {
        self.succeeded + self.failed + self.rejected
    }
}

/// Writes one line.
pub(super) fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let line = serde_json::to_string(message)?;
    writeln!(to, "{line}")?;
    to.flush()
}

/// Reads one line; none at the end.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
